# SPDX-License-Identifier: Apache-2.0
"""A file system of our own in a sparse file, because Swift's suite wants extended attributes beyond ext4's 4 KiB.

Rule 1: what is mounted here is unmounted here, lazily when a process still holds it, also when the body failed.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path


def detach(mount_point: Path) -> None:
    """Unmount `mount_point`; when it is busy hide it now and let the kernel finish after the last user."""
    if subprocess.run(["umount", mount_point], check=False, capture_output=True).returncode:
        subprocess.run(["umount", "--lazy", mount_point], check=True)


def xfs_in_a_file(directory: Path, size_gib: int) -> contextlib.AbstractContextManager[Path]:
    """`in_a_file` with XFS."""
    return in_a_file(directory, "xfs", size_gib)


@contextlib.contextmanager
def in_a_file(directory: Path, kind: str, size_gib: float, options: str = "") -> Iterator[Path]:
    """Make and mount a file system; it and its sparse image are gone when the context ends.

    Args:
        directory: an existing directory which receives the image and the mount point.
        kind: `xfs` or `ext4`.
        size_gib: the size of the file system in GiB; nothing of it is allocated before it is used.
        options: mount options besides `loop` and `noatime`, with commas between them.

    Yields:
        the mount point.

    Raises:
        subprocess.CalledProcessError: `mkfs` or `mount` refused (not root, no loop devices, no such file system).
    """
    image, mount_point = directory / f"{kind}.img", directory / kind
    mount_point.mkdir()
    with image.open("wb") as file:
        file.truncate(int(size_gib * 2**30))
    mount_options = ",".join(filter(None, ("loop", "noatime", options)))
    try:
        subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
        subprocess.run(["mount", "-o", mount_options, image, mount_point], check=True)
        try:
            yield mount_point
        finally:
            detach(mount_point)
    finally:
        image.unlink()
