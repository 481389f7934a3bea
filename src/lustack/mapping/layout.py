# SPDX-License-Identifier: Apache-2.0
"""Where lustack keeps what is its own below a device root, and the names of its extended attributes.

Rule 1: everything lies in one hidden directory at the root of the device, which no client can name.
Rule 2: temporary files lie beside their destination (same MDT, same project quota) under one reserved prefix.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

RESERVED = b".lustack"
"""The reserved directory at the root of a device, mode 0700."""

TEMPORARY_PREFIX = b".lustack.tmp."
"""Names that start so are files in the making; they are never objects."""

TOMBSTONES = RESERVED + b"/tombstones"
LOCKS = RESERVED + b"/locks"
SIDECARS = RESERVED + b"/sidecars"
FENCE = RESERVED + b"/fence"
"""Files that `lustack sync wait` makes and the daemon removes: see `lustack.sync.fence`."""

EXPORTS = RESERVED + b"/exports.json"
"""Which directories outside the device are containers: see `lustack.mapping.exports`."""

EXPORTS_LOCK = RESERVED + b"/exports.lock"
"""Who changes the table of exports holds a lock on this file."""

FOREIGN_SIDECARS = RESERVED + b"/foreign"
"""Below `<hash of the container>`: the sidecars of an export on another file system, where inode numbers are others."""

HIDDEN_CONTAINERS = RESERVED + b"/reserved"
"""Containers that Swift's own middleware makes (their names start with NUL), below `<account>/<container>`."""

ATTRIBUTE_MADE = "user.lustack.made"
"""On a directory that a PUT made on demand: the last DELETE in it may remove it."""

ATTRIBUTE_EXPORT = "user.lustack.export"
"""On an exported directory: the mark by which it is known again."""

ATTRIBUTE_TWINS = "user.lustack.twins"
"""On a container's directory: names in it may lie at their twin's place."""


class AttributeNames(NamedTuple):
    """The attributes that hold the metadata of one object; see `lustack.mapping.metadata.Blobs`."""

    data: str
    data_system: str
    meta: str
    meta_system: str


def _attribute_names(word: str) -> AttributeNames:
    user, system = "user.lustack." + word, "trusted.lustack." + word
    return AttributeNames(user + "data", system + "data", user + "meta", system + "meta")


FILE_ATTRIBUTES = _attribute_names("")
"""On a regular file: the object that it is."""

SLASH_ATTRIBUTES = _attribute_names("slash.")
"""On a directory `a`: the object `a/`."""

PLAIN_ATTRIBUTES = _attribute_names("plain.")
"""On a directory `a`: the object `a` of type application/directory."""


def object_hash(account: str, container: str, name: str) -> str:
    """The key of an object's tombstone and lock.

    Args:
        account: account name.
        container: container name.
        name: object name.

    Returns:
        32 hexadecimal digits.
    """
    text = f"{account}/{container}/{name}"
    return hashlib.md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


def tombstone_path(key: str) -> bytes:
    """Path, relative to the device root, of the tombstone of the object with this `object_hash`."""
    return b"/".join((TOMBSTONES, key[:2].encode(), key.encode()))


def foreign_sidecars_path(account: str, container: str) -> bytes:
    """Path, relative to the device root, of the sidecars of an export on another file system."""
    return FOREIGN_SIDECARS + b"/" + object_hash(account, container, "").encode()


def lock_path(key: str) -> bytes:
    """Path, relative to the device root, of the lock file that the object with this `object_hash` shares."""
    return b"/".join((LOCKS, key[:2].encode()))
