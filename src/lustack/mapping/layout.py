# SPDX-License-Identifier: Apache-2.0
"""Where lustack keeps what is its own below a device root, and the names of its extended attributes.

Rule 1: everything lies in one hidden directory at the root of the device, which no client can name.
Rule 2: temporary files lie beside their destination (same MDT, same project quota) under one reserved prefix.
"""

from __future__ import annotations

import hashlib

RESERVED = b".lustack"
"""The reserved directory at the root of a device, mode 0700."""

TEMPORARY_PREFIX = b".lustack.tmp."
"""Names that start so are files in the making; they are never objects."""

TOMBSTONES = RESERVED + b"/tombstones"
LOCKS = RESERVED + b"/locks"
SIDECARS = RESERVED + b"/sidecars"
HIDDEN_CONTAINERS = RESERVED + b"/reserved"
"""Containers that Swift's own middleware makes (their names start with NUL), below `<account>/<container>`."""

ATTRIBUTE_DATA = "user.lustack.data"
ATTRIBUTE_DATA_SYSTEM = "trusted.lustack.data"
ATTRIBUTE_META = "user.lustack.meta"
ATTRIBUTE_META_SYSTEM = "trusted.lustack.meta"
ATTRIBUTE_SLASH = "user.lustack.slash"
ATTRIBUTE_PLAIN = "user.lustack.plain"
ATTRIBUTE_MADE = "user.lustack.made"
ATTRIBUTE_TWINS = "user.lustack.twins"


def object_hash(account: str, container: str, name: str) -> str:
    """The key of an object's tombstone and lock.

    Args:
        account: account name.
        container: container name.
        name: object name.

    Returns:
        32 hexadecimal digits.
    """
    text = "/".join((account, container, name))
    return hashlib.md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


def tombstone_path(key: str) -> bytes:
    """Path, relative to the device root, of the tombstone of the object with this `object_hash`."""
    return b"/".join((TOMBSTONES, key[:2].encode(), key.encode()))


def lock_path(key: str) -> bytes:
    """Path, relative to the device root, of the lock file that the object with this `object_hash` shares."""
    return b"/".join((LOCKS, key[:2].encode()))
