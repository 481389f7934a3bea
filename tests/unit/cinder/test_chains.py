# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import builtins
import os
from pathlib import Path

import pytest
from cinder import exception
from tests.unit.cinder.bench import Bench, Snapshot, Volume

from lustack.cinder import access


def test_a_record_that_only_root_may_read_is_read_as_root(stage: Bench, monkeypatch: pytest.MonkeyPatch):
    stage.set_up()
    volume = stage.create()
    stage.driver.create_snapshot(Snapshot(volume))
    before = stage.active(volume)
    real = builtins.open

    def refuse(path, *args, **options):
        if str(path).endswith(".info"):
            raise PermissionError(path)
        return real(path, *args, **options)

    monkeypatch.setattr(builtins, "open", refuse)
    stage.commands.clear()
    assert stage.active(volume) == before
    assert any(command[0] == "dd" for command in stage.commands)


def test_files_are_listed_without_a_command_unless_only_root_may(stage: Bench, monkeypatch: pytest.MonkeyPatch):
    stage.set_up()
    volume = stage.create()
    (stage.share / f"{volume.name}.directory").mkdir()
    (stage.share / f"{volume.name}-other").touch()
    stage.commands.clear()
    assert stage.driver._list_own_files(str(stage.share), volume.name) == [volume.name]
    assert not stage.commands

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert stage.driver._list_own_files(str(stage.share), volume.name) == [volume.name]
    assert [command[0] for command in stage.commands] == ["find"]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\xff"])
def test_a_record_that_cannot_be_read_stops_everything_and_stays(stage: Bench, content: bytes):
    stage.set_up()
    volume = stage.create()
    record = stage.share / f"{volume.name}.info"
    record.write_bytes(content)
    with pytest.raises(exception.VolumeDriverException, match="nothing was changed"):
        stage.driver.create_snapshot(Snapshot(volume))
    assert record.read_bytes() == content


def test_a_record_that_is_a_link_is_not_followed(stage: Bench):
    stage.set_up()
    volume = stage.create()
    elsewhere = stage.root / "elsewhere"
    elsewhere.write_text(f'{{"active": "{volume.name}"}}')
    (stage.share / f"{volume.name}.info").symlink_to(elsewhere)
    with pytest.raises(exception.VolumeDriverException, match="symbolic link; nothing was changed"):
        stage.driver.create_snapshot(Snapshot(volume))
    assert stage.names() == [volume.name, f"{volume.name}.info"]


def test_a_record_that_is_a_pipe_holds_nobody_up(stage: Bench):
    stage.set_up()
    volume = stage.create()
    os.mkfifo(stage.share / f"{volume.name}.info")
    with pytest.raises(exception.VolumeDriverException, match="nothing was changed"):
        stage.driver.create_snapshot(Snapshot(volume))


def test_other_errors_of_a_record_are_errors(stage: Bench):
    stage.set_up()
    volume = stage.create()
    (stage.share / f"{volume.name}.info").mkdir()
    with pytest.raises(IsADirectoryError):
        stage.driver.create_snapshot(Snapshot(volume))


@pytest.fixture
def own(tmp_path: Path, coordinated: None, programs: Path) -> Bench:
    """A driver that uses files as its own user."""
    bench = Bench(tmp_path, nas_secure_file_operations="true", nas_secure_file_permissions="true")
    bench.set_up()
    return bench


def test_each_file_stays_usable_for_the_service_s_own_user(own: Bench, monkeypatch: pytest.MonkeyPatch):
    kept = []
    monkeypatch.setattr(access, "keep", lambda path, mode: kept.append((os.path.basename(path), mode)) or True)
    volume = own.create()
    snapshot = Snapshot(volume)
    own.driver.create_snapshot(snapshot)
    copy = Volume(1)
    own.driver.create_volume_from_snapshot(copy, snapshot)
    names = [volume.name, f"{volume.name}.{snapshot.id}", copy.name]
    assert kept == [(name, 0o660) for name in names]


def test_what_libvirt_has_given_to_a_guest_keeps_its_permissions(own: Bench, monkeypatch: pytest.MonkeyPatch):
    volume = own.create()
    monkeypatch.setattr(access, "is_given_away", lambda path: True)
    own.commands.clear()
    own.driver._set_rw_permissions(str(own.share / volume.name))
    assert own.commands == []


@pytest.mark.expects_log("has no access control lists: put user [0-9]+ into the group of libvirt's guests")
def test_where_it_would_not_stay_usable_that_is_said_once_with_the_remedy(
    own: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(access, "keep", lambda path, mode: False)
    own.create()
    own.create()
    assert caplog.text.count("has no access control lists") == 1
