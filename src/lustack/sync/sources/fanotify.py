# SPDX-License-Identifier: Apache-2.0
"""Events of whole file systems, as fanotify(7) has them: one mark for each, whatever the number of directories.

Rule 1: a file that was made, written and closed within `gather_s` is one event.
Rule 2: the kernel's queue has no limit (and takes kernel memory: read, whatever you do with it). Still, what looks like
a loss is one: an overflow, a root that is another directory now, a file system that was unmounted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from lustack.posix import fanotify, handles
from lustack.posix.handles import Place
from lustack.sync.events import Event
from lustack.sync.sources.directories import Directories
from lustack.sync.sources.polled import PolledSource, Reading, is_missing
from lustack.sync.sources.protocol import Guarantees
from lustack.sync.sources.roots import Root
from lustack.sync.sources.translate import Translator

GATHER_S: Final = 0.01
"""Source: measured, bench/watch.py: 1.00-1.02 events a file."""

_READ_BYTES: Final = 256 * 1024
# More than the largest event takes: the kernel returns less than the buffer holds when the next one does not fit.
_EVENT_BYTES: Final = 4096
DIRECTORIES: Final = 100_000
DIRECTORY_BYTES: Final = 400
"""What one that is remembered takes."""
_FILESYSTEM_ID_BYTES: Final = 8


class Kernel(Protocol):
    """What is asked of the system. Every method may raise OSError."""

    def start(self) -> int:
        """See `fanotify.start`."""
        ...

    def watch(self, group: int, path: str) -> None:
        """Lets a group report what happens in the file system of a directory."""
        ...

    def count_watched(self, group: int) -> int:
        """How many file systems it watches."""
        ...

    def key(self, path: str) -> bytes:
        """The key of a directory."""
        ...

    def locate(self, path: str, handle: bytes) -> Place | None:
        """See `handles.locate`; in the mount of a directory. FileNotFoundError is about the handle, not the path."""
        ...


@dataclass(frozen=True)
class LinuxKernel:
    """The real one.

    Attributes:
        is_unlimited: see `fanotify.start`.
    """

    is_unlimited: bool = True

    def start(self) -> int:
        """See `Kernel`."""
        return fanotify.start(is_unlimited=self.is_unlimited)

    def watch(self, group: int, path: str) -> None:
        """See `Kernel`."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fanotify.watch_filesystem(group, fd)
        finally:
            os.close(fd)

    def count_watched(self, group: int) -> int:
        """See `Kernel`."""
        return fanotify.count_watched(group)

    def key(self, path: str) -> bytes:
        """See `Kernel`."""
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return handles.directory_key(fd)
        finally:
            os.close(fd)

    def locate(self, path: str, handle: bytes) -> Place | None:
        """See `Kernel`. The root is opened each time: what we kept open could not be unmounted."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            # It is the root that is gone, not the directory that was asked for.
            raise OSError(errno.ESTALE, error.strerror, path) from error
        try:
            return handles.locate(fd, handle)
        finally:
            os.close(fd)


class _Watching:
    """See `polled.Watching`."""

    def __init__(self, kernel: Kernel, roots: Sequence[Root], directories: int) -> None:
        self._kernel = kernel
        self._keys: dict[str, bytes] = {}
        self._filesystems: set[bytes] = set()
        self._mounts: dict[bytes, str] = {}
        self._directories = Directories({}, self._locate, directories)
        self._translator = Translator(self._directories)
        self.fd = kernel.start()
        try:
            self.unseen = self.update(roots)
        except BaseException:
            self.close()
            raise

    def update(self, roots: Sequence[Root]) -> list[str]:
        bases: dict[bytes, bytes] = {}
        unseen = []
        self._mounts = {}
        for root in roots:
            try:
                key = self._add(root.path)
            except OSError as error:
                if not root.prefix:
                    raise
                if not is_missing(error):
                    unseen.append(f"{root.path} ({error.strerror})")
                continue
            bases[key] = root.base
            if not root.prefix:
                self._keys[root.path] = key
        self._directories.set_roots(bases)
        return unseen

    def _add(self, path: str) -> bytes:
        """Watches the file system of a directory, and does once what will be done for each directory in it.

        Raises:
            OSError: it cannot be done.
        """
        key = self._kernel.key(path)
        filesystem = key[:_FILESYSTEM_ID_BYTES]
        self._kernel.watch(self.fd, path)
        if self._kernel.count_watched(self.fd) != len({filesystem, *self._filesystems}):
            raise OSError(errno.EXDEV, "its file system has the id of another one, or several")
        self._filesystems.add(filesystem)
        self._mounts.setdefault(filesystem, path)
        self._locate(key)
        return key

    def _locate(self, key: bytes) -> Place | None:
        """See `directories.Locate`."""
        filesystem = key[:_FILESYSTEM_ID_BYTES]
        path = self._mounts.get(filesystem)
        if path is None:
            return None
        place = self._kernel.locate(path, key[_FILESYSTEM_ID_BYTES:])
        return place and Place(filesystem + place.parent, place.name)

    def read(self) -> Reading:
        buffer = os.read(self.fd, _READ_BYTES)
        is_behind = len(buffer) > _READ_BYTES - _EVENT_BYTES
        changes = fanotify.parse(buffer)
        if any(change.mask & fanotify.Q_OVERFLOW for change in changes):
            return Reading([], lost="the queue of the kernel ran over")
        return Reading(self._translator.translate(changes, is_all=not is_behind), is_behind)

    @property
    def has_gaps(self) -> bool:
        return False

    def overdue(self) -> list[Event]:
        return []

    def why_lost(self) -> str | None:
        for path, key in self._keys.items():
            try:
                if self._kernel.key(path) != key:
                    return f"{path} is another directory now"
            except OSError as error:
                return f"{path} cannot be opened any more: {error.strerror}"
        if self._kernel.count_watched(self.fd) != len(self._filesystems):
            return "a file system was unmounted"
        return None

    def close(self) -> None:
        os.close(self.fd)


class FanotifySource(PolledSource):
    """See `Source`, and the top of this file."""

    def __init__(
        self,
        name: str,
        roots: Sequence[Root],
        *,
        is_local: bool,
        gather_s: float = GATHER_S,
        kernel: Kernel | None = None,
        directories: int = DIRECTORIES,
    ) -> None:
        """Opens nothing yet.

        Args:
            name: of the source.
            roots: what to watch, the root of the device first; none of them twice.
            is_local: no other host can change the file system of the device.
            gather_s: how long to wait for more when something happened.
            kernel: None: the real one.
            directories: that are remembered; the kernel is asked for others.
        """
        guarantees = Guarantees(complete=False, across_hosts=is_local, latency_s=2 * gather_s)
        asked = kernel or LinuxKernel()
        super().__init__(name, guarantees, gather_s, roots, lambda wanted: _Watching(asked, wanted, directories))
