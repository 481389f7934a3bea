# SPDX-License-Identifier: Apache-2.0
"""The batches that sources gave and that are not acknowledged, in the order in which they came.

Rule 1: windows have one row of numbers for all sources, because events of several may be about one name; a source
acknowledges its own windows in order, when everything in them and in all before is done.
Rule 2: a fence passes when its window is acknowledged and every job is done that was asked for before it came.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from itertools import pairwise

from lustack.sync.sources.protocol import Position

_MOST = 1000
"""Windows that wait; two neighbours of more become one. While Swift is away they come and nothing is acknowledged."""


@dataclass
class Window:
    """A batch.

    Attributes:
        number: of the window.
        position: what to acknowledge.
        arrived_s: when it came.
        count: its events.
    """

    number: int
    position: Position
    arrived_s: float
    count: int


@dataclass
class Windows:
    """Those of one source.

    Attributes:
        behind: events that the source knows to wait.
    """

    behind: int = 0
    _waiting: deque[Window] = field(default_factory=deque)

    def add(self, window: Window) -> None:
        """A batch came."""
        self._waiting.append(window)
        if len(self._waiting) >= _MOST:
            pairs = list(pairwise(self._waiting))[::2]
            self._waiting = deque(
                replace(later, arrived_s=earlier.arrived_s, count=earlier.count + later.count)
                for earlier, later in pairs
            )

    def finish(self, before: int | None) -> Position | None:
        """Takes away the windows whose number is less; None: all.

        Returns:
            What may be acknowledged, None if there is nothing new.
        """
        found: Position | None = None
        while self._waiting and (before is None or self._waiting[0].number < before):
            found = self._waiting.popleft().position
        return found

    def clear(self) -> None:
        """Nothing of this will be acknowledged: the source has lost events."""
        self._waiting.clear()

    def lag_s(self, now_s: float, oldest: int | None) -> float:
        """For how long a window has waited, or the first one after it; None: nothing waits."""
        if oldest is None:
            return 0.0
        arrived_s = next((window.arrived_s for window in self._waiting if window.number >= oldest), now_s)
        return max(0.0, now_s - arrived_s)

    def count(self) -> int:
        """Events that wait, here and in the source."""
        return self.behind + sum(window.count for window in self._waiting)


@dataclass(frozen=True)
class Fence:
    """Somebody who waits.

    Attributes:
        policy_index: on whose device.
        nonce: his file.
        window: everything up to this one must be acknowledged.
        job: every job up to this number must be done.
    """

    policy_index: int
    nonce: bytes
    window: int
    job: int
