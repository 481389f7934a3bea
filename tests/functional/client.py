# SPDX-License-Identifier: Apache-2.0
"""A client that sends exactly what it is told: names as bytes, nothing retried, nothing interpreted.

Rule 1: a connection that was idle for long is made anew before the next request: the server may close it just then.
"""

from __future__ import annotations

import http.client
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from lustack.server.topology import Access

NO_HEADERS: Mapping[str, str] = {}
# Swift closes after a minute. Source: swift 2.38.3 common/wsgi.py, client_timeout of the proxy.
LONG_S = 20.0


@dataclass(frozen=True)
class Answer:
    """What the server said; header names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Client:
    """One connection of the first user, which stays open.

    Attributes:
        access: how to reach the server.
    """

    access: Access
    _token: str = field(default="", init=False)
    _used_s: float = field(default=0.0, init=False)

    def __enter__(self) -> Self:
        url = urllib.parse.urlsplit(self.access.storage_url)
        self._base = url.path
        self._connection = http.client.HTTPConnection(url.netloc, timeout=120)
        self._token = self._log_in()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def _log_in(self) -> str:
        headers = {"X-Auth-User": self.access.user, "X-Auth-Key": self.access.key}
        with urllib.request.urlopen(urllib.request.Request(self.access.auth_url, headers=headers)) as answer:
            return answer.headers["X-Auth-Token"]

    def send(
        self, method: str, path: str, headers: Mapping[str, str] = NO_HEADERS, body: bytes | None = None
    ) -> Answer:
        """Send one request to a path below the account, which is quoted already and starts with `/` or is empty."""
        if time.monotonic() - self._used_s > LONG_S:
            self._connection.close()  # the next request opens it
        self._connection.request(method, self._base + path, body, {"X-Auth-Token": self._token, **headers})
        response = self._connection.getresponse()
        content = response.read()
        self._used_s = time.monotonic()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)
