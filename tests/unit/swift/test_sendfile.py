# SPDX-License-Identifier: Apache-2.0
"""Bodies that leave by sendfile, through eventlet's own server and what may stand between."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from swift.common.concurrency import HTTPConnection, listen, patcher, sleep, socket, spawn, wsgi
from swift.common.middleware.catch_errors import ByteEnforcer
from tests.objects import SwiftLog, no_thread_pool, thread_pool
from tests.waiting import LIMIT_S, wait_for

from lustack.swift.calls import Bounds, Calls, StalledError
from lustack.swift.device import Device
from lustack.swift.reader import Source, Span
from lustack.swift.sendfile import (
    SendfileMiddleware,
    Slice,
    StraightBody,
    Way,
    Whole,
    _send_some,
    filter_factory,
    way_of,
)
from lustack.swift.threads import POOL

FIRST = 65536
BODY = os.urandom(30 * FIRST + 5)
App = Callable[[dict[str, Any], Any], Any]


@pytest.fixture(autouse=True)
def pool() -> Iterator[None]:
    with no_thread_pool():
        yield


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(BODY)
    return path


class Origin:
    """A proxy with one object.

    Attributes:
        kinds: of the chunks that it gave out.
    """

    def __init__(self, file: Path, *, has_length: bool = True, first: int = FIRST) -> None:
        self._file = file
        self._has_length = has_length
        self._first = first
        self.kinds: set[type] = set()
        self.calls = Device("/d").looks
        self.source: Source | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.source = Source(self.calls.line(), os.open(self._file, os.O_RDONLY))
        start_response("200 OK", [("Content-Length", str(len(BODY)))] if self._has_length else [])
        body: Any = Span(self.source, 0, len(BODY), self._first)
        way = way_of(environ)
        return self._noting(body if way is None else StraightBody(body, way))

    def _noting(self, body: Any) -> Iterator[Any]:
        try:
            for chunk in body:
                self.kinds.add(type(chunk))
                yield chunk
        finally:
            body.close()


class Server:
    """Eventlet's server, as Swift runs it, with a pipeline."""

    def __init__(self, app: App, timeout_s: float = 120) -> None:
        self._socket = listen(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        options = {"socket_timeout": timeout_s, "log_output": False, "debug": False}
        self._server = spawn(wsgi.server, self._socket, app, SwiftLog(), **options)

    def get(self, method: str = "GET") -> bytes:
        connection = HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request(method, "/v1/a/c/o")
            return connection.getresponse().read()
        finally:
            connection.close()

    def close(self) -> None:
        sleep(0.05)
        self._server.kill()
        self._socket.close()
        sleep()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*args: Any) -> Server:
        servers.append(Server(*args))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def counting(app: App) -> App:
    """A filter that counts, as several of Swift's do."""
    return lambda environ, start_response: ByteEnforcer(app(environ, start_response), len(BODY))


def looking(app: App) -> App:
    """A filter that makes other bytes of what passes, as encryption does."""
    return lambda environ, start_response: (bytes(reversed(chunk)) for chunk in app(environ, start_response))


def test_a_file_leaves_by_sendfile_through_filters_that_only_count(file, serve):
    origin = Origin(file)
    server = serve(SendfileMiddleware(counting(origin)))
    assert server.get() == BODY
    assert origin.kinds == {Whole, Slice}


def test_who_wants_to_see_the_bytes_sees_them(file, serve):
    origin = Origin(file, first=len(BODY))
    assert serve(SendfileMiddleware(looking(origin))).get() == BODY[::-1]
    origin = Origin(file)
    serve(SendfileMiddleware(looking(origin))).get()
    assert Slice not in origin.kinds


def test_without_the_filter_bytes_are_bytes(file, serve):
    origin = Origin(file)
    assert serve(counting(origin)).get() == BODY
    assert origin.kinds == {bytes}


def test_a_body_without_a_length_is_not_sent_past_its_frames(file, serve):
    origin = Origin(file, has_length=False)
    assert serve(SendfileMiddleware(origin)).get() == BODY
    assert Slice not in origin.kinds


def test_a_first_chunk_that_the_server_may_keep_back_opens_nothing(file, serve):
    origin = Origin(file, first=4095)
    assert serve(SendfileMiddleware(origin)).get() == BODY
    assert Slice not in origin.kinds


