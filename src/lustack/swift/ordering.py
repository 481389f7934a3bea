# SPDX-License-Identifier: Apache-2.0
"""Which of two writers wins, also when they run on different nodes: locks and tombstones.

Rule 1: compare-and-rename and compare-and-unlink happen under the object's lock, a flock on one of 256 files below
`.lustack/locks`, which Lustre's clients see across nodes.
Rule 2: a tombstone is written before the file goes, and kept longer than the longest upload takes, so that a late
PUT with an older timestamp cannot revive the object. `lustack sync` sweeps them by age.
Rule 3: a lock's descriptor is opened once and kept: on Lustre the open costs more than the lock. Each holder in a
process has a descriptor of its own, because a flock belongs to the open file; of a lock that several wanted at once
one is kept, or the most that ever met would stay open.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections import defaultdict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lustack.mapping import layout
from lustack.posix.tree import make_directories, open_beneath

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCKS = 256
_MODE_DIRECTORY = 0o700
_MODE_FILE = 0o600
_TEXT_LENGTH = 33
"""Bytes of Swift's longest internal timestamp, `1234567890.12345_0123456789abcdef`."""

_TIMESTAMP = re.compile(rb"[0-9]{10}\.[0-9]{5}(?:_[0-9a-f]{1,16})?")


class Locks:
    """The locks of one device, shared by the threads of one process."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._free: defaultdict[bytes, list[int]] = defaultdict(list)

    @contextmanager
    def hold(self, root_fd: int, key: str) -> Iterator[None]:
        """Holds the lock of an object. Blocks: call it from a thread that may.

        Args:
            root_fd: the device root.
            key: the `object_hash`.
        """
        path = layout.lock_path(key)
        fd = self._take(root_fd, path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            self._give_back(path, fd)

    def _take(self, root_fd: int, path: bytes) -> int:
        if self._pid != os.getpid():
            # A child of a fork shares the open files of its parent, and with them the locks.
            self.__init__()  # type: ignore[misc]
        try:
            fd = self._free[path].pop()
        except IndexError:
            return _open_lock(root_fd, path)
        status = os.fstat(fd)
        if status.st_nlink and status.st_dev == os.fstat(root_fd).st_dev:
            return fd
        os.close(fd)
        return _open_lock(root_fd, path)

    def _give_back(self, path: bytes, fd: int) -> None:
        if self._free[path]:
            os.close(fd)  # unlocks
            return
        fcntl.flock(fd, fcntl.LOCK_UN)
        self._free[path].append(fd)

    def close(self) -> None:
        """Closes every descriptor that nobody holds."""
        for fds in self._free.values():
            while fds:
                os.close(fds.pop())


def read_tombstone(root_fd: int, key: str) -> str | None:
    """The internal timestamp of an object's deletion, None if it was not deleted lately.

    What a crash left half-written says nothing: that DELETE was not acknowledged.

    Args:
        root_fd: the device root.
        key: the `object_hash`.
    """
    try:
        fd = open_beneath(root_fd, layout.tombstone_path(key), os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        text = os.read(fd, _TEXT_LENGTH).strip()
    finally:
        os.close(fd)
    return text.decode("ascii") if _TIMESTAMP.fullmatch(text) else None


def write_tombstone(root_fd: int, key: str, timestamp: str) -> None:
    """Notes durably that an object was deleted. The caller holds its lock.

    The text has a fixed width and is written in place with one write: there is no moment without a tombstone.

    Args:
        root_fd: the device root.
        key: the `object_hash`.
        timestamp: internal form, not older than the one that is there.
    """
    fd = _open(root_fd, layout.tombstone_path(key))
    try:
        os.pwrite(fd, timestamp.ljust(_TEXT_LENGTH).encode("ascii"), 0)
        os.fsync(fd)
    finally:
        os.close(fd)


def write_tombstone_if_room(root_fd: int, key: str, timestamp: str) -> bool:
    """`write_tombstone`, unless the file system is full.

    Returns:
        Whether there was room.
    """
    try:
        write_tombstone(root_fd, key, timestamp)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return False
        raise
    return True


def _open_lock(root_fd: int, path: bytes) -> int:
    """Opens a lock. The first use makes all of them: a DELETE that is to make room needs one, too."""
    with suppress(FileNotFoundError):
        return open_beneath(root_fd, path, os.O_RDWR)
    fd = _open(root_fd, path)
    with suppress(OSError):
        for number in range(_LOCKS):
            os.close(_open(root_fd, layout.lock_path(f"{number:02x}")))
    return fd


def _open(root_fd: int, path: bytes) -> int:
    flags = os.O_RDWR | os.O_CREAT
    try:
        return open_beneath(root_fd, path, flags, _MODE_FILE)
    except FileNotFoundError:
        directory, _, _ = path.rpartition(b"/")
        os.close(make_directories(root_fd, directory, mode=_MODE_DIRECTORY))
    return open_beneath(root_fd, path, flags, _MODE_FILE)
