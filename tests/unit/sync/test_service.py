# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from tests.exported import export
from tests.listings import KEY, POLICY
from tests.objects import swift_conf
from tests.unit.sync.sinks.test_rings import swift_dir
from tests.waiting import LIMIT_S, wait_for

from lustack.mapping.names import RelPath
from lustack.sync import leadership, service, status
from lustack.sync.errors import DeviceMissingError, EngineFailedError
from lustack.sync.events import NameChanged
from lustack.sync.metrics import Metrics
from lustack.sync.plan import Wanted, put
from lustack.sync.service import Daemon, Rarely
from lustack.sync.sources.choose import Choice
from lustack.sync.sources.fake import FakeSource
from lustack.sync.sources.protocol import Guarantees
from lustack.sync.sources.roots import Root
from lustack.sync.world import World

__all__ = ("swift_conf", "swift_dir")


@pytest.fixture
def world(playground):
    settings = replace(playground.settings, source="scan", interval_s=0.01, settle_s=0.0)
    with ThreadPoolExecutor(1) as executor:
        yield World(settings, (POLICY,), playground.sink, playground.state, playground.clock, executor)


@contextlib.contextmanager
def running(world, **options):
    daemon = Daemon(world, threading.Event(), Metrics(), **options)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.stop.set()
        thread.join()


def test_it_follows_the_files(playground, world):
    with running(world) as daemon:
        path = playground.write("a", b"body")
        wait_for(lambda: playground.listed() == ["a"])
        shown = playground.sink.containers[KEY].shown
        wait_for(lambda: shown()["a"].etag == "841a2d689ad86bd1611447453c22c6fc")
        path.unlink()
        wait_for(lambda: playground.listed() == [])
        wait_for(lambda: daemon.cycles > 1)


def late_row(playground):
    """A PUT of Swift's from before a job removed the object: its update waited for a container server."""
    playground.sink.containers[KEY].merge(put("late", Wanted(1, "t", "e", "1500000000.00000"), 1_600_000_000 * 10**9))


def test_a_row_that_came_late_shows_no_longer_than_until_the_next_comparison(playground, world):
    with running(world) as daemon:
        wait_for(lambda: daemon.cycles > 0)
        late_row(playground)
        before = daemon.cycles
        wait_for(lambda: playground.listed() == [])
        wait_for(lambda: daemon.cycles > before)
        assert playground.listed() == []


def test_where_events_are_seen_a_row_that_comes_late_never_shows(playground, world, chooser):
    with running(world, choose=chooser) as daemon:
        wait_for(lambda: daemon.cycles == 1)
        chooser.happen(NameChanged(RelPath(b"a/c/late")))
        wait_for(lambda: "late" in playground.sink.containers[KEY].rows)
        late_row(playground)
        assert playground.listed() == []
        assert daemon.cycles == 1


def test_nothing_is_hashed_where_the_operator_does_not_want_it(playground, world):
    world.settings = replace(world.settings, hash_bytes_per_s=0)
    playground.write("a", b"body")
    with running(world) as daemon:
        wait_for(lambda: daemon.cycles > 1)
        assert len(daemon.backlog) == 0


@pytest.mark.expects_log("too few servers answered")
def test_servers_that_are_away_are_asked_again(playground, world):
    playground.sink.failures = 1
    playground.write("a")
    with running(world):
        wait_for(lambda: playground.listed() == ["a"])


@pytest.mark.expects_log("the device .* cannot be used")
def test_a_device_that_is_away_is_looked_for_again(playground, world):
    world.settings = replace(world.settings, sweep_interval_s=1000)
    playground.root.rename(playground.base / "away")
    with running(world) as daemon:
        wait_for(
            lambda: daemon.metrics.registry.get_sample_value(
                "lustack_sync_errors_total", {"error": "DeviceMissingError"}
            )
        )
        (playground.base / "away").rename(playground.root)
        playground.write("a")
        wait_for(lambda: playground.listed() == ["a"])


@pytest.mark.expects_log("5 objects would vanish")
def test_what_a_human_must_decide_does_not_hurry_it(playground, world):
    world.settings = replace(world.settings, missing_rows=2)
    for number in range(5):
        playground.write(f"{number}")
    with running(world) as daemon:
        wait_for(lambda: len(playground.listed()) == 5)
        playground.container.rename(playground.base / "gone")
        before = daemon.cycles
        wait_for(lambda: daemon.cycles > before + 3)
        assert len(playground.listed()) == 5


@pytest.mark.expects_log("left alone: Swift has no such account", "1 entries cannot be objects")
def test_what_is_left_alone_is_logged_once(playground, world):
    (playground.root / "users").mkdir()
    playground.write(b"\xff")
    with running(world) as daemon:
        wait_for(lambda: daemon.cycles > 3)


@pytest.mark.expects_log("the clock of this machine was ahead")
def test_a_clock_that_was_ahead_is_told(playground, world):
    playground.clock.now_ns()
    playground.timer.now_ns -= 3600 * 10**9
    with running(world) as daemon:
        wait_for(lambda: daemon.cycles)


