# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import errno
import json
import os
import stat
from pathlib import Path

import pytest

from lustack.errors import ConfigurationError
from lustack.server import statedir
from lustack.server.errors import ForeignStateError, InUseError
from lustack.server.topology import Host, Policy


class RingMaker:
    """Notes what it was asked for."""

    def __init__(self):
        self.calls = []

    def __call__(self, etc, wanted):
        self.calls.append((etc, json.loads(wanted)))


@pytest.fixture
def host(tmp_path):
    return Host(str(tmp_path / "data"), str(tmp_path / "data.state"), port=0)


def open_once(host, rings=None):
    with statedir.open_state(host, rings or RingMaker()) as assigned:
        return assigned


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_second_start_finds_what_the_first_one_chose(host):
    rings = RingMaker()
    assert open_once(host, rings) == open_once(host, rings)
    assert len(rings.calls) == 1


def test_rings_are_made_again_when_a_port_changed(host):
    rings = RingMaker()
    first = open_once(host, rings)
    path = Path(host.etc, "serve.json")
    path.write_text(path.read_text().replace(str(first.ports.object), "19999"))
    open_once(host, rings)
    assert len(rings.calls) == 2


def test_nothing_but_our_hidden_directory_is_in_the_served_one(host):
    open_once(host)
    assert os.listdir(host.directory) == [".lustack"]
    assert sorted(os.listdir(os.path.join(host.directory, ".lustack"))) == ["identity", "serve.lock"]


def test_nobody_else_can_read_the_state(host):
    open_once(host)
    assert mode(host.state) == 0o700
    assert mode(os.path.join(host.directory, ".lustack")) == 0o700


def test_a_directory_is_served_once(host, tmp_path):
    other = dataclasses.replace(host, state=str(tmp_path / "other"))
    with statedir.open_state(host, RingMaker()), pytest.raises(InUseError, match="data is being served"):
        open_once(other)


def test_a_directory_is_served_once_whatever_it_is_called(host, tmp_path):
    os.symlink(host.directory, tmp_path / "alias")
    other = dataclasses.replace(host, directory=str(tmp_path / "alias"), state=str(tmp_path / "other"))
    with statedir.open_state(host, RingMaker()), pytest.raises(InUseError, match="alias"):
        open_once(other)


def test_a_state_is_used_once(host, tmp_path):
    other = dataclasses.replace(host, directory=str(tmp_path / "elsewhere"))
    with statedir.open_state(host, RingMaker()), pytest.raises(InUseError, match=r"data\.state is being served"):
        open_once(other)


@pytest.mark.parametrize("inside", ["", "/state", "/AUTH_test/c"])
def test_a_state_inside_the_served_directory_is_refused(host, inside):
    with pytest.raises(ConfigurationError, match="outside the served directory"):
        open_once(dataclasses.replace(host, state=host.directory + inside))
    assert not os.path.exists(host.directory)


def test_a_state_whose_name_starts_alike_is_no_problem(host):
    open_once(dataclasses.replace(host, state=f"{host.directory}2"))


def test_the_state_of_another_directory_is_refused(host, tmp_path):
    open_once(host)
    other = dataclasses.replace(host, directory=str(tmp_path / "elsewhere"))
    with pytest.raises(ForeignStateError):
        open_once(other)


def test_a_directory_that_was_moved_with_its_state_goes_on(host, tmp_path):
    first = open_once(host)
    moved = dataclasses.replace(host, directory=str(tmp_path / "new"), state=str(tmp_path / "new.state"))
    os.rename(host.directory, moved.directory)
    os.rename(host.state, moved.state)
    assert open_once(moved) == first
    assert os.readlink(f"{moved.node}/files") == moved.directory


def test_an_empty_mount_point_in_place_of_the_directory_is_refused(host, tmp_path):
    open_once(host)
    os.rename(host.directory, tmp_path / "unmounted")
    with pytest.raises(ForeignStateError, match="not mounted"):
        open_once(host)


def test_a_lost_state_is_made_again(host, tmp_path):
    first = open_once(host)
    os.rename(host.state, tmp_path / "lost")
    assert open_once(host).hash_prefix != first.hash_prefix


def test_a_record_that_is_no_json_is_never_guessed(host):
    open_once(host)
    with open(f"{host.etc}/serve.json", "wb") as file:
        file.write(b"\xff{")
    with pytest.raises(ConfigurationError, match=r"serve\.json"):
        open_once(host)


@pytest.mark.parametrize("text", ["[]", '{"version": 2}', '{"ports": {}}'])
def test_a_record_of_a_later_lustack_is_left_alone(host, text):
    open_once(host)
    with open(f"{host.etc}/serve.json", "w") as file:
        file.write(text)
    with pytest.raises(ConfigurationError, match="version"):
        open_once(host)


def test_each_policy_has_its_device_and_a_place_for_pending_updates(host, tmp_path):
    stock = Policy(1, "stock", "egg:swift#replication.fs", "d1", str(tmp_path / "stock"), default=False)
    open_once(dataclasses.replace(host, policies=(Policy(), stock)))
    assert os.readlink(f"{host.node}/files") == host.directory
    assert os.readlink(f"{host.node}/d1") == stock.root == os.readlink(f"{host.spool}/d1")
    assert os.path.isdir(f"{host.spool}/files")
    assert not os.path.islink(f"{host.spool}/files")
    assert os.path.isdir(f"{host.databases}/files")


def test_the_link_of_a_start_that_was_killed_is_made_again(host):
    open_once(host)
    os.unlink(f"{host.node}/files")
    os.symlink("/nowhere", f"{host.node}/files.new")
    open_once(host)
    assert os.readlink(f"{host.node}/files") == host.directory
    assert os.listdir(host.node) == ["files"]


def test_a_file_in_place_of_the_directory_is_refused(host):
    with open(host.directory, "w"):
        pass
    with pytest.raises(ConfigurationError, match="Not a directory"):
        open_once(host)


def test_other_failures_are_not_explained_away(host):
    with pytest.raises(OSError, match="name too long"):
        open_once(dataclasses.replace(host, directory="/" + "a" * 300))


def refuse_with(number):
    def setxattr(fd, name, value):
        raise OSError(number, os.strerror(number))

    return setxattr


def test_a_file_system_without_attributes_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(ConfigurationError, match="user_xattr"):
        statedir.require_xattrs(str(tmp_path), "/data", refuse_with(errno.EOPNOTSUPP))
    assert os.listdir(tmp_path) == []


def test_an_attribute_that_fails_otherwise_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No space"):
        statedir.require_xattrs(str(tmp_path), "/data", refuse_with(errno.ENOSPC))


def test_rings_that_swift_does_not_make_are_explained(tmp_path):
    with pytest.raises(ConfigurationError, match="JSONDecodeError"):
        statedir.make_rings(str(tmp_path), "no json")
