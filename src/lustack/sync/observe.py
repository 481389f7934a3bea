# SPDX-License-Identifier: Apache-2.0
"""Looks at one object: from the places where it may lie to the row that it should have.

Rule 1: places are looked at in the order of `lustack.swift.placement`: a regular file at the plain place, the marker
on a directory, a regular file at the twin's place. The first that holds counts.
Rule 2: nothing is opened but with O_PATH, and no link is followed.
Rule 3: what cannot be looked at is an error, never an absence.

A file of a job costs one lstat and one or two listxattr; only what carries attributes of ours is opened.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lustack.blobs import file_stamp, read_blobs
from lustack.mapping import content_types, layout, metadata
from lustack.mapping.layout import FILE_ATTRIBUTES, AttributeNames
from lustack.mapping.metadata import Blobs, Stamp
from lustack.mapping.view import EMPTY_ETAG, Defaults, ObjectView, Origin, describe, posix_time_ns
from lustack.posix import kernel
from lustack.posix.errors import XattrUnsupportedError
from lustack.posix.tree import open_beneath
from lustack.posix.xattrs import AttributeStore
from lustack.sync import plan
from lustack.sync.plan import Wanted

NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""Errors that say that no object lies at a place; a mount point (EXDEV) hides what may be there."""

_OURS = frozenset((*FILE_ATTRIBUTES, *layout.SLASH_ATTRIBUTES, *layout.PLAIN_ATTRIBUTES))


@dataclass(frozen=True)
class Directory:
    """An open directory.

    Attributes:
        fd: readable; owned by whoever made this.
        device: st_dev.
        proc: a path that leads to it, with a slash at its end.
    """

    fd: int
    device: int
    proc: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "proc", b"/proc/self/fd/%d/" % self.fd)

    @classmethod
    def open(cls, dirfd: int, path: bytes) -> Directory:
        """Opens one below a descriptor; links and mounts are refused."""
        fd = open_beneath(dirfd, path, os.O_RDONLY | os.O_DIRECTORY)
        return cls(fd, os.fstat(fd).st_dev)

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self.fd)


class Place(NamedTuple):
    """Where an object may lie.

    Attributes:
        directory: an open directory.
        entry: path below it of the file or, for a marker, of the directory that is it; almost always one component.
        attributes: where its metadata is.
    """

    directory: Directory
    entry: bytes
    attributes: AttributeNames = FILE_ATTRIBUTES

    @property
    def is_marker(self) -> bool:
        """Whether the object would be a directory."""
        return self.attributes is not FILE_ATTRIBUTES


@dataclass(frozen=True)
class Observer:
    """Looks at objects of one device. Thread-safe.

    Attributes:
        store: reads attributes.
        trusted: whether system metadata counts only in `trusted.*`.
        excluded: matches the last component of files that are no objects unless Swift wrote them; None: none.
    """

    store: AttributeStore
    trusted: bool
    excluded: re.Pattern[bytes] | None = None

    def observe(self, name: str, places: Sequence[Place], now_ns: int) -> Wanted | None:
        """The row that an object should have.

        Args:
            name: the object.
            places: where it may lie, the first counts.
            now_ns: the time.

        Returns:
            None if there is no such object.

        Raises:
            OSError: the file system fails.
        """
        for place in places:
            _, entry, attributes = place
            try:
                if attributes is not FILE_ATTRIBUTES or b"/" in entry:
                    wanted = self._look_closely(name, place, now_ns)
                else:
                    wanted = self.look(name, place.directory, entry, now_ns)
            except OSError as error:
                if error.errno not in NOTHING_THERE:
                    raise
                continue
            if wanted is not None:
                return wanted
        return None

    def look(self, name: str, directory: Directory, entry: bytes, now_ns: int) -> Wanted | None:
        """The row of what lies at one place for files, whose entry is one component.

        Returns:
            None if what is there is no object.

        Raises:
            OSError: among others if there is nothing.
        """
        status = os.stat(entry, dir_fd=directory.fd, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode) or status.st_dev != directory.device:
            return None
        if kernel.may_have_attributes(directory.fd, entry) and _has_ours(directory, entry):
            return self._look_closely(name, Place(directory, entry), now_ns)
        if self.excluded is not None and self.excluded.match(entry):
            return None
        return want_bare(name, status, now_ns)

    def _look_closely(self, name: str, place: Place, now_ns: int) -> Wanted | None:
        fd = open_beneath(place.directory.fd, place.entry, os.O_PATH)
        try:
            view = self.view(name, fd, place.attributes, now_ns)
        finally:
            os.close(fd)
        if view is None or (view.origin is Origin.POSIX and not place.is_marker and self.excludes(place.entry)):
            return None
        return plan.want(view)

    def excludes(self, entry: bytes) -> bool:
        """Whether an entry is no object unless Swift wrote it."""
        return self.excluded is not None and self.excluded.match(entry.rpartition(b"/")[2]) is not None

    def view(self, name: str, fd: int, attributes: AttributeNames, now_ns: int) -> ObjectView | None:
        """An open file or directory (O_PATH is enough) as an object, None if it is none."""
        status = os.fstat(fd)
        is_marker = attributes is not FILE_ATTRIBUTES
        if not is_marker and not stat.S_ISREG(status.st_mode):
            return None
        blobs, problems = self.blobs(fd, attributes)
        if is_marker and not _is_marked(blobs, status.st_ino):
            return None
        stamp = Stamp(status.st_ino, 0, 0) if is_marker else file_stamp(status)
        defaults = Defaults(now_ns, content_types.guess(name), self.trusted)
        view = describe(stamp, status.st_ctime_ns, blobs, defaults)
        return replace(view, problems=(*view.problems, *problems)) if problems else view

    def blobs(self, fd: int, names: AttributeNames) -> tuple[Blobs, tuple[str, ...]]:
        """What a file carries, and a sentence for each layer that is damaged and so does not count."""
        try:
            return read_blobs(self.store, fd, names, trusted=self.trusted)
        except XattrUnsupportedError:
            return Blobs(), ()


def _has_ours(directory: Directory, entry: bytes) -> bool:
    return not _OURS.isdisjoint(list_attributes(directory.proc + entry))


def list_attributes(path: bytes) -> list[str]:
    """The names of the attributes of a file, none where the file system has no attributes; links are not followed."""
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return []


def want_bare(name: str, status: os.stat_result, now_ns: int) -> Wanted:
    """The row of a file that carries nothing of ours: what `describe` and `plan.want` say, without the detour."""
    size_bytes = status.st_size
    modified = metadata.timestamp_text(posix_time_ns(status.st_mtime_ns, status.st_ctime_ns, now_ns))
    etag = (
        f"; s3_etag={metadata.opaque_etag(status.st_ino, size_bytes, status.st_mtime_ns)}" if size_bytes else EMPTY_ETAG
    )
    # Half the price of calling the class: there is one for each file.
    return tuple.__new__(Wanted, (size_bytes, content_types.guess(name), etag, modified, "", not size_bytes))


def _is_marked(blobs: Blobs, inode: int) -> bool:
    """Whether a directory is a marker: `cp -a` copies the attribute, but not the inode that it names."""
    with suppress(metadata.CorruptMetadataError):
        return blobs.data is not None and metadata.parse_data(blobs.data, None, trusted=False).stamp.inode == inode
    return False
