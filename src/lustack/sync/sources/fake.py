# SPDX-License-Identifier: Apache-2.0
"""A source in memory: tests and newcomers say what happens."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from lustack.sync.events import Event
from lustack.sync.sources.protocol import OLDEST, Batch, Guarantees, Position, SourceLostError
from lustack.sync.sources.roots import Root

_GUARANTEES = Guarantees(complete=True, across_hosts=True, latency_s=0.0)


@dataclass
class FakeSource:
    """See `Source`.

    Attributes:
        name: of the source.
        guarantees: what it promises.
        events: everything that ever happened.
        acknowledged: how many of them are done.
        forgotten: how many of them it cannot report any more.
        most: events of a batch.
        roots: that it was told to watch at last.
    """

    name: str = "fake"
    guarantees: Guarantees = _GUARANTEES
    events: list[Event] = field(default_factory=list)
    acknowledged: int = 0
    forgotten: int = 0
    most: int = 2
    roots: tuple[Root, ...] = ()
    _next: int = 0
    _is_open: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def happen(self, *events: Event) -> None:
        """Something happens."""
        self.events.extend(events)

    def forget(self) -> None:
        """Loses everything that was not acknowledged."""
        self.forgotten = len(self.events)

    def lose(self, *events: Event) -> None:
        """Something happens that nobody can read, however quick."""
        with self._lock:
            self.happen(*events)
            self.forget()

    def open(self, position: Position | None) -> None:
        """See `Source`."""
        with self._lock:
            if position == OLDEST:
                self._next = max(self.acknowledged, self.forgotten)
            else:
                self._next = len(self.events) if position is None else int(position)
            self._check()
            self._is_open = True

    def read(self, timeout_s: float) -> Batch | None:
        """See `Source`; does not wait."""
        del timeout_s
        if not self._is_open:
            return None
        with self._lock:
            self._check()
            found = self.events[self._next : self._next + self.most]
            self._next += len(found)
            return Batch(found, Position(str(self._next))) if found else None

    def acknowledge(self, position: Position) -> None:
        """See `Source`."""
        self.acknowledged = max(self.acknowledged, int(position))

    def close(self) -> None:
        """See `Source`."""
        self._is_open = False

    def watch(self, roots: Sequence[Root]) -> None:
        """See `Rooted`."""
        self.roots = tuple(roots)

    def _check(self) -> None:
        if self._next < self.forgotten:
            raise SourceLostError(self.name, "it was told to forget")
