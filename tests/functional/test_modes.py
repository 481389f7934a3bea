# SPDX-License-Identifier: Apache-2.0
"""The daemon without fanotify: every operation that POSIX has for a tree, through each other mode, into real listings.

What a mode promises is how late it may be: the status of the daemon and the documentation tell.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.functional.followed import Followed, Reached, await_fence, there, wait_for
from tests.mounts import needs_root
from tests.operations import OPERATIONS, prepare
from tests.torture.served import LUSTACK, Client

from lustack.server import instance
from lustack.server.instance import Instance
from lustack.server.topology import Host

END_S = 120.0
INTERVAL_S = 2.0
GATHER_S = 0.05
"""From an event to the request for its row. Source: doc/decisions/0012, with the tick of the engine."""

BUSY_S = 60.0
"""What all else may take on a machine that has other things to do: rows, the listing, whoever is scheduled first."""


@pytest.fixture(scope="module")
def swift() -> Iterator[Instance]:
    needs_root("some operation")
    with tempfile.TemporaryDirectory() as base:
        host = Host(f"{base}/data", f"{base}/state", port=0, sync=False)
        with instance.running(host) as served:
            yield served


@dataclass(frozen=True)
class Mode:
    """A daemon with one kind of source.

    Attributes:
        kind: of the source.
        stage: what it follows.
    """

    kind: str
    stage: Followed

    def is_ready(self) -> bool:
        """Whether what comes now is followed as the mode does it."""
        found = self.stage.look()
        has_source = bool(found.sources) and not found.sources[0].why_down
        return found.comparisons > 0 and has_source == (self.kind != "scan") and not found.job_count

    def latency_s(self) -> float:
        """How late a row may be, as the daemon tells."""
        found = self.stage.look()
        if found.sources:
            return found.sources[0].latency_s + GATHER_S
        # A change that one comparison just missed is found by the next.
        return INTERVAL_S + 2 * found.comparison_s


@pytest.fixture(params=["inotify", "scan"])
def mode(request, swift: Instance, tmp_path: Path) -> Iterator[Mode]:
    conf, memory = tmp_path / "lustack.conf", tmp_path / "sync"
    conf.write_text(
        f"[sync]\nswift_dir = {swift.host.etc}\ndevices = {swift.host.node}\nstate_dir = {memory}\n"
        f"source = {request.param}\ninterval_s = {INTERVAL_S}\n"
    )
    stage = Followed(Path(swift.host.directory) / "AUTH_test", memory, Client(Reached(swift.access)))
    mode = Mode(request.param, stage)
    with running(conf, tmp_path / "daemon.log"):
        wait_for(mode.is_ready)
        yield mode


@contextmanager
def running(conf: Path, log: Path) -> Iterator[None]:
    """The daemon, for the time of a block."""
    command = (*LUSTACK, "sync", "run", "--config-file", str(conf))
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(END_S) == 0


def test_every_operation_is_listed_when_the_fence_is_passed(mode: Mode) -> None:
    """A container holds the tree and what lies beside it, so that both sides of moves are seen."""
    stage = mode.stage
    containers = {name: stage.make(f"{mode.kind} {name}") for name in OPERATIONS}
    for directory in containers.values():
        prepare(directory / "root")
    await_fence(stage.account)
    assert all(stage.is_true(directory.name) for directory in containers.values())
    before = {name: there(directory) for name, directory in containers.items()}
    comparisons = stage.look().comparisons
    for name, (act, _) in OPERATIONS.items():
        act(containers[name] / "root")
    await_fence(stage.account)
    wrong = [name for name, directory in containers.items() if not stage.is_true(directory.name)]
    assert wrong == []
    changed = [name for name, directory in containers.items() if there(directory) != before[name]]
    assert len(changed) > len(OPERATIONS) / 2
    if mode.kind != "scan":
        assert stage.look().comparisons == comparisons


def test_a_change_is_listed_as_soon_as_the_mode_promises(mode: Mode) -> None:
    stage = mode.stage
    directory = stage.make(f"{mode.kind} soon")
    took_s = []
    for number in range(5):
        began_s = time.monotonic()
        (directory / f"{number}").write_bytes(b"x")
        wait_for(lambda: stage.is_true(directory.name))
        took_s.append(time.monotonic() - began_s)
    assert sorted(took_s)[len(took_s) // 2] < mode.latency_s() + BUSY_S, took_s
