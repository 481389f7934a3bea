# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.exported import export
from tests.objects import NEEDS_ROOT

from lustack.exports import roots
from lustack.exports.errors import ExportMissingError
from lustack.exports.roots import Root, open_export
from lustack.mapping.exports import Exports, Stage


@pytest.fixture
def root(tmp_path) -> Path:
    path = tmp_path / "device"
    path.mkdir()
    return path


@pytest.fixture
def directory(tmp_path) -> Path:
    return tmp_path / "projects" / "x"


@pytest.fixture
def found(root, directory):
    return export(root, directory)


def why(found) -> str:
    with pytest.raises(ExportMissingError) as caught:
        open_export(found)
    return caught.value.why


class TestOpen:
    def test_the_directory_is_opened(self, found, directory):
        fd = open_export(found)
        assert os.path.samestat(os.fstat(fd), directory.stat())
        os.close(fd)

    def test_one_that_is_gone_is_missing(self, found, directory):
        directory.rename(directory.parent / "y")
        assert why(found) == "No such file or directory"

    def test_another_one_in_its_place_is_not_it(self, found, directory):
        directory.rename(directory.parent / "y")
        directory.mkdir()
        assert "another directory is in its place" in why(found)

    def test_a_copy_is_not_it(self, found, directory):
        shutil.copytree(directory, directory.parent / "copy")
        copy = replace(found, path=found.path.replace(b"/x", b"/copy"))
        assert "another directory is in its place" in why(copy)

    def test_one_with_the_same_inode_on_another_file_system_lacks_the_mark(self, found, directory):
        os.removexattr(directory, "user.lustack.export")
        assert why(found) == "it does not carry the mark of the export"

    def test_a_link_is_not_followed_on_the_way(self, found, directory):
        directory.parent.rename(directory.parent.parent / "moved")
        directory.parent.symlink_to("moved")
        assert why(found) == "Not a directory"

    @NEEDS_ROOT
    def test_one_whose_mark_may_not_be_read_is_missing(self, found, directory, monkeypatch):
        for path in directory.parents:  # however many there are: the directory itself must refuse
            path.chmod(path.stat().st_mode | 0o011)
        directory.chmod(0)
        os.seteuid(65534)
        try:
            assert why(found) == "Permission denied"
        finally:
            os.seteuid(0)


class TestMark:
    def test_a_directory_has_one_or_none(self, found, directory):
        for path, expected in ((directory, found.mark), (directory.parent, None), (Path("/proc"), None)):
            fd = os.open(path, os.O_PATH)
            assert roots.read_mark(fd) == expected
            os.close(fd)

    def test_what_cannot_be_asked_is_no_answer(self):
        with pytest.raises(OSError, match="No such file"):
            roots.read_mark(-1)


class TestTrusted:
    def test_it_is_asked_without_a_trace(self, tmp_path):
        before = tmp_path.stat().st_ctime_ns
        fd = os.open(tmp_path, os.O_PATH)
        assert roots.takes_trusted(fd) == (os.geteuid() == 0)
        os.close(fd)
        assert tmp_path.stat().st_ctime_ns == before

    def test_some_file_systems_have_none(self):
        fd = os.open("/proc/self", os.O_PATH)
        assert not roots.takes_trusted(fd)
        os.close(fd)

    @pytest.mark.parametrize(("user", "expected"), [(0, True), (1000, False)])
    def test_where_nothing_can_be_written_root_can_read_them(self, monkeypatch, user, expected):
        def refuse(*_):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(os, "removexattr", refuse)
        monkeypatch.setattr(os, "geteuid", lambda: user)
        assert roots.takes_trusted(-1) is expected

    def test_what_else_goes_wrong_is_no_answer(self):
        with pytest.raises(OSError, match="No such file") as caught:
            roots.takes_trusted(-1)
        assert caught.value.errno == errno.ENOENT


def test_the_roots_of_a_device_are_itself_and_its_exports(found):
    left = replace(found, container="left", path=b"/left", stage=Stage.LEAVING)
    assert roots.list_roots("/srv/node/files", Exports([found, left])) == [
        Root(b"/srv/node/files", b""),
        Root(found.path, b"a/e"),
    ]


def test_a_device_that_is_not_there_says_so(tmp_path):
    with pytest.raises(FileNotFoundError), roots.opened_device(str(tmp_path / "gone")):
        pass
