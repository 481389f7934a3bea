# SPDX-License-Identifier: Apache-2.0
"""Opening, making and removing below a directory descriptor; no path leaves that directory.

Rule 1: symbolic links are never followed, `..` is never accepted, mount points are never crossed.
Rule 2: the kernel decides by openat2(2); where it is missing, one component after the other is opened by
    descriptor. Both give the same answers, and one test suite asks both.
Rule 3: nothing is looked at by name and then acted on by name where a descriptor can be used instead.

A path is bytes, relative, components separated by `/`; `b""` and `b"."` are the directory itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from typing import Final

from lustack.posix import kernel
from lustack.posix.descriptors import (
    Position,
    call_again,
    components,
    heed,
    os_error,
    proc_path,
    refuse_strange,
    reopen,
)
from lustack.posix.stepwise import open_by_components

__all__ = (
    "PATH_MAX",
    "choose_opener",
    "make_directories",
    "open_absolute",
    "open_beneath",
    "open_root",
    "open_with_openat2",
    "proc_path",
    "remove_directories",
    "reopen",
)

Opener = Callable[[int, bytes, int, int], int]

PATH_MAX: Final = 4096
"""Bytes that a system call takes as a path, with the NUL at its end. Source: linux/limits.h."""

_RESOLVE: Final = (
    kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_NO_MAGICLINKS | kernel.RESOLVE_NO_XDEV
)
_SEARCH: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Attempts when somebody else changes the same directories meanwhile. Each loss needs the other one to win a
# race of microseconds, so the end is only reached when the root itself is gone or somebody does it on
# purpose.
_ATTEMPTS: Final = 64
# Parents of new directories whose fsync is put off, so that one journal commit serves all of them.
_UNSYNCED_PARENTS: Final = 16
# What says "this directory stays": used, gone, not a directory any more, or not ours to remove.
_STAYS: Final = frozenset(
    (
        errno.ENOTEMPTY,
        errno.EEXIST,
        errno.ENOENT,
        errno.ESTALE,
        errno.EBUSY,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.EXDEV,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
    )
)


def open_root(path: str | bytes) -> int:
    """Open a trusted directory, the root of a device; it may be a symbolic link.

    Returns:
        an O_PATH descriptor, which the caller owns.
    """
    return os.open(path, _SEARCH)


def open_absolute(path: bytes) -> int:
    """Open a directory by its absolute path, following no symbolic link anywhere in it; mounts are crossed.

    Returns:
        an O_PATH descriptor, which the caller owns.

    Raises:
        ValueError: the path is not absolute, or holds a NUL.
        OutsideRootError: it has a component `..`.
        OSError: ENOTDIR for a symbolic link or anything else that is no directory, else as open(2).
    """
    if not path.startswith(b"/"):
        message = f"the path {path!r} is not absolute"
        raise ValueError(message)
    names = components(path.lstrip(b"/"))
    fd = os.open(b"/", _SEARCH)
    for name in names:
        try:
            inner = os.open(name, _SEARCH | os.O_NOFOLLOW, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd


def open_beneath(dirfd: int, path: bytes, flags: int, mode: int = 0) -> int:
    """Open `path` below the directory `dirfd` (O_PATH is enough), and nowhere else.

    O_CREAT, O_EXCL, O_TRUNC, O_PATH, O_DIRECTORY and the like mean what they mean in open(2); O_TMPFILE is
    not for this function. With O_PATH and O_NOFOLLOW a symbolic link at the end is opened itself. Paths may
    be longer than `PATH_MAX`. Thread-safe.

    Args:
        dirfd: the directory that is not left.
        path: relative, see the top of this file.
        flags: as in open(2); O_CLOEXEC is added. Add O_NONBLOCK where a FIFO may be met.
        mode: of a file that O_CREAT makes, before the umask.

    Returns:
        a new descriptor, which the caller owns.

    Raises:
        ValueError: the path holds a NUL.
        OutsideRootError: the path is absolute or has a component `..`; an `OSError` with EXDEV.
        OSError: ELOOP for a symbolic link anywhere in the path, EXDEV for another mount, else as open(2).
    """
    return _opener(dirfd, path, flags, mode)


def open_with_openat2(dirfd: int, path: bytes, flags: int, mode: int = 0) -> int:
    """`open_beneath`, by openat2(2)."""
    if b".." in path or b"\0" in path or path[:1] == b"/":
        refuse_strange(path)
    flags = heed(flags)
    if len(path) >= PATH_MAX:
        return _open_in_pieces(dirfd, path, flags, mode)
    return _openat2(dirfd, path, flags, mode)


def _openat2(dirfd: int, path: bytes, flags: int, mode: int) -> int:
    # A mode without O_CREAT is EINVAL. Source: openat2(2).
    mode = mode if flags & os.O_CREAT else 0
    try:
        return kernel.openat2(dirfd, path or b".", flags, mode, _RESOLVE)
    except BlockingIOError:
        # A rename anywhere may have let the path escape. Source: openat2(2).
        return call_again(lambda: kernel.openat2(dirfd, path or b".", flags, mode, _RESOLVE), BlockingIOError)


def _open_in_pieces(dirfd: int, path: bytes, flags: int, mode: int) -> int:
    with contextlib.closing(Position(dirfd)) as position:
        while len(path) >= PATH_MAX:
            cut = path.rfind(b"/", 0, PATH_MAX - 1)
            if cut < 0:
                # One component of this length: the kernel has the right answer.
                break
            position.move(_openat2(position.fd, path[:cut], _SEARCH, 0))
            path = path[cut:].lstrip(b"/")
        return _openat2(position.fd, path, flags, mode)


def choose_opener(openat2: Callable[[int, bytes, int, int, int], int]) -> Opener:
    """`open_with_openat2` if the call works here, else `open_by_components`.

    It is missing before Linux 5.6 (ENOSYS), and container run-times of that time forbid it (EPERM from
    seccomp).
    """
    try:
        os.close(openat2(-1, b"/", _SEARCH, 0, 0))
    except OSError as err:
        if err.errno in {errno.ENOSYS, errno.EPERM}:
            return open_by_components
    return open_with_openat2


_opener: Final = choose_opener(kernel.openat2)


def _do_nothing(_fd: int) -> None:
    """What happens to a new directory when the caller does not say."""


def make_directories(
    dirfd: int, path: bytes, on_created: Callable[[int], None] = _do_nothing, mode: int = 0o777
) -> int:
    """Make `path` and what is missing above it below `dirfd`, like `mkdir -p`, following no symbolic link.

    Group, mode and access list of a new directory come from its parent as the kernel has it. Each new name is
    durable (fsync of its parent) before this returns. Directories that somebody removes meanwhile are made
    again, a bounded number of times. Idempotent, thread-safe.

    Args:
        dirfd: the directory that is not left; O_PATH is enough.
        path: relative, see the top of this file.
        on_created: called with a readable descriptor of each directory that this call really made, the upper
            ones first; the descriptor is closed afterwards.
        mode: of new directories, before the umask.

    Returns:
        a readable descriptor of the last directory, which the caller owns.

    Raises:
        FileNotFoundError: somebody keeps removing them, or `dirfd` itself is gone.
        NotADirectoryError: something else is in the way.
        OSError: ELOOP for a symbolic link in the way, EXDEV for another mount, else as mkdir(2).
    """
    with contextlib.suppress(FileNotFoundError):
        return open_beneath(dirfd, path, _READ)
    names = components(path)
    for _ in range(_ATTEMPTS):
        fd = _make_missing(dirfd, names, on_created, mode)
        if fd is not None:
            return fd
    raise os_error(errno.ENOENT, path)


def _make_missing(dirfd: int, names: list[bytes], on_created: Callable[[int], None], mode: int) -> int | None:
    """One attempt of `make_directories`; None if a directory vanished under it."""
    created = False
    with contextlib.closing(Position(dirfd)) as position, _unsynced_parents() as unsynced:
        for name in names:
            entered = _enter_or_make(position.fd, name, mode, unsynced)
            if entered is None:
                return None
            fd, created = entered
            position.move(fd)
            if created:
                on_created(fd)
            if len(unsynced) >= _UNSYNCED_PARENTS:
                _sync_and_close(unsynced)
        return os.dup(position.fd) if created else reopen(position.fd, _READ)


def _enter_or_make(parent: int, name: bytes, mode: int, unsynced: list[int]) -> tuple[int, bool] | None:
    """Open one directory, and whether it was made for that; None if it or its parent vanished."""
    try:
        with contextlib.suppress(FileNotFoundError):
            return open_beneath(parent, name, _SEARCH), False
        unsynced.append(reopen(parent, _READ))
        os.mkdir(name, mode, dir_fd=parent)
        return open_beneath(parent, name, _READ), True
    except FileExistsError:
        # Somebody made something meanwhile: the next attempt sees what.
        return None
    except OSError as err:
        if err.errno in {errno.ENOENT, errno.ESTALE}:
            return None
        raise


@contextlib.contextmanager
def _unsynced_parents() -> Iterator[list[int]]:
    """Descriptors of directories that got a new one; synced and closed at the end, whatever happened."""
    unsynced: list[int] = []
    try:
        yield unsynced
    finally:
        _sync_and_close(unsynced)


def _sync_and_close(unsynced: list[int]) -> None:
    try:
        for fd in unsynced:
            os.fsync(fd)
    finally:
        for fd in unsynced:
            os.close(fd)
        unsynced.clear()


def remove_directories(dirfd: int, path: bytes, may_remove: Callable[[int], bool]) -> int:
    """Remove the directory `path` and those above it while they are empty and may go; never `dirfd` itself.

    What stays ends it without an error: a directory that is not empty, gone, busy, no directory any more, or
    that the kernel does not let us remove. Nothing is synced: a directory that comes back in a crash is
    harmless.

    Args:
        dirfd: the directory that is not left; O_PATH is enough.
        path: relative, see the top of this file.
        may_remove: called with an O_PATH descriptor of each directory before it is removed; closed
            afterwards. Its own `OSError` counts like one of the removal.

    Returns:
        how many directories are gone.
    """
    names = components(path)
    count = len(names)
    try:
        while names and _remove_one(dirfd, names, may_remove):
            names.pop()
    except OSError as err:
        if err.errno not in _STAYS:
            raise
    return count - len(names)


def _remove_one(dirfd: int, names: list[bytes], may_remove: Callable[[int], bool]) -> bool:
    with contextlib.closing(Position(dirfd)) as parent:
        if names[:-1]:
            parent.move(open_beneath(dirfd, b"/".join(names[:-1]), _SEARCH))
        fd = open_beneath(parent.fd, names[-1], _SEARCH)
        try:
            may = may_remove(fd)
        finally:
            os.close(fd)
        if may:
            os.rmdir(names[-1], dir_fd=parent.fd)
        return may
