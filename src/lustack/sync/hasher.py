# SPDX-License-Identifier: Apache-2.0
"""Learns the MD5 of files that jobs wrote, and writes it into the file's metadata and the listing.

Rule 1: a hash is believed only if nobody can have written while it was made: the file had been quiet before, its times
and size are the same after, and nobody had it open for writing at either end (an mmap writes without changing times).
Rule 2: the hash is stored with the stamp of the bytes that it is of; a change after that makes it invalid by itself.
Rule 3: reading is paced, leaves no trace in access times and not much in the page cache. It gives way to who has more
urgent work: while somebody has, it takes a fifth of the time.
Rule 4: what a file's owner said of it stays; what described other bytes does not. What POST wrote is another attribute.
Rule 5: metadata that cannot be read, or not be believed now, is not written over: a human can still mend it.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass

from lustack.blobs import file_stamp
from lustack.mapping import content_types, metadata
from lustack.mapping.layout import FILE_ATTRIBUTES
from lustack.mapping.metadata import DataLayer
from lustack.mapping.view import ObjectView, Origin, with_etag
from lustack.posix.tree import open_beneath, reopen
from lustack.sync.device import Device
from lustack.sync.errors import StoppedError
from lustack.sync.locate import Locator
from lustack.sync.observe import NOTHING_THERE, Observer, Place
from lustack.sync.sinks.protocol import ContainerKey

_CHUNK_BYTES = 1024 * 1024
"""What a smaller file leaves in the page cache does not matter. To drop it makes the kernel write the file to its disk,
at once and alone: almost half of the CPU that a small one takes. Source: measured; linux/mm/fadvise.c."""

_TURN_S, _REST_S = 0.005, 0.02
"""While others have work: so long does it go on, and so long does it wait then."""

_FRESH_S = 0.1
"""So long may a directory stay open: somebody may put another one in its place."""

_NOT_OF_THE_OWNER = frozenset({"x-timestamp", "content-length"})


class Outcome(enum.Enum):
    """What became of one file."""

    HASHED = "hashed"
    GONE = "gone"
    KNOWN = "known"
    BUSY = "busy"
    CHANGED = "changed"
    DAMAGED = "damaged"


class Pace:
    """Lets so many bytes a second pass, and others go first."""

    def __init__(
        self,
        bytes_per_s: int,
        wait: Callable[[float], bool],
        monotonic_s: Callable[[], float] = time.monotonic,
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begins now.

        Args:
            bytes_per_s: the rate.
            wait: waits so many seconds; true if it is time to stop.
            monotonic_s: a clock that never goes back.
            is_busy: whether somebody has more urgent work.
        """
        self._bytes_per_s = bytes_per_s
        self._wait = wait
        self._monotonic_s = monotonic_s
        self._is_busy = is_busy
        self._free_s = self._began_s = monotonic_s()

    def spend(self, size_bytes: int) -> None:
        """Waits until bytes that were read are paid for; an unused second is not saved up.

        Raises:
            StoppedError: it is time to stop.
        """
        now_s = self._monotonic_s()
        self._free_s = max(self._free_s, now_s - 1.0) + size_bytes / self._bytes_per_s
        wait_s = max(0.0, self._free_s - now_s)
        if now_s - self._began_s >= _TURN_S:
            wait_s = max(wait_s, _REST_S if self._is_busy() else 0.0)
            self._began_s = now_s + wait_s
        if self._wait(wait_s):
            raise StoppedError


