# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import os
import resource

import pytest
from tests.listings import Timer

from lustack.mapping import layout
from lustack.sync.locate import MOST_DIRECTORIES, Locator
from lustack.sync.observe import Directory


@contextlib.contextmanager
def locator(playground, timer=None):
    with (
        playground.directory() as directory,
        contextlib.closing(Locator(directory, timer or Timer(step_ns=0).seconds)) as found,
    ):
        yield found


def shown(places):
    return [(os.readlink(f"/proc/self/fd/{each.directory.fd}").rpartition("/")[2], each.entry) for each in places]


def test_a_file_is_at_its_plain_place_or_a_marker_or_at_its_twins_place(playground):
    with locator(playground) as found:
        places = found.places("o")
    assert [(each.entry, each.is_marker) for each in places] == [
        (b"o", False),
        (b"o", True),
        (b"o%dir", True),
        (b"o%file", False),
    ]


def test_a_name_that_ends_in_a_slash_may_be_a_marker_on_the_directory_itself(playground):
    (playground.container / "d").mkdir()
    with locator(playground) as found:
        places = found.places("d/")
        assert shown(places) == [("d", b"%"), ("d", b"."), ("d", b"%%file")]
        assert places[1].attributes is layout.SLASH_ATTRIBUTES


def test_twins_of_directories_are_looked_into_too(playground):
    (playground.container / "d%dir").mkdir()
    with locator(playground) as found:
        assert {folder for folder, _ in shown(found.places("d/o"))} == {"d%dir"}
        assert found.places("e/o") == []
        (playground.container / "d").mkdir()
        assert {folder for folder, _ in shown(found.places("d/o"))} == {"d", "d%dir"}


def test_directories_stay_open_for_a_moment_only(playground):
    timer = Timer(step_ns=40_000_000)
    (playground.container / "d").mkdir()
    with locator(playground, timer.seconds) as found:
        first = found.places("d/o")[0].directory
        assert found.places("d/p")[0].directory is first
        for _ in range(4):
            last = found.places("d/q")[0].directory
        assert last is not first


def test_one_directory_too_many_is_not_looked_into(playground):
    above = [playground.container]
    for step in range(7):
        above = [each / entry for each in above for entry in (f"{step}", f"{step}%dir")]
    for path in above:
        path.mkdir(parents=True)
    with locator(playground) as found:
        places = found.places("0/1/2/3/4/5/6/o")
    assert len({each.directory for each in places}) == MOST_DIRECTORIES


@contextlib.contextmanager
def room_for_descriptors(count: int):
    """Let this process open so many more files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_after_an_error_nothing_half_open_is_taken_for_all(playground):
    (playground.container / "d").mkdir()
    (playground.container / "d%dir").mkdir()
    with locator(playground) as found:
        with room_for_descriptors(1), pytest.raises(OSError, match="Too many open files"):
            found.places("d/o")
        assert {folder for folder, _ in shown(found.places("d/o"))} == {"d", "d%dir"}


def test_a_directory_has_a_path_that_leads_to_it(playground):
    with playground.directory() as directory:
        assert isinstance(directory, Directory)
        assert os.stat(directory.proc).st_ino == playground.container.stat().st_ino
