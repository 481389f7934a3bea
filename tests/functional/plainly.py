# SPDX-License-Identifier: Apache-2.0
"""A Swift as `lustack serve` sets it up, and what the tests of files and clients on it share."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from tests.functional.client import NO_HEADERS, Answer, Client

from lustack.server.instance import Instance
from lustack.server.topology import Host

SLOWEST_S = 60.0
"""No request takes longer, whatever was planted. Swift gives up on a server after 10 s (`node_timeout`)."""

# A server that fails so often is shut out for a minute, for everybody. Source: swift/common/error_limiter.py:24.
TOO_MANY_ERRORS = 11


def plan(root: Path, state: Path, *, sync: bool = False) -> Host:
    """What `lustack serve` would serve, on any free port.

    Args:
        root: the directory to serve.
        state: a directory for everything else.
        sync: whether the daemon runs.
    """
    return Host(
        directory=str(root),
        state=str(state),
        port=0,
        memcached=shutil.which("memcached"),
        proxy_options={"error_suppression_interval": "60"},  # as every proxy but ours has it
        sync=sync,
        sync_interval_s=1,
    )


def read_logs(served: Instance) -> str:
    """Everything that every server wrote."""
    return "".join(path.read_text(errors="replace") for path in sorted(Path(served.host.logs).glob("*.log")))


def quoted(*parts: str | bytes) -> str:
    """A path below the account from its parts, each percent-encoded whole."""
    return "".join("/" + urllib.parse.quote(part, safe="") for part in parts)


class Asker:
    """Asks, and holds each answer to what holds for all of them: in time, no 500, no traceback."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def ask(self, method: str, path: str, headers: Mapping[str, str] = NO_HEADERS, body: bytes | None = None) -> Answer:
        started_s = time.monotonic()
        answer = self._client.send(method, path, headers, body)
        took_s = time.monotonic() - started_s
        assert took_s < SLOWEST_S, (method, path, took_s)
        assert answer.status != 500, (method, path, answer)
        assert b"Traceback" not in answer.body, (method, path, answer)
        return answer


def reconcile(served: Instance, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `lustack sync reconcile` on what is served, which needs no daemon."""
    host = served.host
    conf = Path(host.state) / "reconcile.conf"
    conf.write_text(f"[sync]\nswift_dir = {host.etc}\ndevices = {host.node}\nstate_dir = {host.state}/reconcile\n")
    command = [sys.executable, "-m", "lustack.cli.main", "sync", "reconcile", "--config-file", str(conf), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
