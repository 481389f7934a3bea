# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import errno
import os

import pytest

from lustack.posix import descriptors
from lustack.posix.errors import OutsideRootError


def test_an_o_path_descriptor_is_reopened_whatever_its_name_is_now(folder):
    os.close(os.open(b"a", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    handle = os.open(b"a", os.O_PATH, dir_fd=folder)
    os.rename(b"a", b"b", src_dir_fd=folder, dst_dir_fd=folder)
    fd = descriptors.reopen(handle, os.O_RDWR)
    os.write(fd, b"x")
    assert not os.get_inheritable(fd)
    assert os.fstat(fd).st_ino == os.fstat(handle).st_ino
    os.close(fd)
    os.close(handle)


def test_the_proc_path_leads_to_the_inode(folder):
    status = os.stat(descriptors.proc_path(folder))
    assert status.st_ino == os.fstat(folder).st_ino


def test_a_position_closes_what_it_leaves_and_never_where_it_began(folder):
    first, second = os.dup(folder), os.dup(folder)
    with contextlib.closing(descriptors.Position(folder)) as position:
        position.move(first)
        position.move(second)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(first)
        assert position.fd == second
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(second)
    position.close()
    os.fstat(folder)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (b"", []),
        (b".", []),
        (b"./", []),
        (b"a", [b"a"]),
        (b"a//b/./c/", [b"a", b"b", b"c"]),
        (b"..a/b..", [b"..a", b"b.."]),
    ],
)
def test_a_path_is_its_names(path, names):
    assert descriptors.components(path) == names


@pytest.mark.parametrize("path", [b"..", b"../a", b"a/..", b"a/../b", b"/", b"/a", b"//a"])
def test_a_path_that_may_leave_is_refused(path):
    with pytest.raises(OutsideRootError) as caught:
        descriptors.components(path)
    assert caught.value.path == path


def test_a_nul_is_refused():
    with pytest.raises(ValueError, match="NUL"):
        descriptors.components(b"a\0b")


def test_an_errno_becomes_its_error():
    error = descriptors.os_error(errno.ENOTDIR, b"a")
    assert isinstance(error, NotADirectoryError)
    assert error.filename == b"a"


def test_flags_are_reduced_to_what_is_heeded():
    assert descriptors.heed(os.O_RDWR | os.O_NOFOLLOW) == os.O_RDWR | os.O_CLOEXEC
    held = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
    assert descriptors.heed(held | os.O_RDWR | os.O_CREAT | os.O_NONBLOCK) == held | os.O_CLOEXEC


def test_a_call_that_lost_a_race_is_made_again():
    losses = [FileExistsError(), FileExistsError()]

    def call():
        if losses:
            raise losses.pop()
        return 7

    assert descriptors.call_again(call, FileExistsError) == 7


def test_a_call_that_always_loses_ends_with_its_error():
    calls = []

    def call():
        calls.append(1)
        raise FileExistsError

    with pytest.raises(FileExistsError):
        descriptors.call_again(call, FileExistsError)
    assert 1 < len(calls) < 1000


def test_another_error_flies_at_once():
    def call():
        raise PermissionError

    with pytest.raises(PermissionError):
        descriptors.call_again(call, FileExistsError)
