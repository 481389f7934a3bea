# SPDX-License-Identifier: Apache-2.0
"""GET without copies: from the page cache to the client's socket by sendfile(2), through every filter of a pipeline.

`egg:lustack#proxy` puts the filter of this module before all others. A body is an iterator that every filter may wrap,
so nobody knows beforehand whether one of them wants to see its bytes (encryption does, a static large object is made of
several bodies). It is found out for each body, while it is sent:

1. The filter puts a `Way` into the environment, if the client's connection is a plain socket. Filters that make
   requests of their own do not hand it on.
2. The body's first chunk has a type of its own, `Whole`. Its bytes are real.
3. If that very chunk comes out in front, nobody in between makes other bytes of what passes: the filter opens the way.
4. From then on the body gives out `Slice`s: they have a length, which is all that filters count with, and no bytes. The
   filter sends what they stand for.

Rule 1: who does not let the first chunk pass as it is gets real bytes to the end.
Rule 2: who touches the bytes of a `Slice` fails; nothing wrong is ever sent.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from swift.common.concurrency import greenio, patcher, trampoline
from swift.common.utils import close_if_possible

from lustack.swift.calls import StalledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lustack.swift.reader import Source, Span

_KEY = "lustack.way"
_FLUSH = "eventlet.minimum_write_chunk_size"
_FLUSH_BYTES = 4096
"""What is smaller waits for more before it is sent, and a slice would overtake it. Source: eventlet/wsgi.py:669-688."""

_SLICE_BYTES = 8 * 1024 * 1024
"""How much passes the filters at once."""


_PATIENCE_MS = 20
"""How long a thread waits for a client before it leaves that to the event loop."""

# Eventlet's own has no poll, and a thread can wait.
select: Any = patcher.original("select")


class TruncatedError(OSError):
    """The file ended before the bytes that were promised: somebody truncated it meanwhile."""


class Whole(bytes):
    """The first bytes of a body; by its type they are known again."""

    __slots__ = ()


class Slice:
    """A part of a file that stands for its bytes."""

    __slots__ = ("_length", "source", "start")

    def __init__(self, source: Source, start: int, length: int) -> None:
        self.source = source
        self.start = start
        self._length = length

    def __len__(self) -> int:
        return self._length


class Way:
    """The way from a body to the client's socket.

    Attributes:
        is_open: whether what passes comes out as it is.
    """

    def __init__(self, socket: Any) -> None:
        self.is_open = False
        self._socket = socket

    def send(self, piece: Slice) -> None:
        """Sends what a slice stands for, waiting for the client as long as its socket does.

        Raises:
            OSError: of sendfile(2), among them that the client is gone or reads too slowly.
            StalledError: the file system does not answer.
        """
        # A thread that hangs must not write to the connection that gets this one's number later.
        fd = os.dup(self._socket.fileno())
        try:
            self._send(fd, piece)
        except StalledError:
            piece.source.close_too(fd)
            raise
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)

    def _send(self, fd: int, piece: Slice) -> None:
        position, stop = piece.start, piece.start + len(piece)
        # Who keeps pace is waited for in the thread: for each buffer the event loop would need three more wake-ups.
        patience_ms = _PATIENCE_MS
        while position < stop:
            position = piece.source.line.run(_send_some, fd, piece.source.fd, (position, stop), patience_ms)
            if position < stop:
                patience_ms = 0
                trampoline(fd, write=True, timeout=self._socket.gettimeout(), timeout_exc=TimeoutError("slow client"))


def _send_some(fd: int, file_fd: int, part: tuple[int, int], patience_ms: int) -> int:
    """In a thread: sends until the socket takes no more for a while; returns how far it came."""
    position, stop = part
    while position < stop:
        try:
            sent = os.sendfile(fd, file_fd, position, stop - position)
        except BlockingIOError:
            if _takes_more(fd, patience_ms):
                continue
            break
        if not sent:
            raise TruncatedError
        position += sent
    return position


def _takes_more(fd: int, patience_ms: int) -> bool:
    if not patience_ms:
        return False
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(patience_ms))


class StraightBody:
    """The body of a GET that leaves by the way, once it is open."""

    def __init__(self, span: Span, way: Way) -> None:
        """Reads nothing yet.

        Args:
            span: the bytes.
            way: to the client.
        """
        self._span = span
        self._way = way
        self._is_first = True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes | Slice:
        span = self._span
        if self._is_first:
            self._is_first = False
            return Whole(next(span))
        if not self._way.is_open or span.position >= span.stop:
            return next(span)
        start = span.position
        span.position = min(start + _SLICE_BYTES, span.stop)
        return Slice(span.source, start, span.position - start)

    def close(self) -> None:
        """Closes the file."""
        self._span.close()


def way_of(environ: Mapping[str, Any]) -> Way | None:
    """The way that the filter made for a request, if it did."""
    return environ.get(_KEY)


class SendfileMiddleware:
    """The filter; the first of its pipeline."""

    def __init__(self, app: Any) -> None:
        """Wraps the rest of the pipeline."""
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Handles one request (PEP 3333)."""
        socket = _plain_socket(environ)
        if socket is None or environ["REQUEST_METHOD"] != "GET":
            body: Iterable[bytes] = self.app(environ, start_response)
            return body
        way = environ[_KEY] = Way(socket)
        lengths: list[str] = []

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            # Without a length each chunk gets a frame around it.
            lengths[:] = [value for header, value in headers if header.lower() == "content-length"]
            return start_response(status, headers, *rest)

        return _Edge(self.app(environ, start), way, lengths, int(environ.get(_FLUSH, _FLUSH_BYTES)))


class _Edge:
    """What the server sends: bytes; slices were sent already."""

    def __init__(self, body: Iterable[Any], way: Way, lengths: list[str], flush_bytes: int) -> None:
        self._body = body
        self._way = way
        self._lengths = lengths
        self._flush_bytes = flush_bytes

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._body:
            if type(chunk) is Slice:
                self._way.send(chunk)
                continue
            if type(chunk) is Whole and self._lengths and len(chunk) >= self._flush_bytes:
                self._way.is_open = True
            yield chunk

    def close(self) -> None:
        close_if_possible(self._body)


def _plain_socket(environ: Mapping[str, Any]) -> Any:
    """The client's connection, None if it is encrypted or not known."""
    try:
        socket = environ["eventlet.input"].get_socket()
    except (KeyError, AttributeError):
        return None
    return socket if isinstance(socket, greenio.GreenSocket) else None


def filter_factory(_global_conf: Mapping[str, str], **_local_conf: str) -> Callable[[Any], SendfileMiddleware]:
    """paste.deploy's entry point."""
    return SendfileMiddleware
