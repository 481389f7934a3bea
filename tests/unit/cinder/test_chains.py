# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import builtins
import os

import pytest
from cinder import exception
from tests.unit.cinder.bench import Bench, Snapshot


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
