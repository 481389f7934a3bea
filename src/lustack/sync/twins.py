# SPDX-License-Identifier: Apache-2.0
"""Gives a twin its plain place back when nothing stands there any more.

The object server does so after a DELETE; what a job removed leaves the twin where it is.
"""

from __future__ import annotations

import os

from lustack.mapping import layout
from lustack.mapping.names import Kind
from lustack.posix.atomic import sync_directory
from lustack.sync.device import Device
from lustack.sync.housekeeping import locked
from lustack.sync.inspector import plain_entry
from lustack.sync.observe import Directory
from lustack.sync.sinks.protocol import ContainerKey


def restore(device: Device, key: ContainerKey, directory: Directory, entry: bytes, name: str) -> bool:
    """Moves a twin under the lock of its name, unless something is there.

    Args:
        device: where it is.
        key: its container.
        directory: that holds it.
        entry: of the twin; one component.
        name: that it stands for, without a slash at its end.

    Returns:
        Whether it has its plain place now.
    """
    try:
        with locked(device, layout.object_hash(*key, name)):
            _move(directory.fd, entry)
            sync_directory(directory.fd)
    except OSError:
        # Something is there by now, or nobody may: it stays a twin, which is right, too.
        return False
    return True


def _move(fd: int, entry: bytes) -> None:
    plain = plain_entry(entry)
    if entry.endswith(Kind.FILE.value):
        # A link, because a rename would replace what a job creates at this very moment.
        os.link(entry, plain, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
        os.unlink(entry, dir_fd=fd)
    else:
        os.rename(entry, plain, src_dir_fd=fd, dst_dir_fd=fd)
