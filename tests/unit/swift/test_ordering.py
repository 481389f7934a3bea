# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

import pytest

from lustack.mapping import layout
from lustack.swift.ordering import Locks, read_tombstone, write_tombstone, write_tombstone_if_room

KEY = layout.object_hash("a", "c", "o")
SAME_FILE = KEY[:2] + "0" * 30
OTHER_FILE = f"{int(KEY[:2], 16) ^ 1:02x}" + "0" * 30
T1, T2 = "1700000001.00000", "1700000002.00000_00000000000000ff"


@pytest.fixture
def root(tmp_path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


@pytest.fixture
def locks() -> Iterator[Locks]:
    with contextlib.closing(Locks()) as found:
        yield found


def is_free(tmp_path, key: str) -> bool:
    """Whether somebody else could take the lock now."""
    fd = os.open(os.path.join(bytes(tmp_path), layout.lock_path(key)), os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


class TestLocks:
    def test_a_held_lock_keeps_others_out_until_it_ends(self, root, locks, tmp_path):
        with locks.hold(root, KEY):
            assert not is_free(tmp_path, KEY)
        assert is_free(tmp_path, KEY)

    def test_objects_with_other_lock_files_do_not_wait(self, root, locks, tmp_path):
        with locks.hold(root, KEY), locks.hold(root, OTHER_FILE):
            assert not is_free(tmp_path, OTHER_FILE)

    def test_an_error_of_the_holder_ends_it(self, root, locks, tmp_path):
        with pytest.raises(KeyError), locks.hold(root, KEY):
            raise KeyError
        assert is_free(tmp_path, KEY)

    def test_two_holders_in_one_process_exclude_each_other(self, root, locks, tmp_path):
        with locks.hold(root, KEY):
            fd = locks._take(root, layout.lock_path(SAME_FILE))
            with pytest.raises(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(fd)

    def test_the_descriptor_is_kept_for_the_next_holder(self, root, locks):
        with locks.hold(root, KEY):
            pass
        before = len(os.listdir("/proc/self/fd"))
        with locks.hold(root, SAME_FILE):
            assert len(os.listdir("/proc/self/fd")) == before

    def test_of_a_lock_that_several_wanted_one_descriptor_is_kept(self, root, locks, tmp_path):
        path = layout.lock_path(KEY)
        before = len(os.listdir("/proc/self/fd"))
        several = [locks._take(root, path) for _ in range(3)]
        for fd in several:
            fcntl.flock(fd, fcntl.LOCK_EX)
            locks._give_back(path, fd)
            assert is_free(tmp_path, KEY)
        assert len(os.listdir("/proc/self/fd")) == before + 1

    def test_the_first_one_makes_room_for_all(self, root, locks, tmp_path):
        with locks.hold(root, KEY):
            assert len(os.listdir(os.path.join(bytes(tmp_path), layout.LOCKS))) == 256

    def test_a_lock_file_that_was_removed_is_made_again(self, root, locks, tmp_path):
        with locks.hold(root, KEY):
            pass
        os.unlink(os.path.join(bytes(tmp_path), layout.lock_path(KEY)))
        with locks.hold(root, KEY):
            assert not is_free(tmp_path, KEY)

    def test_the_reserved_directory_is_closed_to_others(self, root, locks, tmp_path):
        with locks.hold(root, KEY):
            pass
        assert os.stat(tmp_path / ".lustack").st_mode & 0o777 == 0o700

    def test_a_child_of_a_fork_does_not_share_the_locks_of_its_parent(self, root, locks):
        with locks.hold(root, KEY):
            pass
        ready, held = os.pipe()
        done, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(told)
            with locks.hold(root, KEY):
                os.write(held, b"1")
                os.read(done, 1)
            os._exit(0)
        assert os.read(ready, 1) == b"1"
        [mine] = locks._free[layout.lock_path(KEY)]
        with pytest.raises(BlockingIOError):
            fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(told)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for fd in (ready, held, done):
            os.close(fd)


class TestTombstones:
    def test_what_was_not_deleted_has_none(self, root):
        assert read_tombstone(root, KEY) is None

    def test_it_says_when(self, root):
        write_tombstone(root, KEY, T1)
        assert read_tombstone(root, KEY) == T1
        assert read_tombstone(root, OTHER_FILE) is None

    @pytest.mark.parametrize(("first", "second"), [(T1, T2), (T2, T1)])
    def test_a_new_one_replaces_an_old_one_of_any_length(self, root, first, second):
        write_tombstone(root, KEY, first)
        write_tombstone(root, KEY, second)
        assert read_tombstone(root, KEY) == second

    @pytest.mark.parametrize("content", [b"", b"\0" * 33, b"17000000", b"\xff\xfe", b"x" * 100])
    def test_one_that_a_crash_left_half_written_says_nothing(self, root, tmp_path, content):
        write_tombstone(root, KEY, T1)
        with open(os.path.join(bytes(tmp_path), layout.tombstone_path(KEY)), "wb") as file:
            file.write(content)
        assert read_tombstone(root, KEY) is None

    def test_a_fifo_in_its_place_does_not_stall_a_request(self, root, tmp_path):
        path = os.path.join(bytes(tmp_path), layout.tombstone_path(KEY))
        os.makedirs(os.path.dirname(path))
        os.mkfifo(path)
        assert read_tombstone(root, KEY) is None

    def test_without_room_there_is_none_and_other_trouble_is_told(self, root, tmp_path):
        assert write_tombstone_if_room(root, KEY, T1)
        os.unlink(os.path.join(bytes(tmp_path), layout.tombstone_path(KEY)))
        os.mkdir(os.path.join(bytes(tmp_path), layout.tombstone_path(KEY)))
        with pytest.raises(IsADirectoryError):
            write_tombstone_if_room(root, KEY, T1)

    def test_a_file_in_the_place_of_a_directory_is_no_tombstone(self, root, tmp_path):
        (tmp_path / ".lustack").mkdir()
        (tmp_path / ".lustack" / "tombstones").touch()
        assert read_tombstone(root, KEY) is None
