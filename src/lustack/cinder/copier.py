# SPDX-License-Identifier: Apache-2.0
"""Copies a raw image, sparsely, in parallel and durably: the program `lustack-copy SOURCE TARGET SIZE MODE`.

Rule 1: it is a program: where files are used as root only root may read them, and no thread of a service may be held
    for as long as a copy takes.
Rule 2: holes stay holes; what the file system can share is shared (FICLONE).
Rule 3: the copy is on its disks when this ends. What is written goes there directly (O_DIRECT), past the memory of this
    host; where the file system refuses that, each piece is sent there as soon as it is copied. So the sync in the end
    finds little to do.
Rule 4: standard library only: it starts in a moment.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from lustack.cinder import programs

PROGRAM: Final = "lustack-copy"
# A stripe of Lustre is 1 to 64 MiB: pieces of this size lie on several servers, and those work at the same time.
_PIECE_BYTES: Final = 16 << 20
_WORKERS: Final = 4
# What is read and written at once; measured with 1, 2 and 4 MiB: bench/README.md.
_BLOCK_BYTES: Final = 2 << 20
# What places and lengths of direct writes are multiples of. Source: open(2), O_DIRECT: blocks of the disk; of Lustre's
# client: pages.
_ALIGNMENT: Final = max(4096, mmap.PAGESIZE)
# Makes a file share all of another's blocks. Source: linux/fs.h, FICLONE.
_FICLONE: Final = 0x40049409
# Where that is not possible. Source: ioctl_ficlone(2); ENOTTY: of kernels that do not know it.
_NOT_SHARED: Final = frozenset({errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY})
_USAGE: Final = f"usage: {PROGRAM} SOURCE TARGET SIZE MODE  (copies a raw image; SIZE in bytes, MODE in octal)\n"
_USAGE_CODE: Final = 2
_WORDS: Final = 4
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE: Final = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def render_command(source: str, target: str, size_bytes: int, mode: int, *, is_for_root: bool) -> list[str]:
    """The command that copies an image.

    Args:
        source: the image.
        target: the copy.
        size_bytes: how large the copy is.
        mode: its permissions.
        is_for_root: whether it is run through the root helper.
    """
    words = (source, target, str(size_bytes), f"{mode:o}")
    return programs.render_command(PROGRAM, __name__, *words, is_for_root=is_for_root)


def copy(source: str, target: str, size_bytes: int, mode: int) -> None:
    """Copy an image; what was in the target is gone, where Lustre placed it stays.

    Args:
        source: the image; nobody writes to it.
        target: the copy.
        size_bytes: how large the copy is.
        mode: its permissions.

    Raises:
        OSError: of the file system; EFBIG: the source is larger than the copy would be.
    """
    with contextlib.ExitStack() as stack:
        reading = os.open(source, _READ)
        stack.callback(os.close, reading)
        if os.fstat(reading).st_size > size_bytes:
            raise OSError(errno.EFBIG, f"it is larger than {size_bytes} bytes", source)
        writing = os.open(target, _WRITE, 0o600)
        stack.callback(os.close, writing)
        os.fchmod(writing, mode)
        is_shared = _try_to_share(reading, writing)
        os.ftruncate(writing, size_bytes)
        if not is_shared:
            _Copying(reading, writing).run()
        os.fsync(writing)


def _try_to_share(reading: int, writing: int) -> bool:
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
    except OSError as error:
        if error.errno not in _NOT_SHARED:
            raise
        return False
    return True


def _try_to_be_direct(fd: int, *, is_direct: bool) -> bool:
    """Have what is written go past the memory of this host, or not; returns whether it does."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT if is_direct else flags & ~os.O_DIRECT)
    except OSError:  # the file system has no such thing
        return False
    return is_direct


class _Copying:
    """Several threads that take one piece after the other."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        self._size_bytes = os.fstat(reading).st_size
        is_even = os.fstat(writing).st_size % _ALIGNMENT == 0
        self._is_direct = is_even and _try_to_be_direct(writing, is_direct=True)
        self._pieces = _find_pieces(reading, _ALIGNMENT if is_even else 1)
        self._taking = threading.Lock()

    def run(self) -> None:
        """Copy everything.

        Raises:
            OSError: of the first piece that could not be copied.
        """
        with ThreadPoolExecutor(_WORKERS) as pool:
            workers = [pool.submit(self._work) for _ in range(_WORKERS)]
        for worker in workers:
            worker.result()

    def _work(self) -> None:
        block = memoryview(mmap.mmap(-1, _BLOCK_BYTES))  # begins with a page
        while (piece := self._take()) is not None:
            try:
                self._copy_piece(block, *piece)
            except OSError:
                with self._taking:
                    self._pieces = iter(())  # nothing more for the others
                raise

    def _take(self) -> tuple[int, int] | None:
        with self._taking:
            return next(self._pieces, None)

    def _copy_piece(self, block: memoryview, offset: int, length: int) -> None:
        for position in range(offset, offset + length, _BLOCK_BYTES):
            part = block[: min(_BLOCK_BYTES, offset + length - position)]
            self._read(part, position)
            self._write(part, position)
        # Starts to write back what was not written directly. Source: mm/fadvise.c, generic_fadvise.
        os.posix_fadvise(self._writing, offset, length, os.POSIX_FADV_DONTNEED)

    def _read(self, part: memoryview, position: int) -> None:
        """Read from the source; zeros where it has ended."""
        filled = 0
        while filled < len(part) and (count := os.preadv(self._reading, [part[filled:]], position + filled)):
            filled += count
        if position + filled < min(position + len(part), self._size_bytes):
            raise OSError(errno.EIO, "the source became shorter while it was copied")
        part[filled:] = bytes(len(part) - filled)

    def _write(self, part: memoryview, position: int) -> None:
        written = 0
        while written < len(part):
            written += self._write_some(part[written:], position + written)

    def _write_some(self, part: memoryview, position: int) -> int:
        was_direct = self._is_direct
        try:
            return os.pwrite(self._writing, part, position)
        except OSError as error:
            # It wants other multiples, or was cut off in the middle of one.
            if error.errno != errno.EINVAL or not was_direct:
                raise
        self._is_direct = _try_to_be_direct(self._writing, is_direct=False)
        return os.pwrite(self._writing, part, position)


def _find_pieces(fd: int, alignment: int) -> Iterator[tuple[int, int]]:
    """Where there is data, as offsets and lengths that are multiples of the alignment."""
    begin = _find_data(fd, 0)
    while begin is not None:
        hole = os.lseek(fd, begin, os.SEEK_HOLE)
        begin -= begin % alignment
        end = hole + -hole % alignment
        for offset in range(begin, end, _PIECE_BYTES):
            yield offset, min(_PIECE_BYTES, end - offset)
        begin = _find_data(fd, hole)


def _find_data(fd: int, begin: int) -> int | None:
    try:
        return os.lseek(fd, begin, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The program.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != _WORDS:
        sys.stderr.write(_USAGE)
        return _USAGE_CODE
    source, target, size_bytes, mode = words
    try:
        copy(os.path.abspath(source), os.path.abspath(target), int(size_bytes), int(mode, 8))
    except OSError as error:
        sys.stderr.write(f"{error.filename or target}: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
