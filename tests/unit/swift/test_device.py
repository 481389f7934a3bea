# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import replace

import pytest
from tests.exported import damage, export, rewrite
from tests.objects import SwiftLog

from lustack.exports.errors import ExportMissingError
from lustack.exports.table import FRESH_S
from lustack.posix.errors import CorruptSidecarError
from lustack.swift.device import Device


@pytest.fixture
def device(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "d").symlink_to("real")
    found = Device(str(tmp_path / "d"))
    with contextlib.closing(found.locks):
        yield found


def test_the_operator_may_make_the_root_a_symbolic_link(device, tmp_path):
    with device.root() as root_fd:
        assert os.path.samestat(os.fstat(root_fd), (tmp_path / "real").stat())


def test_the_root_is_the_one_that_is_there_now(device, tmp_path):
    with device.root():
        pass
    (tmp_path / "other").mkdir()
    (tmp_path / "d").unlink()
    (tmp_path / "d").symlink_to("other")
    with device.root() as root_fd:
        assert os.path.samestat(os.fstat(root_fd), (tmp_path / "other").stat())


def test_nothing_is_made_before_something_needs_it(device, tmp_path):
    assert os.listdir(tmp_path / "real") == []


def test_the_reserved_directory_is_made_for_us_alone(device, tmp_path):
    assert device.attributes is device.attributes
    for path in (".lustack", ".lustack/sidecars"):
        assert (tmp_path / "real" / path).stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC])
def test_a_file_system_that_takes_nothing_more_is_still_read(device, monkeypatch, code):
    os.close(device._open_sidecars())

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "setxattr", refuse)
    if code == errno.EROFS:
        monkeypatch.setattr(os, "removexattr", refuse)
    assert device.attributes.trusted == (os.geteuid() == 0)


def test_a_sidecar_can_be_kept(device):
    identifier = device.sidecars.create(b"blob")
    assert device.sidecars.read(identifier) == b"blob"


def test_a_device_that_is_not_there_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        _ = Device(str(tmp_path / "absent")).attributes


class TestHome:
    def test_a_container_is_below_the_root(self, device):
        with device.home("a", "c") as home:
            assert (home.fd, home.path) == (home.root_fd, b"a/c")
            assert home.attributes is device.attributes
            assert home.sidecars is device.sidecars

    def test_an_export_is_a_directory_somewhere_else(self, device, tmp_path):
        export(tmp_path / "real", tmp_path / "x", "a", "c")
        with device.home("a", "c") as home:
            assert os.path.samestat(os.fstat(home.fd), (tmp_path / "x").stat())
            assert home.path == b"."
            assert home.attributes is device.attributes

    def test_sidecars_of_another_file_system_lie_apart(self, device, tmp_path):
        # They say for which inode they were made, and there the same number is another file.
        found = replace(export(tmp_path / "real", tmp_path / "x", "a", "c"), is_foreign=True)
        rewrite(tmp_path / "real", found)
        with device.home("a", "c") as home:
            identifier = home.sidecars.create(b"blob")
            assert home.attributes.store._sidecars.read(identifier) == b"blob"
            assert home.attributes.trusted == (os.geteuid() == 0)
        with pytest.raises(CorruptSidecarError):
            device.sidecars.read(identifier)
        assert next((tmp_path / "real" / ".lustack" / "foreign").iterdir()).stat().st_mode & 0o777 == 0o700

    def test_an_export_that_is_not_there_is_an_error(self, device, tmp_path):
        export(tmp_path / "real", tmp_path / "x", "a", "c")
        (tmp_path / "x").rename(tmp_path / "y")
        with pytest.raises(ExportMissingError), device.home("a", "c"):
            pass

    @pytest.mark.expects_log("^WARNING swift.tests: .*export")
    def test_trouble_with_the_table_is_told(self, tmp_path):
        device = Device(str(tmp_path), logger=SwiftLog())
        export(tmp_path, tmp_path.parent / f"{tmp_path.name}-x", "a", "c")
        with device.home("a", "c"):
            damage(tmp_path)
        time.sleep(FRESH_S)
        with device.home("a", "c") as home:
            assert home.path == b"."
