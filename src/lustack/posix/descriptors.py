# SPDX-License-Identifier: Apache-2.0
"""What can be done with an open descriptor, and the errors and paths that all openings share.

Rule 1: an O_PATH descriptor costs no open on a file server; what it stands for is reached through
    /proc/self/fd, which must be mounted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final

from lustack.posix.errors import OutsideRootError

# What open(2) heeds beside O_PATH; openat2(2) refuses anything else with EINVAL. Source: open(2), openat2(2).
_HEEDED_WITH_PATH: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Each loss needs somebody else to win a race of microseconds.
_ATTEMPTS: Final = 64


def proc_path(fd: int) -> str:
    """A path that leads to the inode of an open descriptor, O_PATH or not, whatever its name is now."""
    return f"/proc/self/fd/{fd}"


def reopen(fd: int, flags: int) -> int:
    """Open for real (to read, write, lock, sync) the very inode that an O_PATH descriptor stands for.

    Returns:
        a new descriptor, close-on-exec, which the caller owns; `fd` stays open.
    """
    return os.open(proc_path(fd), flags | os.O_CLOEXEC)


class Position:
    """A descriptor that moves down the tree; it closes what it leaves, but never the one where it began.

    Attributes:
        fd: where it is now.
    """

    def __init__(self, dirfd: int) -> None:
        self.fd = dirfd
        self._start = dirfd

    def move(self, fd: int) -> None:
        """Go to a new descriptor, which is owned from now on."""
        self.close()
        self.fd = fd

    def close(self) -> None:
        """Go back to the beginning."""
        if self.fd != self._start:
            os.close(self.fd)
            self.fd = self._start


def refuse_strange(path: bytes) -> None:
    """Refuse what no implementation may accept.

    Raises:
        ValueError: the path holds a NUL.
        OutsideRootError: it is absolute or has a component `..`.
    """
    if b"\0" in path:
        message = "a path holds a NUL"
        raise ValueError(message)
    if path.startswith(b"/") or b".." in path.split(b"/"):
        raise OutsideRootError(path)


def components(path: bytes) -> list[bytes]:
    """The names in a relative path, in order, without the empty ones and `.`.

    Raises:
        ValueError, OutsideRootError: see `refuse_strange`.
    """
    refuse_strange(path)
    return [name for name in path.split(b"/") if name not in {b"", b"."}]


def os_error(code: int, path: bytes) -> OSError:
    """The error of an errno: the subclass that Python has for it, with the usual sentence."""
    return OSError(code, os.strerror(code), path)


def heed(flags: int) -> int:
    """The flags of open(2) as all openings here use them: close-on-exec, and none that is not heeded."""
    if flags & os.O_PATH:
        return flags & _HEEDED_WITH_PATH | os.O_CLOEXEC
    # A link at the end is ELOOP also without O_NOFOLLOW; with it and O_DIRECTORY the kernel says ENOTDIR.
    return flags & ~os.O_NOFOLLOW | os.O_CLOEXEC


def call_again(call: Callable[[], int], lost: type[OSError]) -> int:
    """Make a call, again as long as it loses a race against somebody else, a bounded number of times.

    Args:
        call: what to do.
        lost: the error that says that the race was lost; raised by the last attempt, it flies.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(lost):
            return call()
    return call()
