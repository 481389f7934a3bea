# SPDX-License-Identifier: Apache-2.0
"""Requests to account and container servers over connections that stay open.

Rule 1: threads block, nothing is patched; a connection serves one request at a time.
Rule 2: every request we make is idempotent. So one that fails on a connection that was open before is made again on
a new one: the server may have closed it while it was idle.
Rule 3: a server that says nothing holds up nobody twice: for a while only one request tries again whether it is back,
where other servers can answer as well.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from lustack.sync.errors import SyncError

_TIMEOUT_S = 60.0
"""A batch of 10 000 rows takes the server about a second. Source: measured."""

_CONNECT_S = 10.0
"""A machine that is not there does not even say no; one that is busy lets its kernel say yes."""

_AVOIDED_S = 30.0

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

    def __init__(self, timeout_s: float = _TIMEOUT_S, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s = timeout_s
        self._monotonic_s = monotonic_s
        self._again_s: dict[tuple[str, int], float] = {}
        self._lock = threading.Lock()
        self._idle: defaultdict[tuple[str, int], list[http.client.HTTPConnection]] = defaultdict(list)

    def ask(self, node: Node, request: Request, *, is_spare: bool = False) -> Answer:
        """Makes a request.

        Args:
            node: who is asked.
            request: what.
            is_spare: others can answer, too: a server that said nothing lately need not be asked.

        Raises:
            NodeError: no answer.
        """
        if is_spare and self._is_avoided(node):
            raise NodeError(node, "it said nothing lately")
        try:
            answer = self._ask(node, request)
        except TimeoutError as error:
            self._avoid(node)
            raise NodeError(node, str(error) or "timed out") from error
        except _FAILURES as error:
            raise NodeError(node, str(error) or type(error).__name__) from error
        self._again_s.pop((node.host, node.port), None)
        return answer

    def _avoid(self, node: Node) -> None:
        """A server said nothing; it may be gone, and so may all connections to it."""
        with self._lock:
            self._again_s[node.host, node.port] = self._monotonic_s() + _AVOIDED_S
            idle = self._idle.pop((node.host, node.port), [])
        for connection in idle:
            connection.close()

    def _is_avoided(self, node: Node) -> bool:
        """Whether a server said nothing lately, and it is not this request's turn to try again."""
        address = (node.host, node.port)
        with self._lock:
            again_s, now_s = self._again_s.get(address), self._monotonic_s()
            if again_s is None:
                return False
            if now_s >= again_s:
                self._again_s[address] = now_s + _AVOIDED_S
            return now_s < again_s

    def _ask(self, node: Node, request: Request) -> Answer:
        """Raises one of `_FAILURES`."""
        idle = self._take(node)
        if idle is not None:
            try:
                return self._exchange(idle, node, request)
            except TimeoutError:
                idle.close()
                raise
            except _FAILURES:
                idle.close()
        fresh = http.client.HTTPConnection(node.host, node.port, timeout=min(_CONNECT_S, self._timeout_s))
        try:
            fresh.connect()
            fresh.sock.settimeout(self._timeout_s)
            return self._exchange(fresh, node, request)
        except _FAILURES:
            fresh.close()
            raise

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
