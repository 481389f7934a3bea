# SPDX-License-Identifier: Apache-2.0
"""What must hold when everything runs again and the listings were compared with the files once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from tests.functional import tree
from tests.torture.actors import ANY_COLOR, COLOR, Strict, World, md5_of
from tests.torture.disk import Disk
from tests.torture.ledger import State
from tests.torture.served import Answer, Client

from lustack.sync.device import open_device
from lustack.sync.housekeeping import Sweeper

CONVERGED_S = 180.0
PAUSE_S = 1.0
_MD5 = re.compile("[0-9a-f]{32}")


class Checker:
    """Collects what does not hold."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._client = Client(world.served)

    def check(self, strict: list[Strict], wild: list[Path]) -> None:
        """Everything. Nobody but the servers and the daemon may work."""
        for container in strict:
            with_ledger = container.disk.look()
            container.ledger.see(with_ledger)
        for disk in (*(container.disk for container in strict), *map(Disk, wild)):
            self._check_container(disk, next((each for each in strict if each.disk is disk), None))
        self._check_account()
        self._check_sweep()

    def check_listings(self, directories: Iterable[Path]) -> None:
        """Only the names: late updates of listings change nothing."""
        for directory in directories:
            on_disk, listed = set(Disk(directory).look()), set(self._listing(directory.name))
            self._check_names(f"{directory.name} a while later", on_disk, listed)

    def _fail(self, sentence: str, container: Strict | None = None, name: str = "") -> None:
        story = container.story(name) if container is not None else ""
        self._world.failures.add(f"{sentence}\n{story}" if story else sentence)

    def _listing(self, container: str) -> dict[str, dict[str, object]]:
        answer = self._client.send("GET", f"/{container}", query="format=json")
        assert answer.status in (200, 204), answer
        return {row["name"]: row for row in json.loads(answer.body or b"[]")}

    def _check_names(self, container: str, files: set[str], rows: set[str]) -> None:
        if files != rows:
            self._fail(f"{container}: files that are not listed {files - rows}, rows without a file {rows - files}")

    def _check_container(self, disk: Disk, container: Strict | None) -> None:
        name = disk.directory.name
        rows, files = self._listing(name), disk.look()
        self._check_names(name, set(files), set(rows))
        for each in sorted(set(rows) & set(files)):
            self._check_object(disk, container, each, rows[each])

    def _check_object(self, disk: Disk, container: Strict | None, name: str, row: dict[str, object]) -> None:
        answer = self._client.send("GET", f"/{disk.directory.name}/{name}")
        where = f"/{disk.directory.name}/{name!r}"
        if answer.status != 200:
            self._fail(f"GET {where}: {answer.status}", container, name)
            return
        for sentence in _compare(disk, name, answer, row):
            self._fail(f"{where}: {sentence}", container, name)
        if container is not None:
            self._check_ledger(container, name, answer)

    def _check_ledger(self, container: Strict, name: str, answer: Answer) -> None:
        possible = container.ledger.possible(name)
        if not any(state is not None and _fits(state, answer) for state in possible):
            found = (md5_of(answer.body), answer.headers.get(COLOR.lower()))
            self._fail(f"/{container.name}/{name!r} is {found}, but it may be {possible}", container, name)

    def _check_account(self) -> None:
        """The figures of the account follow those of the containers."""
        limit_s = time.monotonic() + CONVERGED_S
        while (sentence := self._compare_account()) and time.monotonic() < limit_s:
            time.sleep(PAUSE_S)
        if sentence:
            self._fail(sentence)

    def _compare_account(self) -> str:
        found = json.loads(self._client.send("GET", "", query="format=json").body)
        wrong = {row["name"]: row for row in found if (row["count"], row["bytes"]) != self._figures(row["name"])}
        return f"the account counts {wrong}" if wrong else ""

    def _figures(self, container: str) -> tuple[int, int]:
        """Objects and bytes; a listing shows other bytes of a big object than the container counts."""
        headers = self._client.send("HEAD", f"/{container}").headers
        return len(self._listing(container)), int(headers["x-container-bytes-used"])

    def _check_sweep(self) -> None:
        root = self._world.served.directory
        left = tree.temporary_files(root)
        self._world.tally.count(f"temporary files left over: {len(left)}")
        with open_device(str(root)) as device:
            Sweeper(0.0, 1e9, lambda _: False).sweep(device)
        left = tree.temporary_files(root)
        if left:
            self._fail(f"temporary files outlive the sweeper: {left}")


def _fits(state: State, answer: Answer) -> bool:
    is_right_color = state.color in (ANY_COLOR, answer.headers.get(COLOR.lower()))
    return (state.served_md5 or state.md5) == md5_of(answer.body) and is_right_color


def _compare(disk: Disk, name: str, answer: Answer, row: dict[str, object]) -> Iterable[str]:
    """What file, answer and row say that is not the same."""
    etag = answer.headers.get("etag", "").strip('"')
    is_big = "x-static-large-object" in answer.headers
    path = disk.path_of(name)
    whole = os.path.join(os.fsencode(disk.directory), path or b"")
    body = Path(os.fsdecode(whole)).read_bytes() if os.path.isfile(whole) else b""
    if not is_big and body != answer.body:
        yield f"a GET shows {len(answer.body)} bytes, the file holds {len(body)} others"
    if not is_big and _MD5.fullmatch(etag) and etag != hashlib.md5(body).hexdigest():
        yield f"the ETag {etag} is a lie"
    if row["bytes"] != len(answer.body):
        yield f"its row says {row['bytes']} bytes, a GET shows {len(answer.body)}"
    if not is_big and row["hash"] and row["hash"] != etag:
        yield f"its row says {row['hash']}, a GET {etag}"
