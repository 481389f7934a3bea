# SPDX-License-Identifier: Apache-2.0
"""What listings and the daemon of a served directory say, for tests of what the daemon follows by itself."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.functional import tree
from tests.torture.served import LUSTACK, Client, Served

from lustack.server.topology import Access
from lustack.sync import status

LIMIT_S = 180.0
"""For what takes a second or two on a machine that has nothing else to do."""

PAUSE_S = 0.1
ABSENT = (http.client.NOT_FOUND, http.client.SERVICE_UNAVAILABLE)
Listing = dict[str, int]
"""The size of each object by its name."""


@dataclass(frozen=True)
class Reached:
    """See `Reachable`: what a test serves by itself.

    Attributes:
        access: to it.
    """

    access: Access

    @property
    def storage_url(self) -> str:
        """See `Reachable`."""
        return self.access.storage_url

    @property
    def auth_url(self) -> str:
        """See `Reachable`."""
        return self.access.auth_url

    @property
    def login(self) -> dict[str, str]:
        """See `Reachable`."""
        return {"X-Auth-User": self.access.user, "X-Auth-Key": self.access.key}


@dataclass(frozen=True)
class Followed:
    """What is served and followed.

    Attributes:
        account: directory of the account.
        memory: of the daemon.
        client: asks Swift.
    """

    account: Path
    memory: Path
    client: Client

    def make(self, container: str) -> Path:
        """Makes a container; returns its directory, which is there."""
        assert self.client.send("PUT", f"/{container}").status in (201, 202)
        place = self.account / container
        place.mkdir(parents=True, exist_ok=True)
        return place

    def listed(self, container: str) -> Listing | None:
        """What a container lists; None if there is none, or its server is away."""
        answer = self.client.send("GET", f"/{container}", query="format=json")
        if answer.status != http.client.OK:
            assert answer.status in ABSENT, answer
            return None
        return {row["name"]: row["bytes"] for row in json.loads(answer.body)}

    def is_true(self, container: str) -> bool:
        """Whether the listing of a container says what is in its directory. Nothing may change there meanwhile."""
        return self.listed(container) == there(self.account / container)

    def look(self) -> status.Status:
        """What the daemon says of itself, at once."""
        return status.read(str(self.memory)) or status.Status()

    def is_watching(self) -> bool:
        """Whether the daemon reads its source, and has nothing left of what it did to begin with."""
        found = self.look()
        is_open = bool(found.sources) and not any(source.why_down for source in found.sources)
        return is_open and found.comparisons > 0 and not found.is_comparing and not found.job_count


def there(directory: Path) -> Listing:
    """What a listing of a directory of a container has to say."""
    return {
        name: place.stat().st_size if place.is_file() else 0
        for name, places in tree.objects(directory).items()
        for place in [directory / Path(places[0].decode(errors="surrogateescape"))]
    }


def ask_status(conf: Path) -> dict[str, object]:
    """`lustack sync status --json`."""
    command = (*LUSTACK, "sync", "status", "--json", "--config-file", str(conf))
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@contextmanager
def following(served: Served) -> Iterator[Followed]:
    """Serves; the daemon watches when the block begins."""
    served.start()
    try:
        found = Followed(served.account, served.state / "sync", Client(served))
        wait_for(found.is_watching)
        yield found
    finally:
        served.stop()


def await_fence(place: Path) -> None:
    """`lustack sync wait`: what was done before is listed afterwards."""
    command = (*LUSTACK, "sync", "wait", str(place), "--timeout", str(LIMIT_S))
    subprocess.run(command, check=True, timeout=2 * LIMIT_S)


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until something is so."""
    limit_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < limit_s, "it never happened"
        time.sleep(PAUSE_S)
