# SPDX-License-Identifier: Apache-2.0
"""What no kill is needed for; tests/functional/test_crash_points.py kills at every step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from lustack.mapping import layout
from lustack.posix.atomic import Sync, TemporaryFile
from lustack.swift import succession
from lustack.swift.device import Home
from lustack.swift.placement import Found, Key, Place, find, find_hidden, note_twins, plain_place

KEY = Key("a", "c", "d/")
# More than an attribute holds, on most file systems: in a sidecar.
MANY = {f"X_Object_Meta_{number}": "m" * 4000 for number in range(20)}


@pytest.fixture
def home(files) -> Iterator[Home]:
    """A marker that Swift wrote, hidden by the file of a job."""
    files.put("d/", b"", 1, X_Object_Meta_A="marker")
    files.write("d/%", b"job")
    with files.device.home("a", "c") as home:
        note_twins(home)
        yield home


@contextlib.contextmanager
def hidden(home: Home, timestamp: str = "1700000009.00000") -> Iterator[list[Found]]:
    current = find(home, KEY)
    assert current is not None
    found = succession.older_puts(home, KEY, current, timestamp)
    try:
        yield found
    finally:
        for each in (current, *found):
            os.close(each.fd)


def below(files, path: str) -> bytes:
    return os.fsencode(os.path.relpath(files.directory / path, files.root))


def test_what_an_older_put_wrote_is_older_and_what_a_newer_one_wrote_is_not(files, home):
    marker = Place(below(files, "d"), b"", layout.SLASH_ATTRIBUTES)
    with hidden(home) as found:
        assert [each.place for each in found] == [marker]
    with hidden(home, "0000000001.00000") as found:
        assert found == []


def test_what_hides_nothing_is_put_where_it_goes(files, home):
    place = plain_place(below(files, "d/%"))
    assert succession.first_place(home, KEY, place, []) == place


def test_what_replaces_a_hidden_marker_goes_to_its_twins_place_first_if_that_is_free(files, home):
    place = plain_place(below(files, "d/%"))
    with hidden(home) as found:
        first = succession.first_place(home, KEY, place, found)
        assert (first.directory, first.entry) == (place.directory, b"%%file")
        files.write("d/%%file", b"job")
        assert succession.first_place(home, KEY, place, found) == place


def test_what_a_job_removed_meanwhile_is_gone(files, home):
    with hidden(home) as found:
        for _ in range(2):
            succession.remove_others(home, found, plain_place(below(files, "d/%")))
    assert [each.place for each in find_hidden(home, KEY, plain_place(below(files, "d/%")))] == []


def test_a_name_that_is_too_long_for_one_entry_goes_where_it_goes_at_once(files, home):
    place = plain_place(below(files, "d/%"))
    with hidden(home) as found:
        assert succession.first_place(home, Key("a", "c", "n" * 300), place, found) == place


def test_what_cannot_move_up_stays_where_it_is(files, home):
    first = plain_place(below(files, "first"))
    directory_fd = os.open(files.directory, os.O_RDONLY)
    try:
        with TemporaryFile.create(directory_fd) as temporary:
            temporary.publish(b"first")
            for entry in ("d", "first"):
                place = plain_place(below(files, entry))
                assert succession.move_up(temporary, first, place, Sync.ALWAYS) == first
    finally:
        os.close(directory_fd)
    assert (files.directory / "first").exists()


def test_an_object_that_a_job_hid_goes_with_the_put_and_with_its_sidecars(files):
    files.put("a", b"in the way", 1)
    files.put("a/b", b"old", 2, **MANY)
    os.unlink(files.directory / "a")
    files.write("a/b", b"job")
    files.put("a/b", b"new", 4)
    assert files.tree() == ["a/", "a/b"]
    assert files.sidecars() == []
    assert files.get("a/b") == b"new"


def test_an_object_at_its_own_twins_place_is_overwritten_there(files):
    files.put("a/b", b"in the way", 1)
    files.put("a", b"old", 2, **MANY)
    files.delete("a/b", 3)
    (files.directory / "a").rename(files.directory / "a%file")
    files.write("a", b"job")
    files.put("a", b"new", 4)
    assert files.tree() == ["a"]
    assert files.sidecars() == []
    assert files.get("a") == b"new"


def test_a_delete_removes_what_is_hidden_too(files):
    files.put("d/", b"", 1)
    files.write("d/%", b"job")
    files.delete("d/", 2)
    assert files.tree() == []
