# SPDX-License-Identifier: Apache-2.0
"""Two nodes work on the same objects at the same time: the newest X-Timestamp wins, whoever is late."""

from __future__ import annotations

import fcntl
import hashlib
import random
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.functional import nodes, tree
from tests.functional.nodes import ACCOUNT, CONTAINER, PATIENCE_S, Node

from lustack.mapping import layout

Pair = tuple[Node, Node]

BODY = b"0123456789abcdef" * 32768
WRITERS, REQUESTS = 4, 50
NAMES = ("o", "a", "a/b", "a/b/c", "d/", "e//f")
# A job may take away a directory at the very moment; here the other node does.
AGAIN = 503


@pytest.fixture(scope="module")
def root(file_system: Path) -> Iterator[Path]:
    directory = file_system / "nodes"
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def pair(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with nodes.running(root, tmp_path_factory.mktemp("nodes") / "state") as pair:
        yield pair


@pytest.fixture
def container(root: Path, pair: Pair) -> Iterator[Path]:
    """The directory of the container, empty, and nothing is remembered of what was in it."""
    directory = root / ACCOUNT / CONTAINER
    yield directory
    shutil.rmtree(directory)
    directory.mkdir()
    shutil.rmtree(root / layout.TOMBSTONES.decode(), ignore_errors=True)


def wait_for_upload(container: Path) -> None:
    """Wait until a node has begun to write."""
    limit_s = time.monotonic() + PATIENCE_S
    while not tree.temporary_files(container):
        assert time.monotonic() < limit_s
        time.sleep(0.01)


def assert_holds(pair: Pair, name: str, body: bytes, ticks: int) -> None:
    for node in pair:
        answer = node.get(name)
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["etag"].strip('"') == hashlib.md5(body).hexdigest()
        assert answer.headers["x-timestamp"] == nodes.timestamp(ticks)


def assert_gone(pair: Pair, name: str, ticks: int) -> None:
    for node in pair:
        answer = node.get(name)
        assert (answer.status, answer.headers["x-backend-timestamp"]) == (404, nodes.timestamp(ticks))


class TestANodeThatHangsInAPut:
    def test_does_not_replace_a_newer_object(self, pair: Pair, container: Path) -> None:
        slow, quick = pair
        quick.send("PUT", "o", 1, b"first")
        with slow.uploading("o", 2, BODY) as upload:
            wait_for_upload(container)
            with slow.stopped():
                assert quick.send("PUT", "o", 3, b"newer").status == 201
            assert upload.finish() in (201, 409)
        assert_holds(pair, "o", b"newer", 3)
        assert tree.temporary_files(container) == []

    def test_does_not_bring_back_a_deleted_object(self, pair: Pair, container: Path) -> None:
        slow, quick = pair
        quick.send("PUT", "a/o", 1, b"first")
        with slow.uploading("a/o", 2, BODY) as upload:
            wait_for_upload(container)
            with slow.stopped():
                assert quick.send("DELETE", "a/o", 3).status == 204
            assert upload.finish() in (201, 409)
        assert_gone(pair, "a/o", 3)
        assert tree.temporary_files(container) == []

    def test_does_not_bring_back_what_came_and_went_meanwhile(self, pair: Pair, container: Path) -> None:
        slow, quick = pair
        with slow.uploading("o", 2, BODY) as upload:
            wait_for_upload(container)
            with slow.stopped():
                assert quick.send("PUT", "o", 3, b"newer").status == 201
                assert quick.send("DELETE", "o", 4).status == 204
            assert upload.finish() in (201, 409)
        assert_gone(pair, "o", 4)

    def test_wins_when_it_is_the_newest(self, pair: Pair, container: Path) -> None:
        slow, quick = pair
        with slow.uploading("o", 5, BODY) as upload:
            wait_for_upload(container)
            with slow.stopped():
                assert quick.send("PUT", "o", 3, b"older").status == 201
                assert quick.send("DELETE", "o", 4).status == 204
            assert upload.finish() == 201
        assert_holds(pair, "o", BODY, 5)

    def test_finds_a_place_when_its_directory_became_a_file(self, pair: Pair, container: Path) -> None:
        slow, quick = pair
        with slow.uploading("a/o", 5, BODY) as upload:
            wait_for_upload(container)
            with slow.stopped():
                (container / "a").rename(container / "moved by a job")
                assert quick.send("PUT", "a", 3, b"a file").status == 201
            assert upload.finish() == 201
        assert_holds(pair, "a/o", BODY, 5)
        assert_holds(pair, "a", b"a file", 3)

    def test_does_not_take_away_what_a_newer_post_said(self, pair: Pair, container: Path) -> None:
        slow, quick = pair
        quick.send("PUT", "o", 1, b"first")
        with slow.uploading("o", 2, BODY) as upload:
            wait_for_upload(container)
            with slow.stopped():
                assert quick.send("POST", "o", 3, headers={"X-Object-Meta-Color": "blue"}).status == 202
            assert upload.finish() in (201, 409)
        assert_holds(pair, "o", BODY, 3)
        for node in pair:
            assert node.get("o").headers["x-object-meta-color"] == "blue"


def test_a_lock_that_one_process_holds_stops_both_nodes_and_nobody_else(
    pair: Pair, root: Path, container: Path
) -> None:
    pair[0].send("PUT", "o", 1, b"first")
    path = root / layout.lock_path(layout.object_hash(ACCOUNT, CONTAINER, "o")).decode()
    with ThreadPoolExecutor(2) as pool:
        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waiting = [pool.submit(node.send, "PUT", "o", 2, b"second") for node in pair]
            assert [node.send("PUT", "other", 2, b"not locked").status for node in pair] == [201, 409]
            assert pair[0].get("o").body == b"first"
            time.sleep(0.5)
            assert not any(each.done() for each in waiting)
        assert sorted(each.result().status for each in waiting) == [201, 201]
    assert_holds(pair, "o", b"second", 2)


@dataclass(frozen=True)
class Request:
    """A request and its answer."""

    method: str
    name: str
    ticks: int
    status: int

    @property
    def body(self) -> bytes:
        return body_of(self.ticks)


def body_of(ticks: int) -> bytes:
    return b"" if ticks % 5 == 0 else f"{ticks}\n".encode() * (ticks % 4000)


def work(node: Node, seed: int, ticks: list[int]) -> list[Request]:
    """What one writer does: any request on any name, at moments that are in no order."""
    dice = random.Random(seed)
    done = []
    for each in ticks:
        method, name = dice.choices(("PUT", "DELETE", "POST"), (6, 2, 2))[0], dice.choice(NAMES)
        body = body_of(each) if method == "PUT" else b""
        headers = {"X-Object-Meta-Ticks": str(each)}
        done.append(Request(method, name, each, node.send(method, name, each, body, headers).status))
    return done


def test_the_newest_of_many_concurrent_requests_wins(pair: Pair, container: Path) -> None:
    dice = random.Random(20)
    ticks = dice.sample(range(1, 100_000), 2 * WRITERS * REQUESTS)
    with ThreadPoolExecutor(2 * WRITERS) as pool:
        pending = [
            pool.submit(work, pair[number % 2], number, ticks[number * REQUESTS : (number + 1) * REQUESTS])
            for number in range(2 * WRITERS)
        ]
    done = [request for each in pending for request in each.result()]
    assert {request.status for request in done} <= {201, 202, 204, 404, 409, AGAIN}
    assert len([request for request in done if request.status == AGAIN]) < len(done) / 20
    for name in NAMES:
        check(pair, name, [each for each in done if each.name == name and each.status != AGAIN])
    assert tree.temporary_files(container) == []
    assert set(tree.objects(container)) == {name for name in NAMES if pair[0].get(name).status == 200}
    assert all(len(places) == 1 for places in tree.objects(container).values())


def check(pair: Pair, name: str, done: list[Request]) -> None:
    newest = max((each for each in done if each.method != "POST"), key=lambda each: each.ticks)
    assert newest.status != 409
    if newest.method == "DELETE":
        assert_gone(pair, name, newest.ticks)
        return
    posts = [each.ticks for each in done if each.method == "POST" and each.status == 202 and each.ticks > newest.ticks]
    last = max((newest.ticks, *posts))
    assert_holds(pair, name, newest.body, last)
    for node in pair:
        assert node.get(name).headers["x-object-meta-ticks"] == str(last)
