# SPDX-License-Identifier: Apache-2.0
"""What happens below the daemon while it runs: containers go and come, servers are away. It recovers by itself.

Comparisons of everything are hours away, but for those that the daemon itself finds necessary.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.functional.followed import Followed, ask_status, following, wait_for
from tests.mounts import needs_root
from tests.torture.served import Served

CONTAINER_SERVER = "swift-container-server"
RECREATIONS = 3
ABSENCE_S = 2.0
"""How long a deleted container is watched: a daemon that brought it back would do so within milliseconds."""

SAMPLES = 5


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    needs_root("fanotify")
    with tempfile.TemporaryDirectory() as state:
        yield Served(tmp_path_factory.mktemp("recovery") / "data", Path(state) / "state")


@pytest.fixture(scope="module")
def stage(served: Served) -> Iterator[Followed]:
    with following(served) as stage:
        yield stage


class Writer:
    """Jobs that write into a directory, whoever removes it below them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.is_leaving = False
        self.rounds = 0
        self._stop = threading.Event()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Writes until the end of the block."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            try:
                self._write(self.rounds)
            except FileNotFoundError:
                # The container was deleted just now.
                continue
            self.rounds += 1

    def _write(self, number: int) -> None:
        inner = self.directory / "inner"
        inner.mkdir(parents=True, exist_ok=True)
        new = inner / f"new-{number % 10}"
        new.write_bytes(b"n" * (number % 7))
        if self.is_leaving:
            new.replace(self.directory / f"kept-{number % 50}")
        else:
            new.unlink()


def test_a_container_that_is_deleted_and_made_again_lists_what_is_there_then(served: Served, stage: Followed) -> None:
    directory = stage.make("box")
    writer = Writer(directory)
    with writer.working():
        for number in range(RECREATIONS):
            old = f"old-{number}"
            assert stage.client.send("PUT", f"/box/{old}", body=b"of Swift").status == 201
            wait_for(lambda old=old: old in (stage.listed("box") or {}))
            assert stage.client.send("DELETE", f"/box/{old}").status == 204
            writer.is_leaving = False
            remove_all(directory)
            wait_for(lambda: stage.client.send("DELETE", "/box").status == 204)
            writer.is_leaving = True
            check_that_it_stays_away(stage, writer)
            assert stage.client.send("PUT", "/box").status == 201
            wait_for(lambda: any(name.startswith("kept") for name in stage.listed("box") or {}))
    wait_for(lambda: stage.is_true("box"))
    assert not any(name.startswith("old") for name in stage.listed("box") or {})
    wait_for(stage.is_watching)
    assert served.fsck() == []


def check_that_it_stays_away(stage: Followed, writer: Writer) -> None:
    """Nobody but a client makes the container, whatever is written where it was."""
    # The account learns of a deletion by itself, a moment later.
    wait_for(lambda: "box" not in list_containers(stage))
    until_s, rounds, events = time.monotonic() + ABSENCE_S, writer.rounds, stage.look().events
    while time.monotonic() < until_s:
        assert stage.client.send("HEAD", "/box").status == 404
        assert "box" not in list_containers(stage)
        time.sleep(0.05)
    wait_for(lambda: writer.rounds > rounds and any(writer.directory.glob("kept-*")))
    wait_for(lambda: stage.look().events > events)
    assert stage.client.send("HEAD", "/box").status == 404


def list_containers(stage: Followed) -> list[str]:
    answer = stage.client.send("GET", "", query="format=json")
    return [row["name"] for row in json.loads(answer.body or b"[]")]


def remove_all(directory: Path) -> None:
    """What jobs left behind."""
    for path in directory.glob("kept-*"):
        path.unlink()


@contextmanager
def hanging(served: Served) -> Iterator[None]:
    """The container server takes connections, and answers nothing."""
    group = served.programs()[CONTAINER_SERVER]
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)


@contextmanager
def gone(served: Served) -> Iterator[None]:
    """There is no container server, and nobody to start it."""
    os.kill(served.pid, signal.SIGSTOP)
    try:
        os.killpg(served.programs()[CONTAINER_SERVER], signal.SIGKILL)
        yield
    finally:
        os.kill(served.pid, signal.SIGCONT)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("away", [hanging, gone])
@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.long)])
def test_while_the_container_server_is_away_the_lag_is_told_and_then_it_is_made_up_for(
    served: Served, stage: Followed, away, seconds: int
) -> None:
    conf = served.state / "etc" / "lustack.conf"
    directory = stage.make(f"{away.__name__}-{seconds}")
    wait_for(lambda: stage.is_true(directory.name) and stage.look().lag_s == 0)
    lags = []
    with away(served):
        began_s = time.monotonic()
        (directory / "first").touch()
        wait_for(lambda: stage.look().lag_s > 0)
        noticed_s = time.monotonic() - began_s
        count = 0
        while time.monotonic() < began_s + seconds or len(lags) < SAMPLES or lags[-1] == lags[0]:
            for number in range(count, count + 10):
                (directory / f"file-{number}").write_bytes(b"x" * number)
            count += 10
            time.sleep(seconds / SAMPLES)
            asked_s = time.monotonic() - began_s
            found = ask_status(conf)
            answered_s = time.monotonic() - began_s
            assert found["is_alive"]
            assert found["lag_s"] + found["age_s"] <= answered_s + 0.01
            assert found["lag_s"] + found["age_s"] >= asked_s - noticed_s - 0.01
            lags.append(found["lag_s"])
        (directory / "file-0").unlink()
        wait_for(lambda: stage.look().lag_records > count)
    assert lags == sorted(lags)
    assert lags[-1] > lags[0]
    wait_for(lambda: stage.is_true(directory.name))
    assert len(stage.listed(directory.name) or {}) == count
    wait_for(lambda: ask_status(conf)["lag_s"] == 0)
    wait_for(lambda: stage.look().lag_records == 0 and stage.is_watching())
