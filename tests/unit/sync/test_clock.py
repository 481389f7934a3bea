# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from tests.listings import Timer

from lustack.sync.clock import Clock


def test_timestamps_only_grow(playground):
    timer = Timer(now_ns=1000, step_ns=0)
    clock = Clock(playground.state, timer)
    first = clock.now_ns()
    timer.now_ns -= 500
    assert clock.now_ns() > first
    timer.now_ns = 10**12
    assert clock.now_ns() == 10**12
    assert clock.ahead_s() == 0.0


def test_timestamps_grow_over_restarts_too(playground):
    clock = Clock(playground.state, Timer(now_ns=10**18))
    latest = clock.now_ns()
    clock.remember()
    again = Clock(playground.state, Timer(now_ns=10**17))
    assert again.now_ns() > latest
    assert again.ahead_s() > 10**8


def test_a_restart_waits_for_what_was_noted_ahead_so_that_no_timestamp_is_ahead_of_the_clock(playground):
    timer = Timer(now_ns=10**18, step_ns=0)
    first = Clock(playground.state, timer)
    latest = first.now_ns()
    first.remember()
    timer.now_ns += 10**8
    waits = []

    def sleep(duration_s: float) -> None:
        waits.append(duration_s)
        timer.now_ns += round(duration_s * 1e9)

    again = Clock(playground.state, timer, sleep)
    assert waits == [pytest.approx(0.9)]
    assert latest < again.now_ns() <= timer.now_ns + 10**4
    Clock(playground.state, timer, sleep)
    assert len(waits) == 1
    timer.now_ns -= 10**12
    Clock(playground.state, timer, sleep)
    assert len(waits) == 1


def test_notes_are_made_ahead_while_timestamps_are_given_and_only_then(playground):
    timer = Timer(now_ns=10**18)
    clock = Clock(playground.state, timer)
    clock.now_ns()
    clock.foresee()
    noted_ns = playground.state.latest_ns()
    assert noted_ns > timer.now_ns
    timer.now_ns += 4 * 10**8
    clock.now_ns()
    clock.foresee()
    assert playground.state.latest_ns() == noted_ns
    timer.now_ns += 2 * 10**8
    clock.now_ns()
    clock.foresee()
    assert playground.state.latest_ns() > noted_ns
    timer.now_ns += 10**10
    noted_ns = playground.state.latest_ns()
    clock.foresee()
    assert playground.state.latest_ns() == noted_ns


def test_a_note_holds_for_a_while_so_that_not_every_batch_pays_for_one(playground):
    timer = Timer(now_ns=10**18)
    clock = Clock(playground.state, timer)
    latest = []
    for _ in range(3):
        clock.now_ns()
        clock.remember()
        latest.append(playground.state.latest_ns())
    assert latest == [latest[0]] * 3
    assert 0 < latest[0] - timer.now_ns <= 10**9
    timer.now_ns += 2 * 10**9
    clock.now_ns()
    clock.remember()
    assert playground.state.latest_ns() > timer.now_ns
