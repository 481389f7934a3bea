# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import errno
import os

import pytest

from lustack.swift.device import Device, can_write_trusted


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


def test_a_sidecar_can_be_kept(device):
    identifier = device.sidecars.create(b"blob")
    assert device.sidecars.read(identifier) == b"blob"


def test_a_device_that_is_not_there_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        _ = Device(str(tmp_path / "absent")).attributes


class TestTrusted:
    def test_root_can_write_trusted_attributes_here(self, tmp_path):
        with opened(tmp_path) as fd:
            assert can_write_trusted(fd) == (os.geteuid() == 0)

    def test_some_file_systems_have_none(self):
        with opened("/proc/self") as fd:
            assert not can_write_trusted(fd)

    def test_what_else_goes_wrong_is_no_answer(self):
        with pytest.raises(OSError, match="No such file") as caught:
            can_write_trusted(-1)
        assert caught.value.errno == errno.ENOENT


@contextlib.contextmanager
def opened(path):
    fd = os.open(path, os.O_PATH)
    try:
        yield fd
    finally:
        os.close(fd)
