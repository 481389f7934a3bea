# SPDX-License-Identifier: Apache-2.0
"""File systems that a test mounts; unmounted when it ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def needs_root(what: str = "mounting a file system") -> None:
    """Skip what only root can do: `make test` is for root, and then nothing is skipped."""
    if os.geteuid() != 0:
        pytest.skip(f"{what} needs root")


def open_fuse() -> None:
    """Let every user mount by FUSE, as udev does and containers often do not.

    It stays: tests run side by side, and another one may need it still.
    """
    fuse = Path("/dev/fuse")
    if fuse.stat().st_mode & 0o666 != 0o666:
        fuse.chmod(0o666)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount at a new directory, or at a new file if the name has a suffix; unmounted after the test."""
    needs_root()
    places: list[Path] = []

    def do_mount(*arguments: str, at: Path | None = None) -> Path:
        place = at or tmp_path / f"mount{len(places)}"
        if at is None or not at.suffix:
            place.mkdir()
        else:
            place.touch()
        subprocess.run(["mount", *arguments, str(place)], check=True)
        places.append(place)
        return place

    yield do_mount
    for place in reversed(places):
        subprocess.run(["umount", str(place)], check=True)