def test_whoever_stops_it_does_not_wait_for_a_long_comparison(playground, world):
    for number in range(2000):
        playground.write(f"{number:04}", b"")
    world.settings = replace(world.settings, batch_rows=1)
    send = playground.sink.send

    def slow(key, rows):
        time.sleep(0.02)
        send(key, rows)

    playground.sink.send = slow
    with running(world) as daemon:
        wait_for(lambda: len(playground.listed()) > 2)
    assert daemon.cycles == 0
    assert len(playground.listed()) < 2000


@pytest.mark.expects_log("it is raining")
def test_the_same_sentence_is_logged_now_and_then(caplog):
    now_s = [0.0]
    rarely = Rarely(lambda: now_s[0])
    for later_s in (0.0, 10.0, 4000.0):
        now_s[0] = later_s
        rarely.warn("it is raining")
    assert [record.getMessage() for record in caplog.records] == ["it is raining"] * 2


@pytest.mark.parametrize("url", ["", "file://{}/locks"])
def test_it_runs_from_settings_until_it_is_stopped(playground, swift_dir, url, monkeypatch):
    # The coordinator is asked in a thread, which takes its time on a busy machine.
    monkeypatch.setattr(leadership, "_ANSWER_S", LIMIT_S)
    settings = replace(
        playground.settings,
        swift_dir=str(swift_dir),
        state_dir=str(playground.base / "state2"),
        source="scan",
        interval_s=0.01,
        coordination_url=url.format(playground.base),
    )
    for child in playground.root.iterdir():
        # Without accounts nobody has to be asked.
        child.rename(playground.base / child.name)
    stop = threading.Event()
    database = playground.base / "state2" / "sync.sqlite"

    def stop_it():
        try:
            wait_for(database.exists)
        finally:
            stop.set()

    stopper = threading.Thread(target=stop_it)
    stopper.start()
    service.run(settings, stop)
    stopper.join()
    assert status.read(settings.state_dir).state == "stopped"


@pytest.mark.parametrize("prefix", ["", "@"])
def test_systemd_is_told(tmp_path, prefix):
    address = f"{prefix}{tmp_path}/socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(address.replace("@", "\0"))
        service.notify("READY=1", address)
        assert channel.recv(100) == b"READY=1"


def test_nobody_is_told_who_does_not_want_to_know(tmp_path):
    service.notify("READY=1", "")
    service.notify("READY=1", f"{tmp_path}/gone")
    assert "NOTIFY_SOCKET" not in os.environ
    service.notify("READY=1")


def test_without_a_descriptor_left_systemd_is_not_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socket", refuse)
    service.notify("WATCHDOG=1", f"{tmp_path}/socket")


@pytest.mark.parametrize(("usec", "told"), [("", []), ("2000000", [b"WATCHDOG=1"])])
def test_systemd_is_told_that_all_is_well_if_it_wants_to_know(tmp_path, monkeypatch, usec, told):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(f"{tmp_path}/socket")
        channel.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/socket")
        monkeypatch.setenv("WATCHDOG_USEC", usec)
        service.pulse()
        found = []
        with contextlib.suppress(BlockingIOError):
            found.append(channel.recv(100))
        assert found == told


class Chooser:
    """Gives sources in memory; a device that is away has none."""

    def __init__(self, **guarantees):
        self.sources = {}
        self.roots = []
        self.guarantees = Guarantees(**{"complete": True, "across_hosts": True, "latency_s": 0.0} | guarantees)

    def __call__(self, kind, name, roots):
        if not os.path.isdir(roots[0].path):
            raise DeviceMissingError(roots[0].path, "it is away")
        self.roots = roots
        self.sources.setdefault(name, FakeSource(name, self.guarantees))
        return Choice("fake", self.sources[name], "for tests")

    def happen(self, *events):
        self.sources[POLICY.device].happen(*events)


@pytest.fixture
def chooser():
    return Chooser()


def value_of(daemon, name, **labels):
    return daemon.metrics.registry.get_sample_value(f"lustack_sync_{name}", labels)


def test_events_are_followed_between_comparisons(playground, world, chooser):
    playground.write("before", b"body")
    with running(world, choose=chooser) as daemon:
        wait_for(lambda: playground.listed() == ["before"])
        wait_for(lambda: daemon.cycles == 1)
        playground.write("a", b"body")
        chooser.happen(NameChanged(RelPath(b"a/c/a")))
        wait_for(lambda: playground.listed() == ["a", "before"])
        shown = playground.sink.containers[KEY].shown
        wait_for(lambda: shown()["a"].etag == "841a2d689ad86bd1611447453c22c6fc")
        assert daemon.cycles == 1
    assert status.read(world.settings.state_dir).state == "stopped"
    assert status.read(world.settings.state_dir).mode == "events"


def test_what_a_source_may_miss_is_compared_when_it_is_open_and_not_before(playground, world, chooser):
    compared = threading.Event()
    playground.sink.list_rows = spied(playground.sink.list_rows, compared.set)
    source = chooser.sources[POLICY.device] = FakeSource(POLICY.device, chooser.guarantees)
    # It takes its time.
    source.open = spied(source.open, lambda: compared.wait(0.3))
    with running(world, choose=chooser) as daemon:
        wait_for(lambda: daemon.cycles and not daemon.engine.wants_tree())
        assert daemon.cycles == 1


