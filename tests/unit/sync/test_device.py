# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from dataclasses import replace

import pytest
from tests.exported import damage, export, rewrite
from tests.listings import KEY

from lustack.exports.errors import ExportMissingError
from lustack.exports.roots import Root
from lustack.mapping import layout, names
from lustack.mapping.exports import Stage
from lustack.sync.device import agrees, open_device
from lustack.sync.errors import DeviceMissingError


def test_a_device_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DeviceMissingError, match="No such file"), open_device(str(tmp_path / "gone")):
        pass


def test_the_reserved_directory_is_the_mark(playground):
    with playground.device() as device:
        assert device.mark == (playground.root / ".lustack").stat().st_ino
    (playground.root / ".lustack").rmdir()
    with playground.device() as device:
        assert device.mark is None
        assert device.observer.trusted == (os.geteuid() == 0)


@pytest.mark.parametrize(
    ("owner", "user", "trusted", "expected"),
    [
        (0, 0, True, True),
        (0, 0, False, True),  # a file system without them
        (999, 999, False, True),
        (999, 0, True, False),
        (999, 0, False, True),  # likewise, with root squashed
        (0, 999, False, False),
    ],
)
def test_who_writes_trusted_attributes_must_not_meet_who_believes_others(owner, user, trusted, expected):
    assert agrees(owner, user, trusted=trusted) is expected


def test_the_user_of_the_object_servers_is_the_one_who_made_the_locks(playground, monkeypatch):
    locks = playground.root / os.fsdecode(layout.LOCKS)
    with playground.device() as device:
        assert device.strangers() == []
        locks.mkdir()
        assert device.strangers() == []
        user = os.geteuid()
        other = 1000 if user == 0 else 0
        status = os.stat_result((0, 0, 0, 0, other, 0, 0, 0, 0, 0))
        monkeypatch.setattr(os, "fstat", lambda _fd: status)
        [error] = device.strangers()
        monkeypatch.undo()
    assert f"of {playground.root} run as user {other}, this as user {user}" in str(error)


def test_a_root_may_be_a_link(playground):
    link = playground.base / "link"
    link.symlink_to(playground.root)
    with open_device(str(link)) as device:
        assert [found.name for found in device.accounts()] == ["a"]


def test_accounts_are_directories_that_decode(playground):
    long = names.account_path("x" * 300)
    for path in (b"b", b"b%dir", b"\xff", b"%2E.", long):
        (playground.root / os.fsdecode(path)).mkdir(parents=True)
    (playground.root / "file").touch()
    (playground.root / "link").symlink_to("a")
    with playground.device() as device:
        found = [(each.name, each.path) for each in device.accounts()]
    assert found == [("..", b"%2E."), ("a", b"a"), ("b", b"b"), ("x" * 300, long)]


def test_containers_are_directories_and_hidden_ones_lie_elsewhere(playground):
    hidden = names.container_path("a", "\0versions\0c")
    (playground.root / os.fsdecode(hidden)).mkdir(parents=True)
    (playground.root / os.fsdecode(layout.HIDDEN_CONTAINERS) / "a" / "stray").mkdir()
    (playground.container.parent / "d").mkdir()
    with playground.device() as device:
        assert [found.name for found in device.containers("a")] == ["\0versions\0c", "c", "d"]
        assert device.containers("nobody") == []


def test_an_endless_cut_name_is_no_container(playground):
    path = playground.container.parent
    for _ in range(6):
        path /= "l" * 253 + "%+"
    (path / "end").mkdir(parents=True)
    with playground.device() as device:
        assert [found.name for found in device.containers("a")] == ["c"]


def test_the_directory_of_a_container_is_opened_if_it_is_there(playground):
    with playground.device() as device:
        found = device.open_container(*KEY)
        assert os.fstat(found.fd).st_ino == playground.container.stat().st_ino
        found.close()
        playground.container.rmdir()
        assert device.open_container(*KEY) is None
        playground.container.symlink_to("/")
        assert device.open_container(*KEY) is None


def test_a_container_that_cannot_be_opened_is_an_error(playground):
    with playground.device() as device:
        os.close(device.root.fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            device.open_container(*KEY)
        with pytest.raises(OSError, match="Bad file descriptor"):
            device.accounts()
        os.dup2(os.open(playground.root, os.O_RDONLY), device.root.fd)


def test_a_lost_sidecar_directory_makes_no_trouble(playground):
    playground.put("o", b"body", "1600000000.00000")
    os.setxattr(playground.container / "o", "user.lustack.data", b"\0lustack-sidecar/1 " + b"0" * 32)
    assert playground.compare().unhashed == 1


class TestExports:
    @pytest.fixture
    def found(self, playground):
        return export(playground.root, playground.base / "x", "b", "e")

    def test_their_accounts_and_containers_are_there_though_the_device_has_no_directory(self, playground, found):
        with playground.device() as device:
            assert [each.name for each in device.accounts()] == ["a", "b"]
            assert [(each.name, each.path) for each in device.containers("b")] == [("e", b"b/e")]
            assert [each.name for each in device.containers("a")] == ["c"]

    def test_their_directories_are_roots_of_events(self, playground, found):
        with playground.device() as device:
            assert device.roots() == [Root(os.fsencode(playground.root), b""), Root(found.path, b"b/e")]

    def test_they_are_opened_where_they_are(self, playground, found):
        with playground.device() as device:
            directory = device.open_container("b", "e")
            assert os.path.samestat(os.fstat(directory.fd), (playground.base / "x").stat())
            directory.close()
            assert device.observer_of("b", "e") is device.observer

    def test_one_that_is_away_is_an_error_not_an_absence(self, playground, found):
        (playground.base / "x").rename(playground.base / "away")
        with playground.device() as device:
            with pytest.raises(ExportMissingError):
                device.open_container("b", "e")

    def test_one_that_leaves_is_an_ordinary_container(self, playground, found):
        rewrite(playground.root, replace(found, stage=Stage.LEAVING))
        with playground.device() as device:
            assert device.containers("b") == []
            assert device.open_container("b", "e") is None

    def test_what_overflows_on_another_file_system_is_looked_for_apart(self, playground, found):
        rewrite(playground.root, replace(found, is_foreign=True))
        apart = playground.root / os.fsdecode(layout.foreign_sidecars_path("b", "e"))
        apart.mkdir(parents=True)
        with playground.device() as device:
            observer = device.observer_of("b", "e")
            identifier = observer.store._sidecars.create(b"blob")
            assert next(iter(apart.glob("*/*"))).name == identifier.decode()
            assert observer.trusted == (os.geteuid() == 0)
            (playground.base / "x").rename(playground.base / "away")
            with pytest.raises(ExportMissingError):
                device.observer_of("b", "e")

    def test_a_device_whose_exports_nobody_knows_cannot_be_used(self, playground, found):
        damage(playground.root)
        with pytest.raises(DeviceMissingError, match="table of exports is damaged"), playground.device():
            pass
