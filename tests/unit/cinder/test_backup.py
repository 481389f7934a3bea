# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cinder import exception
from oslo_config import cfg
from tests.unit.cinder.bench import Client

from lustack.brick.errors import MountError
from lustack.cinder import backup

SHARE = "10.0.0.1@tcp:/scratch/backups"


@pytest.fixture
def driver(tmp_path: Path, coordinated: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[backup.LustreBackupDriver]:
    monkeypatch.setattr(Client, "mounted", set(), raising=False)
    monkeypatch.setattr(Client, "failures", [], raising=False)
    monkeypatch.setattr(backup, "LustreClient", Client)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    cfg.CONF.set_override("backup_lustre_mount_point_base", str(tmp_path / "mnt"))
    cfg.CONF.set_override("backup_lustre_share", SHARE)
    yield backup.LustreBackupDriver(None)
    cfg.CONF.clear_override("backup_lustre_share")
    cfg.CONF.clear_override("backup_lustre_mount_point_base")


def test_a_chunk_appears_when_it_is_complete_and_is_read_back(driver: backup.LustreBackupDriver):
    driver.put_container("ab/cd/x")
    with driver.get_object_writer("ab/cd/x", "chunk-1") as chunk:
        assert chunk.write(b"bytes") == 5
        assert driver.get_container_entries("ab/cd/x", "chunk") == []
    assert driver.get_container_entries("ab/cd/x", "chunk") == ["chunk-1"]
    with driver.get_object_reader("ab/cd/x", "chunk-1") as chunk:
        assert chunk.read() == b"bytes"


def test_the_name_of_a_chunk_survives_a_crash(driver: backup.LustreBackupDriver, monkeypatch: pytest.MonkeyPatch):
    steps = []
    for name in ("fsync", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *words, name=name, real=real: (steps.append(name), real(*words)))
    driver.put_container("x")
    with driver.get_object_writer("x", "chunk-1") as chunk:
        chunk.write(b"bytes")
    assert steps == ["fsync", "rename", "fsync"]


def test_what_a_crash_left_is_no_chunk(driver: backup.LustreBackupDriver):
    driver.put_container("x")
    for name in ("chunk-1", "chunk-2.part", "chunk-1.new"):
        Path(driver.backup_path, "x", name).touch()
    assert driver.get_container_entries("x", "chunk") == ["chunk-1"]


@pytest.mark.parametrize("whole", [("b-00001",), ()])
def test_what_a_crash_left_of_a_backup_goes_with_it(driver: backup.LustreBackupDriver, whole: tuple[str, ...]):
    driver.put_container("ab/x")
    for name in (*whole, "b-00002.part", "b-00001.new", "other-00001"):
        Path(driver.backup_path, "ab/x", name).touch()
    driver.delete_backup({"id": "b", "container": "ab/x", "service_metadata": "b-"})
    assert os.listdir(os.path.join(driver.backup_path, "ab/x")) == ["other-00001"]
    driver.delete_backup({"id": "other", "container": "ab/x", "service_metadata": "other-"})
    assert os.listdir(driver.backup_path) == []


def test_a_backup_that_was_not_begun_is_deleted(driver: backup.LustreBackupDriver):
    driver.delete_backup({"id": "b", "container": None, "service_metadata": None})
    assert os.listdir(driver.backup_path) == []


def test_a_chunk_that_failed_leaves_nothing(driver: backup.LustreBackupDriver):
    driver.put_container("x")
    with pytest.raises(OSError, match="full"), driver.get_object_writer("x", "chunk-1"):
        raise OSError("full")
    assert os.listdir(os.path.join(driver.backup_path, "x")) == []


def test_a_chunk_may_be_closed_twice(driver: backup.LustreBackupDriver):
    driver.put_container("x")
    chunk = driver.get_object_writer("x", "chunk-1")
    chunk.close()
    chunk.close()
    assert driver.get_container_entries("x", "") == ["chunk-1"]


def test_directories_go_with_their_last_chunk(driver: backup.LustreBackupDriver):
    driver.put_container("ab/cd/x")
    driver.put_container("ab/y")
    with driver.get_object_writer("ab/cd/x", "chunk-1"):
        pass
    driver.delete_object("ab/cd/x", "chunk-1")
    assert os.listdir(os.path.join(driver.backup_path, "ab")) == ["y"]
    driver.delete_object("ab/y", "never-was")
    assert os.listdir(driver.backup_path) == []


def test_a_share_that_went_away_is_mounted_again_before_anything_is_written(driver: backup.LustreBackupDriver):
    Client.mounted.clear()
    driver.put_container("x")
    assert driver.backup_path in Client.mounted


def test_it_tries_as_often_as_it_is_told_and_says_why(driver: backup.LustreBackupDriver):
    Client.mounted.clear()
    Client.failures += [MountError(SHARE, "no answer")] * 2
    driver.check_for_setup_error()
    Client.mounted.clear()
    Client.failures += [MountError(SHARE, "no answer")] * 3
    with pytest.raises(exception.VolumeDriverException, match="no answer"):
        driver.check_for_setup_error()


def test_a_share_that_cannot_be_written_to_is_said(driver: backup.LustreBackupDriver, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(exception.VolumeDriverException, match="not writable"):
        driver.check_for_setup_error()


def test_without_a_share_it_does_not_start(driver: backup.LustreBackupDriver):
    cfg.CONF.set_override("backup_lustre_share", "")
    with pytest.raises(exception.InvalidConfigurationValue, match="backup_lustre_share"):
        backup.LustreBackupDriver(None)


def test_it_names_its_options(driver: backup.LustreBackupDriver):
    names = {option.name for option in driver.get_driver_options()}
    assert {"backup_lustre_share", "backup_file_size"} <= names
