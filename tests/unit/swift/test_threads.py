# SPDX-License-Identifier: Apache-2.0
"""Threads that make calls, and the greenlets that wait for them."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator

import pytest
from swift.common.concurrency import Timeout, hubs, patcher, sleep, spawn
from tests.waiting import LIMIT_S, wait_for

from lustack.swift.threads import Pool, _Ticket, serve

threading = patcher.original("threading")
queue = patcher.original("queue")


@pytest.fixture
def pool() -> Iterator[Pool]:
    with contextlib.closing(Pool(2)) as pool:
        yield pool


def test_a_call_is_made_in_another_thread_and_waited_for(pool):
    seen: list[int] = []
    pool.run(lambda: seen.append(threading.get_ident()))
    assert len(seen) == 1
    assert seen[0] != threading.get_ident()


def test_what_a_call_raises_is_raised_where_it_is_waited_for(pool):
    with pytest.raises(ZeroDivisionError):
        pool.run(lambda: 1 // 0)
    pool.run(int)


def test_a_pool_of_no_threads_makes_calls_in_place_and_gets_none():
    seen: list[int] = []
    pool = Pool(0)
    pool.make_room(3)
    pool.run(lambda: seen.append(threading.get_ident()))
    pool.close()
    assert (seen, pool.most) == ([threading.get_ident()], 0)


def test_threads_are_made_when_all_others_are_busy_up_to_the_bound(pool):
    for _ in range(3):
        pool.run(int)
    assert len(pool._threads) == 1
    gate = threading.Event()
    waiting = [spawn(pool.run, lambda: gate.wait(LIMIT_S)) for _ in range(5)]
    sleep()
    assert len(pool._threads) == 2
    pool.make_room(1)
    waiting.append(spawn(pool.run, lambda: gate.wait(LIMIT_S)))
    sleep()
    assert len(pool._threads) == 3
    gate.set()
    for each in waiting:
        each.wait()
    assert pool._busy == 0


def test_the_event_loop_goes_on_while_a_call_waits(pool):
    gate = threading.Event()
    waiting = spawn(pool.run, lambda: gate.wait(LIMIT_S))
    began_s = time.monotonic()
    sleep(0.01)
    assert time.monotonic() - began_s < LIMIT_S / 2
    gate.set()
    waiting.wait()


def test_who_does_not_wait_any_more_is_left_alone(pool):
    gate, woken = threading.Event(), []

    def wait() -> None:
        with pytest.raises(KeyError), Timeout(0.01, KeyError):
            pool.run(lambda: gate.wait(LIMIT_S))
        gate.set()
        sleep(0.1)
        woken.append("by the clock")

    spawn(wait).wait()
    assert woken == ["by the clock"]
    wait_for(lambda: pool._busy == 0, sleep=sleep)


def test_a_greenlet_that_fails_after_its_call_does_not_hurt_the_next_one(pool, capfd):
    def fail() -> None:
        pool.run(int)
        raise KeyError

    with pytest.raises(KeyError):
        spawn(fail).wait()
    pool.run(int)
    assert "KeyError" in capfd.readouterr().err


def test_it_can_be_used_again_after_its_end(pool):
    pool.run(int)
    pool.close()
    pool.close()
    pool.run(int)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_a_fork_has_threads_of_its_own(pool):
    pool.run(int)
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            hubs.use_hub()  # as Swift does
            pool.run(lambda: os._exit(7))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    pool.run(int)


def test_a_thread_serves_until_it_is_told_to_end():
    calls, done = queue.SimpleQueue(), deque()
    for call in (int, lambda: 1 // 0):
        calls.put(_Ticket(call, None))
    calls.put(None)
    wake_fd = os.eventfd(0)
    try:
        serve(calls, done, wake_fd)
        assert [type(ticket.error) for ticket in done] == [type(None), ZeroDivisionError]
        assert os.eventfd_read(wake_fd) == 2
    finally:
        os.close(wake_fd)
