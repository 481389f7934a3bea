# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from tests.ports import find_ports
from tests.waiting import LIMIT_S, wait_for

from lustack.errors import ConfigurationError
from lustack.sync import leadership
from lustack.sync.errors import StateError
from lustack.sync.leadership import FileLease, Leadership, ToozLease

DAEMON = """\
import sys, threading, time
from lustack.sync.leadership import Leadership, ToozLease

url, path = sys.argv[1:]

def work(until):
    with open(path, "a") as file:
        file.write("works\\n")
    until.wait()

def wait(held):
    open(f"{path}.waits", "a").close()

Leadership([ToozLease(url, ["d"])], threading.Event(), print).lead(work, wait)
"""


class FakeLease:
    """Is free when it is told so."""

    trouble = ""

    def __init__(self, *, is_free=True):
        self.is_free = is_free
        self.is_held = False
        self.releases = 0

    def try_acquire(self):
        self.is_held = self.is_held or self.is_free
        return self.is_held

    def renew(self):
        return self.is_held

    def release(self):
        self.releases += self.is_held
        self.is_held = False


def acquire(lease):
    """As often as the daemon tries it."""
    wait_for(lease.try_acquire, sleep=lambda _: time.sleep(0.25))


@contextlib.contextmanager
def leading(*leases, warnings=None):
    """A leader in a thread; how often it worked, how often it stood by, its pulses."""
    told = {"works": 0, "standby": [], "pulses": 0}
    stop = threading.Event()

    def work(until):
        told["works"] += 1
        until.wait()

    def pulse():
        told["pulses"] += 1

    leader = Leadership(leases, stop, (warnings if warnings is not None else []).append, pulse, 0.05)
    thread = threading.Thread(target=leader.lead, args=(work, told["standby"].append))
    thread.start()
    try:
        yield told
    finally:
        stop.set()
        thread.join()


def test_who_holds_every_lease_works_until_it_is_time_to_stop():
    lease = FakeLease()
    with leading(lease) as told:
        wait_for(lambda: told["works"] and told["pulses"] > 2)
    assert (told["works"], told["standby"], lease.releases) == (1, [], 1)


def test_who_does_not_hold_them_all_stands_by_and_takes_over():
    first, second = FakeLease(), FakeLease(is_free=False)
    with leading(first, second) as told:
        wait_for(lambda: len(told["standby"]) > 1)
        assert (told["works"], set(told["standby"])) == (0, {1})
        second.is_free = True
        wait_for(lambda: told["works"])


def test_who_stands_by_stops_at_once():
    with leading(FakeLease(is_free=False)) as told:
        wait_for(lambda: told["standby"])
    assert told["works"] == 0


def test_who_loses_a_lease_stops_its_work_and_stands_by():
    lease, warnings = FakeLease(), []
    with leading(lease, warnings=warnings) as told:
        wait_for(lambda: told["works"])
        lease.is_free = lease.is_held = False
        wait_for(lambda: told["standby"])
        lease.is_free = True
        wait_for(lambda: told["works"] == 2)
    assert warnings == ["the lease is lost: another daemon may work; standing by"]


def test_a_coordinator_that_is_away_is_told():
    lease, warnings = FakeLease(is_free=False), []
    lease.trouble = "no route"
    with leading(lease, warnings=warnings) as told:
        wait_for(lambda: warnings)
        lease.is_free = True
        wait_for(lambda: told["works"] and told["pulses"] > 10)
    assert set(warnings) == {"the coordinator does not answer: no route"}


def test_work_that_fails_gives_the_leases_back():
    lease = FakeLease()

    def work(_until):
        raise StateError("p", "broken")

    with pytest.raises(StateError):
        Leadership([lease], threading.Event(), print).lead(work, lambda _held: None)
    assert lease.releases == 1


def test_a_state_directory_has_one_daemon(tmp_path):
    first, second = (FileLease(str(tmp_path / "state")) for _ in range(2))
    assert not first.renew()
    assert first.try_acquire()
    assert first.try_acquire()
    assert first.renew()
    assert not second.try_acquire()
    first.release()
    first.release()
    assert second.try_acquire()
    second.release()


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"daemon\.lock"):
        FileLease(str(tmp_path / "file" / "x")).try_acquire()


def test_a_url_that_nobody_understands_is_refused():
    with pytest.raises(ConfigurationError, match="coordination_url"):
        ToozLease("nonsense://x", ["d"])


