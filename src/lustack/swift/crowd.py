# SPDX-License-Identifier: Apache-2.0
"""The uploads of a device that are under way, and the memory that they take.

Rule 1: what an upload gathers before it is written is the less the more uploads there are: all of them together hold
no more than a bound, and each the piece that is just coming in.
Rule 2: when the last one of many has gone, what the allocator keeps of their memory goes back to the kernel: their
pieces lie between others, so that it would stay for ever (measured: 200 MiB of a process of 300 MiB were free).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from swift.common.concurrency import spawn_n

from lustack.posix.kernel import trim_heap
from lustack.swift.threads import POOL

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES: Final = 64 * 1024 * 1024
"""What all uploads together gather."""

BLOCK_BYTES: Final = 1024 * 1024
"""How much is written at once: the size of a stripe of Lustre, unless somebody chose another."""

LEAST_BYTES: Final = 64 * 1024
"""Of so little each way to a thread would cost more than the copy."""

MANY: Final = 16
"""Fewer leave too little memory behind to care."""


def _trim_beside() -> None:
    spawn_n(POOL.run, trim_heap)


class Crowd:
    """Counts uploads. For the event loop only."""

    def __init__(self, trim: Callable[[], Any] = _trim_beside) -> None:
        """Nobody is there.

        Args:
            trim: gives back to the kernel what is free, without waiting.
        """
        self._trim = trim
        self._here = 0
        self._most = 0

    @property
    def block_bytes(self) -> int:
        """How much an upload is to gather."""
        return max(LEAST_BYTES, min(BLOCK_BYTES, MOST_BYTES // max(self._here, 1)))

    def come(self) -> None:
        """An upload began."""
        self._here += 1
        self._most = max(self._most, self._here)

    def go(self) -> None:
        """An upload ended."""
        self._here -= 1
        if self._here:
            return
        if self._most >= MANY:
            self._trim()
        self._most = 0
