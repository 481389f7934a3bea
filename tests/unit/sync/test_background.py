# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest
from tests.listings import KEY, POLICY
from tests.waiting import LIMIT_S

from lustack.sync import background as beside
from lustack.sync import plan
from lustack.sync.background import Background
from lustack.sync.backlog import Backlog, Unhashed
from lustack.sync.hasher import Hasher, Outcome, Pace
from lustack.sync.locate import Locator
from lustack.sync.recent import RecentSink
from lustack.sync.sinks.protocol import ContainerKey


class Counts:
    """Remembers, and stops the background after so many files."""

    def __init__(self, stop=None, files=1):
        self.hashed = []
        self.swept = []
        self.stop = stop
        self.files = files

    def count_hash(self, outcome):
        self.hashed.append(outcome)
        if self.stop and len(self.hashed) >= self.files:
            self.stop.set()

    def count_swept(self, swept):
        self.swept.append(swept)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A machine that is slow makes no file a slow one."""
    monkeypatch.setattr(beside, "_LINGER_S", LIMIT_S)


@pytest.fixture
def background(playground):
    playground.sink.page_rows = 100
    return Background(playground.settings, [POLICY], recent(playground), playground.clock)


def recent(playground):
    return RecentSink(playground.sink, playground.clock.now_ns())


def hasher():
    return Hasher(3.0, Pace(10**12, lambda _seconds: False), lambda: time.time_ns() + 3600 * 10**9)


def hash_all(background, playground, *names):
    backlog, counts = Backlog(), Counts()
    for name in names:
        backlog.add(Unhashed(KEY, name))
    first = backlog.take(0.0)
    background.hash(hasher(), first, backlog, counts)
    background.send(float("inf"))
    return backlog, counts


def test_hashed_files_get_their_rows_together(playground, background):
    for name in "abc":
        playground.write(name, name.encode())
    playground.compare()
    playground.sink.requests.clear()
    backlog, counts = hash_all(background, playground, *"abc", "gone")
    assert counts.hashed == [Outcome.HASHED] * 3 + [Outcome.GONE]
    assert playground.sink.requests == [3]
    assert len(backlog) == 0
    assert playground.sink.containers[KEY].shown()["a"].etag == "0cc175b9c0f1b6a831c399e269772661"
    assert playground.compare().same == 3


def test_every_name_of_a_file_gets_the_row_of_its_bytes(playground, background):
    first = playground.write("a", b"a")
    os.link(first, playground.container / "b")
    playground.compare()
    _, counts = hash_all(background, playground, "a", "b")
    assert counts.hashed == [Outcome.HASHED, Outcome.KNOWN]
    assert playground.compare().same == 2


def test_a_file_that_is_written_to_is_asked_again_later(playground, background):
    with playground.write("a", b"a").open("ab"):
        backlog, counts = hash_all(background, playground, "a")
    assert counts.hashed == [Outcome.BUSY]
    assert len(backlog) == 1
    assert backlog.take(0.0) is None


def test_a_row_that_was_sent_for_the_new_attribute_is_not_sent_once_more(playground):
    sink = recent(playground)
    background = Background(playground.settings, [POLICY], sink, playground.clock)
    for name in "abc":
        playground.write(name, name.encode())
    early = playground.clock.now_ns()
    backlog, counts = Backlog(), Counts()
    for name in "bc":
        backlog.add(Unhashed(KEY, name))
    background.hash(hasher(), Unhashed(KEY, "a"), backlog, counts)
    assert counts.hashed == [Outcome.HASHED] * 3
    with playground.directory() as directory, closing(Locator(directory)) as locator, playground.device() as device:
        for name, now_ns in (("a", playground.clock.now_ns()), ("b", early)):
            wanted = device.observer.observe(name, locator.places(name), now_ns)
            sink.send(KEY, [plan.put(name, wanted, now_ns)])
    playground.sink.requests.clear()
    background.send(0.0)
    assert playground.sink.requests == []
    background.send(float("inf"))
    # That of b was looked for before its MD5 was there, and c had none.
    assert playground.sink.requests == [2]
    assert playground.compare().same == 3


def test_objects_of_another_container_wait_for_their_turn(playground, background):
    playground.write("a")
    backlog = Backlog()
    other = Unhashed(ContainerKey("a", "other"), "o")
    backlog.add(other)
    background.hash(hasher(), Unhashed(KEY, "a"), backlog, Counts())
    background.send(float("inf"))
    assert backlog.take(0.0) == other
    assert playground.listed() == ["a"]


def test_a_container_that_is_not_ours_is_left_alone(playground, background):
    playground.sink.containers[KEY].policy_index = 9
    playground.write("a")
    _, counts = hash_all(background, playground, "a")
    assert counts.hashed == []


def test_a_container_without_a_directory_is_no_trouble(playground, background):
    playground.container.rmdir()
    _, counts = hash_all(background, playground, "a")
    assert counts.hashed == [Outcome.GONE]


def test_a_container_that_goes_after_its_files_were_hashed_gets_no_rows(playground, background):
    path = playground.write("a")
    background.hash(hasher(), Unhashed(KEY, "a"), Backlog(), Counts())
    path.unlink()
    playground.container.rmdir()
    background.send(float("inf"))
    assert playground.listed() == []


def test_a_file_that_goes_after_it_was_hashed_gets_no_row(playground, background):
    path = playground.write("a")

    class Removing(Hasher):
        def hash(self, site, name):
            outcome = super().hash(site, name)
            path.unlink()
            return outcome

    backlog = Backlog()
    removing = Removing(3.0, Pace(10**12, lambda _seconds: False), lambda: time.time_ns() + 3600 * 10**9)
    background.hash(removing, Unhashed(KEY, "a"), backlog, Counts())
    background.send(float("inf"))
    assert playground.listed() == []


def test_rows_do_not_wait_for_a_slow_file(playground, background, monkeypatch):
    monkeypatch.setattr(beside, "_LINGER_S", 0.0)
    for name in "ab":
        playground.write(name)
    backlog, counts = hash_all(background, playground, "a", "b")
    assert counts.hashed == [Outcome.HASHED]
    assert playground.listed() == ["a"]
    assert len(backlog) == 1


def run(playground, backlog, counts, stop, on_warning=lambda: None):
    warnings = []

    def warn(sentence):
        warnings.append(sentence)
        on_warning()

    background = Background(playground.settings, [POLICY], recent(playground), playground.clock)
    background.run(backlog, counts, warn, stop)
    return warnings


def test_it_sweeps_and_hashes_until_it_is_stopped(playground):
    stop, backlog = threading.Event(), Backlog()
    playground.write("a", b"")
    backlog.add(Unhashed(KEY, "a"))
    counts = Counts(stop)
    assert run(playground, backlog, counts, stop) == []
    assert (len(counts.swept), counts.hashed) == (1, [Outcome.KNOWN])
    # Nobody waits any more whether somebody else sends it.
    assert playground.listed() == ["a"]


def test_trouble_is_told_and_does_not_end_it(playground):
    stop, backlog = threading.Event(), Backlog()
    playground.write("a", b"")
    backlog.add(Unhashed(KEY, "a"))
    playground.sink.failures = 1
    counts = Counts(stop)
    warnings = run(playground, backlog, counts, stop, lambda: backlog.add(Unhashed(KEY, "a")))
    assert [sentence.partition(":")[0] for sentence in warnings] == ["get_state"]
    assert counts.hashed == [Outcome.KNOWN]


def test_a_lost_device_is_told(playground):
    stop, backlog = threading.Event(), Backlog()
    playground.settings = replace(playground.settings, devices=str(playground.base / "gone"))
    warnings = run(playground, backlog, Counts(), stop, stop.set)
    assert "No such file" in warnings[0]


def test_it_stops_in_the_middle_of_a_file(playground):
    stop, backlog = threading.Event(), Backlog()
    path = playground.write("a", b"x" * 3_000_000)
    import os

    os.utime(path, (1, 1))
    playground.settings = replace(playground.settings, hash_bytes_per_s=10_000, settle_s=0.0)
    backlog.add(Unhashed(KEY, "a"))
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    assert run(playground, backlog, Counts(), stop) == []
    timer.join()
    assert playground.listed() == []


def test_with_nothing_to_do_it_waits(playground):
    stop = threading.Event()
    timer = threading.Timer(0.1, stop.set)
    timer.start()
    assert run(playground, Backlog(), Counts(), stop) == []
    timer.join()
