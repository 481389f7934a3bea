# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import resource
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lustack.posix import kernel, tree
from lustack.posix.errors import OutsideRootError
from lustack.posix.stepwise import open_by_components

OPENERS = [tree.open_with_openat2, open_by_components]


@pytest.fixture(params=OPENERS, ids=["openat2", "stepwise"])
def opener(request):
    """Each implementation of `open_beneath`."""
    return request.param


def content(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()


def failure(call: Callable, *arguments) -> str:
    """The name of the errno with which a call fails."""
    try:
        return f"none, but the answer {call(*arguments)!r}"
    except OSError as err:
        return errno.errorcode[err.errno]


class TestOpenBeneath:
    def test_opens_files_and_directories_at_any_depth(self, opener, root, top):
        (top / "a" / "b").mkdir(parents=True)
        (top / "a" / "b" / "c").write_bytes(b"content")
        assert content(opener(root, b"a/b/c", os.O_RDONLY)) == b"content"
        assert content(opener(root, b"./a//b/./c", os.O_RDONLY)) == b"content"
        fd = opener(root, b"a/b/", os.O_RDONLY)
        assert os.listdir(fd) == ["c"]
        os.close(fd)

    @pytest.mark.parametrize("path", [b"", b".", b"./", b"./."])
    def test_the_empty_path_is_the_directory_itself(self, opener, root, path):
        fd = opener(root, path, os.O_RDONLY | os.O_DIRECTORY)
        assert os.fstat(fd).st_ino == os.fstat(root).st_ino
        os.close(fd)

    def test_every_descriptor_is_close_on_exec(self, opener, root, top):
        (top / "a").mkdir()
        for path, flags in [(b"a", os.O_PATH), (b"a", os.O_RDONLY), (b"b", os.O_CREAT | os.O_RDWR)]:
            fd = opener(root, path, flags, 0o600)
            assert not os.get_inheritable(fd)
            os.close(fd)

    def test_creates_with_a_mode_and_opens_what_was_created(self, opener, root, top):
        os.close(opener(root, b"new", os.O_CREAT | os.O_WRONLY, 0o640))
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE((top / "new").stat().st_mode) == 0o640 & ~umask
        (top / "new").write_bytes(b"old")
        assert content(opener(root, b"new", os.O_CREAT | os.O_RDONLY, 0o640)) == b"old"
        os.close(opener(root, b"new", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o640))
        assert (top / "new").read_bytes() == b""

    def test_a_mode_without_create_is_ignored_as_in_open(self, opener, root, top):
        (top / "a").write_bytes(b"a")
        os.close(opener(root, b"a", os.O_RDONLY, 0o600))

    def test_flags_that_o_path_does_not_heed_are_ignored_as_in_open(self, opener, root, top):
        (top / "a").write_bytes(b"a")
        os.close(opener(root, b"a", os.O_PATH | os.O_NONBLOCK | os.O_RDWR | os.O_CREAT, 0o600))
        assert failure(opener, root, b"b", os.O_PATH | os.O_CREAT) == "ENOENT"

    @pytest.mark.parametrize(
        ("path", "flags", "expected"),
        [
            (b"absent", os.O_RDONLY, "ENOENT"),
            (b"absent/a", os.O_CREAT | os.O_RDWR, "ENOENT"),
            (b"file/a", os.O_RDONLY, "ENOTDIR"),
            (b"file/", os.O_RDONLY, "ENOTDIR"),
            (b"file/.", os.O_RDONLY, "ENOTDIR"),
            (b"file", os.O_RDONLY | os.O_DIRECTORY, "ENOTDIR"),
            (b"file", os.O_PATH | os.O_DIRECTORY, "ENOTDIR"),
            (b"file", os.O_CREAT | os.O_EXCL | os.O_RDWR, "EEXIST"),
            (b"link", os.O_CREAT | os.O_EXCL | os.O_RDWR, "EEXIST"),
            (b"folder", os.O_WRONLY, "EISDIR"),
            (b"folder", os.O_CREAT | os.O_RDONLY, "EISDIR"),
            (b"absent/", os.O_CREAT | os.O_RDWR, "EISDIR"),
            (b"n" * 256, os.O_RDONLY, "ENAMETOOLONG"),
            (b"n" * 5000, os.O_RDONLY, "ENAMETOOLONG"),
        ],
    )
    def test_fails_as_open_does(self, opener, root, path, flags, expected):
        top = fd_path(root)
        (top / "file").touch()
        (top / "folder").mkdir()
        (top / "link").symlink_to("file")
        assert failure(opener, root, path, flags, 0o600) == expected

    @pytest.mark.parametrize(
        ("path", "flags"),
        [
            (b"to-file", os.O_RDONLY),
            (b"to-file", os.O_RDONLY | os.O_NOFOLLOW),
            (b"to-file", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (b"to-file", os.O_PATH),
            (b"to-inside", os.O_RDONLY),
            (b"dangling", os.O_RDONLY),
            (b"dangling", os.O_CREAT | os.O_WRONLY),
            (b"to-outside", os.O_RDONLY | os.O_DIRECTORY),
            (b"to-outside", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW),
            (b"to-outside", os.O_PATH | os.O_DIRECTORY),
            (b"to-outside/secret", os.O_RDONLY),
            (b"to-outside/new", os.O_CREAT | os.O_WRONLY),
            (b"to-outside/", os.O_PATH | os.O_NOFOLLOW),
            (b"folder/to-outside/secret", os.O_RDONLY),
        ],
    )
    def test_a_symbolic_link_is_never_followed(self, opener, root, top, path, flags):
        (top / "folder").mkdir()
        (top / "folder" / "to-outside").symlink_to(top.parent / "outside")
        (top / "to-outside").symlink_to(top.parent / "outside")
        (top / "to-file").symlink_to(top.parent / "outside" / "secret")
        (top / "to-inside").symlink_to("folder")
        (top / "dangling").symlink_to(top.parent / "outside" / "born")
        assert failure(opener, root, path, flags, 0o600) == "ELOOP"
        assert os.listdir(top.parent / "outside") == ["secret"]
        assert (top.parent / "outside" / "secret").read_bytes() == b"secret"

    def test_a_symbolic_link_itself_can_be_held(self, opener, root, top):
        (top / "link").symlink_to("nowhere")
        fd = opener(root, b"link", os.O_PATH | os.O_NOFOLLOW)
        assert stat.S_ISLNK(os.fstat(fd).st_mode)
        os.close(fd)
        assert failure(opener, root, b"link", os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY) == "ENOTDIR"

    @pytest.mark.parametrize("path", [b"..", b"../outside/secret", b"a/../b", b"a/..", b"/etc/passwd", b"/"])
    def test_a_path_that_could_leave_is_refused_even_if_it_would_not(self, opener, root, top, path):
        (top / "a").mkdir()
        (top / "b").touch()
        with pytest.raises(OutsideRootError):
            opener(root, path, os.O_RDONLY)

    def test_names_with_dots_are_names(self, opener, root, top):
        for name in ("...", "..a", "a..", ".a"):
            (top / name).touch()
            os.close(opener(root, name.encode(), os.O_RDONLY))

    def test_a_nul_is_refused(self, opener, root):
        with pytest.raises(ValueError, match="NUL"):
            opener(root, b"a\0b", os.O_RDONLY)

    def test_another_mount_is_not_entered(self, opener):
        fd = tree.open_root("/")
        assert failure(opener, fd, b"proc", os.O_RDONLY) == "EXDEV"
        assert failure(opener, fd, b"proc/version", os.O_RDONLY) == "EXDEV"
        os.close(fd)

    def test_a_root_that_is_itself_a_mount_is_fine(self, opener):
        fd = tree.open_root("/proc")
        assert content(opener(fd, b"sys/kernel/ostype", os.O_RDONLY)) == b"Linux\n"
        os.close(fd)

    def test_a_magic_link_is_a_link(self, opener):
        fd = tree.open_root("/proc/thread-self")
        assert failure(opener, fd, b"root/etc/passwd", os.O_RDONLY) == "ELOOP"
        assert failure(opener, fd, b"exe", os.O_RDONLY) == "ELOOP"
        os.close(fd)

    def test_a_fifo_and_a_socket_do_not_block(self, opener, root, top):
        os.mkfifo(top / "fifo")
        os.mknod(top / "socket", stat.S_IFSOCK | 0o600)
        for path, kind in [(b"fifo", stat.S_ISFIFO), (b"socket", stat.S_ISSOCK)]:
            fd = opener(root, path, os.O_PATH)
            assert kind(os.fstat(fd).st_mode)
            os.close(fd)
        os.close(opener(root, b"fifo", os.O_RDONLY | os.O_NONBLOCK))
        assert failure(opener, root, b"socket", os.O_RDONLY) == "ENXIO"

    @pytest.mark.parametrize("length", [1, 13, 100, 250])
    def test_a_path_of_300_components_longer_than_path_max(self, opener, root, length):
        path = b"/".join(b"%0*d" % (length, i % 10) for i in range(300))
        fd = tree.make_directories(root, path)
        os.close(opener(fd, b"file", os.O_CREAT | os.O_WRONLY, 0o600))
        os.close(opener(root, path + b"/file", os.O_PATH))
        os.close(opener(root, path + b"/", os.O_RDONLY))
        os.close(opener(root, path.replace(b"/", b"///") + b"/" * 5000, os.O_RDONLY))
        assert failure(opener, root, path + b"/absent", os.O_RDONLY) == "ENOENT"
        os.unlink(b"file", dir_fd=fd)
        os.close(fd)
        assert tree.remove_directories(root, path, lambda _: True) == 300

    @pytest.mark.parametrize("extra", range(-3, 4))
    def test_paths_just_around_path_max(self, opener, root, extra):
        names = [b"x" * 254] * 16
        path = b"/".join(names)
        path = path[: tree.PATH_MAX + extra - 2].rstrip(b"/") + b"/z"
        os.close(tree.make_directories(root, path))
        os.close(opener(root, path, os.O_RDONLY | os.O_DIRECTORY))

    def test_an_o_path_and_a_readable_descriptor_serve_alike(self, opener, root, top):
        (top / "a").write_bytes(b"a")
        readable = os.open(top, os.O_RDONLY)
        assert content(opener(readable, b"a", os.O_RDONLY)) == b"a"
        os.close(readable)

    def test_links_that_are_swapped_in_meanwhile_let_nothing_out(self, opener, root, top):
        for name in ("good", "folder"):
            (top / name).mkdir()
            (top / name / "secret").write_bytes(b"public")
        (top / "evil").symlink_to(top.parent / "outside")
        stop = threading.Event()

        def swap():
            while not stop.is_set():
                os.rename(top / "folder", top / "kept")
                os.rename(top / "evil", top / "folder")
                os.rename(top / "folder", top / "evil")
                os.rename(top / "kept", top / "folder")
                # Threads that hand the interpreter to each other in step might never meet in the plain state.
                if not random.randrange(50):
                    time.sleep(0.0001)

        thread = threading.Thread(target=swap)
        thread.start()
        seen = set()
        try:
            for _ in range(5000):
                try:
                    seen.add(content(opener(root, b"folder/secret", os.O_RDONLY)))
                except OSError as err:
                    seen.add(errno.errorcode[err.errno])
        finally:
            stop.set()
            thread.join()
        assert b"secret" not in seen
        assert seen <= {b"public", "ELOOP", "ENOENT"}
        assert b"public" in seen

    def test_waiting_for_a_lease_of_somebody_else_ends(self, opener, root, top):
        (top / "a").touch()
        holder = os.open(top / "a", os.O_RDONLY)
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)
        try:
            fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            assert failure(opener, root, b"a", os.O_RDONLY | os.O_NONBLOCK) == "EAGAIN"
            fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            os.close(opener(root, b"a", os.O_RDONLY | os.O_NONBLOCK))
        finally:
            os.close(holder)
            signal.signal(signal.SIGIO, before)


def test_open_beneath_uses_openat2_where_it_works(root, top):
    (top / "a").write_bytes(b"a")
    assert content(tree.open_beneath(root, b"a", os.O_RDONLY)) == b"a"
    assert tree.choose_opener(kernel.openat2) is tree.open_with_openat2


@pytest.mark.parametrize(
    ("code", "chosen"),
    [
        (errno.ENOSYS, open_by_components),
        (errno.EPERM, open_by_components),
        (errno.EMFILE, tree.open_with_openat2),
    ],
)
def test_the_fallback_is_chosen_where_openat2_is_missing_or_forbidden(code, chosen):
    def openat2(*_):
        raise OSError(code, "no")

    assert tree.choose_opener(openat2) is chosen


class TestMakeDirectories:
    def test_makes_what_is_missing_and_gives_the_last_one(self, root, top):
        (top / "a").mkdir()
        fd = tree.make_directories(root, b"a/b/c")
        assert fd_path(fd) == top / "a" / "b" / "c"
        assert os.listdir(fd) == []
        os.fsync(fd)
        assert not os.get_inheritable(fd)
        os.close(fd)

    def test_what_is_there_already_is_just_opened(self, root, top):
        (top / "a" / "b").mkdir(parents=True)
        created = []
        for path in (b"a/b", b"a", b"", b"."):
            os.close(tree.make_directories(root, path, created.append))
        assert created == []

    def test_tells_which_directories_it_made_from_the_top(self, root, top):
        (top / "a").mkdir()
        created = []

        def remember(fd: int) -> None:
            created.append(fd_path(fd))
            os.setxattr(fd, "user.made", b"1")

        os.close(tree.make_directories(root, b"a/b/./c//d/", remember))
        assert created == [top / "a/b", top / "a/b/c", top / "a/b/c/d"]

    def test_permissions_group_and_default_acl_come_from_the_parent(self, root, top):
        os.chmod(top, 0o2775)
        umask = os.umask(0o002)
        try:
            os.close(tree.make_directories(root, b"a/b"))
            os.close(tree.make_directories(root, b"c", mode=0o700))
        finally:
            os.umask(umask)
        assert stat.S_IMODE((top / "a/b").stat().st_mode) == 0o2775
        assert stat.S_IMODE((top / "c").stat().st_mode) == 0o2700

    def test_many_levels_need_few_descriptors(self, root):
        path = b"/".join([b"d"] * 400)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, hard))
        try:
            os.close(tree.make_directories(root, path))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert tree.remove_directories(root, path, lambda _: True) == 400

    @pytest.mark.parametrize("path", [b"file", b"file/a", b"file/a/b"])
    def test_something_else_in_the_way_is_an_error(self, root, top, path):
        (top / "file").touch()
        with pytest.raises(NotADirectoryError):
            tree.make_directories(root, path)

    @pytest.mark.parametrize("path", [b"link", b"link/a", b"dangling", b"dangling/a", b"loop/a"])
    def test_a_symbolic_link_in_the_way_is_an_error(self, root, top, path):
        (top / "link").symlink_to(top.parent / "outside")
        (top / "dangling").symlink_to(top.parent / "outside" / "born")
        (top / "loop").symlink_to("loop")
        assert failure(tree.make_directories, root, path) == "ELOOP"
        assert os.listdir(top.parent / "outside") == ["secret"]

    def test_another_mount_in_the_way_is_an_error(self):
        fd = tree.open_root("/")
        assert failure(tree.make_directories, fd, b"proc/a/b") == "EXDEV"
        os.close(fd)

    def test_a_path_that_could_leave_is_refused(self, root, top):
        for path in (b"../a", b"a/../../b", b"/a"):
            with pytest.raises(OutsideRootError):
                tree.make_directories(root, path)
        assert os.listdir(top) == []

    def test_a_name_that_is_too_long_is_an_error(self, root, top):
        assert failure(tree.make_directories, root, b"a/" + b"n" * 256) == "ENAMETOOLONG"

    def test_below_a_directory_that_is_gone_it_ends(self, root, top):
        top.rmdir()
        with pytest.raises(FileNotFoundError) as caught:
            tree.make_directories(root, b"a/b")
        assert caught.value.filename == b"a/b"

    def test_an_error_of_the_callback_flies_and_leaks_nothing(self, root, top):
        def fail(_fd: int) -> None:
            raise FileNotFoundError("mine")

        with pytest.raises(FileNotFoundError, match="mine"):
            tree.make_directories(root, b"a/b", fail)
        assert os.listdir(top) == ["a"]

    def test_directories_removed_meanwhile_are_made_again(self, root, top):
        removed = []

        def remove_once(fd: int) -> None:
            if not removed:
                removed.append(fd_path(fd))
                os.rmdir(removed[0])

        fd = tree.make_directories(root, b"a/b/c", remove_once)
        assert removed == [top / "a"]
        assert fd_path(fd) == top / "a/b/c"
        os.close(fd)

    def test_somebody_who_removes_them_every_time_ends_it(self, root):
        calls = []

        def remove(fd: int) -> None:
            calls.append(fd)
            os.rmdir(fd_path(fd))

        with pytest.raises(FileNotFoundError):
            tree.make_directories(root, b"a/b", remove)
        assert 1 < len(calls) < 1000

    def test_one_made_by_somebody_else_meanwhile_is_used_and_not_reported(self, root, top):
        created = []

        def make_next(fd: int) -> None:
            created.append(fd_path(fd))
            (fd_path(fd) / "b").mkdir(exist_ok=True)

        fd = tree.make_directories(root, b"a/b", make_next)
        assert fd_path(fd) == top / "a/b"
        assert created == [top / "a"]
        os.close(os.open(b"f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)

    def test_makers_and_removers_at_the_same_time_do_not_disturb_each_other(self, root, top):
        failures = []

        def work(seed: int) -> None:
            choose = random.Random(seed)
            try:
                for turn in range(150):
                    path = b"/".join(choose.choices([b"a", b"b"], k=3))
                    fd = tree.make_directories(root, path, lambda _: None)
                    # Whoever removed it before its first file is why writers open with a retry.
                    with contextlib.suppress(FileNotFoundError):
                        os.close(os.open(b"%d.%d" % (seed, turn), os.O_CREAT | os.O_WRONLY, dir_fd=fd))
                        os.unlink(b"%d.%d" % (seed, turn), dir_fd=fd)
                    os.close(fd)
                    tree.remove_directories(root, path, lambda _: True)
            except Exception as err:
                failures.append(err)
                raise

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert os.listdir(top) == []


class TestRemoveDirectories:
    def test_removes_upward_while_empty_and_never_the_first(self, root, top):
        (top / "a/b/c").mkdir(parents=True)
        assert tree.remove_directories(root, b"a/b/c", lambda _: True) == 3
        assert os.listdir(top) == []
        assert top.is_dir()

    def test_stops_at_what_is_used(self, root, top):
        (top / "a/b/c").mkdir(parents=True)
        (top / "a" / "file").touch()
        assert tree.remove_directories(root, b"a/b/c", lambda _: True) == 2
        assert os.listdir(top / "a") == ["file"]

    def test_stops_at_what_may_not_go(self, root, top):
        (top / "a/b/c").mkdir(parents=True)
        os.setxattr(top / "a/b", "user.keep", b"1")
        asked = []

        def may_remove(fd: int) -> bool:
            asked.append(fd_path(fd))
            return "user.keep" not in os.listxattr(tree.proc_path(fd))

        assert tree.remove_directories(root, b"a/b/c", may_remove) == 1
        assert asked == [top / "a/b/c", top / "a/b"]
        assert os.listdir(top / "a/b") == []

    @pytest.mark.parametrize("path", [b"", b".", b"./"])
    def test_the_directory_itself_stays(self, root, top, path):
        assert tree.remove_directories(root, path, lambda _: True) == 0
        assert top.is_dir()

    @pytest.mark.parametrize("path", [b"absent", b"a/absent", b"file", b"file/a", b"link", b"link/inner", b"n" * 255])
    def test_what_is_no_directory_of_ours_ends_it_silently(self, root, top, path):
        (top / "a").mkdir()
        (top / "file").touch()
        (top.parent / "outside" / "inner").mkdir()
        (top / "link").symlink_to(top.parent / "outside")
        assert tree.remove_directories(root, path, lambda _: True) == 0
        assert sorted(os.listdir(top)) == ["a", "file", "link"]
        assert sorted(os.listdir(top.parent / "outside")) == ["inner", "secret"]

    def test_one_that_vanishes_or_is_filled_meanwhile_ends_it_silently(self, root, top):
        (top / "a/b").mkdir(parents=True)

        def remove(fd: int) -> bool:
            os.rmdir(fd_path(fd))
            return True

        def fill(fd: int) -> bool:
            (fd_path(fd) / "file").touch()
            return True

        assert tree.remove_directories(root, b"a/b", remove) == 0
        assert tree.remove_directories(root, b"a", fill) == 0
        assert os.listdir(top / "a") == ["file"]

    def test_other_errors_fly_and_leak_nothing(self, root, top):
        (top / "a").mkdir()

        def fail(_fd: int) -> bool:
            raise OSError(errno.EIO, "broken")

        assert failure(tree.remove_directories, root, b"a", fail) == "EIO"
        assert failure(tree.remove_directories, root, b"n" * 256, fail) == "ENAMETOOLONG"

    def test_a_path_that_could_leave_is_refused(self, root, top):
        (top.parent / "empty").mkdir()
        with pytest.raises(OutsideRootError):
            tree.remove_directories(root, b"../empty", lambda _: True)
        assert (top.parent / "empty").is_dir()


class TestMounts:
    def test_a_bind_mount_is_not_entered_and_not_removed(self, root, top, mount):
        mount("--bind", str(top.parent / "outside"), at=top / "bound")
        assert failure(tree.open_beneath, root, b"bound/secret", os.O_RDONLY) == "EXDEV"
        assert failure(tree.make_directories, root, b"bound/new") == "EXDEV"
        assert tree.remove_directories(root, b"bound", lambda _: True) == 0
        assert os.listdir(top.parent / "outside") == ["secret"]

    def test_a_tmpfs_is_not_entered_by_either_implementation(self, opener, root, top, mount):
        place = mount("-t", "tmpfs", "tmpfs", at=top / "other")
        (place / "secret").touch()
        mount("--bind", str(place / "secret"), at=top / "other.txt")
        assert failure(opener, root, b"other/secret", os.O_RDONLY) == "EXDEV"
        assert failure(opener, root, b"other", os.O_PATH) == "EXDEV"
        assert failure(opener, root, b"other/new", os.O_CREAT | os.O_WRONLY, 0o600) == "EXDEV"
        assert failure(opener, root, b"other.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) == "EXDEV"

    def test_a_full_file_system_is_an_error_and_leaves_nothing(self, make_filesystem):
        place = make_filesystem("ext4", 4 << 20)
        fd = tree.open_root(bytes(place))
        wanted = (b"%d/a" % number for number in range(100_000))
        answers = (failure(lambda path: os.close(tree.make_directories(fd, path)), path) for path in wanted)
        assert "ENOSPC" in answers
        os.close(fd)


def fd_path(fd: int) -> Path:
    return Path(os.readlink(tree.proc_path(fd)))


class TestOpenAbsolute:
    def test_opens_a_directory_wherever_it_is(self, root, top):
        (top / "a").mkdir()
        fd = tree.open_absolute(bytes(top) + b"/a")
        assert os.path.samestat(os.fstat(fd), (top / "a").stat())
        assert not os.get_inheritable(fd)
        os.close(fd)

    def test_crosses_mounts(self):
        fd = tree.open_absolute(b"/proc/self/task".replace(b"self", str(os.getpid()).encode()))
        assert os.path.samestat(os.fstat(fd), os.stat("/proc/self/task"))
        os.close(fd)

    @pytest.mark.parametrize("path", [b"link", b"link/a", b"file", b"a/link"])
    def test_follows_no_link_and_takes_no_file(self, root, top, path):
        (top / "a").mkdir()
        (top / "a" / "link").symlink_to(top)
        (top / "link").symlink_to(top)
        (top / "file").touch()
        assert failure(tree.open_absolute, bytes(top) + b"/" + path) == "ENOTDIR"

    def test_what_is_not_there_is_not_there(self, root, top):
        assert failure(tree.open_absolute, bytes(top) + b"/gone/a") == "ENOENT"

    @pytest.mark.parametrize("path", [b"a", b"", b"/\0"])
    def test_refuses_what_is_no_absolute_path(self, path):
        with pytest.raises(ValueError, match=r"not absolute|NUL"):
            tree.open_absolute(path)

    def test_refuses_to_go_up(self):
        with pytest.raises(OutsideRootError):
            tree.open_absolute(b"/proc/../etc")
