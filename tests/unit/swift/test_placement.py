# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.objects import NEEDS_ROOT

from lustack.mapping import layout, names
from lustack.swift import placement
from lustack.swift.device import Device, Home
from lustack.swift.placement import Key, Place

CONTAINER = names.container_path("a", "c")


@pytest.fixture
def container(tmp_path) -> Path:
    path = tmp_path / "a" / "c"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def home(tmp_path, container) -> Iterator[Home]:
    with Device(str(tmp_path)).home("a", "c") as found:
        yield found


def find(home: Home, name: str) -> bytes | None:
    """Path of an object below its container, None if there is none."""
    found = placement.find(home, Key("a", "c", name))
    if found is None:
        return None
    assert os.path.samestat(os.fstat(found.fd), found.status)
    os.close(found.fd)
    return found.place.path[len(CONTAINER) + 1 :]


def choose(home: Home, name: str) -> bytes:
    return placement.choose(home, Key("a", "c", name)).path[len(CONTAINER) + 1 :]


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


class TestKey:
    def test_it_reads_like_a_path(self):
        assert str(Key("a", "c", "x/y")) == "/a/c/x/y"

    def test_its_hash_is_that_of_its_lock(self):
        assert Key("a", "c", "o").hash == layout.object_hash("a", "c", "o")


class TestPlace:
    def test_a_file_is_an_entry_of_a_directory(self):
        place = placement.plain_place(b"a/c/x/y")
        assert (place.directory, place.entry, place.path) == (b"a/c/x", b"y", b"a/c/x/y")
        assert not place.is_marker

    def test_a_marker_is_a_directory(self):
        place = Place(b"a/c/x", b"", layout.SLASH_ATTRIBUTES)
        assert (place.is_marker, place.path) == (True, b"a/c/x")


class TestFind:
    def test_most_objects_lie_at_their_plain_place(self, home, container):
        touch(container / "x" / "y")
        assert find(home, "x/y") == b"x/y"
        assert find(home, "x") is None
        assert find(home, "z") is None

    @pytest.mark.parametrize("path", ["a%dir/b", "a/b%file", "a%dir/b%file"])
    def test_twins_are_looked_for_where_something_stands_in_the_plain_place(self, home, container, path):
        touch(container / path)
        if "%dir" in path:
            touch(container / "a")
        else:
            (container / "a" / "b").mkdir()
        assert find(home, "a/b") == os.fsencode(path)

    def test_twins_are_looked_for_in_a_container_that_had_some(self, home, container):
        touch(container / "a%file")
        assert find(home, "a") is None
        placement.note_twins(home)
        placement.note_twins(home)
        assert find(home, "a") == b"a%file"

    def test_the_plain_place_counts_before_the_twin(self, home, container):
        touch(container / "a")
        touch(container / "a%file")
        assert find(home, "a") == b"a"

    def test_planted_twins_at_each_level_do_not_double_the_work_without_an_end(self, home, container):
        level = [container]
        for _ in range(7):
            level = [path / entry for path in level for entry in ("x", "x%dir")]
            for path in level:
                path.mkdir()
        touch(level[0] / "o")
        placement.note_twins(home)
        assert find(home, "x/" * 7 + "o") == b"x/" * 7 + b"o"
        assert find(home, "x/" * 7 + "other") is None

    @pytest.mark.parametrize(("name", "twin", "plain"), [("a/b", "a%dir", "a"), ("a", "a%file", "a")])
    def test_a_twin_that_gets_its_plain_place_back_meanwhile_is_found(self, home, container, name, twin, plain):
        placement.note_twins(home)
        for _ in range(100):
            if (container / "a").is_dir():
                shutil.rmtree(container / "a")
            (container / "a").unlink(missing_ok=True)
            touch(container / twin / "b" if name == "a/b" else container / twin)
            mover = threading.Thread(target=os.rename, args=(container / twin, container / plain))
            mover.start()
            is_moved = False
            while not is_moved:
                is_moved = not mover.is_alive()
                assert find(home, name) is not None
            mover.join()

    @NEEDS_ROOT
    def test_a_directory_whose_attributes_are_hidden_says_so(self, home, container, tmp_path):
        (container / "a").mkdir(mode=0o700)
        for path in (tmp_path, *tmp_path.parents[:2]):
            path.chmod(0o755)
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionError):
                find(home, "a/")
        finally:
            os.seteuid(0)


class TestChoose:
    def test_the_plain_place_is_the_first_choice(self, home, container):
        assert choose(home, "x/y") == b"x/y"
        touch(container / "x" / "y")
        assert choose(home, "x/y") == b"x/y"

    def test_a_twin_is_the_second(self, home, container):
        touch(container / "x")
        (container / "d").mkdir()
        assert choose(home, "x/y") == b"x%dir/y"
        assert choose(home, "d") == b"d%file"
        assert choose(home, "d/") == b"d/%"

    def test_there_is_no_third(self, home, container):
        (container / "d").mkdir()
        (container / "d%file").mkdir()
        with pytest.raises(FileExistsError):
            choose(home, "d")

    def test_a_directory_that_has_its_twins_place_keeps_it(self, home, container):
        (container / "x%dir").mkdir()
        assert choose(home, "x/y") == b"x%dir/y"


class TestTwins:
    def test_a_container_says_whether_it_had_some(self, home):
        assert not placement.has_twins(home)
        placement.note_twins(home)
        assert placement.has_twins(home)

    def test_one_that_does_not_exist_had_none(self, home):
        assert not placement.has_twins(replace(home, path=b"a/other"))

    def test_on_a_file_system_without_attributes_there_are_none(self, home):
        fd = os.open("/proc", os.O_PATH)
        assert not placement.has_twins(replace(home, fd=fd, path=b"self"))
        os.close(fd)


@pytest.mark.parametrize(
    "look",
    [
        lambda home: find(home, "o"),
        lambda home: choose(home, "o"),
        placement.has_twins,
    ],
)
def test_a_failing_file_system_is_no_answer(look, home):
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        look(replace(home, fd=-1))
    assert caught.value.errno == errno.EBADF
