# SPDX-License-Identifier: Apache-2.0
"""Sends the bytes of an object.

Rule 1: exactly as many bytes as Content-Length said, or fewer and a broken connection: a job may be writing.
Rule 2: a read never moves, marks or repairs a file. There is no quarantine.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from swift.common.swob import multi_range_iterator
from swift.common.utils import CooperativeIterator, drop_buffer_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

_DROP_CACHE_WINDOW = 1024 * 1024
"""Bytes between two hints to the page cache. Source: swift/obj/diskfile.py:98."""


class PosixDiskFileReader:
    """The body of a GET. Owns the descriptor and closes it at its end."""

    def __init__(
        self, fd: int, size_bytes: int, *, chunk_bytes: int, cooperative_period: int, keep_cache: bool
    ) -> None:
        self._fd = fd
        self._size_bytes = size_bytes
        self._chunk_bytes = chunk_bytes
        self._cooperative_period = cooperative_period
        self._keep_cache = keep_cache
        self._is_one_of_many = False

    def __iter__(self) -> Iterator[bytes]:
        return self._cooperative(0, self._size_bytes)

    def app_iter_range(self, start: int | None, stop: int | None) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`, to the ends where they are None."""
        return self._cooperative(start or 0, self._size_bytes if stop is None else min(stop, self._size_bytes))

    def app_iter_ranges(
        self, ranges: list[tuple[int, int]], content_type: Any, boundary: Any, size: int
    ) -> Iterator[bytes]:
        """Several ranges as multipart/byteranges."""
        if not ranges:
            yield b""
            return
        self._is_one_of_many = True
        try:
            yield from multi_range_iterator(ranges, _bytes(content_type), _bytes(boundary), size, self.app_iter_range)
        finally:
            self._is_one_of_many = False
            self.close()

    def can_zero_copy_send(self) -> bool:
        """Swift's splice needs the MD5 of what it sends; ours does not."""
        return False

    def close(self) -> None:
        """Closes the descriptor; a second time does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # Python does not run the `finally` of a generator that nobody began to read.
        self.close()

    def _cooperative(self, start: int, stop: int) -> Iterator[bytes]:
        chunks: Iterator[bytes] = CooperativeIterator(self._chunks(start, stop), period=self._cooperative_period)
        return chunks

    def _chunks(self, start: int, stop: int) -> Iterator[bytes]:
        position = dropped = start
        try:
            while position < stop:
                chunk = os.pread(self._fd, min(self._chunk_bytes, stop - position), position)
                if not chunk:
                    break
                position += len(chunk)
                if position - dropped > _DROP_CACHE_WINDOW:
                    dropped = self._drop_cache(dropped, position)
                yield chunk
            self._drop_cache(dropped, position)
        finally:
            if not self._is_one_of_many:
                self.close()

    def _drop_cache(self, start: int, stop: int) -> int:
        if not self._keep_cache and stop > start:
            drop_buffer_cache(self._fd, start, stop - start)
        return stop


def _bytes(text: Any) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode("utf-8")
