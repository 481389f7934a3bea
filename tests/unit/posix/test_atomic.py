# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import re
import signal
import stat
import sys
import threading

import pytest

from lustack.mapping import layout
from lustack.posix import atomic, tree
from lustack.posix.atomic import Sync, TemporaryFile


def listing(folder: int) -> list[bytes]:
    return sorted(os.fsencode(name) for name in os.listdir(folder))


def read(folder: int, name: bytes) -> bytes:
    with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
        return file.read()


def errno_name(call, *arguments) -> str:
    try:
        return f"none, but the answer {call(*arguments)!r}"
    except OSError as err:
        return errno.errorcode[err.errno]


def test_the_prefix_is_the_one_that_names_reserve():
    assert layout.TEMPORARY_PREFIX == atomic.TEMPORARY_PREFIX


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b".lustack.tmp.0123456789abcdef", True),
        (b".lustack.tmp.", True),
        (b".lustack.tmp", False),
        (b".lustack", False),
        (b"a.lustack.tmp.0123", False),
        (b"", False),
    ],
)
def test_temporary_names_are_known_by_their_prefix(name, expected):
    assert atomic.is_temporary(name) is expected


class TestTemporaryFile:
    def test_is_an_empty_file_under_a_random_name(self, folder):
        with TemporaryFile.create(folder) as one, TemporaryFile.create(folder) as other:
            assert one.name != other.name
            assert re.fullmatch(rb"\.lustack\.tmp\.[0-9a-f]{16}", one.name)
            assert listing(folder) == sorted((one.name, other.name))
            assert one.dirfd == folder
            assert not os.get_inheritable(one.fd)
            assert os.fstat(one.fd).st_size == 0
            os.write(one.fd, b"both directions")
            assert os.pread(one.fd, 99, 0) == b"both directions"

    def test_has_the_mode_that_the_umask_leaves(self, folder):
        umask = os.umask(0o027)
        try:
            with TemporaryFile.create(folder) as one, TemporaryFile.create(folder, 0o600) as other:
                assert stat.S_IMODE(os.fstat(one.fd).st_mode) == 0o640
                assert stat.S_IMODE(os.fstat(other.fd).st_mode) == 0o600
        finally:
            os.umask(umask)

    def test_gets_its_name_with_all_its_bytes(self, folder):
        with TemporaryFile.create(folder) as temporary:
            os.write(temporary.fd, b"content")
            assert not temporary.published
            temporary.publish(b"target")
            assert temporary.published
        assert listing(folder) == [b"target"]
        assert read(folder, b"target") == b"content"
        assert temporary.fd == -1

    @pytest.mark.parametrize("sync", Sync)
    def test_moves_to_another_name_after_that_in_place_of_what_has_it(self, folder, sync):
        atomic.replace_file(folder, b"target", b"old")
        with TemporaryFile.create(folder) as temporary:
            os.write(temporary.fd, b"content")
            temporary.publish(b"first", sync)
            temporary.move(b"first", b"target", sync)
        assert listing(folder) == [b"target"]
        assert read(folder, b"target") == b"content"

    def test_what_is_told_at_the_last_moment_ends_it(self, folder):
        def end() -> None:
            raise KeyError

        with TemporaryFile.create(folder) as temporary, pytest.raises(KeyError):
            temporary.publish(b"target", before_rename=end)
        assert not temporary.published
        assert listing(folder) == []

    def test_takes_the_place_of_what_was_there(self, folder):
        atomic.replace_file(folder, b"target", b"old")
        reader = os.open(b"target", os.O_RDONLY, dir_fd=folder)
        atomic.replace_file(folder, b"target", b"new")
        assert os.read(reader, 9) == b"old"
        assert read(folder, b"target") == b"new"
        os.close(reader)

    def test_is_gone_when_it_was_not_published(self, folder):
        with TemporaryFile.create(folder) as temporary:
            os.write(temporary.fd, b"content")
        assert listing(folder) == []

    def test_is_gone_when_an_error_came_before_it_was_published(self, folder):
        with pytest.raises(ZeroDivisionError), TemporaryFile.create(folder):
            _ = 1 / 0
        assert listing(folder) == []

    def test_can_be_discarded_and_closed_more_than_once(self, folder):
        temporary = TemporaryFile.create(folder)
        temporary.discard()
        temporary.discard()
        temporary.close()
        temporary.close()
        assert listing(folder) == []

    def test_a_target_that_cannot_be_replaced_leaves_all_as_it_was(self, folder):
        os.mkdir(b"target", dir_fd=folder)
        with pytest.raises(IsADirectoryError), TemporaryFile.create(folder) as temporary:
            temporary.publish(b"target")
        assert not temporary.published
        assert listing(folder) == [b"target"]

    def test_a_temporary_name_that_somebody_swept_is_an_error_for_the_writer(self, folder):
        with TemporaryFile.create(folder) as temporary:
            os.unlink(temporary.name, dir_fd=folder)
            assert errno_name(temporary.publish, b"target") == "ENOENT"
        assert listing(folder) == []

    def test_a_symbolic_link_at_the_target_is_replaced_and_not_followed(self, folder, tmp_path):
        (tmp_path / "victim").write_bytes(b"victim")
        os.symlink(tmp_path / "victim", b"target", dir_fd=folder)
        atomic.replace_file(folder, b"target", b"new")
        assert read(folder, b"target") == b"new"
        assert (tmp_path / "victim").read_bytes() == b"victim"

    def test_an_o_path_directory_is_an_error(self, folder):
        held = os.open(b".", os.O_PATH | os.O_DIRECTORY, dir_fd=folder)
        assert errno_name(atomic.replace_file, held, b"target", b"x") == "EBADF"
        os.close(held)

    def test_reserves_room_without_a_length(self, folder):
        with TemporaryFile.create(folder) as temporary:
            temporary.preallocate(1 << 20)
            status = os.fstat(temporary.fd)
        assert status.st_size == 0
        assert status.st_blocks * 512 >= 1 << 20

    def test_on_lustre_the_file_is_marked_after_the_rename(self, folder):
        fd = os.open(b".lustack.tmp.0", os.O_CREAT | os.O_RDWR, dir_fd=folder)
        with TemporaryFile(folder, b".lustack.tmp.0", fd, on_lustre=True) as temporary:
            temporary.publish(b"target")
            assert os.getxattr(fd, atomic.COMMIT_XATTR) == b"1"
        assert listing(folder) == [b"target"]

    def test_on_lustre_the_file_is_dated_back_by_whole_seconds(self, folder):
        fd = os.open(b".lustack.tmp.0", os.O_CREAT | os.O_RDWR, dir_fd=folder)
        with TemporaryFile(folder, b".lustack.tmp.0", fd, on_lustre=True) as temporary:
            before_s = os.fstat(fd).st_mtime_ns // 10**9
            temporary.backdate()
            mtime_ns = os.fstat(fd).st_mtime_ns
        assert mtime_ns % 10**9 == 0
        assert 0 < before_s - mtime_ns // 10**9 <= atomic.BACKDATED_S

    @pytest.mark.parametrize("sync", [Sync.CLOSE, Sync.NEVER])
    def test_who_does_not_want_the_name_to_be_durable_gets_no_mark(self, folder, sync):
        fd = os.open(b".lustack.tmp.0", os.O_CREAT | os.O_RDWR, dir_fd=folder)
        with TemporaryFile(folder, b".lustack.tmp.0", fd, on_lustre=True) as temporary:
            temporary.publish(b"target", sync)
            assert os.listxattr(fd) == []
        assert listing(folder) == [b"target"]

    def test_elsewhere_it_is_not(self, folder):
        with TemporaryFile.create(folder) as temporary:
            assert not temporary.on_lustre
            mtime_ns = os.fstat(temporary.fd).st_mtime_ns
            temporary.backdate()
            assert os.fstat(temporary.fd).st_mtime_ns == mtime_ns
            temporary.publish(b"target")
            assert os.listxattr(temporary.fd) == []


