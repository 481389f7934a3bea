# SPDX-License-Identifier: Apache-2.0
"""Opening below a directory one component after the other: `tree.open_beneath` where openat2(2) is missing.

Rule 1: the answers are those of openat2(2) with the restrictions of `tree`, the errno included.
Rule 2: a name is first opened with O_PATH and O_NOFOLLOW, which has no effect on anything; what was found is
    judged by its descriptor, then opened by its descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Final

from lustack.posix.descriptors import Position, call_again, components, heed, os_error, reopen

_SEARCH: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def open_by_components(dirfd: int, path: bytes, flags: int, mode: int = 0) -> int:
    """`tree.open_beneath` for kernels without openat2(2).

    A mount is noticed by its device number: one of the same file system (a bind mount) is not, and a subvolume of
    btrfs, which openat2(2) would enter, is one here.
    """
    names = components(path)
    flags = heed(flags)
    if not names:
        return os.open(b".", flags, mode, dir_fd=dirfd)
    if path.endswith((b"/", b"/.")):
        if flags & os.O_CREAT:
            raise os_error(errno.EISDIR, path)
        # A slash behind it follows a link.
        flags = flags & ~os.O_NOFOLLOW | os.O_DIRECTORY
    device = os.fstat(dirfd).st_dev
    with contextlib.closing(Position(dirfd)) as position:
        for name in names[:-1]:
            position.move(_open_existing(position.fd, name, _SEARCH, device))
        if flags & os.O_CREAT:
            return _open_or_create(position.fd, names[-1], flags, mode, device)
        return _open_existing(position.fd, names[-1], flags, device)


def _open_or_create(parent: int, name: bytes, flags: int, mode: int, device: int) -> int:
    def attempt() -> int:
        with contextlib.suppress(FileNotFoundError):
            return _open_existing(parent, name, flags, device)
        return os.open(name, flags | os.O_EXCL, mode, dir_fd=parent)

    if flags & os.O_EXCL:
        return os.open(name, flags, mode, dir_fd=parent)
    # Somebody else makes and removes it: each loss is a race of microseconds.
    return call_again(attempt, FileExistsError)


def _open_existing(parent: int, name: bytes, flags: int, device: int) -> int:
    probe = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        status = os.fstat(probe)
        code = _objection(status, flags, device)
        if code:
            raise os_error(code, name)
        if flags & os.O_PATH:
            return os.dup(probe)
        return reopen(probe, flags & ~os.O_CREAT)
    finally:
        os.close(probe)


def _objection(status: os.stat_result, flags: int, device: int) -> int:
    """The errno with which openat2(2) would refuse what was found, 0 if it would not."""
    wants_link = flags & os.O_PATH and flags & os.O_NOFOLLOW
    if status.st_dev != device:
        return errno.EXDEV
    if stat.S_ISLNK(status.st_mode) and not wants_link:
        return errno.ELOOP
    if stat.S_ISDIR(status.st_mode):
        return errno.EISDIR if flags & os.O_CREAT else 0
    return errno.ENOTDIR if flags & os.O_DIRECTORY else 0
