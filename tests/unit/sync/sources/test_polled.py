# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import os
import threading
import time

import pytest
from tests.waiting import LIMIT_S

from lustack.mapping.names import RelPath
from lustack.posix import filesystems
from lustack.sync.errors import DeviceMissingError
from lustack.sync.events import NameChanged
from lustack.sync.sources import polled
from lustack.sync.sources.polled import PolledSource, Reading
from lustack.sync.sources.protocol import Guarantees, Position, Rooted, SourceLostError, SourceUnavailableError
from lustack.sync.sources.roots import Root

DEVICE = Root("/device")
A, B = NameChanged(b"a"), NameChanged(b"b")


class Script:
    """Says what it was told to; readable while there is something left to say."""

    def __init__(self, *readings):
        self.readings = list(readings)
        self.late = []
        self.why = None
        self.unseen = []
        self.has_gaps = False
        self.roots = []
        self.fd = os.eventfd(len(self.readings), os.EFD_SEMAPHORE | os.EFD_NONBLOCK)

    def read(self):
        os.eventfd_read(self.fd)
        return self.readings.pop(0)

    def update(self, roots):
        self.roots.append(list(roots))
        return self.unseen

    def overdue(self):
        late, self.late = self.late, []
        return late

    def why_lost(self):
        return self.why

    def close(self):
        os.close(self.fd)


@pytest.fixture
def play():
    sources = []

    def start(script, gather_s=0.0):
        source = PolledSource("name", Guarantees(False, True, 0.1), gather_s, [DEVICE], lambda _: script)
        source.open(None)
        sources.append(source)
        return source

    yield start
    for source in sources:
        source.close()


def test_what_is_read_comes_in_batches_with_positions_of_their_own(play):
    source = play(Script(Reading([A]), Reading([B])))
    first, second = source.read(1), source.read(1)
    assert (first.events, second.events) == ([A], [B])
    assert first.position != second.position
    source.acknowledge(second.position)
    assert source.read(0) is None
    assert (source.name, source.guarantees.across_hosts) == ("name", True)


def test_a_read_that_gave_nothing_is_followed_by_the_next(play):
    assert play(Script(Reading([]), Reading([A]))).read(1).events == [A]


def test_it_promises_less_while_there_are_gaps(play):
    script = Script()
    source = play(script)
    assert source.guarantees.across_hosts
    script.has_gaps = True
    assert not source.guarantees.across_hosts
    source.close()
    assert source.guarantees.across_hosts


def test_what_is_overdue_comes_without_reading(play):
    script = Script()
    source = play(script)
    script.late = [A]
    assert source.read(1).events == [A]


def test_it_gathers_unless_more_is_waiting(play):
    source = play(Script(Reading([A], is_behind=True), Reading([B])), gather_s=0.1)
    started_s = time.monotonic()
    source.read(1)
    assert time.monotonic() - started_s >= 0.1
    source._gather_s = LIMIT_S
    started_s = time.monotonic()
    source.read(1)
    assert time.monotonic() - started_s < LIMIT_S


def test_a_loss_stays_one_until_it_is_opened_again(play):
    source = play(Script(Reading([], lost="it ran over"), Reading([A])))
    for _ in range(2):
        with pytest.raises(SourceLostError, match="it ran over"):
            source.read(1)


def test_it_is_looked_for_losses_now_and_then(play, monkeypatch):
    script = Script(Reading([A]), Reading([B]))
    source = play(script)
    script.why = "it is gone"
    assert source.read(1).events == [A]
    monkeypatch.setattr(polled, "_CHECK_S", 0.0)
    with pytest.raises(SourceLostError, match="it is gone"):
        source.read(1)


def test_it_remembers_nothing(play):
    source = play(Script(Reading([A])))
    with pytest.raises(SourceLostError, match="before it was opened"):
        source.open(Position("1"))
    assert source.read(0) is None
    source.close()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError(2, "No such file", "/root"), DeviceMissingError),
        (NotADirectoryError(20, "Not a directory", "/root"), DeviceMissingError),
        (PermissionError(1, "not permitted"), SourceUnavailableError),
    ],
)
def test_what_cannot_be_opened_says_why(error, expected):
    def fail(roots):
        raise error

    source = PolledSource("name", Guarantees(False, True, 0.1), 0, [DEVICE], fail)
    with pytest.raises(expected):
        source.open(None)
    assert source.read(0) is None


def test_closing_it_elsewhere_ends_the_waiting(play):
    source = play(Script())
    timer = threading.Timer(0.05, source.close)
    timer.start()
    started_s = time.monotonic()
    assert source.read(LIMIT_S) is None
    assert time.monotonic() - started_s < LIMIT_S
    timer.join()


@pytest.fixture
def reading(play):
    """Reads a source in a thread, until the test ends."""
    threads = []

    def start(source):
        def read():
            with contextlib.suppress(SourceLostError):
                while not stop.is_set():
                    source.read(0.1)

        threads.append(threading.Thread(target=read))
        threads[-1].start()

    stop = threading.Event()
    yield start
    stop.set()
    for thread in threads:
        thread.join()


EXPORT = Root("/dev/shm", RelPath(b"a/c"))


def test_it_watches_other_roots_when_it_is_told_to(play, reading):
    script = Script()
    source = play(script)
    reading(source)
    assert isinstance(source, Rooted)
    source.watch([DEVICE, EXPORT])
    assert script.roots == [[DEVICE, EXPORT]]
    assert source.guarantees.across_hosts


def test_while_it_is_closed_other_roots_wait_for_it_to_be_opened():
    found = []

    def start(roots):
        found.append(roots)
        return Script()

    source = PolledSource("name", Guarantees(False, True, 0.1), 0, [DEVICE], start)
    source.watch([DEVICE, EXPORT])
    source.open(None)
    source.close()
    assert found == [(DEVICE, EXPORT)]


@pytest.mark.expects_log(r"name does not see all that happens in /dev/shm \(no handles\): comparisons do")
def test_a_root_that_cannot_be_watched_is_said_and_less_is_promised(play, reading):
    script = Script()
    source = play(script)
    reading(source)
    script.unseen = ["/dev/shm (no handles)"]
    source.watch([DEVICE, EXPORT])
    assert not source.guarantees.across_hosts
    script.unseen = []
    source.watch([DEVICE])
    assert source.guarantees.across_hosts


@pytest.mark.expects_log(r"in /dev/shm \(NFS: other machines change it\)")
def test_a_root_that_other_machines_change_is_said_and_less_is_promised(play, reading, monkeypatch):
    # Source: linux/magic.h, TMPFS_MAGIC.
    monkeypatch.setattr(filesystems, "SHARED", {0x01021994: "NFS"})
    source = play(Script())
    reading(source)
    source.watch([DEVICE, EXPORT, Root("/absent", RelPath(b"a/d"))])
    assert not source.guarantees.across_hosts


def test_a_device_that_cannot_be_watched_any_more_is_a_loss(play, reading):
    script = Script()

    def fail(roots):
        raise FileNotFoundError(2, "No such file or directory", "/device")

    script.update = fail
    source = play(script)
    reading(source)
    source.watch([DEVICE])
    with pytest.raises(SourceLostError, match="/device"):
        source.read(0)


@pytest.mark.parametrize("which", ["read", "overdue"])
def test_what_the_system_refuses_is_a_loss(play, which):
    def fail():
        raise OSError(5, "Input/output error")

    script = Script(*([Reading([A])] if which == "read" else []))
    setattr(script, which, fail)
    with pytest.raises(SourceLostError, match="Input/output"):
        play(script).read(0)
