# SPDX-License-Identifier: Apache-2.0
"""A file appears whole or not at all, and what was acknowledged survives a crash.

Rule 1: bytes are written under a temporary name in the destination directory, synced, then renamed.
    At no moment is the target's name absent or half-written.
Rule 2: the sync comes before the rename: on Lustre a reader on another node loses what was not yet written
    back when the name goes away. Source: measured, Lustre 2.17.
Rule 3: after the rename the directory is synced. On Lustre that does nothing (5 of 5 renames were rolled back
    by a crash); what commits the journal there is a setxattr on a regular file, then its fsync (5 of 5
    survived). Source: measured, Lustre 2.17; llite/file.c:5406.
Rule 4: space is reserved by the file system or not at all; nothing is emulated by writing zeros.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Final, Self

from lustack.posix import kernel

TEMPORARY_PREFIX: Final = b".lustack.tmp."
"""How the name of every temporary file begins; 16 random hexadecimal digits follow."""


class Sync(Enum):
    """What of a new file is on stable storage when it has its name."""

    ALWAYS = "always"
    """Bytes and name: what was acknowledged survives a crash."""

    CLOSE = "close"
    """The bytes: a crash may bring back what had the name before, or nothing; never half a file."""

    NEVER = "never"
    """Nothing: a crash may lose the file, or leave it with its length and without its bytes."""


COMMIT_XATTR: Final = "user.lustack.commit"
"""The mark that makes Lustre commit its journal when the file is synced after it."""

BACKDATED_S: Final = 2
"""So much older than it is a file is made on Lustre, see `TemporaryFile.backdate`."""

_MOST_PIECES: Final = 1024
"""Source: IOV_MAX, linux/uio.h UIO_MAXIOV."""

_NOTHING_MORE: Final = bool
"""A function without an effect."""

_NS: Final = 1_000_000_000
_RANDOM_BYTES: Final = 8
_CREATE: Final = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def write_all(fd: int, pieces: Sequence[bytes]) -> int:
    """Write some bytes to a file, however many calls it takes; returns how many they are.

    Raises:
        OSError: of write(2).
    """
    length = sum(map(len, pieces))
    # One call for all, unless there are more than it takes.
    written = os.writev(fd, pieces) if len(pieces) <= _MOST_PIECES else 0
    if written < length:
        rest = memoryview(b"".join(pieces))[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]
    return length


def is_temporary(name: bytes) -> bool:
    """Whether a file name (not a path) is one of our temporary names."""
    return name.startswith(TEMPORARY_PREFIX)


def is_lustre(fd: int) -> bool:
    """Whether a descriptor (O_PATH is enough) is on a Lustre client mount."""
    return kernel.filesystem_type(fd) == kernel.LUSTRE_SUPER_MAGIC


def preallocate(fd: int, size_bytes: int) -> None:
    """Reserve room for a file of known length; its length stays. A file system that cannot is left alone.

    Raises:
        OSError: ENOSPC or EDQUOT: there is no room; discard the file, a part may be reserved.
    """
    if size_bytes <= 0:
        return
    try:
        kernel.fallocate_keep_size(fd, size_bytes)
    except OSError as err:
        if err.errno not in {errno.EOPNOTSUPP, errno.ENOSYS}:
            raise


def sync_directory(fd: int) -> None:
    """Make the names in a directory durable; does nothing on Lustre (see `sync_rename`, `sync_removal`)."""
    os.fsync(fd)


def sync_rename(dirfd: int, fd: int, *, on_lustre: bool) -> None:
    """Make the new name in `dirfd` of the regular file `fd` durable."""
    sync_directory(dirfd)
    if on_lustre:
        _commit_journal(fd)


def sync_removal(dirfd: int, *, on_lustre: bool) -> None:
    """Make it durable that a name is gone from `dirfd`.

    On Lustre a file of the same directory, thus of the same metadata server, has to be synced; it is made for
    that and removed again. Where not even that file has room, the removal stays in the journal's window (5
    s): freeing space must work on a full file system.
    """
    sync_directory(dirfd)
    if not on_lustre:
        return
    try:
        with TemporaryFile.create(dirfd) as witness:
            _commit_journal(witness.fd)
    except OSError as err:
        if err.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise


def _commit_journal(fd: int) -> None:
    os.setxattr(fd, COMMIT_XATTR, b"1")
    os.fsync(fd)


@dataclass
class TemporaryFile:
    """A file that is being written and has no name that anybody looks for.

    States: open -> published -> closed, or open -> discarded -> closed. As a context manager it is closed at
    the end, and discarded first if it was not published.

    Attributes:
        dirfd: a readable (not O_PATH) descriptor of the directory; not owned.
        name: the temporary name in that directory.
        fd: the open file, for reading and writing; owned.
        on_lustre: whether the directory needs the remedies for Lustre.
        published: whether the file has its final name.
    """

    dirfd: int
    name: bytes
    fd: int
    on_lustre: bool
    published: bool = field(default=False, init=False)

    @classmethod
    def create(cls, dirfd: int, mode: int = 0o666) -> Self:
        """Make an empty one in a directory.

        Args:
            dirfd: a readable (not O_PATH) descriptor of the destination directory.
            mode: of the file, before the umask.
        """
        on_lustre = is_lustre(dirfd)
        name = TEMPORARY_PREFIX + secrets.token_hex(_RANDOM_BYTES).encode()
        fd = os.open(name, _CREATE, mode, dir_fd=dirfd)
        return cls(dirfd, name, fd, on_lustre)

    def preallocate(self, size_bytes: int) -> None:
        """Reserve room for the bytes to come, see `preallocate` of this module."""
        preallocate(self.fd, size_bytes)

    def backdate(self) -> None:
        """On Lustre, whose times are whole seconds, dates the complete file back, so that every later write shows.

        Without it, a write within the same second that leaves the size changes neither. Source: measured: 20 of 20
        were not seen.
        """
        if self.on_lustre:
            past_ns = (time.time_ns() // _NS - BACKDATED_S) * _NS
            os.utime(self.fd, ns=(past_ns, past_ns))

    def publish(
        self, target: bytes, sync: Sync = Sync.ALWAYS, before_rename: Callable[[], object] = _NOTHING_MORE
    ) -> None:
        """Give the file its final name, in place of what has it now.

        Args:
            target: the name in its directory.
            sync: how durably.
            before_rename: is called when nothing but the name is missing; what it raises ends it there.

        Raises:
            OSError: of fsync(2) and rename(2). Ask `published` whether the new name is there; it may not be
                durable.
        """
        if sync is not Sync.NEVER:
            os.fsync(self.fd)
        before_rename()
        os.rename(self.name, target, src_dir_fd=self.dirfd, dst_dir_fd=self.dirfd)
        self.published = True
        if sync is Sync.ALWAYS:
            sync_rename(self.dirfd, self.fd, on_lustre=self.on_lustre)

    def move(self, source: bytes, target: bytes, sync: Sync = Sync.ALWAYS) -> None:
        """Give the published file another name in its directory, in place of what has it now.

        Args:
            source: the name that it has.
            target: the name that it gets.
            sync: how durably.

        Raises:
            OSError: of fsync(2) and rename(2).
        """
        os.rename(source, target, src_dir_fd=self.dirfd, dst_dir_fd=self.dirfd)
        if sync is Sync.ALWAYS:
            sync_rename(self.dirfd, self.fd, on_lustre=self.on_lustre)

    def discard(self) -> None:
        """Remove the temporary name; it is fine if somebody did so before."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self.dirfd)

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if not self.published:
                self.discard()
        finally:
            self.close()


def replace_file(dirfd: int, name: bytes, data: bytes) -> None:
    """Write a small file, whole or not at all, durably, in place of what has the name.

    Args:
        dirfd: a readable (not O_PATH) descriptor of its directory.
        name: of the file in that directory.
        data: all its bytes.
    """
    with TemporaryFile.create(dirfd) as temporary:
        write_all(temporary.fd, [data])
        temporary.publish(name)


def remove_file(dirfd: int, name: bytes) -> None:
    """Remove a file durably.

    Args:
        dirfd: a readable (not O_PATH) descriptor of its directory.
        name: of the file in that directory.

    Raises:
        FileNotFoundError: it is not there.
    """
    os.unlink(name, dir_fd=dirfd)
    sync_removal(dirfd, on_lustre=is_lustre(dirfd))
