# SPDX-License-Identifier: Apache-2.0
"""Sends the bytes of an object.

Rule 1: exactly as many bytes as Content-Length said, or fewer and a broken connection: a job may be writing.
Rule 2: a read never moves, marks or repairs a file. There is no quarantine.
Rule 3: no read and no close waits in the event loop.
Rule 4: the page cache is the kernel's business: jobs on this node may need what is in it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from swift.common.swob import multi_range_iterator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lustack.swift.calls import Line


class Source:
    """Where the bytes come from: the descriptor of a file, or all of them where they are few."""

    def __init__(self, line: Line, fd: int, content: bytes = b"") -> None:
        """Takes over.

        Args:
            line: for the calls.
            fd: of the file, -1 if all of it is in `content`.
            content: the bytes.
        """
        self.fd = fd
        self.line = line
        self._content = content
        self._others: list[int] = []

    def read(self, start: int, stop: int) -> bytes:
        """Some bytes, fewer where the file ends.

        Raises:
            OSError: of pread(2).
            StalledError: it takes too long.
        """
        if self.fd < 0:
            return self._content[start:stop]
        return self.line.run(os.pread, self.fd, stop - start, start)

    def close_too(self, fd: int) -> None:
        """Takes over another descriptor that a thread may still use."""
        self._others.append(fd)

    def close(self) -> None:
        """Closes the descriptor when no thread uses it any more; a second time does nothing."""
        fd, self.fd = self.fd, -1
        self._content = b""
        if fd >= 0:
            self.line.finish(_close_all, [fd, *self._others])

    def __del__(self) -> None:
        # A request that ends in order has closed it; here nobody can wait.
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Span:
    """Some bytes of an object, one chunk after the other. Closes the source at its end, or earlier when it is told."""

    def __init__(self, source: Source, start: int, stop: int, chunk_bytes: int) -> None:
        """Reads nothing yet.

        Args:
            source: where the bytes come from.
            start: of the first byte.
            stop: behind the last one.
            chunk_bytes: how many to read at once.
        """
        self.source = source
        self.position = start
        self.stop = stop
        self.chunk_bytes = chunk_bytes

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        end = min(self.position + self.chunk_bytes, self.stop)
        chunk = self.source.read(self.position, end) if self.position < end else b""
        if not chunk:
            self.close()
            raise StopIteration
        self.position += len(chunk)
        return chunk

    def close(self) -> None:
        """Closes the source."""
        self.source.close()


class _Part(Span):
    """One of several ranges: the others still need the source."""

    def close(self) -> None:
        """Leaves the source open."""


class _Document:
    """Several ranges as multipart/byteranges."""

    def __init__(self, chunks: Iterator[bytes], source: Source) -> None:
        self._chunks = chunks
        self._source = source

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self._source.close()


class PosixDiskFileReader:
    """The body of a GET. Owns the source and closes it at its end."""

    def __init__(self, source: Source, size_bytes: int, *, chunk_bytes: int) -> None:
        self._source = source
        self._size_bytes = size_bytes
        self._chunk_bytes = chunk_bytes

    def __iter__(self) -> Span:
        return self.app_iter_range(0, self._size_bytes)

    def app_iter_range(self, start: int | None, stop: int | None) -> Span:
        """The bytes from `start` to before `stop`, to the ends where they are None."""
        last = self._size_bytes if stop is None else min(stop, self._size_bytes)
        return Span(self._source, start or 0, last, self._chunk_bytes)

    def app_iter_ranges(self, ranges: list[tuple[int, int]], content_type: Any, boundary: Any, size: int) -> _Document:
        """Several ranges as multipart/byteranges."""
        if not ranges:
            return _Document(iter([b""]), self._source)
        kind, mark = _bytes(content_type), _bytes(boundary)
        return _Document(multi_range_iterator(ranges, kind, mark, size, self._part), self._source)

    def _part(self, start: int, stop: int) -> Span:
        return _Part(self._source, start, min(stop, self._size_bytes), self._chunk_bytes)

    def can_zero_copy_send(self) -> bool:
        """Swift's splice needs the MD5 of what it sends; ours does not."""
        return False

    def close(self) -> None:
        """Closes the source; a second time does nothing."""
        self._source.close()


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _bytes(text: Any) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode("utf-8")
