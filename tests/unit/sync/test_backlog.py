# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.listings import KEY, Timer

from lustack.sync.backlog import Backlog, Unhashed

ITEMS = [Unhashed(KEY, "a"), Unhashed(KEY, "b")]


def test_what_waits_longest_comes_first_and_each_once():
    backlog = Backlog()
    for name in ("b", "a", "b"):
        backlog.add(Unhashed(KEY, name))
    assert len(backlog) == 2
    assert [backlog.take(0.0), backlog.take(0.0), backlog.take(0.0)] == [Unhashed(KEY, "b"), Unhashed(KEY, "a"), None]


def test_what_has_no_room_is_not_taken():
    backlog = Backlog(room=1)
    backlog.add(Unhashed(KEY, "a"))
    backlog.add(Unhashed(KEY, "b"))
    assert backlog.take(0.0) == Unhashed(KEY, "a")
    assert backlog.take(0.0) is None


def test_what_should_wait_waits():
    timer = Timer(step_ns=0)
    backlog = Backlog(monotonic_s=timer.seconds)
    backlog.add(ITEMS[0], 5.0)
    backlog.add(ITEMS[1], 3.0)
    assert backlog.take(0.0) is None
    timer.now_ns += 4 * 10**9
    assert backlog.take(0.0) == ITEMS[1]
    assert backlog.take(0.0) is None
    timer.now_ns += 4 * 10**9
    assert backlog.take(0.0) == ITEMS[0]


def test_a_pause_ends():
    backlog = Backlog()
    backlog.add(ITEMS[0])
    backlog.pause(is_paused=True)
    assert backlog.is_paused
    assert backlog.take(0.01) is None
    backlog.pause(is_paused=False)
    assert backlog.take(0.0) == ITEMS[0]


def test_who_waits_gets_what_comes():
    backlog = Backlog()
    with ThreadPoolExecutor(1) as executor:
        taken = executor.submit(backlog.take, 60.0)
        backlog.add(ITEMS[0], 0.05)
        assert taken.result() == ITEMS[0]
