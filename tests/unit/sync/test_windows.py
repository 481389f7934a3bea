# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from lustack.sync.windows import Fence, Window, Windows


def test_windows_are_acknowledged_in_order():
    windows = Windows()
    assert windows.finish(None) is None
    for number in (2, 3, 5):
        windows.add(Window(number, f"p{number}", float(number), 10))
    windows.behind = 7
    assert (windows.lag_s(12.0, 1), windows.lag_s(12.0, 4), windows.count()) == (10.0, 7.0, 37)
    assert windows.finish(2) is None
    assert windows.finish(5) == "p3"
    assert (windows.lag_s(12.0, 2), windows.count()) == (7.0, 17)
    assert windows.finish(None) == "p5"
    assert (windows.lag_s(12.0, 9), windows.lag_s(12.0, None), windows.count()) == (0.0, 0.0, 7)


def test_windows_that_wait_for_long_become_fewer():
    windows = Windows()
    for number in range(1, 5001):
        windows.add(Window(number, f"p{number}", float(number), 1))
    assert len(windows._waiting) <= 1000
    assert windows.count() == 5000
    assert windows.lag_s(6000.0, 1) == 5999.0
    assert windows.finish(1) is None
    positions = [windows.finish(number) for number in range(1, 5002)]
    told = [(number, int(position[1:])) for number, position in enumerate(positions, 1) if position]
    assert all(position < number for number, position in told)
    assert told[-1] == (5001, 5000)
    assert windows.count() == 0


def test_after_a_loss_nothing_is_acknowledged():
    windows = Windows()
    windows.add(Window(1, "p", 0.0, 1))
    windows.clear()
    assert windows.finish(None) is None


def test_a_fence_is_a_value():
    assert Fence(0, b"n", 1, 2) == Fence(0, b"n", 1, 2)
