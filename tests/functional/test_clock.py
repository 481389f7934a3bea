# SPDX-License-Identifier: Apache-2.0
"""The clock of the machine steps back and forth by hours while files change.

Every process of `lustack serve` runs with a clock of its own, by libfaketime(1); that of the kernel, thus of the files,
stays. A Swift that forgot nothing has rows of the future when the clock is set back.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.functional.followed import Followed, following, wait_for
from tests.mounts import needs_root
from tests.torture.served import Served

HOUR_S = 3600
STEPS_H = (0, 3, -2, 1, 0)
SETTLED_S = 5.0
"""After that the MD5 of the last files is known, and their rows were sent again."""


class Clock:
    """A clock that can be set.

    Attributes:
        path: of the file that the processes read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0)

    def set(self, hours: int) -> None:
        """So many hours ahead of the true time from now on."""
        new = self.path.with_suffix(".new")
        new.write_text(f"{hours * HOUR_S:+d}\n")
        new.replace(self.path)

    def environment(self) -> dict[str, str]:
        """Of a process that has this clock. Source: libfaketime's README."""
        [library] = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def stage(clock: Clock, tmp_path: Path) -> Iterator[Followed]:
    needs_root("fanotify")
    with tempfile.TemporaryDirectory() as state:
        served = Served(tmp_path / "data", Path(state) / "state", clock.environment())
        with following(served) as stage:
            yield stage


def ahead_s(stage: Followed) -> float:
    """How far the daemon's clock is ahead of the true time."""
    return stage.look().written_ns / 1e9 - time.time()


def change(directory: Path, number: int) -> None:
    """What jobs do to a directory that has seen the numbers below."""
    (directory / f"new-{number}").write_bytes(b"x")
    (directory / "again").write_bytes(b"x" * (number + 1))
    (directory / f"gone-{number}").write_bytes(b"x")
    (directory / f"moved-{number}").mkdir()
    (directory / f"moved-{number}" / "file").write_bytes(b"x")
    if number:
        (directory / f"gone-{number - 1}").unlink()
        (directory / f"moved-{number - 1}" / "file").rename(directory / "target")
        # A name that was gone, and one that comes back.
        (directory / f"gone-{number - 1}").write_bytes(b"back" * number)
        (directory / "flips").unlink() if number % 2 else (directory / "flips").write_bytes(b"x")


def test_listings_are_right_after_each_step_of_the_clock(clock: Clock, stage: Followed) -> None:
    directory = stage.make("box")
    (directory / "flips").write_bytes(b"x")
    wait_for(lambda: stage.is_true("box"))
    latest_s, comparisons = 0, stage.look().comparisons
    for number, hours in enumerate(STEPS_H):
        clock.set(hours)
        wait_for(lambda hours=hours: abs(ahead_s(stage) - hours * HOUR_S) < HOUR_S / 2)
        change(directory, number)
        wait_for(lambda: stage.is_true("box"))
        assert stage.client.send("PUT", f"/box/of-swift-{number}", body=b"swift").status == 201
        wait_for(lambda number=number: f"of-swift-{number}" in (stage.listed("box") or {}))
        wait_for(lambda: stage.look().lag_s == 0)
        latest_s = max(latest_s, hours * HOUR_S)
        ahead = latest_s - hours * HOUR_S
        wait_for(lambda ahead=ahead: abs(stage.look().clock_ahead_s - ahead) < HOUR_S / 2)
    time.sleep(SETTLED_S)
    assert stage.is_true("box")
    assert (stage.look().losses, stage.look().comparisons) == (0, comparisons)
