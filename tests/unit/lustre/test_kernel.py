# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os

import pytest
from tests.recorded import read_json

from lustack.lustre import fid, kernel
from lustack.lustre.errors import LinkError
from lustack.lustre.kernel import Link

FILE = fid.parse("[0x200000402:0xefa:0x0]").key
FOLDER = fid.parse("[0x200000402:0xef9:0x0]").key
# Recorded: getxattr(".lustre/fid/...", "trusted.link") of a file with two names.
LINKS = bytes.fromhex(
    "dff1ea1102000000470000000000000000000000000000000014000000020000040200000efe000000006632001b0000000200000402"
    "00000efe000000007365636f6e6420c3bf"
)


class Recorded:
    """Answers as the kernel did when it was recorded."""

    def __init__(self, name):
        self.entry = read_json("ioctls")[name]
        self.asked = []

    def __call__(self, fd, request, argument):
        assert request == int(self.entry["cmd"], 16)
        before = bytes.fromhex(self.entry["before"])
        # What is asked is the same, but for the length of the answer that there is room for.
        assert bytes(argument)[:16] == before[:16]
        if "errno" in self.entry:
            raise OSError(getattr(errno, self.entry["errno"]), self.entry["errno"])
        after = bytes.fromhex(self.entry["after"])
        argument[: len(after)] = after


def test_the_paths_of_an_inode_are_read_as_recorded():
    first, following = kernel.path_of(3, FILE, 0, Recorded("FID2PATH link 0"))
    assert (first, following) == (b"ioctls.1637/f", 1)
    second, following = kernel.path_of(3, FILE, 1, Recorded("FID2PATH link 1"))
    assert (second, following) == (b"ioctls.1637/second link", 1)


def test_a_descriptor_that_is_not_the_root_of_a_mount_is_refused_by_the_kernel():
    with pytest.raises(OSError, match="EXDEV"):
        kernel.path_of(3, FILE, 0, Recorded("FID2PATH by a fd of a file in the fs"))


def test_asking_for_names_elsewhere_fails_with_the_errno_of_the_kernel(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="ioctl"):
        kernel.path_of(fd, FILE, 0)
    with pytest.raises(OSError, match="ioctl"):
        kernel.follow_changelog(fd)
    os.close(fd)


def test_clearing_writes_what_the_device_wants(tmp_path):
    fd = os.open(tmp_path / "device", os.O_WRONLY | os.O_CREAT)
    kernel.clear_changelog(fd, "cl7", 41)
    os.close(fd)
    assert (tmp_path / "device").read_bytes() == b"clear:cl7:41"


@pytest.mark.parametrize("index", [0, -1])
def test_nothing_clears_everything_by_chance(index):
    with pytest.raises(ValueError, match=str(index)):
        kernel.clear_changelog(-1, "cl7", index)


def test_the_names_in_the_attribute_are_read_and_written_as_recorded():
    folder = fid.parse("[0x200000402:0xefe:0x0]").key
    links = [Link(folder, b"f2"), Link(folder, "second ÿ".encode())]
    assert kernel.parse_links(LINKS) == links
    assert kernel.render_links(links) == LINKS


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "only 0 bytes"),
        (b"\0" * 24, "begins with 0x0"),
        (LINKS[:-1], "would have 9 bytes"),
        (LINKS + b"\0", "would have"),
        (LINKS[:24] + b"\0\0" + LINKS[26:], "at byte 24"),
        (LINKS[:4] + b"\3" + LINKS[5:], "1 are missing"),
        (LINKS[:16] + b"\1" + LINKS[17:], "some are missing"),
    ],
)
def test_a_damaged_or_incomplete_list_of_names_is_an_error(value, why):
    with pytest.raises(LinkError, match=why):
        kernel.parse_links(value)


def test_a_handle_of_lustre_begins_with_the_fid():
    assert kernel.key_in_handle(0x97, FILE + bytes(16)) == FILE
    assert kernel.key_in_handle(0x97, FILE) is None
    assert kernel.key_in_handle(1, FILE + bytes(16)) is None


def test_a_handle_is_read_from_an_open_inode():
    # A tmpfs: overlays, on which tests may run, have no handles.
    fd = os.open("/dev/shm", os.O_PATH)
    kind, handle = kernel.handle_of(fd)
    os.close(fd)
    assert kind != 0x97
    assert handle


def test_a_handle_of_nothing_fails_with_the_errno_of_the_kernel():
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernel.handle_of(-1)


def test_a_fid_has_an_entry_in_the_directory_of_all_inodes():
    assert kernel.fid_name(FILE) == b"0x200000402:0xefa:0x0"
