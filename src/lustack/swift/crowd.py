# SPDX-License-Identifier: Apache-2.0
"""The uploads of a device that are under way, and the memory that they take.

Rule 1: what an upload gathers before it is written is the less the more uploads there are: all of them together hold
no more than a bound, and each the piece that is just coming in.
Rule 2: when the last one of many has gone, what the allocator keeps of their memory goes back to the kernel: their
pieces lie between others, so that it would stay for ever (measured: 200 MiB of a process of 300 MiB were free).
Rule 3: the blocks of a few stay in the process from one upload to the next: what goes to the kernel and comes again is
a fault for each page, which was a tenth of what a PUT of 4 MiB costs the object server (measured: 566 faults, now 5).
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from swift.common.concurrency import spawn_n

from lustack.posix.kernel import keep_heap, trim_heap
from lustack.swift.threads import POOL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_BYTES: Final = 64 * 1024 * 1024
"""What all uploads together gather."""

BLOCK_BYTES: Final = 1024 * 1024
"""How much is written at once: the size of a stripe of Lustre, unless somebody chose another."""

LEAST_BYTES: Final = 64 * 1024
"""Of so little each way to a thread would cost more than the copy."""

MANY: Final = 16
"""Fewer leave too little memory behind to care."""


_KEPT_BLOCKS: Final = 8
"""How many stay: an upload has two, one that comes in and one that is written."""

_OPERATORS: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""What an operator says about the allocator counts more. Source: mallopt(3)."""


def keep_blocks(environ: Mapping[str, str], keep: Callable[[int, int], None] = keep_heap) -> None:
    """Rule 3, unless the operator of this process has said something else.

    Args:
        environ: of the process.
        keep: tells the allocator; see `keep_heap`.
    """
    if not any(word in environ for word in _OPERATORS):
        keep(_KEPT_BLOCKS * BLOCK_BYTES, 2 * BLOCK_BYTES)


@cache
def _keep_once() -> None:
    keep_blocks(os.environ)


def _trim_beside() -> None:
    spawn_n(POOL.run, trim_heap)


class Crowd:
    """Counts uploads. For the event loop only."""

    def __init__(self, trim: Callable[[], Any] = _trim_beside) -> None:
        """Nobody is there.

        Args:
            trim: gives back to the kernel what is free, without waiting.
        """
        _keep_once()
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
