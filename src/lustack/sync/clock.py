# SPDX-License-Identifier: Apache-2.0
"""The time that rows are stamped with: never earlier than any that was used before, also over restarts.

A row with an earlier timestamp than the one in the database is dropped by Swift. A clock that was set back would so
freeze what we wrote until it has caught up.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from lustack.sync.state import State

_TICK_NS = 10_000
"""Swift's timestamps count tens of microseconds."""

_RESERVE_NS = 1_000_000_000
"""So much is noted ahead of what was given: a note costs a sync of the disk, and there may be many batches a second.
A restart within this time waits for the rest of it."""


class Clock:
    """Gives timestamps. Thread-safe: two threads may at worst get the same one."""

    def __init__(
        self, state: State, now_ns: Callable[[], int] = time.time_ns, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Reads the latest timestamp of earlier runs, and waits for what they noted ahead: at most a second.

        With timestamps ahead of the clock, a row of ours would hide what Swift's servers write right after it.

        Args:
            state: remembers it.
            now_ns: the machine's clock.
            sleep: waits for so many seconds.
        """
        self._state = state
        self._now_ns = now_ns
        self._latest_ns = self._noted_ns = state.latest_ns()
        ahead_ns = self._latest_ns - now_ns()
        # A clock that was set back may be hours behind; there is nothing to wait for.
        if 0 < ahead_ns <= _RESERVE_NS:
            sleep(ahead_ns / 1e9)

    def now_ns(self) -> int:
        """The time, or a bit after the latest that was given where the machine's clock is behind it."""
        time_ns = self._now_ns()
        if time_ns <= self._latest_ns:
            time_ns = self._latest_ns + _TICK_NS
        self._latest_ns = time_ns
        return time_ns

    def remember(self) -> None:
        """Makes sure that what was given so far is noted durably. Call it before anybody else can see a timestamp."""
        if self._latest_ns > self._noted_ns:
            self._note()

    def _note(self) -> None:
        noted_ns = self._latest_ns + _RESERVE_NS
        self._state.raise_latest(noted_ns)
        self._noted_ns = noted_ns

    def foresee(self) -> None:
        """Notes ahead what will be given soon if it goes on like this, so that who calls `remember` need not wait."""
        if self._latest_ns > self._noted_ns - _RESERVE_NS // 2:
            self._note()

    def ahead_s(self) -> float:
        """How many seconds the timestamps are ahead of the machine's clock; about 0 when all is well."""
        return max(0.0, (self._latest_ns - self._now_ns()) / 1e9)
