# SPDX-License-Identifier: Apache-2.0
"""Reads what an object carries, and writes it.

Here HTTP's strings (bytes as Latin-1, PEP 3333) and the native text of `lustack.mapping.metadata` meet.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from swift.common.constraints import MAX_HEADER_COUNT

from lustack.blobs import file_stamp, read_blobs, read_layer
from lustack.mapping import content_types, metadata
from lustack.mapping.metadata import Blobs, DataLayer, MetaLayer, Stamp
from lustack.mapping.view import Defaults, ObjectView, describe
from lustack.posix.errors import CorruptAttributeError
from lustack.posix.xattrs import choose_present

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lustack.mapping.layout import AttributeNames
    from lustack.posix.xattrs import AttributeStore
    from lustack.swift.placement import Found

# A proxy fails on an object server's answer with more than 1.6 times as many headers, and after a few failures leaves
# the server alone, for everybody. Source: swift/common/bufferedhttp.py:44, swift/common/error_limiter.py.
_MOST_HEADERS = MAX_HEADER_COUNT + MAX_HEADER_COUNT // 4
_NOT_STORED = frozenset({"content-length", "name"})


def stamp_of(found: Found) -> Stamp:
    """The bytes that are there now. A marker has none, and its directory's times mean nothing."""
    if found.place.is_marker:
        return Stamp(found.status.st_ino, 0, 0)
    return file_stamp(found.status)


def to_native(headers: Mapping[str, Any]) -> dict[str, str]:
    """Metadata of the object server -> what is stored."""
    return {_native(key): _native(str(value)) for key, value in headers.items() if key.lower() not in _NOT_STORED}


def to_http(headers: Mapping[str, str]) -> dict[str, str]:
    """What is stored -> metadata of the object server."""
    return {_http(key): _http(value) for key, value in headers.items()}


@dataclass(frozen=True)
class Attributes:
    """The metadata of the objects of one device.

    Attributes:
        store: where attributes and what overflows them are.
        trusted: whether system metadata goes to `trusted.*`.
    """

    store: AttributeStore
    trusted: bool

    def view(self, found: Found, name: str, now_ns: int) -> ObjectView:
        """An object as it is.

        Args:
            found: the object.
            name: its name, for the Content-Type of a file of a job.
            now_ns: the time of the request.
        """
        blobs, problems = self.blobs(found.fd, found.place.attributes)
        defaults = Defaults(now_ns, content_types.guess(name), self.trusted, time.time_ns())
        view = describe(stamp_of(found), found.status.st_ctime_ns, blobs, defaults)
        if len(view.merged()) > _MOST_HEADERS:
            problems = (*problems, f"it has more than {_MOST_HEADERS} headers")
            view = describe(stamp_of(found), found.status.st_ctime_ns, Blobs(), defaults)
        if problems:
            return replace(view, problems=(*view.problems, *problems))
        return view

    def blobs(self, fd: int, names: AttributeNames) -> tuple[Blobs, tuple[str, ...]]:
        """The blobs of an object, and a sentence for each layer that is damaged: then it does not count."""
        return read_blobs(self.store, fd, names, trusted=self.trusted)

    def swift_timestamp(self, found: Found) -> str:
        """When Swift wrote this object, in internal form; empty if a job made it. What jobs changed does not count."""
        layer = self._old_data(found.fd, found.place.attributes)
        if (
            layer is None
            or layer.stamp.inode != found.status.st_ino
            or metadata.is_from_future(layer.headers, time.time_ns())
        ):
            return ""
        return layer.headers.get("X-Timestamp", "")

    def write_data(self, fd: int, names: AttributeNames, layer: DataLayer) -> None:
        """Writes what PUT says; before the file gets its name."""
        self._write_data(fd, names, metadata.render_data(layer, trusted=self.trusted))

    def replace_data(self, fd: int, names: AttributeNames, layer: DataLayer) -> None:
        """Writes what PUT says over what an earlier PUT said. A crash leaves the one or the other."""
        replaced = self._old_data(fd, names)
        self._write_data(fd, names, metadata.render_data(layer, replaced, trusted=self.trusted))

    def _write_data(self, fd: int, names: AttributeNames, blobs: Blobs) -> None:
        self._write(fd, names.data_system, blobs.data_system)
        self._write(fd, names.data, blobs.data)

    def _write(self, fd: int, name: str, blob: bytes | None) -> None:
        if blob is not None:
            self.store.write(fd, name, blob)

    def write_meta(self, fd: int, names: AttributeNames, layer: MetaLayer) -> None:
        """Writes what POST says. One attribute decides, so a crash leaves the old or the new."""
        old = self._old_meta(fd, names)
        blobs = metadata.render_meta(metadata.merge_meta(old, layer), old, trusted=self.trusted)
        self._write(fd, names.meta_system, blobs.meta_system)
        self._write(fd, names.meta, blobs.meta)

    def keep_newer_meta(self, replaced: Found, fd: int, names: AttributeNames, timestamp: str) -> None:
        """A POST that is newer than the PUT that replaces its object stays in force.

        Args:
            replaced: the object that goes.
            fd: of what takes its place.
            names: its attributes.
            timestamp: of the PUT, in internal form.
        """
        layer = self._old_meta(replaced.fd, replaced.place.attributes)
        if layer is None or layer.inode != replaced.status.st_ino or layer.headers["X-Timestamp"] <= timestamp:
            return
        self.write_meta(fd, names, replace(layer, inode=os.fstat(fd).st_ino))

    def remove(self, fd: int, names: AttributeNames) -> None:
        """Removes every attribute of an object, that which makes it one first."""
        for name in names if self.trusted else (names.data, names.meta):
            self.store.remove(fd, name)

    def sidecars(self, fd: int, names: AttributeNames) -> list[bytes]:
        """The sidecars that go with an object."""
        found = [self.store.sidecar_of(fd, name) for name in choose_present(fd, names)]
        return [identifier for identifier in found if identifier is not None]

    def _old_data(self, fd: int, names: AttributeNames) -> DataLayer | None:
        try:
            blob, system = read_layer(self.store, fd, (names.data, names.data_system), trusted=self.trusted)
            return metadata.parse_data(blob or b"", system, trusted=self.trusted)
        except (CorruptAttributeError, metadata.CorruptMetadataError):
            return None

    def _old_meta(self, fd: int, names: AttributeNames) -> MetaLayer | None:
        try:
            blob, system = read_layer(self.store, fd, (names.meta, names.meta_system), trusted=self.trusted)
            layer = metadata.parse_meta(blob or b"", system, trusted=self.trusted)
        except (CorruptAttributeError, metadata.CorruptMetadataError):
            return None
        return None if metadata.is_from_future(layer.headers, time.time_ns()) else layer


def data_layer(stamp: Stamp, headers: Mapping[str, str]) -> DataLayer:
    """A data layer of native headers, the system's apart."""
    own = {key: value for key, value in headers.items() if not metadata.is_system(key)}
    return DataLayer(stamp, own, {key: value for key, value in headers.items() if metadata.is_system(key)})


def meta_layer(inode: int, headers: Mapping[str, str]) -> MetaLayer:
    """A meta layer of native headers, the system's apart."""
    own = {key: value for key, value in headers.items() if not metadata.is_system(key)}
    return MetaLayer(inode, own, {key: value for key, value in headers.items() if metadata.is_system(key)})


def _native(text: str) -> str:
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Already native: Swift's own code adds such values now and then.
        return text


def _http(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")
