# SPDX-License-Identifier: Apache-2.0
"""Requests to account and container servers over connections that stay open.

Rule 1: threads block, nothing is patched; a connection serves one request at a time.
Rule 2: every request we make is idempotent. So one that fails on a connection that was open before is made again on
a new one: the server may have closed it while it was idle.
"""

from __future__ import annotations

import http.client
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from lustack.sync.errors import SyncError

_TIMEOUT_S = 60.0
"""A batch of 10 000 rows takes the server about a second. Source: measured."""

_FAILURES = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Node:
    """A place of a database, from a ring.

    Attributes:
        host: address of its server.
        port: of its server.
        device: the disk.
        partition: of the ring.
    """

    host: str
    port: int
    device: str
    partition: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.device}"


@dataclass(frozen=True)
class Request:
    """What is asked of a node.

    Attributes:
        method: HTTP method.
        path: account, container.
        headers: besides those that every request gets.
        query: parameters.
        body: bytes to send.
    """

    method: str
    path: tuple[str, ...]
    headers: Mapping[str, str]
    query: Mapping[str, str | int]
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} /{'/'.join(self.path)}"


@dataclass(frozen=True)
class Answer:
    """What a node said.

    Attributes:
        status: of HTTP.
        headers: names in lower case.
        body: all of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the server did it."""
        return self.status // 100 == 2  # noqa: PLR2004 (HTTP's class of success)


class NodeError(SyncError):
    """A node did not answer.

    Attributes:
        node: which.
        why: what happened.
    """

    retryable = True

    def __init__(self, node: Node, why: str) -> None:
        super().__init__(node, why)
        self.node = node
        self.why = why

    def __str__(self) -> str:
        return f"{self.node}: {self.why}"


class Connections:
    """Open connections. Thread-safe."""

    def __init__(self, timeout_s: float = _TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._idle: defaultdict[tuple[str, int], list[http.client.HTTPConnection]] = defaultdict(list)

    def ask(self, node: Node, request: Request) -> Answer:
        """Makes a request.

        Raises:
            NodeError: no answer.
        """
        idle = self._take(node)
        if idle is not None:
            try:
                return self._exchange(idle, node, request)
            except _FAILURES:
                idle.close()
        fresh = http.client.HTTPConnection(node.host, node.port, timeout=self._timeout_s)
        try:
            return self._exchange(fresh, node, request)
        except _FAILURES as error:
            fresh.close()
            raise NodeError(node, str(error) or type(error).__name__) from error

    def close(self) -> None:
        """Closes every idle connection."""
        with self._lock:
            for connections in self._idle.values():
                while connections:
                    connections.pop().close()

    def _take(self, node: Node) -> http.client.HTTPConnection | None:
        with self._lock:
            connections = self._idle[node.host, node.port]
            return connections.pop() if connections else None

    def _exchange(self, connection: http.client.HTTPConnection, node: Node, request: Request) -> Answer:
        path = quote("/".join(("", node.device, str(node.partition), *request.path)))
        if request.query:
            path += "?" + urlencode(request.query)
        # The names of Swift's hidden containers begin with NUL. Source: swift/common/direct_client.py _make_req.
        headers = {"User-Agent": "lustack-sync", "X-Backend-Allow-Reserved-Names": "true", **request.headers}
        connection.request(request.method, path, body=request.body or None, headers=headers)
        response = connection.getresponse()
        body = response.read()
        found = {key.lower(): value for key, value in response.getheaders()}
        if not response.will_close:
            with self._lock:
                self._idle[node.host, node.port].append(connection)
        else:
            connection.close()
        return Answer(response.status, found, body)
