# SPDX-License-Identifier: Apache-2.0
"""How a new object takes the place of every older one of its name, so that none shows again, whatever is killed when.

A name has several places (see `placement`), and one that is hidden by a better one shows when that goes. What Swift
wrote before and something hides must be gone when the new object shows, and must not go before that one is on disk.

    a job's file shows, an older object is hidden      what shows when the job's file goes: the older one
    besides, the new one is at the twin's place        the older one
    nothing else is hidden                             the new one
    it shows: renamed, over the job's file             nothing

Rule 1: one rename makes the new object show and its hidden place empty. Both are in one directory: where directories
    have projects of their own (quotas) a rename from one to the other fails.
Rule 2: bytes of jobs in a hidden place stay: they are somebody's file.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lustack.mapping import names
from lustack.mapping.view import Origin
from lustack.swift.placement import find_hidden, is_free
from lustack.swift.removal import remove_place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lustack.posix.atomic import Sync, TemporaryFile
    from lustack.swift.device import Home
    from lustack.swift.placement import Found, Key, Place


def older_puts(home: Home, key: Key, current: Found, timestamp: str) -> list[Found]:
    """What older PUTs wrote and something hides. The caller holds the lock of the object.

    Args:
        home: of its container.
        key: the object.
        current: what shows.
        timestamp: of the new PUT, in internal form.

    Returns:
        Objects whose descriptors the caller owns.

    Raises:
        OSError: the file system fails.
    """
    older = []
    for found in find_hidden(home, key, current.place):
        if _is_older_put(home, key, found, timestamp):
            older.append(found)
        else:
            os.close(found.fd)
    return older


def _is_older_put(home: Home, key: Key, found: Found, timestamp: str) -> bool:
    """Whether the bytes are those that an older PUT wrote."""
    if not "" < home.attributes.swift_timestamp(found) < timestamp:
        return False
    return home.attributes.view(found, key.name, time.time_ns()).origin is Origin.SWIFT


def first_place(home: Home, key: Key, place: Place, older: Iterable[Found]) -> Place:
    """Where the new object goes first: behind what shows.

    Args:
        home: of its container.
        key: the object.
        place: where it goes in the end.
        older: what must not show again.

    Returns:
        A place in the same directory; that where it goes in the end if nothing is hidden, or if nothing is free: a
        kill may then leave something.
    """
    places = [found.place for found in older]
    last = names.steps(key.name)[-1]
    if not places or b"/" in last.plain + last.twin:
        return place
    twin = replace(place, entry=last.twin)
    return twin if twin in places or is_free(home, twin) else place


def remove_others(home: Home, older: Iterable[Found], kept: Place) -> None:
    """Removes everything but what is at one place."""
    for found in older:
        if found.place != kept:
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                # A job was quicker.
                remove_place(home, found)


def move_up(temporary: TemporaryFile, first: Place, place: Place, sync: Sync) -> Place:
    """Makes the new object show.

    Args:
        temporary: the new object.
        first: where it is.
        place: where it goes, in the same directory.
        sync: how durably.

    Returns:
        Where it is then: where it was, if a job has put a directory into its place.

    Raises:
        OSError: the file system fails.
    """
    if place == first:
        return place
    try:
        temporary.move(first.entry, place.entry, sync)
    except (FileNotFoundError, IsADirectoryError):
        return first
    return place