class TestSmallFiles:
    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000])
    def test_are_written_whole(self, folder, data):
        atomic.replace_file(folder, b"target", data)
        assert read(folder, b"target") == data
        assert listing(folder) == [b"target"]

    def test_readers_see_the_old_or_the_new_bytes_and_never_nothing(self, folder):
        values = [b"a" * 100_000, b"b" * 50_000]
        atomic.replace_file(folder, b"target", values[0])
        stop = threading.Event()
        seen = set()

        def look():
            while not stop.is_set():
                seen.add(read(folder, b"target"))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            for turn in range(60):
                atomic.replace_file(folder, b"target", values[turn % 2])
        finally:
            stop.set()
            thread.join()
        assert seen <= set(values)

    def test_a_writer_killed_at_any_moment_leaves_one_whole_value_and_known_litter(self, folder):
        values = {b"%d" % turn * 20_000 for turn in range(10)}
        atomic.replace_file(folder, b"target", min(values))
        for delay_s in (0.001, 0.003, 0.007, 0.02, 0.05):
            child = os.fork()
            if child == 0:
                while True:
                    for value in values:
                        atomic.replace_file(folder, b"target", value)
            threading.Event().wait(delay_s)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            assert read(folder, b"target") in values
        rest = [name for name in listing(folder) if name != b"target"]
        assert all(atomic.is_temporary(name) for name in rest)

    def test_are_removed(self, folder):
        atomic.replace_file(folder, b"a", b"a")
        atomic.remove_file(folder, b"a")
        assert listing(folder) == []
        with pytest.raises(FileNotFoundError):
            atomic.remove_file(folder, b"a")


