# SPDX-License-Identifier: Apache-2.0
"""Writes an object: a temporary file in the destination directory, then compare-and-rename under the object's lock.

    open() -> write()* -> chunks_finished() -> put() -> commit() -> close()

Rule 1: the file is whole and on stable storage before it gets its name, and there is no moment without the name.
Rule 2: an older timestamp never replaces a newer one; it is dropped without an error, as Swift wants it.
Rule 3: what a job did never makes a PUT fail or vanish: only timestamps that Swift wrote are compared.
Rule 4: an upload is refused when all of it was received. An earlier answer breaks the proxy's connection: the client
would get a 503 that says nothing, and after ten of them the proxy would leave this server alone for a minute.
Source: swift/proxy/controllers/obj.py:1940-1951, only 2xx, 409, 422 and 5xx count before the bytes are sent.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from swift.common.swob import HTTPException
from swift.common.utils import drop_buffer_cache, fdatasync

from lustack.blobs import file_stamp
from lustack.errors import LustackError
from lustack.mapping import layout, names
from lustack.mapping.metadata import Stamp
from lustack.posix.atomic import Sync, TemporaryFile, write_all
from lustack.posix.errors import XattrUnsupportedError
from lustack.posix.kernel import start_writeback
from lustack.swift import attributes, faults, removal, succession
from lustack.swift.containers import open_or_make
from lustack.swift.placement import Found, Place, choose, choose_directory, directories_of, do_again, find, note_twins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lustack.swift.device import Home
    from lustack.swift.diskfile import PosixDiskFile

_FEW_BYTES = 64 * 1024
"""What is not longer is written when all of it is there: one call of a thread does everything."""

_LONG_BYTES = 8 * 1024 * 1024
"""What comes after so much is hashed in a thread: one long upload then hashes and writes while more comes in. Many
short uploads overlap by themselves, and what is hashed as it comes in is still in the caches."""

_WRITEBACK_BYTES = 8 * 1024 * 1024
"""After so much the disk is told to begin."""

_MOST_PIECES = 64
"""Of a block; more are joined first."""

_DIRECTORY_TYPE = "application/directory"


class AbandonedError(LustackError):
    """The request has ended before its object was published."""


class PosixDiskFileWriter:
    """One upload. Not thread-safe: the methods are for the event loop, what they start runs in one thread at a time."""

    def __init__(self, disk_file: PosixDiskFile, size: int | None, bytes_per_sync: int) -> None:
        self._disk_file = disk_file
        self._key = disk_file.key
        self._size = size
        self._bytes_per_sync = bytes_per_sync
        self._line = disk_file.device.changes.line()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._upload_size = 0
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._is_hashed_beside = False
        self._is_abandoned = False
        self._written = 0
        self._last_sync = 0
        self._begun_bytes = 0
        self._temporary: TemporaryFile | None = None
        self._directories: list[bytes] = []
        self._is_kept = False
        self._is_open = False
        self._is_counted = False
        self._is_begun = False
        self._refusal: HTTPException | None = None

    def open(self) -> PosixDiskFileWriter:
        """Makes the temporary file and reserves its room. What the file system refuses is said later; rule 4.

        What is small needs no file before all of it is there.
        """
        self._is_open = self._is_counted = True
        self._disk_file.device.crowd.come()
        if self._size is not None and self._size > _FEW_BYTES:
            self._begin(self._open_temporary)
        return self

    def _begin(self, call: Callable[..., Any], *args: Any) -> None:
        """Starts a call; remembers what the file system refuses, and gives back at once what the upload took."""
        self._is_begun = True
        with self._refusing():
            self._line.start(call, *args)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            with faults.writing(self._disk_file.logger, str(self._key)):
                yield
        except HTTPException as refusal:
            self._refusal = refusal
            self._block = []
            self.close()

    def write(self, chunk: bytes) -> None:
        """Takes the next bytes. A block of them is hashed and written while the next ones come in."""
        if not self._is_open:
            message = "the writer is not open"
            raise ValueError(message)
        self._upload_size += len(chunk)
        if self._refusal is not None:
            return
        if not self._is_hashed_beside:
            self._md5.update(chunk)
        self._block.append(chunk)
        self._block_bytes += len(chunk)
        if self._block_bytes >= self._disk_file.device.crowd.block_bytes:
            self._pass_on()

    def _pass_on(self) -> None:
        """Writes what came in, and hashes it before if it is not yet, in a thread, when it is done with what was."""
        self._begin(self._hash_and_store if self._is_hashed_beside else self._store, self._take_block())
        self._is_hashed_beside = self._upload_size >= _LONG_BYTES

    def _take_block(self) -> list[bytes]:
        block, self._block, self._block_bytes = self._block, [], 0
        return block

    def chunks_finished(self) -> tuple[int, str]:
        """Bytes received and their MD5.

        Raises:
            HTTPException: the file system refuses them, or does not answer.
        """
        if self._is_begun:
            if self._is_hashed_beside:
                self._pass_on()
            with self._refusing():
                self._line.wait()
        if self._refusal is not None:
            raise self._refusal
        return self._upload_size, self._md5.hexdigest()

    def put(self, metadata: Mapping[str, Any]) -> None:
        """Publishes the object, durably, unless a newer one is there.

        Args:
            metadata: what the object server says of it.

        Raises:
            HTTPException: the file system refuses, or does not answer: then it is not published any more, unless it
                is the rename itself that hangs.
        """
        headers = attributes.to_native(metadata)
        with faults.writing(self._disk_file.logger, str(self._key)):
            self._is_begun = True
            try:
                self._line.run(self._finish, headers)
            except BaseException:
                self._is_abandoned = True
                raise
            self._is_begun = False

    def commit(self, timestamp: Any) -> None:
        """Nothing to do: `put` is durable."""

    def close(self) -> None:
        """Removes what was not published, and closes what is open; a second time does nothing."""
        if self._is_counted:
            self._is_counted = False
            self._disk_file.device.crowd.go()
        if self._is_begun or self._temporary is not None or self._directories:
            self._is_begun = False
            self._line.finish(self._give_back)

    # From here on in a thread.

    def _open_temporary(self) -> TemporaryFile:
        """The temporary file, made at the first use."""
        if self._temporary is None:
            with self._disk_file.home() as home:
                self._temporary = do_again(lambda: self._create_beside(home))
            self._temporary.preallocate(self._size or 0)
        return self._temporary

    def _create_beside(self, home: Home) -> TemporaryFile:
        """A temporary file, in the directory where the object goes."""
        return self._create_in(home, self._find_place(home).directory)

    def _create_in(self, home: Home, directory: bytes) -> TemporaryFile:
        self._directories.append(directory)
        directory_fd = open_or_make(home.fd, directory)
        try:
            return TemporaryFile.create(directory_fd)
        except BaseException:
            os.close(directory_fd)
            raise

    def _hash_and_store(self, block: list[bytes]) -> None:
        # Not joined: to copy them costs more than to take the interpreter's lock again for each (measured).
        pieces = block if len(block) <= _MOST_PIECES else [b"".join(block)]
        for piece in pieces:
            self._md5.update(piece)
        self._store(pieces)

    def _store(self, block: list[bytes]) -> None:
        """Writes a block."""
        fd = self._open_temporary().fd
        self._written += write_all(fd, block)
        is_due = self._written - self._last_sync >= self._bytes_per_sync
        if is_due and self._disk_file.sync is not Sync.NEVER:
            fdatasync(fd)
            drop_buffer_cache(fd, self._last_sync, self._written - self._last_sync)
            self._last_sync = self._written
        elif self._written - self._begun_bytes >= _WRITEBACK_BYTES and self._disk_file.sync is not Sync.NEVER:
            # So that the disk is not idle until the last byte has come, and the sync at the end has little to do.
            start_writeback(fd, self._begun_bytes, self._written - self._begun_bytes)
            self._begun_bytes = self._written

    def _finish(self, headers: dict[str, str]) -> None:
        """Publishes, and gives back what is not needed any more while it is at it."""
        self._publish(headers)
        self._give_back()

    def _check_wanted(self) -> None:
        """Ends an upload whose client was told that it failed."""
        if self._is_abandoned:
            raise AbandonedError

    def _give_back(self) -> None:
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            self._close(temporary)
        directories, self._directories = self._directories, []
        for directory in directories[:-1] if self._is_kept else directories:
            self._tidy(directory)

    def _close(self, temporary: TemporaryFile) -> None:
        try:
            if not temporary.published:
                temporary.discard()
                self._remove_sidecars(temporary.fd)
        except OSError as error:
            self._disk_file.logger.warning("%s: a temporary file stays until it is swept: %s", self._key, error)
        finally:
            temporary.close()
            os.close(temporary.dirfd)

    def _tidy(self, directory: bytes) -> None:
        """Removes what only this object would have needed, or needs no more."""
        with suppress(OSError), self._disk_file.home() as home:
            removal.tidy(home, self._key, directory)

    def _remove_sidecars(self, fd: int) -> None:
        """Those of metadata that was written for an object that never came to be."""
        with suppress(XattrUnsupportedError), self._disk_file.home() as home:
            for identifier in home.attributes.sidecars(fd, layout.FILE_ATTRIBUTES):
                home.sidecars.remove(identifier)

    def _publish(self, headers: dict[str, str]) -> None:
        with self._disk_file.home() as home, home.lock(self._key):
            left = do_again(lambda: self._compare_and_replace(home, headers))
        for directory in left:
            self._tidy(directory)

    def _compare_and_replace(self, home: Home, headers: dict[str, str]) -> list[bytes]:
        """Returns the directories where the object is no longer."""
        current = find(home, self._key)
        try:
            if self._disk_file.newest(home, current) > headers["X-Timestamp"]:
                return []
            return self._replace(home, current, headers)
        finally:
            if current is not None:
                os.close(current.fd)

    def _replace(self, home: Home, current: Found | None, headers: dict[str, str]) -> list[bytes]:
        if current is None:
            self._put_in_place_of(home, None, [], headers)
            return []
        hidden = succession.older_puts(home, self._key, current, headers["X-Timestamp"])
        try:
            new = self._put_in_place_of(home, current, hidden, headers)
        finally:
            for found in hidden:
                os.close(found.fd)
        return [found.place.directory for found in (current, *hidden) if found.place != new]

    def _put_in_place_of(
        self, home: Home, current: Found | None, hidden: list[Found], headers: dict[str, str]
    ) -> Place:
        marker = self._marker_place(home, current, headers)
        if marker is not None:
            self._check_wanted()
            # A marker shows, or nothing does: what it hides no job can have put it before.
            succession.remove_others(home, hidden, marker)
            self._mark(home, marker, headers)
            new = marker
        else:
            new = self._rename(home, current, hidden, headers)
        self._is_kept = True
        return new

    def _rename(self, home: Home, current: Found | None, hidden: list[Found], headers: dict[str, str]) -> Place:
        if current is not None and not current.place.is_marker:
            place, older = current.place, hidden
        else:
            place, older = choose(home, self._key), [*hidden, *([current] if current else [])]
        first = succession.first_place(home, self._key, place, older)
        overwritten = [found for found in (current, *hidden) if found and found.place in (first, place)]
        old_sidecars = [each for found in overwritten for each in removal.sidecars_of(home, found)]
        temporary = self._complete_in(home, first.directory)
        self._describe(home, current, temporary, headers)
        self._note_twin(home, first)
        temporary.publish(first.entry, self._disk_file.sync, self._check_wanted)
        succession.remove_others(home, older, first)
        place = succession.move_up(temporary, first, place, self._disk_file.sync)
        if self._upload_size > self._disk_file.manager.keep_cache_size:
            drop_buffer_cache(temporary.fd, 0, self._upload_size)
        for identifier in old_sidecars:
            home.sidecars.remove(identifier)
        return place

    def _describe(self, home: Home, current: Found | None, temporary: TemporaryFile, headers: dict[str, str]) -> None:
        temporary.backdate()
        stamp = file_stamp(os.fstat(temporary.fd))
        home.attributes.write_data(temporary.fd, layout.FILE_ATTRIBUTES, attributes.data_layer(stamp, headers))
        if current is not None:
            timestamp = headers["X-Timestamp"]
            home.attributes.keep_newer_meta(current, temporary.fd, layout.FILE_ATTRIBUTES, timestamp)

    def _complete_in(self, home: Home, directory: bytes) -> TemporaryFile:
        """The temporary file with all its bytes, in the directory of the object; what is small is made only now."""
        if self._temporary is None:
            self._temporary = self._create_in(home, directory)
        else:
            self._move_to(home, directory, self._temporary)
        write_all(self._temporary.fd, self._take_block())
        return self._temporary

    def _move_to(self, home: Home, directory: bytes, temporary: TemporaryFile) -> None:
        """Follows when the directory of the object became another one while the bytes came in."""
        directory_fd = open_or_make(home.fd, directory)
        try:
            if not os.path.sameopenfile(directory_fd, temporary.dirfd):
                os.rename(temporary.name, temporary.name, src_dir_fd=temporary.dirfd, dst_dir_fd=directory_fd)
                directory_fd, temporary.dirfd = temporary.dirfd, directory_fd
                self._directories.append(directory)
        finally:
            os.close(directory_fd)

    def _find_place(self, home: Home) -> Place:
        current = find(home, self._key)
        if current is None:
            return choose(home, self._key)
        os.close(current.fd)
        if current.place.is_marker:
            return choose(home, self._key)
        return current.place

    def _note_twin(self, home: Home, place: Place) -> None:
        if place.path != home.path + b"/" + names.encode(self._key.name):
            note_twins(home)

    def _marker_place(self, home: Home, current: Found | None, headers: dict[str, str]) -> Place | None:
        """The directory that can stand for an empty object; None where a file must."""
        name = self._key.name
        is_slash = name.endswith("/")
        if self._upload_size or (current is not None and not current.place.is_marker):
            return None
        if current is not None:
            return current.place
        if not is_slash and headers.get("Content-Type", "").partition(";")[0] != _DIRECTORY_TYPE:
            return None
        steps = names.directory_steps(name.removesuffix("/") if is_slash else name)
        found = directories_of(home, steps)
        kinds = layout.SLASH_ATTRIBUTES if is_slash else layout.PLAIN_ATTRIBUTES
        return Place(found[0] if found else choose_directory(home, steps), b"", kinds)

    def _mark(self, home: Home, place: Place, headers: dict[str, str]) -> None:
        fd = open_or_make(home.fd, place.directory)
        try:
            layer = attributes.data_layer(Stamp(os.fstat(fd).st_ino, 0, 0), headers)
            home.attributes.replace_data(fd, place.attributes, layer)
            os.fsync(fd)
        finally:
            os.close(fd)
        if place.directory != home.path + b"/" + names.encode(self._key.name.removesuffix("/")):
            note_twins(home)
