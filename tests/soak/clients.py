# SPDX-License-Identifier: Apache-2.0
"""Clients of several tempers, all in one event loop; each checks every answer that it gets.

Rule 1: a client never waits for another, and goes on until it is told to stop.
Rule 2: what comes back is compared byte by byte (by MD5); a status that was not expected ends the run.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

SMALL_BYTES, LONG_BYTES = 1024, 4 * 1024 * 1024
PIECE_BYTES = 64 * 1024
PAUSE_S = 0.05
PATIENCE_S = 300


class WrongAnswerError(Exception):
    """A server said something else than it must."""


@dataclass(frozen=True)
class Place:
    """Where objects are.

    Attributes:
        port: of the proxy, on the loopback interface.
        prefix: path of the container.
        headers: of every request.
    """

    port: int
    prefix: str
    headers: Mapping[str, str]


@dataclass
class Run:
    """What all clients share.

    Attributes:
        place: where objects are.
        done: how often each kind of client finished a turn.
        is_over: whether they are to stop.
    """

    place: Place
    done: Counter[str] = field(default_factory=Counter)
    is_over: bool = False


class Connection:
    """One connection, which stays open as long as both sides want."""

    def __init__(self, place: Place) -> None:
        self.place = place

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.place.port, limit=PIECE_BYTES)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> None:
        """Sends the head of a request."""
        lines = {"Host": "127.0.0.1", **self.place.headers, **(headers or {})}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.writer.write(f"{method} {self.place.prefix}/{path} HTTP/1.1\r\n{text}\r\n".encode())
        await self.writer.drain()

    async def answer(self) -> tuple[int, int]:
        """Reads the head of an answer: status and length of the body."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)).decode("latin-1").lower()
        _, status, _ = head.split(" ", 2)
        length = next((line[15:] for line in head.split("\r\n") if line.startswith("content-length:")), "0")
        return int(status), int(length)

    async def body(self, length: int, pause_s: float = 0) -> bytes:
        """Reads a body, piece by piece, with pauses."""
        pieces = []
        while length:
            piece = await asyncio.wait_for(self.reader.read(min(length, PIECE_BYTES)), PATIENCE_S)
            if not piece:
                raise WrongAnswerError("a body ended early")
            pieces.append(piece)
            length -= len(piece)
            if pause_s:
                await asyncio.sleep(pause_s)
        return b"".join(pieces)


def content_of(name: str, length: int) -> bytes:
    """What is in an object: its name says it."""
    seed = hashlib.md5(name.encode()).digest()
    return (seed * (length // len(seed) + 1))[:length]


async def put(connection: Connection, name: str, length: int, pause_s: float = 0) -> None:
    """Uploads an object."""
    content = content_of(name, length)
    etag = hashlib.md5(content).hexdigest()
    await connection.ask("PUT", name, {"Content-Length": str(length), "Etag": etag})
    for start in range(0, length, PIECE_BYTES):
        connection.writer.write(content[start : start + PIECE_BYTES])
        await connection.writer.drain()
        if pause_s:
            await asyncio.sleep(pause_s)
    status, left = await connection.answer()
    await connection.body(left)
    if status != 201:
        raise WrongAnswerError(f"PUT {name}: {status}")


async def get(connection: Connection, name: str, length: int, pause_s: float = 0, start: int = 0) -> None:
    """Downloads an object, or its end, and compares."""
    await connection.ask("GET", name, {"Range": f"bytes={start}-"} if start else {})
    status, left = await connection.answer()
    content = await connection.body(left, pause_s)
    if status != (206 if start else 200) or content != content_of(name, length)[start:]:
        raise WrongAnswerError(f"GET {name} from {start}: {status}, {len(content)} bytes")


async def read(run: Run, number: int, pause_s: float) -> None:
    """Reads what is there for everybody."""
    async with Connection(run.place) as connection:
        for length in (SMALL_BYTES, LONG_BYTES):
            await get(connection, f"shared-{length}-{number % 4}", length, pause_s)
        await get(connection, f"shared-{LONG_BYTES}-0", LONG_BYTES, pause_s, start=random.randrange(1, LONG_BYTES))


async def write(run: Run, number: int, pause_s: float) -> None:
    """Writes, reads and removes what is his own."""
    async with Connection(run.place) as connection:
        for length in (SMALL_BYTES, LONG_BYTES // 4):
            name = f"own-{number}-{length}"
            await put(connection, name, length, pause_s)
            await get(connection, name, length)
            await connection.ask("DELETE", name)
            status, left = await connection.answer()
            await connection.body(left)
            if status != 204:
                raise WrongAnswerError(f"DELETE {name}: {status}")


async def leave(run: Run, number: int, _pause_s: float) -> None:
    """Goes away in the middle of a download and of an upload."""
    async with Connection(run.place) as connection:
        await connection.ask("GET", f"shared-{LONG_BYTES}-{number % 4}")
        await connection.answer()
        await connection.body(PIECE_BYTES)
    async with Connection(run.place) as connection:
        await connection.ask("PUT", f"left-{number}", {"Content-Length": str(LONG_BYTES)})
        connection.writer.write(bytes(PIECE_BYTES))
        await connection.writer.drain()
        await asyncio.sleep(PAUSE_S)


TEMPERS: Mapping[str, tuple[Callable[[Run, int, float], Awaitable[None]], float]] = {
    "reader": (read, 0),
    "slow reader": (read, PAUSE_S),
    "writer": (write, 0),
    "slow writer": (write, PAUSE_S),
    "quitter": (leave, 0),
}


async def behave(run: Run, number: int) -> None:
    """One client, turn by turn."""
    names = list(TEMPERS)
    temper = names[number % len(names)]
    act, pause_s = TEMPERS[temper]
    try:
        while not run.is_over:
            await act(run, number, pause_s)
            run.done[temper] += 1
            await asyncio.sleep(random.random() * PAUSE_S * 10)
    except BaseException:
        # Before Python 3.12 wait_for may swallow the cancellation of a client: the others end by this.
        run.is_over = True
        raise


async def serve_all(run: Run, clients: int, until: Callable[[], Awaitable[None]]) -> None:
    """Lets clients work until something has ended; the first wrong answer ends everything.

    Args:
        run: what they share.
        clients: how many.
        until: what is waited for.
    """
    async with Connection(run.place) as connection:
        for length in (SMALL_BYTES, LONG_BYTES):
            for number in range(4):
                await put(connection, f"shared-{length}-{number}", length)
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(behave(run, number))
        await until()
        run.is_over = True
