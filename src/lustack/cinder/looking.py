# SPDX-License-Identifier: Apache-2.0
"""What there is of a volume in a directory, seen without a driver.

Rule 1: looks only, at the record and at the first bytes of a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final

from lustack.cinder.errors import CorruptRecordError
from lustack.cinder.halfway import Place
from lustack.cinder.record import SUFFIX, Record, parse

_MAGIC: Final = b"QFI\xfb"  # Source: QEMU, docs/interop/qcow2.txt


def look_at_files(directory: str, name: str) -> Place:
    """What there is of a volume.

    Args:
        directory: where its share is mounted.
        name: of the volume.

    Raises:
        CorruptRecordError: its record cannot be read, or a file is a symbolic link.
        PermissionError: its files cannot be.
    """
    active = find_active(directory, name)
    # Without a file of that name the active one is the bottom: everything was pulled into it.
    for bottom in (name, active):
        with (
            contextlib.suppress(FileNotFoundError),
            open(os.path.join(directory, bottom), "rb", opener=open_plain) as file,
        ):
            return Place(exists=True, may_be_qcow2=file.read(len(_MAGIC)) == _MAGIC, has_overlay=bottom != active)
    return Place(exists=False)


def find_active(directory: str, name: str) -> str:
    """The name of the file that is written to.

    Args:
        directory: where the volume's share is mounted.
        name: of the volume.

    Raises:
        CorruptRecordError: its record cannot be read.
    """
    recorded = read_record(directory, name)
    return name if recorded is None else recorded.active


def read_record(directory: str, name: str) -> Record | None:
    """What is recorded beside a volume; None: nothing.

    Args:
        directory: where its share is mounted.
        name: of the volume.

    Raises:
        CorruptRecordError: it cannot be read.
    """
    path = os.path.join(directory, name + SUFFIX)
    try:
        with open(path, "rb", opener=open_plain) as record:
            return parse(record.read(), path, name)
    except FileNotFoundError:
        return None


def open_plain(path: str, flags: int) -> int:
    """Open a file of ours, as an opener of `open`: who put a link there, or a pipe, gains nothing and holds nobody up.

    Args:
        path: the file.
        flags: of open(2).

    Raises:
        CorruptRecordError: it is a symbolic link.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise CorruptRecordError(path, "it is a symbolic link") from error
