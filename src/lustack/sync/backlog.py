# SPDX-License-Identifier: Apache-2.0
"""Objects that wait for their MD5: as many as fit, each once.

What does not fit is found again by the next comparison.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from lustack.sync.sinks.protocol import ContainerKey

_ROOM = 100_000
"""About 30 MB of names."""


class Unhashed(NamedTuple):
    """An object without a known MD5.

    Attributes:
        key: its container.
        name: the object.
    """

    key: ContainerKey
    name: str


class Backlog:
    """A queue of objects, first in, first out. Thread-safe."""

    def __init__(self, room: int = _ROOM) -> None:
        """Is empty.

        Args:
            room: the most objects.
        """
        self._room = room
        self._waiting: dict[Unhashed, None] = {}
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: Unhashed) -> None:
        """Adds an object, unless it waits already or there is no room."""
        with self._changed:
            if len(self._waiting) < self._room:
                self._waiting.setdefault(item)
                self._changed.notify()

    def take(self, timeout_s: float) -> Unhashed | None:
        """The object that has waited longest, None if there is none in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, timeout_s)
            item = next(iter(self._waiting), None)
            if item is not None:
                del self._waiting[item]
            return item
