# SPDX-License-Identifier: Apache-2.0
"""Copies a raw image, sparsely, in parallel and durably: the program `lustack-copy SOURCE TARGET SIZE MODE`.

Rule 1: it is a program: where files are used as root only root may read them, and no thread of a service may be held
    for as long as a copy takes.
Rule 2: holes stay holes; what both file systems can share is shared (copy_file_range(2)).
Rule 3: the copy is on its disks when this ends. Each piece is sent there as soon as it is copied, so that the sync in
    the end finds little to do.
Rule 4: standard library only: it starts in a moment.
"""

from __future__ import annotations

import contextlib
import errno
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
# Where the kernel does not copy itself. Source: copy_file_range(2).
_NO_KERNEL_COPY: Final = frozenset({errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_BUFFER_BYTES: Final = 1 << 20
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
        os.ftruncate(writing, size_bytes)
        _Copying(reading, writing).run()
        os.fsync(writing)


class _Copying:
    """Several threads that take one piece after the other."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        self._pieces = _find_pieces(reading)
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
        while (piece := self._take()) is not None:
            try:
                _copy_piece(self._reading, self._writing, *piece)
            except OSError:
                with self._taking:
                    self._pieces = iter(())  # nothing more for the others
                raise

    def _take(self) -> tuple[int, int] | None:
        with self._taking:
            return next(self._pieces, None)


def _find_pieces(fd: int) -> Iterator[tuple[int, int]]:
    """Where there is data, as offsets and lengths."""
    begin = _find_data(fd, 0)
    while begin is not None:
        hole = os.lseek(fd, begin, os.SEEK_HOLE)
        for offset in range(begin, hole, _PIECE_BYTES):
            yield offset, min(_PIECE_BYTES, hole - offset)
        begin = _find_data(fd, hole)


def _find_data(fd: int, begin: int) -> int | None:
    try:
        return os.lseek(fd, begin, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


def _copy_piece(reading: int, writing: int, offset: int, length: int) -> None:
    position, end = offset, offset + length
    while position < end:
        copied = _copy_some(reading, writing, position, end - position)
        if not copied:
            raise OSError(errno.EIO, "the source became shorter while it was copied")
        position += copied
    # Starts to write it back. Source: mm/fadvise.c, generic_fadvise.
    os.posix_fadvise(writing, offset, length, os.POSIX_FADV_DONTNEED)


def _copy_some(reading: int, writing: int, position: int, length: int) -> int:
    try:
        return os.copy_file_range(reading, writing, length, position, position)
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
    content = os.pread(reading, min(length, _BUFFER_BYTES), position)
    return os.pwrite(writing, content, position)


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
