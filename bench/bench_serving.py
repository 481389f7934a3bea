# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of the daemon share: a served instance, its container server asked directly, its processes."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.parse
import urllib.request
from pathlib import Path

from lustack.server import instance
from lustack.server.topology import Access
from lustack.sync import status
from lustack.sync.status import Status

LIMIT_S = 60.0
PAUSE_S = 0.1
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def log_in(access: Access) -> dict[str, str]:
    """The headers of a user who has logged in."""
    headers = {"X-Auth-User": access.user, "X-Auth-Key": access.key}
    with urllib.request.urlopen(urllib.request.Request(access.auth_url, headers=headers)) as answer:  # noqa: S310
        return {"X-Auth-Token": answer.headers["X-Auth-Token"]}


class Client:
    """Asks the proxy of a served instance over one connection."""

    def __init__(self, served: instance.Instance) -> None:
        """Gets a token.

        Args:
            served: is running.
        """
        self._headers = log_in(served.access)
        url = urllib.parse.urlsplit(served.access.storage_url)
        self._path = url.path
        self._connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        """Makes a request."""
        answer = self._send(method, path)
        return answer.status, answer.read()

    def _send(self, method: str, path: str) -> http.client.HTTPResponse:
        """Sends it once more where the server has closed the connection meanwhile: nobody asked for a minute."""
        for is_last in (False, True):
            try:
                self._connection.request(method, self._path + path, headers=self._headers)
                return self._connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionError):
                self._connection.close()
                if is_last:
                    raise
        raise AssertionError

    def put_containers(self, count: int) -> None:
        """Makes containers c0, c1 ..."""
        for number in range(count):
            assert self.ask("PUT", f"/c{number}")[0] in (201, 202)

    def has(self, container: str, name: str) -> bool:
        """Whether a listing shows an object."""
        query = urllib.parse.urlencode({"format": "json", "prefix": name, "limit": 1})
        found, body = self.ask("GET", f"/{container}?{query}")
        return found == http.HTTPStatus.OK and bool(json.loads(body))

    def list(self, container: str, prefix: str, first: str) -> list[str]:
        """The names in a listing that begin so, from one of them on."""
        # What is just before it: the last character becomes the one below.
        marker = first[:-1] + chr(ord(first[-1]) - 1)
        query = urllib.parse.urlencode({"prefix": prefix, "marker": marker})
        found, body = self.ask("GET", f"/{container}?{query}")
        assert found // 100 == http.HTTPStatus.OK // 100, f"a listing is refused: {found}"
        return body.decode().splitlines()

    def count(self, container: str) -> int:
        """How many objects a container has."""
        answer = self._send("HEAD", f"/{container}")
        answer.read()
        return int(answer.headers["X-Container-Object-Count"])


def read_status(served: instance.Instance) -> Status:
    """What the daemon says of itself; waits until it does."""
    limit_s = time.monotonic() + LIMIT_S
    while (found := status.read(f"{served.host.state}/sync")) is None:
        assert time.monotonic() < limit_s, "the daemon says nothing"
        time.sleep(PAUSE_S)
    return found


def pids(served: instance.Instance) -> tuple[int, int]:
    """The processes of the daemon and of the container server."""
    return read_status(served).pid, server_pid(served)


def server_pid(served: instance.Instance) -> int:
    """The process of the container server."""
    return next(
        int(each)
        for each in os.listdir("/proc")
        if each.isdigit() and _runs(each, "container-server.conf", str(served.host.state))
    )


def _runs(pid: str, *words: str) -> bool:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return False
    return all(word in line for word in words)


def cpu_s(pid: int) -> float:
    """CPU that a process has used, with all of its threads."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS_PER_S


def load() -> str:
    """The load of the machine."""
    return Path("/proc/loadavg").read_text().split()[0]
