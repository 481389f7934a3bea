# SPDX-License-Identifier: Apache-2.0
"""Opens the directory of an export, if it is still the one that was exported.

Rule 1: the path is followed without symbolic links, but over mounts: the directory may be on any file system.
Rule 2: the directory must have the inode that it had, and carry the mark that it was given. A mount point whose file
system is gone has neither; a copy, or a directory that somebody put in its place, lacks one of them. The number of the
file system (st_dev) does not count: it changes when a machine starts again, and from node to node.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from lustack.exports.errors import ExportMissingError
from lustack.mapping import layout
from lustack.mapping.exports import Export, Exports
from lustack.mapping.names import RelPath
from lustack.posix.tree import open_absolute, open_root, proc_path

_PROBE = "trusted.lustack.probe"


class Root(NamedTuple):
    """A directory whose files are objects.

    Attributes:
        path: absolute.
        prefix: of the paths below the device root that its files have; empty for the device root itself.
    """

    path: bytes
    prefix: RelPath


def open_export(export: Export) -> int:
    """Opens an exported directory.

    Returns:
        An O_PATH descriptor, which the caller owns.

    Raises:
        ExportMissingError: it is not there, or it is another one.
    """
    try:
        fd = open_absolute(export.path)
    except OSError as error:
        raise ExportMissingError(export.path, error.strerror or str(error)) from error
    problem = _problem(export, fd)
    if problem:
        os.close(fd)
        raise ExportMissingError(export.path, problem)
    return fd


@contextmanager
def opened_device(path: str) -> Iterator[int]:
    """An O_PATH descriptor of a device root.

    Raises:
        OSError: it is not there.
    """
    fd = open_root(path)
    try:
        yield fd
    finally:
        os.close(fd)


def list_roots(device_path: str, exports: Exports) -> list[Root]:
    """Every directory whose files are objects of a device, the device root first.

    Whether they are there is not asked.

    Args:
        device_path: the device root.
        exports: those in force.
    """
    bound = [Root(export.path, export.device_path) for export in exports.bound()]
    return [Root(os.fsencode(device_path), RelPath(b"")), *sorted(bound)]


def read_mark(fd: int) -> str | None:
    """The mark of a directory (O_PATH is enough), None if it has none."""
    try:
        return os.getxattr(proc_path(fd), layout.ATTRIBUTE_EXPORT).decode("ascii", "replace")
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise


def takes_trusted(fd: int) -> bool:
    """Whether this process can write `trusted.*` attributes on the file system of a directory; nothing is written.

    Args:
        fd: of the directory; O_PATH is enough.
    """
    try:
        # There is none: EPERM who may not, ENODATA who may. Source: linux fs/xattr.c xattr_permission.
        os.removexattr(proc_path(fd), _PROBE)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP):
            return False
        if error.errno == errno.EROFS:
            # Said before it is asked who this is: what was written must be read as it was written.
            return os.geteuid() == 0
        if error.errno != errno.ENODATA:
            raise
    return True


def _problem(export: Export, fd: int) -> str:
    """Why this is not the directory that was exported, empty if it is."""
    try:
        if os.fstat(fd).st_ino != export.inode:
            return "another directory is in its place, or its file system is not mounted"
        mark = read_mark(fd)
    except OSError as error:
        return error.strerror or str(error)
    return "" if mark == export.mark else "it does not carry the mark of the export"
