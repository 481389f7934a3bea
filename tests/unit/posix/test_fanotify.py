# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import resource

import pytest

from lustack.posix import fanotify, handles

# One read of Linux 6.18 on tmpfs: mkdir d; echo x > d/a; mv d/a bb; chmod 700 d; ln bb l; truncate(2) of bb.
RECORDED = bytes.fromhex(
    "5c000000030018000001004000000000ffffffff016a0000020024007221ee64893538af0c00000001000000edc5aeb61100000000000000"
    "64000000010020007221ee64893538af0c000000010000004f05ab611200000000000000"
    "5c000000030018000a01000000000000ffffffff016a0000020024007221ee64893538af0c000000010000004f05ab611200000000000000"
    "61000000010020007221ee64893538af0c00000001000000d4f729ac1300000000000000"
    "80000000030018000000001000000000ffffffff016a00000a0024007221ee64893538af0c000000010000004f05ab611200000000000000"
    "610000000c0024007221ee64893538af0c00000001000000edc5aeb61100000000000000"
    "62620000010020007221ee64893538af0c00000001000000d4f729ac1300000000000000"
    "3c000000030018000400004000000000ffffffff016a0000020024007221ee64893538af0c000000010000004f05ab611200000000000000"
    "2e000000"
    "38000000030018000400000000000000ffffffff016a0000010020007221ee64893538af0c00000001000000d4f729ac1300000000000000"
    "5c000000030018000001000000000000ffffffff016a0000020024007221ee64893538af0c00000001000000edc5aeb61100000000000000"
    "6c000000010020007221ee64893538af0c00000001000000d4f729ac1300000000000000"
    "5c000000030018000200000000000000ffffffff016a0000020024007221ee64893538af0c00000001000000edc5aeb61100000000000000"
    "62620000010020007221ee64893538af0c00000001000000d4f729ac1300000000000000"
)
TOP, DIRECTORY, FILE = (
    bytes.fromhex("7221ee64893538af0c00000001000000" + inode)
    for inode in ("edc5aeb61100000000000000", "4f05ab611200000000000000", "d4f729ac1300000000000000")
)


def test_what_the_kernel_wrote_is_understood():
    written = fanotify.CREATE | fanotify.MODIFY | fanotify.CLOSE_WRITE
    assert fanotify.parse(RECORDED) == [
        fanotify.Change(fanotify.CREATE | fanotify.ONDIR, TOP, b"d", DIRECTORY),
        fanotify.Change(written, DIRECTORY, b"a", FILE),
        fanotify.Change(fanotify.RENAME, DIRECTORY, b"a", FILE, TOP, b"bb"),
        fanotify.Change(fanotify.ATTRIB | fanotify.ONDIR, DIRECTORY, b"."),
        fanotify.Change(fanotify.ATTRIB, target=FILE),
        fanotify.Change(fanotify.CREATE, TOP, b"l", FILE),
        fanotify.Change(fanotify.MODIFY, TOP, b"bb", FILE),
    ]


def test_an_overflow_has_no_names():
    overflow = bytes.fromhex("180000000300180000400000000000000000000000000000")
    assert fanotify.parse(overflow) == [fanotify.Change(fanotify.Q_OVERFLOW)]


def test_nothing_is_no_event():
    assert fanotify.parse(b"") == []


def test_the_kernel_reports_what_happens_in_a_file_system_through_any_directory(mount):
    top = mount("-t", "tmpfs", "none")
    (top / "in").mkdir()
    (top / "beside").mkdir()
    fd = os.open(top / "in", os.O_RDONLY)
    group = fanotify.start()
    fanotify.watch_filesystem(group, fd)
    assert fanotify.count_watched(group) == 1
    (top / "beside" / "name").write_bytes(b"content")
    [change] = fanotify.parse(os.read(group, 4096))
    assert change.name == b"name"
    assert change.mask == fanotify.CREATE | fanotify.MODIFY | fanotify.CLOSE_WRITE
    beside = os.open(top / "beside", os.O_PATH)
    assert change.directory == handles.directory_key(beside)
    for each in (beside, fd, group):
        os.close(each)


def test_a_file_system_that_was_unmounted_is_not_watched_any_more(mount, tmp_path):
    top = mount("-t", "tmpfs", "none")
    inner = mount("-t", "tmpfs", "none", at=top / "inner")
    fd, group = os.open(inner, os.O_RDONLY), fanotify.start()
    fanotify.watch_filesystem(group, fd)
    os.close(fd)
    assert fanotify.count_watched(group) == 1
    assert os.system(f"umount {inner}") == 0
    assert fanotify.count_watched(group) == 0
    assert os.system(f"mount -t tmpfs none {inner}") == 0
    os.close(group)


def test_a_file_system_without_an_id_cannot_be_watched(mount):
    group = fanotify.start(is_unlimited=False)
    fd = os.open("/proc/self", os.O_RDONLY)
    with pytest.raises(OSError, match="fanotify_mark"):
        fanotify.watch_filesystem(group, fd)
    os.close(fd)
    os.close(group)


def test_a_group_that_the_kernel_refuses_is_an_error():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        fanotify.start()
    except OSError as caught:
        error = caught
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert error.filename == "fanotify_init"
