# SPDX-License-Identifier: Apache-2.0
"""A client that sends exactly what it is told: names as bytes, nothing retried, nothing interpreted.

Rule 1: each request has its own connection: one that stays open may be closed by the server just then, and one that is
made anew in the middle of a test looks like a leak.
"""

from __future__ import annotations

import http.client
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from lustack.server.topology import Access

NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Answer:
    """What the server said; header names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def log_in(access: Access) -> dict[str, str]:
    """The headers of a user who has logged in."""
    headers = {"X-Auth-User": access.user, "X-Auth-Key": access.key}
    with urllib.request.urlopen(urllib.request.Request(access.auth_url, headers=headers)) as answer:
        return {"X-Auth-Token": answer.headers["X-Auth-Token"]}


@dataclass
class Client:
    """Requests of the first user, one after the other.

    Attributes:
        access: how to reach the server.
    """

    access: Access
    _login: Mapping[str, str] = field(default_factory=dict, init=False)

    def __enter__(self) -> Self:
        url = urllib.parse.urlsplit(self.access.storage_url)
        self._base = url.path
        self._connection = http.client.HTTPConnection(url.netloc, timeout=120)
        self._login = log_in(self.access)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def send(
        self, method: str, path: str, headers: Mapping[str, str] = NO_HEADERS, body: bytes | None = None
    ) -> Answer:
        """Send one request to a path below the account, which is quoted already and starts with `/` or is empty."""
        try:
            self._connection.request(method, self._base + path, body, {**self._login, **headers})
            response = self._connection.getresponse()
            content = response.read()
        finally:
            self._connection.close()  # the next request opens it
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)
