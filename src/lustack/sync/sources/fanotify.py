# SPDX-License-Identifier: Apache-2.0
"""Events of whole file systems, as fanotify(7) has them: one mark for each, whatever the number of directories.

Rule 1: it knows only what happens while it is open. So its positions are good for nothing but to be acknowledged:
whoever opens it with one is told that everything must be compared.
Rule 2: it reads late on purpose. The kernel merges what nobody has read: a file that was made, written and closed
within `gather_s` is one event.
Rule 3: the kernel's queue has no limit (and takes kernel memory: read, whatever you do with it). Still, what looks like
a loss is one: an overflow, a root that is another directory now, a file system that was unmounted.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from lustack.posix import fanotify, handles
from lustack.posix.handles import Place
from lustack.sync.errors import DeviceMissingError
from lustack.sync.events import Event
from lustack.sync.sources.directories import Directories
from lustack.sync.sources.protocol import Batch, Guarantees, Position, SourceLostError, SourceUnavailableError
from lustack.sync.sources.roots import Root
from lustack.sync.sources.translate import Translator

GATHER_S: Final = 0.01
"""Source: measured, bench/watch.py: 1.00-1.02 events a file."""

_READ_BYTES: Final = 256 * 1024
# More than the largest event takes: the kernel returns less than the buffer holds when the next one does not fit.
_EVENT_BYTES: Final = 4096
_DIRECTORIES: Final = 100_000
# How long `close` in another thread may have to wait, and how often it is looked whether the roots are still the same.
_SLICE_S: Final = 0.1
_CHECK_S: Final = 1.0
_FILESYSTEM_ID_BYTES: Final = 8


class Kernel(Protocol):
    """What is asked of the system. Every method may raise OSError."""

    def start(self, paths: Sequence[str]) -> int:
        """A descriptor that reports what happens in the file systems of these directories."""
        ...

    def count_watched(self, group: int) -> int:
        """How many file systems it watches."""
        ...

    def key(self, path: str) -> bytes:
        """The key of a directory."""
        ...

    def locate(self, path: str, handle: bytes) -> Place | None:
        """See `handles.locate`; in the mount of a directory."""
        ...


@dataclass(frozen=True)
class LinuxKernel:
    """The real one.

    Attributes:
        is_unlimited: see `fanotify.start`.
    """

    is_unlimited: bool = True

    def start(self, paths: Sequence[str]) -> int:
        """See `Kernel`."""
        group = fanotify.start(is_unlimited=self.is_unlimited)
        try:
            for path in paths:
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fanotify.watch_filesystem(group, fd)
                finally:
                    os.close(fd)
        except BaseException:
            os.close(group)
            raise
        return group

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
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return handles.locate(fd, handle)
        finally:
            os.close(fd)


class _Watched:
    """What is open: the group, and what it was opened for."""

    def __init__(self, kernel: Kernel, roots: Sequence[Root]) -> None:
        self._kernel = kernel
        self.group = kernel.start([root.path for root in roots])
        try:
            self.keys = {root.path: kernel.key(root.path) for root in roots}
            self._count = kernel.count_watched(self.group)
            self._mounts = {key[:_FILESYSTEM_ID_BYTES]: path for path, key in self.keys.items()}
            self._try()
            bases = {self.keys[root.path]: root.base for root in roots}
            self.translator = Translator(Directories(bases, self.locate, _DIRECTORIES))
            self.poll = select.poll()
            self.poll.register(self.group, select.POLLIN)
        except BaseException:
            self.close()
            raise

    def _try(self) -> None:
        """Does once what will be done for each directory.

        Raises:
            OSError: it cannot be done.
        """
        if self._count != len(self._mounts):
            raise OSError(errno.EXDEV, "file systems have the same id, or one has several")
        for key in self.keys.values():
            self.locate(key)

    def locate(self, key: bytes) -> Place | None:
        """See `directories.Locate`."""
        filesystem = key[:_FILESYSTEM_ID_BYTES]
        path = self._mounts.get(filesystem)
        if path is None:
            return None
        place = self._kernel.locate(path, key[_FILESYSTEM_ID_BYTES:])
        return place and Place(filesystem + place.parent, place.name)

    def why_lost(self) -> str | None:
        """Why it does not report any more what it was opened for."""
        for path, key in self.keys.items():
            try:
                if self._kernel.key(path) != key:
                    return f"{path} is another directory now"
            except OSError as error:
                return f"{path} cannot be opened any more: {error.strerror}"
        if self._kernel.count_watched(self.group) != self._count:
            return "a file system was unmounted"
        return None

    def close(self) -> None:
        os.close(self.group)


class FanotifySource:
    """See `Source`, and the top of this file."""

    def __init__(
        self,
        name: str,
        roots: Sequence[Root],
        *,
        is_local: bool,
        gather_s: float = GATHER_S,
        kernel: Kernel | None = None,
    ) -> None:
        """Opens nothing yet.

        Args:
            name: of the source.
            roots: what to watch; none of them twice.
            is_local: no other host can change these file systems.
            gather_s: how long to wait for more when something happened.
            kernel: None: the real one.
        """
        self._name = name
        self._roots = tuple(roots)
        self._guarantees = Guarantees(complete=False, across_hosts=is_local, ordered=False, latency_s=2 * gather_s)
        self._gather_s = gather_s
        self._kernel = kernel or LinuxKernel()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._watched: _Watched | None = None
        self._lost: str | None = None
        self._is_behind = False
        self._count = 0
        self._checked_s = 0.0

    @property
    def name(self) -> str:
        """See `Source`."""
        return self._name

    @property
    def guarantees(self) -> Guarantees:
        """See `Source`."""
        return self._guarantees

    def open(self, position: Position | None) -> None:
        """See `Source`.

        Raises:
            SourceLostError: with any position.
            DeviceMissingError: a root is not there.
            SourceUnavailableError: the kernel does not let us.
        """
        self.close()
        if position is not None:
            raise SourceLostError(self._name, "what happened before it was opened is not known")
        with self._lock:
            self._closing.clear()
            try:
                self._watched = _Watched(self._kernel, self._roots)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise DeviceMissingError(str(error.filename), str(error.strerror)) from error
            except OSError as error:
                raise SourceUnavailableError(self._name, str(error)) from error
            self._lost, self._is_behind = None, False
            self._checked_s = time.monotonic()

    def read(self, timeout_s: float) -> Batch | None:
        """See `Source`."""
        end_s = time.monotonic() + timeout_s
        with self._lock:
            while self._watched is not None and self._wait(self._watched, end_s):
                if not self._is_behind:
                    self._closing.wait(self._gather_s)
                events = self._read(self._watched)
                if events:
                    self._count += 1
                    return Batch(events, Position(str(self._count)))
        return None

    def _read(self, watched: _Watched) -> list[Event]:
        buffer = os.read(watched.group, _READ_BYTES)
        self._is_behind = len(buffer) > _READ_BYTES - _EVENT_BYTES
        changes = fanotify.parse(buffer)
        if any(change.mask & fanotify.Q_OVERFLOW for change in changes):
            self._lose("the queue of the kernel ran over")
        return watched.translator.translate(changes, is_all=not self._is_behind)

    def acknowledge(self, position: Position) -> None:
        """See `Source`. The kernel has forgotten it already."""

    def close(self) -> None:
        """See `Source`."""
        self._closing.set()
        with self._lock:
            if self._watched is not None:
                self._watched.close()
                self._watched = None

    def _wait(self, watched: _Watched, end_s: float) -> bool:
        """Whether there is something to read, before a time of the monotonic clock."""
        while not self._closing.is_set():
            now_s = time.monotonic()
            self._check(watched, now_s)
            left_s = max(0.0, end_s - now_s)
            if watched.poll.poll(min(left_s, _SLICE_S) * 1000):
                return True
            if not left_s:
                break
        return False

    def _check(self, watched: _Watched, now_s: float) -> None:
        if self._lost is None and now_s - self._checked_s < _CHECK_S:
            return
        self._checked_s = now_s
        why = self._lost or watched.why_lost()
        if why is not None:
            self._lose(why)

    def _lose(self, why: str) -> None:
        self._lost = why
        raise SourceLostError(self._name, why)
