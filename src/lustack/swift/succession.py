# SPDX-License-Identifier: Apache-2.0
"""How a new object takes the place of every older one of its name, so that none shows again, whatever is killed when.

A name has several places (see `placement`), and one that is hidden by a better one shows when that goes. What Swift
wrote before and something hides must be gone when the new object shows, and must not go before that one is on disk.

    a job's file shows, an older object is hidden      what shows when the job's file goes: the older one
    the new one, at the hidden place                   the older one, or the new one
    the same, and nothing else is hidden               the new one
    the new one shows: renamed, over the job's file    nothing

Rule 1: one rename makes the new object show and its hidden place empty.
Rule 2: bytes of jobs in a hidden place stay: they are somebody's file.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from lustack.mapping import names
from lustack.mapping.view import Origin
from lustack.posix.tree import open_beneath
from lustack.swift.placement import find_hidden, is_free, plain_place
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
        A place of a file; that where it goes in the end if nothing is hidden, or if nothing is free.
    """
    places = [found.place for found in older]
    files = [each for each in places if not each.is_marker]
    twin = plain_place(place.directory + b"/" + names.steps(key.name)[-1].twin)
    if files or not places:
        return files[0] if files else place
    return twin if is_free(home, twin) else place


def remove_others(home: Home, older: Iterable[Found], kept: Place) -> None:
    """Removes everything but what is at one place."""
    for found in older:
        if found.place != kept:
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                # A job was quicker.
                remove_place(home, found)


def move_up(home: Home, temporary: TemporaryFile, first: Place, place: Place, sync: Sync) -> Place:
    """Makes the new object show.

    Args:
        home: of its container.
        temporary: the new object.
        first: where it is.
        place: where it goes.
        sync: how durably.

    Returns:
        Where it is then: where it was, if a job has put a directory into its place, or removed the one that held it.

    Raises:
        OSError: the file system fails.
    """
    if place == first:
        return place
    try:
        directory_fd = open_beneath(home.fd, place.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            temporary.move(first.entry, directory_fd, place.entry, sync)
        finally:
            os.close(directory_fd)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return first
    return place