def spied(call, before):
    def spy(*arguments):
        before()
        return call(*arguments)

    return spy


@pytest.mark.expects_log("has lost events")
def test_a_loss_is_worth_a_comparison_at_once(playground, world, chooser):
    with running(world, choose=chooser) as daemon:
        wait_for(lambda: daemon.cycles == 1)
        playground.write("a")
        chooser.sources[POLICY.device].lose(NameChanged(RelPath(b"a/c/b")))
        wait_for(lambda: daemon.cycles == 2)
        assert playground.listed() == ["a"]


def test_a_source_that_sees_not_everything_does_not_replace_comparisons(playground, world):
    with running(world, choose=Chooser(across_hosts=False)) as daemon:
        wait_for(lambda: daemon.cycles > 3)


def test_a_source_that_knows_what_was_before_makes_a_comparison_at_the_start_unnecessary(playground, world, chooser):
    with running(world, choose=chooser) as daemon:
        wait_for(lambda: daemon.cycles == 1)
        playground.write("a")
        chooser.happen(NameChanged(RelPath(b"a/c/a")))
        wait_for(lambda: playground.state.position(POLICY.device) == "1")
    playground.write("y")
    chooser.happen(NameChanged(RelPath(b"a/c/x")), NameChanged(RelPath(b"a/c/y")))
    with running(world, choose=chooser) as daemon:
        wait_for(lambda: playground.listed() == ["a", "y"])
        assert daemon.cycles == 0


@pytest.mark.expects_log("the device .* cannot be used")
def test_a_device_that_comes_later_is_watched_then(playground, world, chooser):
    world.settings = replace(world.settings, sweep_interval_s=1000)
    playground.root.rename(playground.base / "away")
    with running(world, choose=chooser) as daemon:
        wait_for(lambda: value_of(daemon, "errors_total", error="DeviceMissingError"))
        (playground.base / "away").rename(playground.root)
        wait_for(lambda: daemon.engine.readers and not daemon.engine.readers[0].why_down)
        playground.write("a")
        chooser.happen(NameChanged(RelPath(b"a/c/a")))
        wait_for(lambda: playground.listed() == ["a"])


def test_what_is_exported_is_watched(playground, world, chooser):
    export(playground.root, playground.base / "x")
    with running(world, choose=chooser) as daemon:
        wait_for(lambda: chooser.roots)
        assert [root.prefix for root in chooser.roots] == [b"", b"a/e"]
        export(playground.root, playground.base / "y", container="f")
        source = chooser.sources[POLICY.device]
        wait_for(lambda: [root.prefix for root in source.roots] == [b"", b"a/e", b"a/f"])
        daemon._is_outdated = True
        source.roots = ()
        wait_for(lambda: daemon.cycles == 1)
        daemon._watch()
        assert len(source.roots) == 3


@pytest.mark.parametrize("is_scan", [True, False])
def test_who_waits_at_a_fence_may_pass_when_everything_before_is_listed(playground, world, chooser, is_scan):
    world.settings = replace(world.settings, interval_s=3600.0)
    with running(world, **({} if is_scan else {"choose": chooser})) as daemon:
        wait_for(lambda: daemon.cycles == 1)
        playground.write("a")
        nonce = playground.root / ".lustack" / "fence" / ("f" * 32)
        nonce.touch()
        if not is_scan:
            chooser.happen(NameChanged(RelPath(b"a/c/a")))
            chooser.happen(NameChanged(RelPath(b".lustack/fence/" + b"f" * 32)))
        wait_for(lambda: not nonce.exists())
        assert playground.listed() == ["a"]
        assert daemon.cycles == (2 if is_scan else 1)


def test_closed_files_are_not_hashed_where_the_operator_does_not_want_it(playground, world, chooser):
    world.settings = replace(world.settings, hash_bytes_per_s=0)
    playground.write("a", b"body")
    with running(world, choose=chooser) as daemon:
        wait_for(lambda: daemon.cycles == 1)
        compared = daemon.engine.parts.sink.rows
        chooser.happen(NameChanged(RelPath(b"a/c/a")))
        wait_for(lambda: daemon.engine.parts.sink.rows > compared)
        assert len(daemon.backlog) == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_part_that_fails_ends_all_of_it(playground, world, chooser):
    def fail(*_):
        raise ZeroDivisionError

    daemon = Daemon(world, threading.Event(), Metrics(), choose=chooser)
    daemon.engine._sender._ask_again = fail
    playground.write("x")
    source = chooser("fake", POLICY.device, [Root(str(playground.root))]).source
    read = source.read

    def read_more(timeout_s):
        if not source.events:
            source.happen(NameChanged(RelPath(b"a/c/x")))
        return read(timeout_s)

    source.read = read_more
    with pytest.raises(EngineFailedError, match=r"all of it ends: ZeroDivisionError\(\)"):
        daemon.run()
