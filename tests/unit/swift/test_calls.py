# SPDX-License-Identifier: Apache-2.0
"""Threads that hang in the file system, and everybody else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from swift.common.concurrency import Event, Timeout, patcher, sleep, spawn
from tests.objects import SwiftLog, no_thread_pool, thread_pool
from tests.waiting import LIMIT_S, wait_for

from lustack.swift.calls import Bounds, Calls, StalledError

threading = patcher.original("threading")
DEADLINE_S = 0.2
"""For what hangs until the test says otherwise."""

LATE = r"^WARNING swift.tests: /d: the file system does not answer$"


@pytest.fixture
def threads() -> Iterator[None]:
    with thread_pool():
        yield


@pytest.fixture
def inline() -> Iterator[None]:
    with no_thread_pool():
        yield


class Disk:
    """A file system that can be stopped."""

    def __init__(self) -> None:
        self._moves = threading.Event()
        self._moves.set()
        self.done: list[str] = []

    def stop(self) -> None:
        self._moves.clear()

    def go_on(self) -> None:
        self._moves.set()

    def ask(self, answer: str) -> str:
        assert self._moves.wait(LIMIT_S), "the event loop did not go on"
        self.done.append(answer)
        return answer


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.go_on()


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """Stands still until it is told to go on."""
    clock = SimpleNamespace(now_s=1000.0)
    clock.monotonic = lambda: clock.now_s
    monkeypatch.setattr("lustack.swift.calls.time", clock)
    return clock


def make(places: int = 2, deadline_s: float = DEADLINE_S, patience_s: float = DEADLINE_S) -> Calls:
    return Calls("/d", SwiftLog(), Bounds(places, deadline_s, patience_s))


def wait_until(condition: Callable[[], bool]) -> None:
    wait_for(condition, sleep=sleep)


def let_it_return_unnoticed(calls: Calls) -> None:
    """Holds the event loop until the only call is back, and its deadline has passed."""
    (job,) = calls._jobs
    wait_for(lambda: bool(job._marks))
    time.sleep(2 * DEADLINE_S)


class TestLine:
    def test_a_call_returns_what_it_returns(self, inline):
        line = make(deadline_s=LIMIT_S).line()
        assert [line.run(pow, 2, 3), line.run(pow, 2, 4)] == [8, 16]

    def test_a_call_raises_what_it_raises(self, inline):
        line = make(deadline_s=LIMIT_S).line()
        with pytest.raises(ZeroDivisionError):
            line.run(divmod, 1, 0)
        assert line.run(abs, -1) == 1

    def test_what_was_started_is_waited_for_before_the_next_starts(self, inline):
        seen: list[int] = []
        line = make(deadline_s=LIMIT_S).line()
        line.start(seen.append, 1)
        assert seen == []
        line.start(seen.append, 2)
        assert seen == [1]
        assert line.wait() is None
        assert seen == [1, 2]
        assert line.wait() is None

    def test_what_a_started_call_raised_is_raised_later(self, inline):
        line = make(deadline_s=LIMIT_S).line()
        line.start(divmod, 1, 0)
        with pytest.raises(ZeroDivisionError):
            line.start(abs, -1)
        assert line.run(abs, -1) == 1

    def test_the_end_waits_for_what_was_started_and_does_not_mind_its_error(self, inline):
        seen: list[int] = []
        line = make(deadline_s=LIMIT_S).line()
        line.start(divmod, 1, 0)
        line.finish(seen.append, 1)
        assert seen == [1]

    def test_places_come_back(self, inline):
        calls = make(places=1, deadline_s=LIMIT_S)
        for _ in range(3):
            assert calls.line().run(abs, -1) == 1


class TestStalls:
    def test_the_event_loop_goes_on_while_threads_hang(self, threads, disk):
        disk.stop()

        def tick() -> None:
            for _ in range(10):
                sleep(0.01)
            disk.go_on()

        ticking = spawn(tick)
        assert make(deadline_s=LIMIT_S).line().run(disk.ask, "x") == "x"
        ticking.wait()

    @pytest.mark.expects_log(LATE)
    def test_a_request_waits_no_longer_than_the_deadline(self, threads, disk):
        disk.stop()
        began_s = time.monotonic()
        with pytest.raises(StalledError, match=r"/d: the file system did not answer for 0\.2 s") as caught:
            make().line().run(disk.ask, "x")
        assert DEADLINE_S <= time.monotonic() - began_s < LIMIT_S
        assert caught.value.retryable

    @pytest.mark.expects_log(LATE)
    def test_who_asks_again_is_told_again(self, inline):
        calls, gate = make(), Event()
        line = calls.line()
        line.start(gate.wait)
        for _ in range(2):
            with pytest.raises(StalledError):
                line.wait()
        calls.deadline_s = LIMIT_S
        gate.send("x")
        assert line.wait() == "x"

    @pytest.mark.expects_log(LATE)
    def test_what_hangs_keeps_its_place_and_the_rest_of_the_pool_is_free(self, threads, disk):
        calls = make(places=2, patience_s=60)
        disk.stop()
        waiting = [spawn(self._is_stalled, calls, disk) for _ in range(2)]
        assert [each.wait() for each in waiting] == [True, True]
        assert self._is_stalled(calls, disk)  # no place
        assert make(deadline_s=LIMIT_S).line().run(abs, -1) == 1  # another device
        disk.go_on()
        wait_until(lambda: calls._places.free == 2)
        assert len(disk.done) == 2

    @pytest.mark.expects_log(LATE)
    def test_newcomers_are_sent_away_at_once_while_nothing_moves(self, threads, disk, caplog):
        caplog.set_level(logging.INFO)
        calls = make(places=1, patience_s=0.05)
        disk.stop()
        assert self._is_stalled(calls, disk)
        wait_until(lambda: self._waited_s(calls, disk) == 0.0)
        assert {self._waited_s(calls, disk) for _ in range(100)} == {0.0}
        disk.go_on()
        wait_until(lambda: calls._places.free == 1)
        calls.deadline_s = LIMIT_S
        assert calls.line().run(disk.ask, "y") == "y"
        assert "/d: the file system answers again" in caplog.messages

    def test_an_event_loop_that_has_too_much_to_do_is_no_stall(self, threads, disk, clock):
        calls = make(places=1, deadline_s=LIMIT_S, patience_s=0.05)
        asking = [spawn(calls.line().run, disk.ask, str(number)) for number in range(3)]
        sleep()
        (first,) = calls._jobs
        while "done" not in first._marks:
            time.sleep(0.01)
        clock.now_s += 0.3  # nobody noticed that the first is back
        asking.append(spawn(calls.line().run, disk.ask, "newcomer"))
        assert [each.wait() for each in asking] == ["0", "1", "2", "newcomer"]

    def test_an_idle_device_is_not_a_stalled_one(self, threads, disk, clock):
        calls = make(places=1, deadline_s=LIMIT_S, patience_s=0.05)
        clock.now_s += 0.1
        asking = [spawn(calls.line().run, disk.ask, str(number)) for number in range(3)]
        assert [each.wait() for each in asking] == ["0", "1", "2"]

    def test_who_waits_for_a_turn_goes_on_waiting_while_nothing_hangs(self, inline):
        calls = make(places=1)
        calls.enter()
        waiting = spawn(calls.enter)
        sleep(3 * DEADLINE_S)
        assert not waiting.dead
        calls._places.give()
        assert waiting.wait() is None

    def test_who_asks_again_and_again_does_not_overtake_who_waits(self, inline):
        calls, order = make(places=1, deadline_s=LIMIT_S), []

        def ask_often() -> None:
            line = calls.line()
            line.run(sleep, 0.01)
            for _ in range(3):
                line.run(order.append, "often")

        asking = [spawn(ask_often), spawn(calls.line().run, order.append, "once")]
        for each in asking:
            each.wait()
        assert order == ["once", "often", "often", "often"]

    @pytest.mark.parametrize("is_given", [False, True])
    def test_who_is_killed_while_he_waits_for_his_turn_leaves_the_place_to_others(self, inline, is_given):
        calls = make(places=1, deadline_s=LIMIT_S)
        calls.enter()
        waiting = spawn(calls.enter)
        sleep()
        if is_given:
            calls._places.give()
        waiting.kill()
        assert calls._places.free == int(is_given)

    def test_a_call_that_is_back_when_its_deadline_is_noticed_is_not_late(self, threads, disk):
        calls = make()
        asking = spawn(calls.line().run, disk.ask, "x")
        sleep()
        let_it_return_unnoticed(calls)
        assert asking.wait() == "x"

    def test_a_call_beside_that_is_back_when_its_deadline_is_noticed_is_not_late(self, threads, disk):
        calls = make()
        line = calls.line()
        line.start(disk.ask, "x")
        waiting = spawn(line.wait)
        sleep()
        let_it_return_unnoticed(calls)
        assert waiting.wait() == "x"

    @staticmethod
    def _waited_s(calls: Calls, disk: Disk) -> float:
        with pytest.raises(StalledError) as caught:
            calls.line().run(disk.ask, "x")
        return float(caught.value.waited_s)

    @staticmethod
    def _is_stalled(calls: Calls, disk: Disk) -> bool:
        try:
            calls.line().run(disk.ask, "x")
        except StalledError:
            return True
        return False


class TestTidying:
    @pytest.mark.expects_log(LATE)
    def test_who_was_left_alone_tidies_up_himself(self, inline):
        seen: list[str] = []
        line, gate = make().line(), Event()

        def hang() -> None:
            gate.wait()
            seen.append("call")

        line.start(hang)
        with pytest.raises(StalledError):
            line.wait()
        line.finish(seen.append, "tidy")
        assert seen == []
        gate.send()
        wait_until(lambda: len(seen) == 2)
        assert seen == ["call", "tidy"]

    @pytest.mark.expects_log(LATE)
    def test_the_thread_that_was_left_alone_tidies_up_when_it_returns(self, threads, disk):
        line = make().line()
        disk.stop()
        with pytest.raises(StalledError):
            line.run(disk.ask, "call")
        line.finish(disk.done.append, "tidy")
        sleep(0.05)
        assert disk.done == []
        disk.go_on()
        wait_until(lambda: len(disk.done) == 2)
        assert disk.done == ["call", "tidy"]

    @pytest.mark.expects_log(LATE)
    def test_a_call_that_returned_between_deadline_and_end_is_tidied_up_after(self, threads, disk):
        line = make().line()
        disk.stop()
        with pytest.raises(StalledError):
            line.run(disk.ask, "call")
        disk.go_on()
        wait_until(lambda: disk.done == ["call"])
        line.finish(disk.done.append, "tidy")
        wait_until(lambda: disk.done == ["call", "tidy"])

    @pytest.mark.expects_log(LATE)
    def test_a_thread_that_returned_unnoticed_leaves_the_tidying_to_the_request(self, threads, disk):
        line = make().line()
        disk.stop()
        with pytest.raises(StalledError):
            line.run(disk.ask, "call")
        disk.go_on()
        while not disk.done:  # the event loop does not learn of it
            time.sleep(0.01)
        time.sleep(0.05)
        line.finish(disk.done.append, "tidy")
        wait_until(lambda: disk.done == ["call", "tidy"])

    @pytest.mark.expects_log(LATE)
    def test_the_end_of_an_upload_that_nobody_waits_for_waits_once(self, threads, disk):
        line = make().line()
        disk.stop()
        line.start(disk.ask, "call")
        line.finish(disk.done.append, "tidy")
        assert disk.done == []
        disk.go_on()
        wait_until(lambda: disk.done == ["call", "tidy"])

    @pytest.mark.expects_log(LATE)
    def test_who_got_no_place_tidies_up_without_waiting(self, threads, disk):
        calls = make(places=1, patience_s=0)
        disk.stop()
        with pytest.raises(StalledError):
            calls.line().run(disk.ask, "x")
        line = calls.line()
        with pytest.raises(StalledError):
            line.start(disk.ask, "y")
        line.finish(disk.done.append, "tidy")
        wait_until(lambda: disk.done == ["tidy"])

    @pytest.mark.expects_log(LATE)
    def test_who_is_killed_while_he_waits_leaves_the_thread_to_itself(self, threads, disk):
        calls = make(places=1, deadline_s=60)
        line = calls.line()
        disk.stop()

        def wait() -> None:
            with Timeout(DEADLINE_S, KeyError):
                line.run(disk.ask, "call")

        with pytest.raises(KeyError):
            wait()
        line.finish(disk.done.append, "tidy")
        disk.go_on()
        wait_until(lambda: disk.done == ["call", "tidy"] and calls._places.free == 1)
