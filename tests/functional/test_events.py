# SPDX-License-Identifier: Apache-2.0
"""`lustack serve` follows events: what jobs do is listed by itself, whoever dies meanwhile.

The comparison of everything is hours away (`check_interval_s`), but for those that a start of the daemon makes.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.mounts import needs_root
from tests.torture.served import Client, Served

from lustack.sync import status

LIMIT_S = 180
ROUNDS = 3
QUIET_S = 30.0
"""Source: `quiet_s` of lustack.sync.settings."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    needs_root("fanotify")
    base = tmp_path_factory.mktemp("events")
    with tempfile.TemporaryDirectory() as state:
        found = Served(base / "data", Path(state) / "state")
        found.start()
        try:
            yield found
        finally:
            found.stop()


@pytest.fixture(scope="module")
def client(served: Served) -> Client:
    found = Client(served)
    for container in ("box", "other"):
        assert found.send("PUT", f"/{container}").status in (201, 202)
        (served.account / container).mkdir(exist_ok=True)
    wait_for(lambda: is_watching(look(served)))
    return found


def is_watching(found: status.Status | None) -> bool:
    """Whether the daemon has compared what it compares to begin with, and only follows now."""
    if found is None or not found.sources or any(source.why_down for source in found.sources):
        return False
    return found.comparisons > 0 and not found.is_comparing and not found.job_count


def look(served: Served) -> status.Status | None:
    return status.read(str(served.state / "sync"))


def listed(client: Client, container: str) -> list[str]:
    answer = client.send("GET", f"/{container}", query="format=json")
    return [row["name"] for row in json.loads(answer.body or b"[]")] if answer.status == 200 else []


def sizes(client: Client, container: str) -> dict[str, int]:
    answer = client.send("GET", f"/{container}", query="format=json")
    return {row["name"]: row["bytes"] for row in json.loads(answer.body)}


def wait_for(condition) -> None:
    limit_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < limit_s, "it never happened"
        time.sleep(0.1)


def test_what_jobs_do_is_listed_by_itself(served, client):
    box = served.account / "box"
    before = look(served).comparisons
    (box / "deep" / "er").mkdir(parents=True)
    (box / "deep" / "er" / "file").write_bytes(b"body")
    (box / "half.tmp").write_bytes(b"half")
    wait_for(lambda: listed(client, "box") == ["deep/er/file"])
    (box / "half.tmp").rename(box / "whole")
    (box / "deep").rename(box / "moved")
    wait_for(lambda: listed(client, "box") == ["moved/er/file", "whole"])
    (box / "whole").unlink()
    (served.account / "new").mkdir()
    (box / "moved").rename(served.account / "new" / "moved")
    wait_for(lambda: listed(client, "box") == [])
    wait_for(lambda: listed(client, "new") == ["moved/er/file"])
    assert look(served).comparisons == before


def test_what_nobody_closes_is_not_waited_for_and_what_is_open_is(served, client):
    box = served.account / "other"
    (box / "truncated").write_bytes(b"body")
    wait_for(lambda: "truncated" in listed(client, "other"))
    with (box / "growing").open("wb") as growing:
        growing.write(b"x")
        growing.flush()
        os.truncate(box / "truncated", 2)
        os.mknod(box / "made")
        began_s = time.monotonic()
        wait_for(lambda: sizes(client, "other") == {"truncated": 2, "made": 0})
        assert time.monotonic() - began_s < QUIET_S
    wait_for(lambda: sizes(client, "other") == {"truncated": 2, "made": 0, "growing": 1})
    for path in box.iterdir():
        path.unlink()
    wait_for(lambda: listed(client, "other") == [])


def test_what_happens_while_somebody_is_dead_is_listed_afterwards(served, client):
    box = served.account / "other"
    for number in range(ROUNDS):
        for program in ("swift-container-server", "sync"):
            wait_for(lambda program=program: served.programs().get(program))
            victim = served.programs()[program]
            (box / f"before-{program}-{number}").write_bytes(b"x")
            os.kill(victim, signal.SIGKILL)
            (box / f"after-{program}-{number}").write_bytes(b"x")
    names = sorted(path.name for path in box.iterdir())
    assert len(names) == 4 * ROUNDS
    wait_for(lambda: listed(client, "other") == names)
