# SPDX-License-Identifier: Apache-2.0
"""One object as Swift's object server sees it.

The interface is what swift/obj/server.py 2.38 really calls; `swift.obj.diskfile.BaseDiskFile` is the reference for
its meaning. Opened and read_metadata'd, a disk file describes the file as it was at that moment.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from swift.common.exceptions import DiskFileDeleted, DiskFileExpired, DiskFileNotExist, DiskFileNotOpen
from swift.common.utils import Timestamp

from lustack.blobs import file_stamp
from lustack.mapping.view import ObjectView, Origin, with_etag
from lustack.posix.atomic import Sync
from lustack.posix.tree import reopen
from lustack.swift import attributes, faults, removal
from lustack.swift.calls import StalledError
from lustack.swift.ordering import read_tombstone, write_tombstone_if_room
from lustack.swift.placement import Found, Key, find, find_hidden
from lustack.swift.reader import PosixDiskFileReader, Source
from lustack.swift.writer import PosixDiskFileWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from lustack.swift.device import Device, Home
    from lustack.swift.manager import PosixDiskFileManager

_NS = 1_000_000_000
_FEW_BYTES = 65536
"""An object up to this size is read whole when it is opened: one call of a thread for all of a GET."""


class PosixDiskFile:
    """One object. Not thread-safe."""

    def __init__(self, manager: PosixDiskFileManager, device: Device, key: Key, *, open_expired: bool = False) -> None:
        """Touches nothing yet.

        Args:
            manager: whose settings apply.
            device: where it is.
            key: the object.
            open_expired: whether an expired object is still shown.
        """
        self.manager = manager
        self.device = device
        self.key = key
        self.logger = manager.logger
        self.sync = Sync.ALWAYS
        self._open_expired = open_expired
        self._view: ObjectView | None = None
        self._merged: dict[str, Any] | None = None
        self._source: Source | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key}>"

    @property
    def account(self) -> str:
        """Account name."""
        return self.key.account

    @property
    def container(self) -> str:
        """Container name."""
        return self.key.container

    @property
    def obj(self) -> str:
        """Object name."""
        return self.key.name

    @property
    def content_length(self) -> int:
        """Length in bytes."""
        return int(self.get_metadata()["Content-Length"])

    @property
    def timestamp(self) -> Timestamp:
        """Of the last PUT or POST."""
        return Timestamp(self.get_metadata()["X-Timestamp"])

    @property
    def data_timestamp(self) -> Timestamp:
        """Of the last PUT; of a file of a job, when it was written."""
        return Timestamp(self._opened().data["X-Timestamp"])

    @property
    def durable_timestamp(self) -> Timestamp:
        """The same: what has a name is durable."""
        return self.data_timestamp

    @property
    def fragments(self) -> None:
        """Only erasure coding has any."""
        return

    @property
    def content_type(self) -> str:
        """Content-Type in force."""
        return str(self.get_metadata()["Content-Type"])

    @property
    def content_type_timestamp(self) -> Timestamp:
        """When the Content-Type in force was set."""
        time_text = self.get_metadata().get("Content-Type-Timestamp", self._opened().data["X-Timestamp"])
        return Timestamp(time_text)

    def open(self, *, current_time: Any = None, **_: Any) -> PosixDiskFile:
        """Opens the object for reading, as a context manager.

        Raises:
            DiskFileNotExist: there is none; DiskFileDeleted and DiskFileExpired if it was or is.
            HTTPException: the file system fails.
        """
        self._load(current_time, keep_open=True)
        return self

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read_metadata(self, current_time: Any = None) -> dict[str, Any]:
        """The metadata of the object, without opening it for its data; raises as `open`."""
        self._load(current_time, keep_open=False)
        return self.get_metadata()

    def get_metadata(self) -> dict[str, Any]:
        """What a GET shows; ETag is None where nobody knows it.

        Raises:
            DiskFileNotOpen: neither `open` nor `read_metadata` came before.
        """
        if self._merged is None:
            merged = self._opened().merged()
            self._merged = {"ETag": None, **attributes.to_http(merged)}
        return self._merged

    def get_datafile_metadata(self) -> dict[str, Any]:
        """What PUT wrote; raises as `get_metadata`."""
        return {"ETag": None, **attributes.to_http(self._opened().data)}

    def get_metafile_metadata(self) -> dict[str, Any] | None:
        """What POST wrote, None if nothing; raises as `get_metadata`."""
        meta = self._opened().meta
        return None if meta is None else attributes.to_http(meta)

    def reader(self, **_: Any) -> PosixDiskFileReader:
        """The body; it takes what `open` opened.

        Raises:
            DiskFileNotOpen: `open` did not come before, or somebody has taken it.
        """
        source, self._source = self._source, None
        if source is None:
            raise DiskFileNotOpen
        return PosixDiskFileReader(source, self.content_length, chunk_bytes=self.manager.read_bytes)

    def writer(self, size: int | None = None) -> PosixDiskFileWriter:
        """Begins an upload.

        Args:
            size: bytes to come, None if unknown.
        """
        return PosixDiskFileWriter(self, size, self.manager.bytes_per_sync)

    @contextmanager
    def create(self, size: int | None = None, **_: Any) -> Iterator[PosixDiskFileWriter]:
        """An open writer that is closed at the end."""
        writer = self.writer(size)
        try:
            yield writer.open()
        finally:
            writer.close()

    def write_metadata(self, metadata: Mapping[str, Any]) -> None:
        """What POST does; an older one than what is there changes nothing.

        Raises:
            HTTPException: the object went meanwhile (404), or the file system fails.
        """
        headers = attributes.to_native(metadata)
        with faults.writing(self.logger, str(self.key)):
            if not self.device.changes.line().run(self._write_meta, headers):
                raise faults.http_error("404 Not Found", "The object was removed meanwhile.")

    def delete(self, timestamp: Any) -> None:
        """Removes the object unless it is newer, and notes when.

        Args:
            timestamp: of the DELETE.

        Raises:
            HTTPException: the file system fails.
        """
        with faults.writing(self.logger, str(self.key)):
            self.device.changes.line().run(self._delete, Timestamp(timestamp).internal)

    def home(self) -> AbstractContextManager[Home]:
        """Where the objects of its container are."""
        return self.device.home(self.key.account, self.key.container)

    def newest(self, home: Home, current: Found | None) -> str:
        """The newest timestamp that Swift ever gave this name, in internal form, empty if none. Needs the lock."""
        deleted = read_tombstone(home.root_fd, self.key.hash) or ""
        written = home.attributes.swift_timestamp(current) if current is not None else ""
        return max(deleted, written)

    def _close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _opened(self) -> ObjectView:
        if self._view is None:
            raise DiskFileNotOpen
        return self._view

    def _load(self, current_time: Any, *, keep_open: bool) -> None:
        self._close()
        self._view = self._merged = None
        now = time.time() if current_time is None else float(current_time)
        opened: list[int] = []
        line = self.device.looks.line()
        with faults.reading(self.logger, str(self.key)):
            try:
                view, content = line.run(self._look, min(now, time.time()), opened if keep_open else None)
            except StalledError:
                line.finish(_close_all, opened)
                raise
        if keep_open:
            self._source = Source(self.device.streams.line(), opened.pop() if opened else -1, content)
        for problem in view.problems:
            self.logger.warning("%s: %s. It is served as a bare file.", self.key, problem)
        self._view = view
        self._refuse_expired(now)

    def _look(self, now: float, opened: list[int] | None) -> tuple[ObjectView, bytes]:
        """In a thread: the object as it is, and its bytes if they are wanted and few, else its descriptor."""
        with self.home() as home:
            found = find(home, self.key)
            if found is None:
                raise self._missing(home.root_fd)
            try:
                view = self._describe(home, found, now)
                return view, b"" if opened is None else _open_or_read(found, view, opened)
            finally:
                os.close(found.fd)

    def _refuse_expired(self, now: float) -> None:
        delete_at = self.get_metadata().get("X-Delete-At")
        if delete_at is None or self._open_expired or int(delete_at) > now:
            return
        self._close()
        raise DiskFileExpired(metadata=self.get_metadata())

    def _missing(self, root_fd: int) -> DiskFileNotExist:
        deleted = read_tombstone(root_fd, self.key.hash)
        if deleted is None:
            return DiskFileNotExist()
        return DiskFileDeleted(metadata={"X-Timestamp": deleted})

    def _describe(self, home: Home, found: Found, now: float) -> ObjectView:
        view = home.attributes.view(found, self.key.name, int(now * _NS))
        size = found.status.st_size
        if view.etag is not None or view.origin is Origin.SWIFT or size > self.manager.settings.small_hash_bytes:
            return view
        etag = _hash_small(found)
        return view if etag is None else with_etag(view, etag)

    def _write_meta(self, headers: dict[str, str]) -> bool:
        with self.home() as home, home.lock(self.key):
            found = find(home, self.key)
            if found is None:
                return False
            try:
                if home.attributes.swift_timestamp(found) < headers["X-Timestamp"]:
                    self._store_meta(home, found, headers)
            finally:
                os.close(found.fd)
        return True

    def _store_meta(self, home: Home, found: Found, headers: dict[str, str]) -> None:
        fd = reopen(found.fd, os.O_RDONLY | os.O_NONBLOCK)
        try:
            layer = attributes.meta_layer(found.status.st_ino, headers)
            home.attributes.write_meta(fd, found.place.attributes, layer)
            os.fsync(fd)
        finally:
            os.close(fd)

    def _delete(self, timestamp: str) -> None:
        with self.home() as home:
            for directory in self._delete_locked(home, timestamp):
                removal.tidy(home, self.key, directory)

    def _delete_locked(self, home: Home, timestamp: str) -> list[bytes]:
        """Returns the directories that held the object, none if nothing was removed."""
        with home.lock(self.key):
            found = find(home, self.key)
            try:
                if self.newest(home, found) >= timestamp:
                    return []
                is_noted = write_tombstone_if_room(home.root_fd, self.key.hash, timestamp)
                removed = self._remove_places(home, found)
            finally:
                if found is not None:
                    os.close(found.fd)
            # On a full file system a DELETE must work; maybe it made the room to say so.
            if not is_noted and not write_tombstone_if_room(home.root_fd, self.key.hash, timestamp):
                self.logger.warning("%s: no room to note the deletion: a late upload may undo it", self.key)
            return removed

    def _remove_places(self, home: Home, first: Found | None) -> list[bytes]:
        """Removes the object wherever it is; what is hidden goes first, or a kill would make it show."""
        if first is None:
            return []
        directories = []
        for hidden in find_hidden(home, self.key, first.place):
            directories.append(hidden.place.directory)
            try:
                self._remove_place(home, hidden)
            finally:
                os.close(hidden.fd)
        self._remove_place(home, first)
        return [*directories, first.place.directory]

    def _remove_place(self, home: Home, found: Found) -> None:
        with suppress(FileNotFoundError):
            # A job was quicker.
            removal.remove_place(home, found)


def _open_or_read(found: Found, view: ObjectView, opened: list[int]) -> bytes:
    """The bytes of an object that has few; else none, and a descriptor is put into `opened`."""
    size_bytes = int(view.data["Content-Length"])
    if not size_bytes:
        return b""
    opened.append(reopen(found.fd, os.O_RDONLY | os.O_NONBLOCK))
    if size_bytes > _FEW_BYTES:
        return b""
    try:
        return os.pread(opened[0], size_bytes, 0)
    finally:
        _close_all(opened)


def _close_all(opened: list[int]) -> None:
    while opened:
        os.close(opened.pop())


def _hash_small(found: Found) -> str | None:
    """MD5 of a small file, None if somebody writes to it meanwhile."""
    fd = reopen(found.fd, os.O_RDONLY | os.O_NONBLOCK)
    try:
        content = os.pread(fd, found.status.st_size + 1, 0)
        is_same = file_stamp(os.fstat(fd)) == file_stamp(found.status)
    finally:
        os.close(fd)
    if not is_same or len(content) != found.status.st_size:
        return None
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
