# SPDX-License-Identifier: Apache-2.0
"""The file system of the device is unmounted and mounted again below the daemon."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.functional.filesystem import in_a_file
from tests.functional.followed import LIMIT_S, Followed, Reached, wait_for
from tests.mounts import needs_root
from tests.torture.served import Client

from lustack.server import instance
from lustack.server.topology import Host, Policy
from lustack.sync import status

ABSENCE_S = 4.0
"""How long the file system is away: the daemon looks every second, and tries again after one second, two, and so on."""


@pytest.fixture
def image(request, tmp_path: Path) -> Iterator[Path]:
    needs_root()
    with in_a_file(tmp_path, request.param, 0.5) as mount_point:
        image = mount_point.with_suffix(".img")
        yield image
        if not mount_point.is_mount():
            mount(image, mount_point)


@pytest.fixture
def stage(request, image: Path, tmp_path: Path) -> Iterator[Followed]:
    """A directory of the file system is the device of the policy.

    Nobody writes through Swift, whose locks would stay open. So what the first PUT makes is made here: the identity.
    """
    root = image.with_suffix("") / request.param
    (root / ".lustack").mkdir(mode=0o700, parents=True)
    with tempfile.TemporaryDirectory() as state:
        host = Host(str(tmp_path / "served"), f"{state}/state", port=0, policies=(Policy(root=str(root)),))
        os.mkdir(host.directory)
        with instance.running(host) as served:
            stage = Followed(root / "AUTH_test", Path(host.memory), Client(Reached(served.access)))
            wait_for(stage.is_watching)
            yield stage


def mount(image: Path, place: Path) -> None:
    # The loop device that had it may be about to go.
    command = ["mount", "-o", "loop,noatime", image, place]
    wait_for(lambda: subprocess.run(command, check=False, capture_output=True).returncode == 0)


def unmount(place: Path) -> None:
    """Really, not lazily: nobody may hold it for long."""
    wait_for(lambda: subprocess.run(["umount", place], check=False, capture_output=True).returncode == 0)


@contextmanager
def elsewhere(image: Path) -> Iterator[Path]:
    """The file system at another place."""
    place = image.with_suffix(".elsewhere")
    place.mkdir()
    mount(image, place)
    try:
        yield place
    finally:
        unmount(place)


def change(container: Path, number: int) -> None:
    """What jobs do to a container that has seen the numbers below."""
    for name in ("gone", "renamed"):
        (container / f"{name}-{number}").write_bytes(b"x")
    (container / f"gone-{number - 1}").unlink()
    (container / f"renamed-{number - 1}").rename(container / f"new-{number - 1}")
    (container / "grows").write_bytes(b"x" * number)


def fill(stage: Followed) -> Path:
    """A container with a few files of jobs; its directory."""
    container = stage.make("box")
    for name in ("gone-0", "renamed-0", "grows", "deep/er/file"):
        path = container / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0")
    wait_for(lambda: stage.is_true("box"))
    return container


def check_that_nothing_changes(stage: Followed, is_noticed: Callable[[status.Status], bool]) -> None:
    """Not before the daemon notices that the file system is away, and not afterwards."""
    before = stage.listed("box") or {}
    assert before
    until_s = time.monotonic() + ABSENCE_S
    while time.monotonic() < until_s or not is_noticed(stage.look()):
        assert time.monotonic() < until_s + LIMIT_S
        assert stage.listed("box") == before
        time.sleep(0.1)
    wait_for(lambda: stage.look().losses > 0)
    assert stage.look().losses == 1


def check_that_it_is_followed(stage: Followed, image: Path, container: Path) -> None:
    """What is changed while the file system is away from here, when it comes, and later."""
    mount_point = image.with_suffix("")
    with elsewhere(image) as place:
        change(place / container.relative_to(mount_point), 1)
    mount(image, mount_point)
    change(container, 2)
    wait_for(lambda: stage.is_true("box"))
    assert (stage.listed("box") or {})["grows"] == 2
    wait_for(stage.is_watching)
    comparisons = stage.look().comparisons
    change(container, 3)
    wait_for(lambda: stage.is_true("box"))
    assert stage.look().comparisons == comparisons
    assert stage.client.send("GET", "/box/grows").body == b"xxx"


@pytest.mark.parametrize(("image", "stage"), [("xfs", "")], indirect=True)
def test_below_an_empty_mount_point_nothing_is_listed_and_no_row_is_taken_along(image: Path, stage: Followed) -> None:
    container = fill(stage)
    unmount(image.with_suffix(""))
    stray = container / "stray"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"written below the mount point")
    (container.parent / "other").mkdir()
    check_that_nothing_changes(stage, lambda found: "is the file system mounted?" in found.trouble)
    assert stage.listed("other") is None
    check_that_it_is_followed(stage, image, container)
    assert "stray" not in (stage.listed("box") or {})


@pytest.mark.parametrize(("image", "stage"), [("ext4", "device")], indirect=True)
def test_a_device_that_is_away_takes_no_rows_along_and_is_followed_when_it_is_back(
    image: Path, stage: Followed
) -> None:
    container = fill(stage)
    unmount(image.with_suffix(""))
    check_that_nothing_changes(stage, lambda found: bool(found.sources[0].why_down))
    check_that_it_is_followed(stage, image, container)
