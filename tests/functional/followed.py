# SPDX-License-Identifier: Apache-2.0
"""A served directory and what its listings and its daemon say, for tests of what the daemon follows by itself."""

from __future__ import annotations

import http.client
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.functional import tree
from tests.torture.served import LUSTACK, NO_HEADERS, Client, Served

from lustack.sync import status

LIMIT_S = 90.0
"""For what takes a second or two on a machine that has nothing else to do."""

PAUSE_S = 0.1
ABSENT = (http.client.NOT_FOUND, http.client.SERVICE_UNAVAILABLE)
Listing = dict[str, int]
"""The size of each object by its name."""


@dataclass
class Followed:
    """A served directory.

    Attributes:
        served: its processes.
        client: asks it.
    """

    served: Served
    client: Client

    def make(self, container: str) -> Path:
        """Makes a container; returns its directory, which is there."""
        assert self.client.send("PUT", f"/{container}").status in (201, 202)
        place = self.served.account / container
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
        return self.listed(container) == there(self.served.account / container)

    def look(self) -> status.Status:
        """What the daemon says of itself, at once."""
        return status.read(str(self.served.state / "sync")) or status.Status()

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
def followed(directory: Path, environment: Mapping[str, str] = NO_HEADERS) -> Iterator[Followed]:
    """Serves a directory; its databases are elsewhere. The daemon watches when the block begins."""
    with tempfile.TemporaryDirectory() as state:
        served = Served(directory, Path(state) / "state", environment)
        served.start()
        try:
            found = Followed(served, Client(served))
            wait_for(found.is_watching)
            yield found
        finally:
            served.stop()


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until something is so."""
    limit_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < limit_s, "it never happened"
        time.sleep(PAUSE_S)
