# SPDX-License-Identifier: Apache-2.0
"""Two nodes in front of one file system: two object servers, each a process of its own, asked as a proxy asks them."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from swift.common.utils import Timestamp
from tests.waiting import wait_for_port

from lustack.server import statedir
from lustack.server.supervise import Launcher, Supervisor
from lustack.server.topology import LOOPBACK, Host, Program

ACCOUNT, CONTAINER = "AUTH_test", "c"
START_S = 1_700_000_000
PATIENCE_S = 120.0
NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Answer:
    """What a node said; header names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Node:
    """An object server.

    Attributes:
        port: where it listens.
        pid: its process, which is alone in its group.
        device: the name of the device.
    """

    port: int
    pid: int
    device: str

    def send(
        self, method: str, name: str, ticks: int, body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer:
        """One request about an object, at a moment that the test chooses."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=PATIENCE_S)
        try:
            wanted = self._headers(ticks, len(body)) if method != "GET" else {}
            connection.request(method, self._path(name), body or None, {**wanted, **POLICY, **headers})
            response = connection.getresponse()
            found = {key.lower(): value for key, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def get(self, name: str) -> Answer:
        """A GET."""
        return self.send("GET", name, 0)

    @contextmanager
    def uploading(self, name: str, ticks: int, body: bytes) -> Iterator[Upload]:
        """A PUT of which the first half is sent."""
        with socket.create_connection((LOOPBACK, self.port), timeout=PATIENCE_S) as connection:
            headers = {**self._headers(ticks, len(body)), **POLICY, "Connection": "close"}
            lines = [f"PUT {self._path(name)} HTTP/1.1", "Host: node", *(f"{key}: {headers[key]}" for key in headers)]
            connection.sendall("\r\n".join((*lines, "", "")).encode() + body[: len(body) // 2])
            yield Upload(connection, body[len(body) // 2 :])

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The node does nothing, as if its machine hung."""
        os.killpg(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.pid, signal.SIGCONT)

    def _path(self, name: str) -> str:
        return urllib.parse.quote(f"/{self.device}/0/{ACCOUNT}/{CONTAINER}/{name}")

    def _headers(self, ticks: int, length: int) -> dict[str, str]:
        return {"X-Timestamp": timestamp(ticks), "Content-Type": "text/plain", "Content-Length": str(length)}


POLICY = {"X-Backend-Storage-Policy-Index": "0"}


@dataclass(frozen=True)
class Upload:
    """A PUT that is under way."""

    connection: socket.socket
    rest: bytes

    def finish(self) -> int:
        """Send the rest; return the status."""
        self.connection.sendall(self.rest)
        response = http.client.HTTPResponse(self.connection)
        response.begin()
        response.read()
        return response.status


def timestamp(ticks: int) -> str:
    """A moment: the smaller number is the earlier one."""
    return Timestamp(START_S + ticks).internal


@contextmanager
def running(directory: Path, state: Path) -> Iterator[tuple[Node, Node]]:
    """Two nodes that share `directory`, with a container."""
    directory.mkdir()
    (directory / ACCOUNT / CONTAINER).mkdir(parents=True)
    host = Host(directory=str(directory), state=str(state), port=0, sync=False)
    with statedir.open_state(host) as assigned:
        # There is no account server here whose port the second could take.
        ports = assigned.ports.object, assigned.ports.account
        conf = Path(host.etc, "object-server.conf").read_text()
        second = Path(host.etc, "second-object-server.conf")
        second.write_text(conf.replace(f"bind_port = {ports[0]}", f"bind_port = {ports[1]}"))
        supervisor = Supervisor(Launcher(f"{host.etc}/swift.conf", host.logs))
        confs = (f"{host.etc}/object-server.conf", str(second))
        programs = [Program(f"node{i}", ("swift-object-server", confs[i], "verbose"), ports[i]) for i in range(2)]
        try:
            supervisor.start(programs)
            for port in ports:
                wait_for_port(port)
            pids = supervisor.pids()
            yield tuple(Node(ports[i], pids[f"node{i}"], host.device) for i in range(2))
        finally:
            supervisor.stop()
