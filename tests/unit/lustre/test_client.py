# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os

import pytest

from lustack.lustre import client, fid, kernel
from lustack.lustre.client import Client, DeviceChangelog, WholeMountError
from lustack.lustre.errors import (
    ChangelogError,
    ChangelogIndexError,
    ChangelogUserError,
    FidNotFoundError,
    NotLustreError,
)
from lustack.lustre.mounts import parse_mounts

KEY = fid.parse("[0x200000402:0xefa:0x0]").key


@pytest.fixture
def lustre(tmp_path):
    """A directory that looks like a mount as far as plain files can; its devices are files."""
    (tmp_path / "dev").mkdir()
    for name in ("changelog-lustre-MDT0001", "changelog-lustre-MDT0000", "changelog-other-MDT0000", "null"):
        (tmp_path / "dev" / name).write_bytes(b"records")
    (tmp_path / "mnt" / ".lustre" / "fid").mkdir(parents=True)
    return Client("lustre", str(tmp_path / "mnt"), str(tmp_path / "dev"))


def by_fid(lustre, key=KEY):
    return os.path.join(lustre.point, ".lustre/fid", os.fsdecode(kernel.fid_name(key)))


def test_every_mdt_of_the_file_system_is_found(lustre):
    assert lustre.mdts() == ("lustre-MDT0000", "lustre-MDT0001")


def test_a_log_is_read_until_it_ends(lustre):
    log = lustre.open_changelog("lustre-MDT0000", 1, follow=False)
    assert log.read(1.0) == b"records"
    assert log.read(1.0) == b""
    log.close()
    log.close()


def test_reading_begins_at_an_index(lustre):
    # A file takes it for bytes; a device for the number of a record (measured).
    log = lustre.open_changelog("lustre-MDT0000", 3, follow=False)
    assert log.read(1.0) == b"ords"
    log.close()


def test_waiting_for_records_ends_in_time(tmp_path):
    os.mkfifo(tmp_path / "device")
    keep = os.open(tmp_path / "device", os.O_RDWR)
    log = DeviceChangelog("m", str(tmp_path / "device"), 1, follow=False)
    assert log.read(0.01) is None
    os.write(keep, b"x")
    assert log.read(1.0) == b"x"
    log.close()
    os.close(keep)


def test_a_device_that_has_nothing_after_all_is_no_end(tmp_path):
    # Two readers of one FIFO: poll says that there is something, and then there is not.
    os.mkfifo(tmp_path / "device")
    keep = os.open(tmp_path / "device", os.O_RDWR | os.O_NONBLOCK)
    log = DeviceChangelog("m", str(tmp_path / "device"), 1, follow=False)

    class Ready:
        def poll(self, timeout_ms):
            return [(0, 1)]

    log._poll = Ready()
    assert log.read(1.0) is None
    log.close()
    os.close(keep)


def test_what_is_no_device_says_so_and_leaves_nothing_open(lustre):
    with pytest.raises(ChangelogError, match="lustre-MDT0009 cannot be used: No such file"):
        lustre.open_changelog("lustre-MDT0009", 1, follow=False)
    with pytest.raises(ChangelogError, match="ioctl"):
        lustre.open_changelog("lustre-MDT0000", 1, follow=True)


def test_clearing_is_written_to_the_device_of_the_mdt(lustre, tmp_path):
    lustre.clear("lustre-MDT0001", "cl1", 12345)
    assert (tmp_path / "dev" / "changelog-lustre-MDT0001").read_bytes() == b"clear:cl1:12345"


def test_a_user_that_the_mdt_does_not_know_is_an_error_of_its_own(lustre, monkeypatch):
    def refuse(code):
        def clear(device, user, index):
            raise OSError(code, os.strerror(code))

        return clear

    monkeypatch.setattr(kernel, "clear_changelog", refuse(errno.ENOENT))
    with pytest.raises(ChangelogUserError, match="clear up to 5 for cl1"):
        lustre.clear("lustre-MDT0000", "cl1", 5)
    monkeypatch.setattr(kernel, "clear_changelog", refuse(errno.EINVAL))
    with pytest.raises(ChangelogIndexError, match="ends before record 5"):
        lustre.clear("lustre-MDT0000", "cl1", 5)
    monkeypatch.setattr(kernel, "clear_changelog", refuse(errno.EIO))
    with pytest.raises(ChangelogError, match="Input/output"):
        lustre.clear("lustre-MDT0000", "cl1", 5)


