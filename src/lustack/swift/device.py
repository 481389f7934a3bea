# SPDX-License-Identifier: Apache-2.0
"""One device: its root, its locks, its attributes."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lustack.mapping import layout
from lustack.posix.tree import make_directories, open_beneath, open_root, proc_path
from lustack.posix.xattrs import AttributeStore, Sidecars
from lustack.swift.attributes import Attributes
from lustack.swift.ordering import Locks

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROBE = "trusted.lustack.probe"


class Device:
    """A device that holds readable objects. Thread-safe."""

    def __init__(self, path: str) -> None:
        """Opens nothing yet.

        Args:
            path: the device root; the operator may have made it a symbolic link.
        """
        self.path = path
        self.locks = Locks()
        self.sidecars = Sidecars(self._open_sidecars)
        self._attributes: Attributes | None = None

    @contextmanager
    def root(self) -> Iterator[int]:
        """An O_PATH descriptor of the root as it is now: it may be unmounted and mounted again meanwhile."""
        fd = open_root(self.path)
        try:
            yield fd
        finally:
            os.close(fd)

    @property
    def attributes(self) -> Attributes:
        """The metadata of the objects here; the first use makes the reserved directory."""
        if self._attributes is None:
            with self.root() as root_fd:
                os.close(make_directories(root_fd, layout.SIDECARS, mode=0o700))
                fd = open_beneath(root_fd, layout.RESERVED, os.O_PATH | os.O_DIRECTORY)
                trusted = can_write_trusted(fd)
                os.close(fd)
            self._attributes = Attributes(AttributeStore(self.sidecars), trusted)
        return self._attributes

    def _open_sidecars(self) -> int:
        with self.root() as root_fd:
            return make_directories(root_fd, layout.SIDECARS, mode=0o700)


def can_write_trusted(fd: int) -> bool:
    """Whether this process can write `trusted.*` attributes: it is root, and the file system has them.

    Args:
        fd: of a directory that is ours.
    """
    try:
        os.setxattr(proc_path(fd), _PROBE, b"1")
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP):
            return False
        raise
    return True
