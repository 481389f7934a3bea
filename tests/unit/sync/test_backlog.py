# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.listings import KEY, Timer

from lustack.sync.backlog import ITEM_BYTES, Backlog, Unhashed
from lustack.sync.sinks.protocol import ContainerKey

ITEMS = [Unhashed(KEY, "a"), Unhashed(KEY, "b")]


def test_what_waits_longest_comes_first_and_each_once():
    backlog = Backlog()
    for name in ("b", "a", "b"):
        backlog.add(Unhashed(KEY, name))
    assert len(backlog) == 2
    assert [backlog.take(0.0), backlog.take(0.0), backlog.take(0.0)] == [Unhashed(KEY, "b"), Unhashed(KEY, "a"), None]


def test_what_has_no_room_is_not_taken():
    backlog = Backlog(limit_bytes=ITEM_BYTES + 1)
    for _ in range(2):
        for name in ("long", "a", "b"):
            backlog.add(Unhashed(KEY, name))
        assert backlog.take(0.0) == Unhashed(KEY, "a")
        assert backlog.take(0.0) is None


def test_what_should_wait_waits():
    timer = Timer(step_ns=0)
    backlog = Backlog(monotonic_s=timer.seconds, round_s=0.5)
    backlog.add(ITEMS[0], 5.0)
    backlog.add(ITEMS[1], 3.0)
    assert backlog.take(0.0) is None
    timer.now_ns += 4 * 10**9
    assert backlog.take(0.0) == ITEMS[1]
    assert backlog.take(0.0) is None
    timer.now_ns += 4 * 10**9
    assert backlog.take(0.0) == ITEMS[0]


def test_those_that_wait_come_in_rounds_and_by_container():
    timer = Timer(step_ns=0)
    backlog = Backlog(monotonic_s=timer.seconds, round_s=2.0)
    timer.now_ns = 100 * 10**9
    keys = [ContainerKey("a", name) for name in "dcdc"]
    for number, key in enumerate(keys):
        timer.now_ns += 10**8
        backlog.add(Unhashed(key, f"{number}"), 3.0)
    assert backlog.take(0.0) is None
    timer.now_ns = 104 * 10**9
    found = [backlog.take(0.0) for _ in range(5)]
    assert [item and item.name for item in found] == ["1", "3", "0", "2", None]


def test_a_pause_ends():
    backlog = Backlog()
    backlog.add(ITEMS[0])
    backlog.pause(is_paused=True)
    assert backlog.is_paused
    assert backlog.take(0.01) is None
    backlog.pause(is_paused=False)
    assert backlog.take(0.0) == ITEMS[0]


def test_who_waits_gets_what_comes():
    backlog = Backlog(round_s=0.01)
    with ThreadPoolExecutor(1) as executor:
        taken = executor.submit(backlog.take, 60.0)
        backlog.add(ITEMS[0], 0.05)
        assert taken.result() == ITEMS[0]


def test_objects_of_one_container_can_be_added_together():
    backlog = Backlog(limit_bytes=2 * (ITEM_BYTES + 1))
    backlog.add_all(KEY, "aab")
    backlog.add_all(KEY, "c")
    assert [backlog.take(0.0), backlog.take(0.0), backlog.take(0.0)] == [Unhashed(KEY, "a"), Unhashed(KEY, "b"), None]