class TestRemovalOnLustre:
    def test_syncs_a_file_of_the_same_directory_and_removes_it(self, folder):
        os.utime(folder, (1, 1))
        atomic.sync_removal(folder, on_lustre=True)
        assert listing(folder) == []
        assert os.fstat(folder).st_mtime > 1

    def test_works_on_a_full_file_system(self, make_filesystem):
        place = make_filesystem("ext4", 4 << 20)
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        # All inodes are taken.
        made = 0
        while errno_name(os.mknod, place / f"{made}") != "ENOSPC":
            made += 1
        atomic.sync_removal(fd, on_lustre=True)
        assert not any(atomic.is_temporary(name) for name in listing(fd))
        os.close(fd)

    def test_other_errors_fly(self, folder, tmp_path):
        (tmp_path / "folder").rmdir()
        with pytest.raises(FileNotFoundError):
            atomic.sync_removal(folder, on_lustre=True)


class TestPreallocate:
    @pytest.mark.parametrize("size_bytes", [0, -1])
    def test_nothing_is_reserved_for_no_bytes(self, size_bytes):
        atomic.preallocate(-1, size_bytes)

    def test_a_file_system_that_cannot_is_left_alone(self):
        fd = os.open("/proc/self/comm", os.O_RDWR)
        atomic.preallocate(fd, 1 << 20)
        os.close(fd)

    def test_a_descriptor_that_cannot_is_an_error(self):
        assert errno_name(atomic.preallocate, -1, 1) == "EBADF"

    def test_a_length_beyond_all_files_is_an_error(self, folder):
        with TemporaryFile.create(folder) as temporary:
            assert errno_name(temporary.preallocate, sys.maxsize) in {"EFBIG", "ENOSPC"}  # tmpfs: the latter

    @pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
    def test_no_room_is_an_error_and_the_room_comes_back(self, kind, make_filesystem, mount):
        place = make_filesystem("ext4", 8 << 20) if kind == "ext4" else mount("-t", "tmpfs", "-o", "size=8m", "tmpfs")
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        free = os.fstatvfs(fd).f_bfree
        with TemporaryFile.create(fd) as temporary:
            assert errno_name(temporary.preallocate, 64 << 20) == "ENOSPC"
        assert os.fstatvfs(fd).f_bfree == free
        os.close(fd)


def test_a_full_file_system_keeps_the_old_file(make_filesystem):
    place = make_filesystem("ext4", 8 << 20)
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    atomic.replace_file(fd, b"target", b"old")
    assert errno_name(atomic.replace_file, fd, b"target", bytes(16 << 20)) == "ENOSPC"
    assert read(fd, b"target") == b"old"
    assert listing(fd) == [b"lost+found", b"target"]
    atomic.replace_file(fd, b"target", b"new")
    assert read(fd, b"target") == b"new"
    os.close(fd)


def test_a_file_system_is_lustre_only_if_it_says_so(folder):
    assert not atomic.is_lustre(folder)
    held = tree.open_root("/")
    assert not atomic.is_lustre(held)
    os.close(held)


def test_syncing_a_directory_needs_a_readable_descriptor(folder):
    atomic.sync_directory(folder)
    held = os.open(b".", os.O_PATH, dir_fd=folder)
    assert errno_name(atomic.sync_directory, held) == "EBADF"
    os.close(held)


@pytest.mark.parametrize("pieces", [[], [b""], [b"one", b"", b"two"], [b"%d " % number for number in range(2000)]])
def test_all_pieces_are_written_where_the_file_is(folder, pieces):
    with TemporaryFile.create(folder) as temporary:
        os.write(temporary.fd, b"before ")
        assert atomic.write_all(temporary.fd, pieces) == len(b"".join(pieces))
        assert os.pread(temporary.fd, 10**6, 0) == b"before " + b"".join(pieces)


def test_what_the_kernel_takes_in_parts_is_written_whole(folder, monkeypatch):
    real_writev, real_write = os.writev, os.write
    monkeypatch.setattr(os, "writev", lambda fd, pieces: real_writev(fd, [pieces[0][:2]]))
    monkeypatch.setattr(os, "write", lambda fd, rest: real_write(fd, rest[:3]))
    with TemporaryFile.create(folder) as temporary:
        atomic.write_all(temporary.fd, [b"abcdef", b"ghijk"])
        assert os.pread(temporary.fd, 100, 0) == b"abcdefghijk"
