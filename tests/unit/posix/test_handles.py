# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lustack.posix import handles


@contextmanager
def opened(path: object, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(os.fspath(path), flags | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def top(mount):
    """The root of a small file system."""
    return mount("-t", "tmpfs", "none")


def test_a_directory_has_one_handle_whatever_its_name(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "other").mkdir()
    with opened(tmp_path) as fd:
        before = handles.handle_of(fd, b"a")
        os.rename(tmp_path / "a", tmp_path / "b")
        assert handles.handle_of(fd, b"b") == before
        assert handles.handle_of(fd, b"other").handle != before.handle
        with opened(tmp_path / "b", os.O_PATH) as inner:
            assert handles.handle_of(inner) == before
            assert handles.directory_key(inner).endswith(before.handle)


def test_what_is_not_there_has_no_handle(tmp_path):
    with opened(tmp_path) as fd, pytest.raises(FileNotFoundError):
        handles.handle_of(fd, b"absent")


def test_a_handle_leads_to_the_place_where_its_directory_is_now(top):
    (top / "a" / "b").mkdir(parents=True)
    with opened(top) as fd:
        handle, own = handles.handle_of(fd, b"a/b").handle, handles.handle_of(fd).handle
        os.rename(top / "a" / "b", top / "c")
        assert handles.locate(fd, handle) == handles.Place(own, b"c")


def test_a_directory_that_was_removed_is_not_found(top):
    (top / "a").mkdir()
    with opened(top) as fd:
        handle = handles.handle_of(fd, b"a").handle
        os.rmdir(top / "a")
        with pytest.raises(FileNotFoundError):
            handles.locate(fd, handle)


def test_a_directory_that_was_removed_but_is_still_in_use_is_not_found(top):
    (top / "a").mkdir()
    with opened(top) as fd, opened(top / "a"):
        handle = handles.handle_of(fd, b"a").handle
        os.rmdir(top / "a")
        with pytest.raises(FileNotFoundError):
            handles.locate(fd, handle)


def test_a_directory_that_is_removed_while_its_name_is_read_is_not_found(top, monkeypatch):
    read_name = handles._entry_name

    def remove_and_read(fd):
        os.rmdir(top / "a")
        name = read_name(fd)
        assert name == b"a (deleted)"
        return name

    (top / "a").mkdir()
    monkeypatch.setattr(handles, "_entry_name", remove_and_read)
    with opened(top) as fd, pytest.raises(FileNotFoundError):
        handles.locate(fd, handles.handle_of(fd, b"a").handle)


def test_the_top_of_a_mount_is_nowhere(top, mount):
    (top / "a").mkdir()
    bound = mount("--bind", str(top / "a"))
    for directory in (top, bound):
        with opened(directory) as fd:
            assert handles.locate(fd, handles.handle_of(fd).handle) is None


def test_a_directory_is_found_through_any_mount_of_its_file_system(top, mount):
    (top / "a" / "inside").mkdir(parents=True)
    bound = mount("--bind", str(top / "a"))
    with opened(top) as fd, opened(bound) as bound_fd:
        handle = handles.handle_of(fd, b"a/inside").handle
        assert handles.locate(bound_fd, handle).name == b"inside"


def test_a_directory_that_a_mount_does_not_show_is_nowhere(top, mount):
    for name in ("a", "beside/inside", "removed"):
        (top / name).mkdir(parents=True)
    bound = mount("--bind", str(top / "a"))
    with opened(top) as fd, opened(bound) as bound_fd:
        for path in (b"beside", b"beside/inside", b"."):
            assert handles.locate(bound_fd, handles.handle_of(fd, path).handle) is None
        handle = handles.handle_of(fd, b"removed").handle
        with opened(top / "removed"):
            os.rmdir(top / "removed")
            with pytest.raises(FileNotFoundError):
                handles.locate(bound_fd, handle)


def test_a_directory_deeper_than_a_path_can_say_has_a_name(top):
    name = "n" * 200
    with opened(top) as start:
        fd = os.dup(start)
        for number in range(25):
            os.mkdir(f"{number:02d}{name}", dir_fd=fd)
            inner = os.open(f"{number:02d}{name}", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inner
        os.mkdir("sibling", dir_fd=fd)
        place = handles.locate(start, handles.handle_of(fd).handle)
        assert place.name == b"24" + name.encode()
        os.close(fd)


def test_a_bad_handle_is_an_error_of_its_own(top):
    with opened(top) as fd, pytest.raises(OSError, match="Invalid argument"):
        handles.locate(fd, b"\0" * 8)


def test_a_directory_that_moves_away_from_under_the_search_is_not_found(top):
    with opened(top) as fd, pytest.raises(FileNotFoundError, match="moved"):
        handles.entry_of_inode(fd, 0)


def test_what_is_not_open_has_no_entry():
    with pytest.raises(FileNotFoundError):
        handles._entry_name(-1)
