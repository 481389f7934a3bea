# SPDX-License-Identifier: Apache-2.0
"""Objects that wait for their MD5: as many as fit, each once.

What does not fit is found again by the next comparison.

Those that have to wait come in rounds, sorted by container: a container server takes the rows of a round with one
request for each container, not with one for each file. That of a file which comes alone costs as much as the live row
of another one, and stands in its way.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from lustack.sync.sinks.protocol import ContainerKey

ITEM_BYTES = 320
"""What an object that waits takes beside its name. Source: measured, tests/unit/sync/test_budget.py."""

_LIMIT_BYTES = 32 * 2**20

ROUND_S = 2.0


class Unhashed(NamedTuple):
    """An object without a known MD5.

    Attributes:
        key: its container.
        name: the object.
    """

    key: ContainerKey
    name: str


class Backlog:
    """A queue of objects: the one whose time came first is first out. Thread-safe."""

    def __init__(
        self,
        limit_bytes: int = _LIMIT_BYTES,
        monotonic_s: Callable[[], float] = time.monotonic,
        round_s: float = ROUND_S,
    ) -> None:
        """Is empty.

        Args:
            limit_bytes: what they may take.
            monotonic_s: a clock that never goes back.
            round_s: from one round to the next.
        """
        self._limit_bytes, self._size_bytes = limit_bytes, 0
        self._round_s = round_s
        self._monotonic_s = monotonic_s
        self._waiting: set[Unhashed] = set()
        self._queue: list[tuple[float, ContainerKey, int, Unhashed]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._is_paused = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_paused(self) -> bool:
        """Whether nothing is given out, because there is more urgent work."""
        return self._is_paused

    def pause(self, *, is_paused: bool) -> None:
        """Gives out nothing for a while, or again."""
        with self._changed:
            self._is_paused = is_paused
            self._changed.notify()

    def add(self, item: Unhashed, delay_s: float = 0.0) -> None:
        """Adds an object, unless it waits already or there is no room.

        Args:
            item: the object.
            delay_s: how long it waits at least, until the next round; 0: not at all.
        """
        self.add_all(item.key, (item.name,), delay_s)

    def add_all(self, key: ContainerKey, names: Iterable[str], delay_s: float = 0.0) -> None:
        """Adds objects of one container, see `add`."""
        ready_s = self._monotonic_s() + delay_s
        if delay_s:
            ready_s = math.ceil(ready_s / self._round_s) * self._round_s
        with self._changed:
            for name in names:
                item = Unhashed(key, name)
                size_bytes = ITEM_BYTES + len(name)
                if self._size_bytes + size_bytes <= self._limit_bytes and item not in self._waiting:
                    self._size_bytes += size_bytes
                    self._waiting.add(item)
                    heapq.heappush(self._queue, (ready_s, key, next(self._order), item))
            self._changed.notify()

    def take(self, timeout_s: float) -> Unhashed | None:
        """The object whose time came first, None if there is none in time."""
        end_s = self._monotonic_s() + timeout_s
        with self._changed:
            while True:
                now_s = self._monotonic_s()
                ready_s = self._queue[0][0] if self._queue and not self._is_paused else end_s + 1.0
                if ready_s <= now_s:
                    item = heapq.heappop(self._queue)[3]
                    self._waiting.remove(item)
                    self._size_bytes -= ITEM_BYTES + len(item.name)
                    return item
                if now_s >= end_s:
                    return None
                self._changed.wait(min(ready_s, end_s) - now_s)
