# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.functional.filesystem import in_a_file
from tests.listings import playground
from tests.mounts import mount
from tests.objects import files, swift_conf

__all__ = ("files", "mount", "playground", "swift_conf")

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def disk() -> Iterator[Path | None]:
    """An ext4 in memory: thousands of random steps sync what no test can lose. None: no rights to mount one."""
    if os.geteuid() != 0 or not os.access(MEMORY, os.W_OK):
        yield None
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="lustack-property-") as place:
        with in_a_file(Path(place), "ext4", size_gib=1) as mount_point:
            yield mount_point


@pytest.fixture
def tmp_path(disk: Path | None, tmp_path: Path) -> Iterator[Path]:
    """As pytest's, on `disk` where there is one."""
    if disk is None:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=disk) as place:
        yield Path(place)
