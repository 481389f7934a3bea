# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import shutil
import signal

import pytest
from tests.waiting import wait_for

from lustack.server import supervise
from lustack.server.fake import FakeLauncher
from lustack.server.supervise import Ended, Launcher, Supervisor
from lustack.server.topology import Program

A, B = Program("a", ("a",)), Program("b", ("b",))


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def pause(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def launch():
    return FakeLauncher(frozenset({"stubborn"}))


@pytest.fixture
def supervisor(launch, clock):
    return Supervisor(launch, clock, clock.pause)


def test_waits_double_up_to_a_limit():
    assert [supervise.delay_s(n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 1000)] == [
        0.5, 1, 2, 4, 8, 16, 30, 30, 30,
    ]  # fmt: skip


def test_what_runs_is_left_alone(supervisor, launch):
    supervisor.start([A, B])
    assert supervisor.tick() == []
    assert supervisor.pids() == {"a": 1, "b": 2}


def test_what_ended_is_started_again_after_a_wait(supervisor, launch, clock):
    supervisor.start([A, B])
    launch.started["a"][0].code = 3
    assert supervisor.tick() == [Ended("a", 3, 0.5)]
    assert supervisor.pids() == {"b": 2}
    clock.now += 0.4
    assert supervisor.tick() == []
    assert supervisor.pids() == {"b": 2}
    clock.now += 0.2
    assert supervisor.tick() == []
    assert supervisor.pids() == {"a": 3, "b": 2}


def test_who_ends_quickly_again_waits_longer_and_who_was_well_does_not(supervisor, launch, clock):
    supervisor.start([A])
    waits = []
    for lasted in (0, 1, 2, 1000, 0):
        clock.now += lasted
        launch.started["a"][-1].code = 1
        (end,) = supervisor.tick()
        waits.append(end.again_in_s)
        clock.now += end.again_in_s
        supervisor.tick()
    assert waits == [0.5, 1, 2, 0.5, 1]


def test_everything_is_asked_to_stop_and_who_does_not_is_killed(supervisor, launch, clock):
    stubborn = Program("stubborn", ())
    supervisor.start([A, stubborn])
    before = clock.now
    supervisor.stop(grace_s=7)
    assert launch.started["a"][0].signals == [signal.SIGTERM]
    assert launch.started["stubborn"][0].signals == [signal.SIGTERM, signal.SIGKILL]
    assert clock.now - before >= 7
    assert supervisor.pids() == {}
    assert supervisor.tick() == []


def test_who_waits_to_be_started_again_is_not_when_everything_stops(supervisor, launch, clock):
    supervisor.start([A])
    launch.started["a"][0].code = 1
    supervisor.tick()
    supervisor.stop()
    clock.now += 99
    supervisor.tick()
    assert len(launch.started["a"]) == 1


# Real processes.

FAMILY = "import os, time; os.fork(); open(f'{os.getpid()}.here', 'w').close(); time.sleep(999)"


@pytest.fixture
def launcher(tmp_path):
    return Launcher("/nowhere/swift.conf", str(tmp_path))


def start_family(launcher, tmp_path):
    script = f"import os; os.chdir({str(tmp_path)!r}); {FAMILY}"
    process = launcher(Program("family", (launcher.python, "-c", script)))
    wait_for(lambda: len(list(tmp_path.glob("*.here"))) == 2)
    return process, [int(path.stem) for path in tmp_path.glob("*.here")]


def is_gone(pid):
    """Gone, or a zombie that waits for whoever adopted it."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_what_a_program_says_is_in_its_log(launcher, tmp_path):
    process = launcher(Program("speaker", ("sh", "-c", "echo out; echo err >&2; exit 3")))
    wait_for(lambda: process.poll() is not None)
    assert process.poll() == 3
    process.signal(signal.SIGTERM)
    assert (tmp_path / "speaker.log").read_text() == "out\nerr\n"


def test_a_signal_reaches_the_children_too(launcher, tmp_path):
    process, pids = start_family(launcher, tmp_path)
    assert process.pid in pids
    process.signal(signal.SIGTERM)
    wait_for(lambda: process.poll() is not None)
    wait_for(lambda: all(map(is_gone, pids)))


def test_children_do_not_outlive_their_parent(launcher, tmp_path):
    process, pids = start_family(launcher, tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: process.poll() is not None)
    assert process.poll() == -signal.SIGKILL
    wait_for(lambda: all(map(is_gone, pids)))


def test_a_long_log_is_set_aside_and_its_program_goes_on_writing(launcher, tmp_path):
    log, short = tmp_path / "a.log", tmp_path / "b.log"
    short.write_text("short")
    with open(launcher.log_of("a"), "ab", buffering=0) as writer:
        writer.write(b"first")
        os.truncate(log, supervise.LOG_LIMIT_BYTES + 1)
        launcher.trim_logs()
        writer.write(b"next")
        launcher.trim_logs()
    assert (log.read_text(), short.read_text()) == ("next", "short")
    assert (tmp_path / "a.log.1").stat().st_size == supervise.LOG_LIMIT_BYTES + 1


def test_a_full_disk_or_a_log_that_is_gone_ends_nothing(launcher, tmp_path, monkeypatch):
    log = tmp_path / "a.log"
    log.touch()
    os.truncate(log, supervise.LOG_LIMIT_BYTES + 1)
    (tmp_path / "gone.log").symlink_to("nothing")

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", refuse)
    launcher.trim_logs()
    assert log.stat().st_size == 0
