# SPDX-License-Identifier: Apache-2.0
"""Files that are held for a writer who is not there: `truncate` and `mknod` change a file, and nothing is closed after.

    held for `DOUBT_S`, on a local file system, and nobody has it open for writing  ->  listed at once

Rule 1: what cannot be known stays held, for `quiet_s` as ever. Whoever opens the file later makes another event.
Rule 2: of many names that are held together only some are asked about: this must not hold up who does it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress

from lustack.errors import LustackError
from lustack.posix.descriptors import reopen
from lustack.posix.filesystems import SHARED
from lustack.posix.kernel import filesystem_type
from lustack.posix.tree import open_beneath
from lustack.sync.board import Board
from lustack.sync.device import open_device
from lustack.sync.dirty import Container

DOUBT_S = 1.0
"""Most writers that close at all have done so by then."""

_MOST = 1000
_EVERY_S = 0.25


class Doubts:
    """Asks about each name once. Not thread-safe."""

    def __init__(self, board: Board, paths: dict[int, str]) -> None:
        """Asks about what is held from now on.

        Args:
            board: holds the names.
            paths: of the root of each policy's device.
        """
        self._board = board
        self._paths = paths
        self._asked_s = board.monotonic_s() - DOUBT_S

    def ask(self) -> None:
        """Has the names listed that need not wait."""
        until_s = self._board.monotonic_s() - DOUBT_S
        if until_s - self._asked_s < _EVERY_S:
            return
        found = self._board.held(self._asked_s, until_s, _MOST)
        self._asked_s = until_s
        for container, names in found:
            # What is wrong will be met again, and told, when the names are looked at.
            with suppress(LustackError, OSError):
                self._board.release(container, self._at_rest(container, names))

    def _at_rest(self, container: Container, names: Iterable[bytes]) -> Sequence[bytes]:
        """The names of files that nobody writes to.

        Raises:
            LustackError: the device or the container is not there.
            OSError: the file system fails.
        """
        with open_device(self._paths[container.policy_index]) as device:
            directory = device.open_container(*container.key)
            if directory is None:
                return []
            with closing(directory):
                # Before any file is opened: that is what costs there.
                is_shared = filesystem_type(directory.fd) in SHARED
                return [] if is_shared else [name for name in names if is_at_rest(directory.fd, name)]


def is_at_rest(dirfd: int, path: bytes) -> bool:
    """Whether certainly nobody on this machine has a file open for writing.

    Args:
        dirfd: where the path begins.
        path: of the file.
    """
    with suppress(OSError):
        fd = open_beneath(dirfd, path, os.O_PATH)
        try:
            return stat.S_ISREG(os.fstat(fd).st_mode) and _takes_lease(fd)
        finally:
            os.close(fd)
    return False


def _takes_lease(fd: int) -> bool:
    """Whether a read lease is granted, which is given back at once. Source: fcntl(2)."""
    file = reopen(fd, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    finally:
        os.close(file)
    return True