def test_an_inode_is_a_directory_or_not(lustre):
    os.mkdir(by_fid(lustre))
    assert lustre.is_directory(KEY)
    os.rmdir(by_fid(lustre))
    with pytest.raises(FidNotFoundError, match="0xefa"):
        lustre.is_directory(KEY)


def test_names_of_what_is_gone_are_an_error(lustre):
    with pytest.raises(FidNotFoundError):
        lustre.links(KEY)


def test_an_error_of_the_file_system_stays_one(lustre):
    os.symlink("x", by_fid(lustre))
    os.rename(os.path.dirname(by_fid(lustre)), os.path.join(lustre.point, "elsewhere"))
    open(os.path.dirname(by_fid(lustre)), "x").close()
    with pytest.raises(NotADirectoryError):
        lustre.is_directory(KEY)
    with pytest.raises(NotADirectoryError):
        lustre.links(KEY)


def test_names_come_from_the_attribute(lustre, monkeypatch):
    links = [kernel.Link(KEY, b"a"), kernel.Link(KEY, b"b")]
    monkeypatch.setattr(os, "getxattr", lambda path, name, follow_symlinks: kernel.render_links(links))
    assert lustre.links(KEY) == links


@pytest.mark.parametrize("value", [b"damaged", OSError(errno.ENODATA, "none")])
def test_names_come_from_paths_where_there_is_no_good_attribute(lustre, monkeypatch, value):
    def getxattr(path, name, follow_symlinks):
        if isinstance(value, OSError):
            raise value
        return value

    os.mkdir(os.path.join(lustre.point, "d"))
    monkeypatch.setattr(os, "getxattr", getxattr)
    answers = [(b"d/one", 1), (b"two", 1)]
    monkeypatch.setattr(kernel, "path_of", lambda root_fd, key, link: answers[link])
    monkeypatch.setattr(kernel, "handle_of", lambda fd: (0x97, os.fstat(fd).st_ino.to_bytes(16, "little") + bytes(16)))
    d, root = (os.stat(os.path.join(lustre.point, name)).st_ino.to_bytes(16, "little") for name in ("d", ""))
    assert lustre.links(KEY) == [kernel.Link(d, b"one"), kernel.Link(root, b"two")]


def test_an_inode_has_only_so_many_names():
    class Endless:
        def __call__(self, fd, request, argument):
            argument[24:28] = (int.from_bytes(argument[24:28], "little") + 1).to_bytes(4, "little")

    assert sum(1 for _ in client.paths_of(3, KEY, Endless())) == 65_000


def test_what_is_not_on_lustre_has_no_fid(lustre, tmp_path, monkeypatch):
    fd = os.open(tmp_path, os.O_PATH)
    with pytest.raises(NotLustreError, match="is not on a Lustre"):
        lustre.key_of(fd)

    def fail(code):
        def handle_of(fd):
            raise OSError(code, os.strerror(code))

        return handle_of

    monkeypatch.setattr(kernel, "handle_of", fail(errno.EOVERFLOW))
    with pytest.raises(NotLustreError):
        client.key_of(fd)
    monkeypatch.setattr(kernel, "handle_of", fail(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        client.key_of(fd)
    os.close(fd)


def test_a_path_leads_to_the_mount_of_the_whole_file_system():
    whole = b"m@tcp:/fs /mnt/whole lustre rw 0 0"
    part = b"m@tcp:/fs/dir /mnt/part lustre rw 0 0"
    assert client.connect("/mnt/part/x", parse_mounts([part, whole])).point == "/mnt/whole"
    other = b"m@tcp:/fs /mnt/other lustre rw 0 0"
    assert client.connect("/mnt/other/x", parse_mounts([whole, other])).point == "/mnt/other"
    with pytest.raises(WholeMountError, match="/mnt/part/x is a directory of the Lustre file system fs"):
        client.connect("/mnt/part/x", parse_mounts([part]))
    with pytest.raises(NotLustreError):
        client.connect("/elsewhere", parse_mounts([whole]))


def test_this_machine_tells_its_mounts(tmp_path):
    (tmp_path / "mounts").write_bytes(b"m@tcp:/fs /mnt lustre rw 0 0\nproc /proc proc rw 0 0\n")
    assert [mount.point for mount in client.read_mounts(str(tmp_path / "mounts"))] == [b"/mnt"]
    with pytest.raises(NotLustreError):
        client.connect("/proc")