def test_what_a_url_says_of_timeouts_stays():
    assert leadership.with_timeouts("redis://h:1?lock_timeout=9&db=1") == (
        "redis://h:1?lock_timeout=9&membership_timeout=4&timeout=3&db=1"
    )


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A coordinator that answers is waited for, however busy the machine is."""
    monkeypatch.setattr(leadership, "_ANSWER_S", LIMIT_S)


@pytest.fixture
def impatience(monkeypatch, patience):
    """For one that does not answer."""
    monkeypatch.setattr(leadership, "_ANSWER_S", 1.0)


@pytest.fixture
def redis_url(tmp_path):
    """A redis server of our own; `stop` and `start` it by the process."""
    program = shutil.which("redis-check-rdb")
    if program is None:
        pytest.skip("redis-tools is not installed")
    # It is the server if it is called so: the package redis-server, which starts one, is not needed.
    program_path = tmp_path / "redis-server"
    program_path.symlink_to(program)
    [port] = find_ports(1)
    command = [
        str(tmp_path / "redis-server"),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    try:
        wait_for(answers)
        yield f"redis://127.0.0.1:{port}", server
    finally:
        server.send_signal(signal.SIGCONT)
        server.terminate()
        server.wait()


def daemon(url, path):
    return subprocess.Popen([sys.executable, "-P", "-c", DAEMON, url, str(path)])


# Measured on an idle machine: below 5 s. One with fifteen processes to each core took 7; this is for any.
SECONDS_S = 60


def takes_over(url, tmp_path):
    """Seconds from the death of one process to the work of the next."""
    first_path, second_path = tmp_path / "first", tmp_path / "second"
    first = daemon(url, first_path)
    try:
        wait_for(first_path.exists)
        second = daemon(url, second_path)
        try:
            wait_for(tmp_path.joinpath("second.waits").exists)
            assert not second_path.exists()
            first.kill()
            died_s = time.monotonic()
            wait_for(second_path.exists)
            return time.monotonic() - died_s
        finally:
            second.kill()
            second.wait()
    finally:
        first.kill()
        first.wait()


def test_the_second_process_takes_over_within_seconds_by_a_file(tmp_path):
    assert takes_over(f"file://{tmp_path}/locks", tmp_path) < SECONDS_S


def test_the_second_process_takes_over_within_seconds_by_redis(redis_url, tmp_path):
    assert takes_over(redis_url[0], tmp_path) < SECONDS_S


def test_one_of_several_locks_is_enough_to_stand_by(redis_url):
    url = f"{redis_url[0]}?lock_timeout=60"
    one, both, other = ToozLease(url, ["b"], "1"), ToozLease(url, ["a", "b"], "2"), ToozLease(url, ["a"], "3")
    assert not one.renew()
    acquire(one)
    assert one.try_acquire()
    assert not both.try_acquire()
    assert one.renew()
    # What it had got it has given back.
    acquire(other)
    other.release()
    one.release()
    acquire(both)
    both.release()


@pytest.mark.expects_log("Unable to release lock")
def test_a_server_that_is_away_for_a_moment_is_no_loss(redis_url, impatience):
    url, server = redis_url
    now_s = [0.0]
    lease = ToozLease(url, ["d"], monotonic_s=lambda: now_s[0])
    acquire(lease)
    server.send_signal(signal.SIGSTOP)
    now_s[0] = 2.0
    assert lease.renew()
    assert lease.trouble == "no answer yet"
    now_s[0] = 4.0
    assert not lease.renew()
    lease.release()
    assert not lease.try_acquire()
    time.sleep(3)
    server.send_signal(signal.SIGCONT)
    # The lock of the call that hung is given back, or ends.
    acquire(lease)
    lease.release()


class FakeSession:
    def __init__(self, *answers):
        self.answers = list(answers)
        self.closed = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def acquire(self):
        assert self.may_answer.wait(LIMIT_S)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    renew = acquire

    def close(self):
        self.closed += 1
        return True


def test_a_coordinator_that_says_no_gets_a_new_connection():
    sessions = [FakeSession(OSError("no")), FakeSession(True, ValueError(), False)]
    used = list(sessions)
    lease = ToozLease("file:///x", ["d"])
    lease._new_session = lambda: used.pop(0)
    assert not lease.try_acquire()
    assert (lease.trouble, sessions[0].closed) == ("no", 1)
    assert lease.try_acquire()
    assert lease.renew()
    assert lease.trouble == "ValueError"
    assert not lease.renew()
    lease.release()
    assert sessions[1].closed == 1


def test_a_coordinator_that_says_nothing_is_waited_for_and_gets_everything_back_in_the_end(impatience):
    session = FakeSession(True)
    session.may_answer.clear()
    lease = ToozLease("file:///x", ["d"])
    lease._new_session = lambda: session
    assert not lease.try_acquire()
    assert not lease.try_acquire()
    assert lease.trouble == "no answer yet"
    lease.release()
    session.may_answer.set()
    wait_for(lambda: session.closed)
    lease.release()
    assert not lease.renew()


def test_a_connection_that_is_made_in_vain_is_closed(tmp_path):
    session = leadership.Session(f"file://{tmp_path}", ["d"], "slow")
    assert session.acquire()
    assert session.renew()
    assert session.close()
    assert session.close()


@pytest.mark.expects_log("Unable to release lock")
def test_a_lock_that_somebody_else_got_meanwhile_is_lost(redis_url):
    url, _ = redis_url
    slow, quick = (ToozLease(f"{url}?lock_timeout={each_s}", ["d"], f"{each_s}") for each_s in (1, 60))
    acquire(slow)
    acquire(quick)
    assert not slow.renew()
    slow.release()
    assert quick.renew()
    quick.release()
