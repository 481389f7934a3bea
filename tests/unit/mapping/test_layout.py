# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib

from lustack.mapping import layout


def test_everything_of_ours_lies_in_the_reserved_directory():
    for path in (layout.TOMBSTONES, layout.LOCKS, layout.SIDECARS, layout.HIDDEN_CONTAINERS):
        assert path.startswith(layout.RESERVED + b"/")


def test_the_names_of_attributes_never_change():
    """They are on disk."""
    assert layout.FILE_ATTRIBUTES == (
        "user.lustack.data",
        "trusted.lustack.data",
        "user.lustack.meta",
        "trusted.lustack.meta",
    )
    assert layout.SLASH_ATTRIBUTES.data == "user.lustack.slash.data"
    assert layout.PLAIN_ATTRIBUTES.meta_system == "trusted.lustack.plain.meta"
    everything = [*layout.FILE_ATTRIBUTES, *layout.SLASH_ATTRIBUTES, *layout.PLAIN_ATTRIBUTES]
    everything += [layout.ATTRIBUTE_MADE, layout.ATTRIBUTE_TWINS]
    assert len(set(everything)) == len(everything)


def test_the_hash_of_an_object_is_that_of_its_full_name():
    expected = hashlib.md5("AUTH_a/c/ö/\0".encode(), usedforsecurity=False).hexdigest()
    assert layout.object_hash("AUTH_a", "c", "ö/\0") == expected
    assert layout.object_hash("a", "c", "\udcff") != layout.object_hash("a", "c", "\udcfe")


def test_tombstones_have_a_file_each_and_locks_are_shared():
    key = layout.object_hash("a", "c", "o")
    assert layout.tombstone_path(key) == b"/".join((b".lustack/tombstones", key[:2].encode(), key.encode()))
    assert layout.lock_path(key) == b".lustack/locks/" + key[:2].encode()