class Site:
    """A container whose files are hashed. Not thread-safe. Its directories stay open for a moment: see `locate`."""

    def __init__(self, device: Device, key: ContainerKey, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Opens nothing yet.

        Args:
            device: where it is.
            key: its name.
            monotonic_s: a clock that never goes back.
        """
        self._device = device
        self._key = key
        self._monotonic_s = monotonic_s
        self._opened_s = float("-inf")
        self._open = ExitStack()
        self._found: tuple[Observer, Locator] | None = None

    def enter(self) -> tuple[Observer, Locator] | None:
        """What looks at its objects, and what finds them; None: it has no directory."""
        now_s = self._monotonic_s()
        if now_s - self._opened_s > _FRESH_S:
            self.close()
            self._opened_s, self._found = now_s, None
            directory = self._device.open_container(*self._key)
            if directory is not None:
                self._open.callback(directory.close)
                locator = self._open.enter_context(closing(Locator(directory)))
                self._found = self._device.observer_of(*self._key), locator
        return self._found

    def close(self) -> None:
        """Closes what was opened."""
        self._open.close()


@dataclass(frozen=True)
class Hasher:
    """Hashes files. Not thread-safe.

    Attributes:
        settle_s: how long a file must have been quiet.
        pace: of reading.
        now_ns: the time.
    """

    settle_s: float
    pace: Pace
    now_ns: Callable[[], int] = time.time_ns

    def hash(self, site: Site, name: str) -> Outcome:
        """Makes the MD5 of an object known, if it is not.

        Args:
            site: where it is.
            name: the object.

        Raises:
            OSError: the file system fails.
            StoppedError: it is time to stop.
        """
        found = site.enter()
        if found is None:
            return Outcome.GONE
        observer, locator = found
        for place in locator.places(name):
            outcome = self._hash_place(observer, name, place)
            if outcome is not None:
                return outcome
        return Outcome.GONE

    def _hash_place(self, observer: Observer, name: str, place: Place) -> Outcome | None:
        """None if the object does not lie here."""
        fd = _open(place.directory.fd, place.entry)
        if fd is None:
            return None
        try:
            view = observer.view(name, fd, place.attributes, self.now_ns())
            return None if view is None else self._hash_view(observer, name, fd, view)
        finally:
            os.close(fd)

    def _hash_view(self, observer: Observer, name: str, fd: int, view: ObjectView) -> Outcome:
        if view.etag is not None:
            return Outcome.KNOWN
        if view.problems:
            return Outcome.DAMAGED
        file = _open_to_read(fd)
        try:
            before = os.fstat(file)
            if not self._is_quiet(before) or is_written(file):
                return Outcome.BUSY
            digest = self._read(file)
            after = os.fstat(file)
            if _identity(before) != _identity(after) or is_written(file):
                return Outcome.CHANGED
            layer = DataLayer(file_stamp(after), kept_headers(name, with_etag(view, digest)))
            blobs = metadata.render_data(layer, trusted=observer.trusted)
            observer.store.write(fd, FILE_ATTRIBUTES.data, blobs.data or b"")
        finally:
            os.close(file)
        return Outcome.HASHED

    def _is_quiet(self, status: os.stat_result) -> bool:
        changed_ns = max(status.st_mtime_ns, status.st_ctime_ns)
        return self.now_ns() - changed_ns >= self.settle_s * 1e9

    def _read(self, file: int) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        position = 0
        while chunk := os.pread(file, _CHUNK_BYTES, position):
            digest.update(chunk)
            if len(chunk) == _CHUNK_BYTES:
                os.posix_fadvise(file, position, len(chunk), os.POSIX_FADV_DONTNEED)
            position += len(chunk)
            self.pace.spend(len(chunk))
        return digest.hexdigest()


def kept_headers(name: str, view: ObjectView) -> dict[str, str]:
    """The metadata that a file keeps with its new ETag.

    There is no X-Timestamp among it: the bytes are a job's, so its time is the file's.
    """
    if view.origin is Origin.POSIX:
        return {"ETag": view.data["ETag"]}
    kept = {key: value for key, value in view.data.items() if not _is_of_the_bytes(key)}
    if kept["Content-Type"] == content_types.guess(name):
        # Nobody said it, and the next name of the file may say something else.
        del kept["Content-Type"]
    return kept


def is_written(file: int) -> bool:
    """Whether somebody has this file open for writing, or mapped, on this machine.

    A read lease is refused then (fcntl(2)); it is given back at once. Where leases do not work, nobody knows.
    """
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    with suppress(OSError):
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _is_of_the_bytes(key: str) -> bool:
    return key.lower() in _NOT_OF_THE_OWNER or metadata.is_system(key)


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _open(dirfd: int, path: bytes) -> int | None:
    try:
        return open_beneath(dirfd, path, os.O_PATH)
    except OSError as error:
        if error.errno not in NOTHING_THERE:
            raise
        return None


def _open_to_read(fd: int) -> int:
    """Without a trace in the access time where we may (open(2): the owner or CAP_FOWNER)."""
    flags = os.O_RDONLY | os.O_NONBLOCK
    try:
        return reopen(fd, flags | os.O_NOATIME)
    except PermissionError:
        return reopen(fd, flags)
