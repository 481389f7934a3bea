# SPDX-License-Identifier: Apache-2.0
"""Directories and file systems that the tests of `lustack.posix` play in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.mounts import mount

from lustack.posix import tree

__all__ = ("mount",)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """An O_PATH descriptor of a directory beside which `outside` holds what must not be reached."""
    top = tmp_path / "root"
    top.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    fd = tree.open_root(bytes(top))
    yield fd
    os.close(fd)


@pytest.fixture
def top(root: int) -> Path:
    """The path of `root`."""
    return Path(os.readlink(f"/proc/self/fd/{root}"))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """A readable descriptor of an empty directory."""
    (tmp_path / "folder").mkdir()
    fd = os.open(tmp_path / "folder", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def make_filesystem(tmp_path: Path, mount: Callable[..., Path]) -> Callable[..., Path]:
    """Make a file system of a kind and size in a file and mount it."""

    def make(kind: str, size_bytes: int) -> Path:
        image = tmp_path / f"{kind}.img"
        with image.open("wb") as file:
            file.truncate(size_bytes)
        subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True)
        return mount("-o", "loop", str(image))

    return make
