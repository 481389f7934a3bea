# SPDX-License-Identifier: Apache-2.0
"""Reads what a file carries of an object: attributes of `lustack.posix.xattrs` as `lustack.mapping.metadata` has them.

Rule 1: each layer is for itself: one that is damaged does not count, and the other one does.
Rule 2: the system's part is read only where it counts: an attribute more costs a round trip on Lustre.
"""

from __future__ import annotations

import os

from lustack.mapping import metadata
from lustack.mapping.layout import AttributeNames
from lustack.mapping.metadata import Blobs, Stamp
from lustack.posix.errors import CorruptAttributeError
from lustack.posix.xattrs import AttributeStore

Pair = tuple[bytes | None, bytes | None]
"""A layer: the blob, and its system's part."""


def file_stamp(status: os.stat_result) -> Stamp:
    """The stamp of a regular file."""
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


def read_blobs(
    store: AttributeStore, fd: int, names: AttributeNames, *, trusted: bool
) -> tuple[Blobs, tuple[str, ...]]:
    """The blobs of an object, and a sentence for each layer that is damaged.

    Args:
        store: where attributes and what overflows them are.
        fd: of the file or directory; O_PATH is enough.
        names: of the attributes.
        trusted: whether system metadata counts only in `trusted.*`.

    Raises:
        XattrUnsupportedError: the file system has no attributes.
        OSError: the file system fails.
    """
    problems: list[str] = []
    data = _read_or_tell(store, fd, (names.data, names.data_system), problems, trusted=trusted)
    meta = _read_or_tell(store, fd, (names.meta, names.meta_system), problems, trusted=trusted)
    return Blobs(*data, *meta), tuple(problems)


def read_layer(store: AttributeStore, fd: int, names: tuple[str, str], *, trusted: bool) -> Pair:
    """One layer.

    Args:
        store: as for `read_blobs`.
        fd: likewise.
        names: of the attribute, and of that for its system's part.
        trusted: as for `read_blobs`.

    Raises:
        CorruptAttributeError: it is damaged.
        XattrUnsupportedError: the file system has no attributes.
        OSError: the file system fails.
    """
    name, system_name = names
    blob = store.read(fd, name)
    has_system = trusted and blob is not None and metadata.names_system_part(blob)
    return blob, store.read(fd, system_name) if has_system else None


def _read_or_tell(
    store: AttributeStore, fd: int, names: tuple[str, str], problems: list[str], *, trusted: bool
) -> Pair:
    try:
        return read_layer(store, fd, names, trusted=trusted)
    except CorruptAttributeError as error:
        problems.append(str(error))
        return None, None