def test_only_a_get_has_a_way(serve):
    ways = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        ways.append(way_of(environ))
        start_response("200 OK", [("Content-Length", "0")])
        return []

    server = serve(SendfileMiddleware(app))
    for method in ("HEAD", "PUT", "GET"):
        server.get(method)
    assert [way is None for way in ways] == [True, True, False]


def test_a_client_that_is_not_connected_by_a_plain_socket_gets_bytes(file):
    class Input:
        def get_socket(self) -> object:
            return object()

    for environ in ({}, {"eventlet.input": None}, {"eventlet.input": Input()}):
        origin = Origin(file)
        made = filter_factory({})(origin)
        body = made({"REQUEST_METHOD": "GET", **environ}, lambda *_: None)
        assert b"".join(body) == BODY
        assert origin.kinds == {bytes}


def test_nobody_takes_a_slice_for_bytes():
    piece = Slice(None, 0, 5)
    assert len(piece) == 5
    for misuse in (lambda: b"".join([piece]), lambda: piece[:2], lambda: memoryview(piece)):
        with pytest.raises(TypeError):
            misuse()


def test_a_file_that_was_truncated_breaks_the_connection(file, serve):
    origin = Origin(file)

    def truncating(environ: dict[str, Any], start_response: Any) -> Iterator[Any]:
        for chunk in origin(environ, start_response):
            os.truncate(file, 2 * FIRST)
            yield chunk

    with pytest.raises(Exception, match="IncompleteRead"):
        serve(SendfileMiddleware(truncating)).get()


def test_a_client_that_does_not_read_is_left_after_the_timeout(file, serve, tmp_path):
    with file.open("ab") as appended:
        appended.truncate(1 << 30)
    source: list[Source] = []
    calls = Device("/d").looks

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        source.append(Source(calls.line(), os.open(file, os.O_RDONLY)))
        start_response("200 OK", [("Content-Length", str(1 << 30))])
        return StraightBody(Span(source[0], 0, 1 << 30, FIRST), way_of(environ))

    server = serve(SendfileMiddleware(app), 0.2)
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for(lambda: source and source[0].fd < 0, sleep=sleep)
    client.close()


@pytest.mark.expects_log("^WARNING swift.tests: /d: the file system does not answer$")
def test_a_thread_that_hangs_keeps_the_connection_to_itself(file, monkeypatch):
    ends = socket.socketpair()
    calls = Calls("/d", SwiftLog(), Bounds(1, 0.1, 1))
    source = Source(calls.line(), os.open(file, os.O_RDONLY))
    before = set(os.listdir("/proc/self/fd"))
    moves = patcher.original("threading").Event()
    monkeypatch.setattr("lustack.swift.sendfile._send_some", lambda *_: moves.wait(LIMIT_S))
    with thread_pool():
        kept = set(os.listdir("/proc/self/fd")) - before
        with pytest.raises(StalledError):
            Way(ends[0]).send(Slice(source, 0, len(BODY)))
        source.close()
        assert len(set(os.listdir("/proc/self/fd")) - before - kept) == 1
        moves.set()
        wait_for(lambda: not calls._jobs and not POOL._busy, sleep=sleep)
    assert set(os.listdir("/proc/self/fd")) < before
    for end in ends:
        end.close()


class TestPace:
    @pytest.fixture
    def ends(self) -> Iterator[tuple[Any, Any]]:
        plain = patcher.original("socket")
        sender, receiver = plain.socketpair()
        sender.setblocking(False)
        with sender, receiver:
            yield sender, receiver

    def send(self, ends: tuple[Any, Any], file: Path, patience_ms: int) -> int:
        fd = os.open(file, os.O_RDONLY)
        try:
            return _send_some(ends[0].fileno(), fd, (0, len(BODY)), patience_ms)
        finally:
            os.close(fd)

    def test_a_client_that_keeps_pace_is_waited_for(self, ends, file):
        received: list[bytes] = []

        def receive() -> None:
            while sum(map(len, received)) < len(BODY):
                time.sleep(0.001)
                received.append(ends[1].recv(100_000))

        receiving = patcher.original("threading").Thread(target=receive)
        receiving.start()
        assert self.send(ends, file, 120_000) == len(BODY)
        receiving.join()
        assert b"".join(received) == BODY

    @pytest.mark.parametrize("patience_ms", [0, 1])
    def test_a_slow_one_is_left_to_the_event_loop(self, ends, file, patience_ms):
        assert 0 < self.send(ends, file, patience_ms) < len(BODY)
