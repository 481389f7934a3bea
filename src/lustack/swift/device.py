# SPDX-License-Identifier: Apache-2.0
"""One device: its root, locks, attributes, the threads that wait for it, and where each of its containers is."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lustack.errors import LustackError
from lustack.exports.roots import open_export, takes_trusted
from lustack.exports.table import Reader
from lustack.mapping import layout, names
from lustack.posix.tree import make_directories, open_beneath, open_root
from lustack.posix.xattrs import AttributeStore, Sidecars
from lustack.swift.attributes import Attributes
from lustack.swift.calls import Bounds, Calls
from lustack.swift.crowd import Crowd
from lustack.swift.ordering import Locks
from lustack.swift.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from lustack.mapping.exports import Export
    from lustack.swift.placement import Key

_PATIENCE_S = 2
"""How long no look may come back, while all threads wait, before newcomers are sent away."""

_DEFAULTS = Settings()
_LOGGER = logging.getLogger(__name__)


class DeviceMissingError(LustackError):
    """A device is not mounted, or its directory is not there.

    Attributes:
        path: of its root.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} is not there, or not mounted"


@dataclass(frozen=True)
class Home:
    """Where the objects of one container are, and what belongs to them.

    Attributes:
        device: the device.
        root_fd: its root; locks and tombstones are below it.
        fd: the directory that nothing leaves: the device root, or the directory of an export.
        path: of the container's directory below `fd`.
        foreign: the export, if it is on another file system than the device.
    """

    device: Device
    root_fd: int
    fd: int
    path: bytes
    foreign: Export | None = None

    @property
    def attributes(self) -> Attributes:
        """The metadata of the objects here."""
        if self.foreign is None:
            return self.device.attributes
        return Attributes(AttributeStore(self.sidecars), takes_trusted(self.fd))

    @property
    def sidecars(self) -> Sidecars:
        """What is too big for their attributes.

        They say for which inode they were made, and another file system has the same numbers for other files.
        """
        if self.foreign is None:
            return self.device.sidecars
        path = layout.foreign_sidecars_path(*self.foreign.key)
        return Sidecars(lambda: make_directories(self.root_fd, path, mode=0o700))

    def lock(self, key: Key) -> AbstractContextManager[None]:
        """Holds the lock of an object; see `Locks.hold`."""
        return self.device.locks.hold(self.root_fd, key.hash)


class Device:
    """A device that holds readable objects. Thread-safe."""

    def __init__(
        self,
        path: str,
        settings: Settings = _DEFAULTS,
        logger: Any = _LOGGER,
        is_there: Callable[[], bool] = lambda: True,
    ) -> None:
        """Opens nothing yet.

        Args:
            path: the device root; the operator may have made it a symbolic link.
            settings: of its policy.
            logger: Swift's logger.
            is_there: whether the device is what it should be, mounted above all; asks the file system.
        """
        self.path = path
        self.exports = Reader(logger.warning)
        self._is_there = is_there
        deadline_s, threads = settings.deadline_s, settings.threads
        self.looks = Calls(path, logger, Bounds(threads, deadline_s, min(_PATIENCE_S, deadline_s)))
        self.streams = Calls(path, logger, Bounds(threads, deadline_s, min(_PATIENCE_S, deadline_s)))
        # To sync much takes long and is no stall.
        self.changes = Calls(path, logger, Bounds(threads, deadline_s, deadline_s))
        self.crowd = Crowd()
        self.locks = Locks()
        self.sidecars = Sidecars(self._open_sidecars)
        self._attributes: Attributes | None = None

    @contextmanager
    def root(self) -> Iterator[int]:
        """An O_PATH descriptor of the root as it is now: it may be unmounted and mounted again meanwhile.

        Raises:
            DeviceMissingError: it is not mounted now.
        """
        if not self._is_there():
            raise DeviceMissingError(self.path)
        fd = open_root(self.path)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def home(self, account: str, container: str) -> Iterator[Home]:
        """Where the objects of a container are now; its directory may not exist.

        Raises:
            ExportMissingError: the container is an export whose directory is not there.
            ExportsDamagedError: nobody knows what is an export.
        """
        with self.root() as root_fd:
            export = self.exports.current(root_fd).get(account, container)
            if export is None:
                yield Home(self, root_fd, root_fd, names.container_path(account, container))
                return
            fd = open_export(export)
            try:
                yield Home(self, root_fd, fd, b".", export if export.is_foreign else None)
            finally:
                os.close(fd)

    @property
    def attributes(self) -> Attributes:
        """The metadata of the objects here; the first use makes the reserved directory."""
        if self._attributes is None:
            with self.root() as root_fd:
                os.close(make_directories(root_fd, layout.SIDECARS, mode=0o700))
                fd = open_beneath(root_fd, layout.RESERVED, os.O_PATH | os.O_DIRECTORY)
                try:
                    trusted = takes_trusted(fd)
                finally:
                    os.close(fd)
            self._attributes = Attributes(AttributeStore(self.sidecars), trusted)
        return self._attributes

    def _open_sidecars(self) -> int:
        with self.root() as root_fd:
            return make_directories(root_fd, layout.SIDECARS, mode=0o700)
