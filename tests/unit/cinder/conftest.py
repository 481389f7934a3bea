# SPDX-License-Identifier: Apache-2.0
"""The driver on a directory that counts as mounted, with real files and qemu-img, and volumes without a database."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cinder.privsep
import pytest
from cinder import coordination, objects
from cinder.image import image_utils
from oslo_config import cfg

# Before anything of Cinder that uses them is imported.
objects.register_all()
# It keeps a pair of sockets for as long as the process lives.
image_utils.tpool.setup()

from tests.unit.cinder import bench  # noqa: E402

MEMORY = "/dev/shm"
ROOM_BYTES = 8 << 30


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is room: what is tested is what the files hold, and not how fast a disk syncs them."""
    if not os.path.isdir(MEMORY) or shutil.disk_usage(MEMORY).free < ROOM_BYTES:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="lustack-test-") as directory:
        yield Path(directory)


@pytest.fixture
def coordinated(tmp_path: Path) -> Iterator[None]:
    """Cinder's locks, as files in a directory of the test."""
    cfg.CONF([], project="cinder", default_config_files=[])
    cfg.CONF.set_override("backend_url", f"file://{tmp_path / 'locks'}", "coordination")
    cfg.CONF.set_override("state_path", str(tmp_path))
    # One of Cinder's modules takes the default away when it is imported after another one.
    cfg.CONF.set_override("connection", "sqlite://", "database")
    cfg.CONF.set_override("image_conversion_dir", str(tmp_path / "conversion"))
    coordination.COORDINATOR.start()
    # In this process rather than in a daemon of root.
    cinder.privsep.sys_admin_pctxt.set_client_mode(False)
    yield
    coordination.COORDINATOR.stop()
    cfg.CONF.reset()
    cfg.CONF.clear_override("backend_url", "coordination")
    cfg.CONF.clear_override("state_path")
    cfg.CONF.clear_override("connection", "database")
    cfg.CONF.clear_override("image_conversion_dir")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of programs that are found first; with `mount.lustre`, and `lfs`, which writes down its arguments."""
    directory = tmp_path / "bin"
    directory.mkdir()
    texts = {"mount.lustre": "exit 0", "lfs": f'echo "$@" >>{tmp_path}/lfs.log; for last; do :; done; : >>"$last"'}
    for name, text in texts.items():
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


@pytest.fixture
def stage(tmp_path: Path, coordinated: None, programs: Path) -> bench.Bench:
    """A driver with one share."""
    return bench.Bench(tmp_path)
