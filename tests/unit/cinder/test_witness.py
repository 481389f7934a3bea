# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cinder.common import config

from lustack import __version__
from lustack.cinder import witness

DRIVER = "lustack.cinder.driver.LustreDriver"


@pytest.fixture
def look(tmp_path: Path) -> Iterator[Any]:
    """Look at a configuration with one section, named anew each time, since options stay registered."""

    def run(section: str, text: str, default: str = "") -> dict[str, Any]:
        path = tmp_path / "cinder.conf"
        path.write_text(
            f"[DEFAULT]\nstate_path = {tmp_path}\nenabled_backends = {section}\n{default}\n[{section}]\n{text}\n"
        )
        return witness.look(["--config-file", str(path)])

    yield run
    config.CONF.reset()


def test_it_tells_what_cinders_interpreter_sees(look, tmp_path: Path):
    shares = tmp_path / "shares"
    shares.write_text("10.0.0.1@tcp:/lfs/a\n10.0.0.1@tcp:/lfs/b -o noatime\n")
    seen = look("w1", f"volume_driver = {DRIVER}\nlustre_shares_config = {shares}\nnas_secure_file_operations = true")
    assert (seen["lustack"], seen["cinder"].partition(".")[0], seen["os-brick"].partition(".")[0]) == (
        __version__,
        "29",
        "7",
    )
    assert seen["registered"] == "lustack.brick.connector.LustreConnector"
    assert seen["root_helper"].startswith("sudo cinder-rootwrap ")
    (backend,) = seen["backends"]
    assert (backend["name"], backend["is_ours"], backend["trouble"]) == ("w1", True, "")
    assert (backend["mount_options"], backend["operations"], backend["permissions"]) == ("flock", "true", "auto")
    assert [share["address"] for share in backend["shares"]] == ["10.0.0.1@tcp:/lfs/a", "10.0.0.1@tcp:/lfs/b"]
    assert {Path(share["point"]).parent for share in backend["shares"]} == {tmp_path / "mnt"}


@pytest.mark.parametrize(("text", "has_account"), [("", False), ("[nova]\nauth_type = password", True)])
def test_it_tells_whether_cinder_itself_can_ask_nova(look, text: str, has_account: bool):
    assert look("w1", f"volume_driver = {DRIVER}\n{text}")["has_account"] is has_account


@pytest.mark.parametrize(
    ("section", "text", "trouble"),
    [
        ("w2", "volume_driver = no.such.Driver", "No module named 'no'"),
        ("w3", "volume_driver = lustack.cinder.driver.NoSuch", "Class NoSuch cannot be found"),
        ("w4", f"volume_driver = {DRIVER}\nlustre_shares_config = /no/such/file", "lustre_shares_config"),
        ("w5", f"volume_driver = {DRIVER}\nnas_host = 1.1.1.1\nnas_share_path = /fs/..", "nas_host and nas_share_path"),
        ("w6", f"volume_driver = {DRIVER}\nlustre_mount_attempts = often", "lustre_mount_attempts"),
    ],
)
def test_trouble_is_why_a_back_end_cannot_be_used(look, section: str, text: str, trouble: str):
    (backend,) = look(section, text)["backends"]
    assert trouble in backend["trouble"]
    assert "Traceback" not in backend["trouble"]


def test_a_stock_driver_is_not_ours(look):
    (backend,) = look("w7", "volume_driver = cinder.volume.drivers.nfs.NfsDriver")["backends"]
    assert (backend["is_ours"], backend["trouble"]) == (False, "")


@pytest.mark.parametrize(
    ("section", "default", "is_ready", "trouble"),
    [
        ("w8", "", False, ""),
        ("w9", "backup_manager = lustack.cinder.backup_manager.BackupManager", True, ""),
        ("w10", "backup_driver = lustack.cinder.backup.LustreBackupDriver", False, "backup_lustre_share is not set"),
        ("w11", "backup_driver = no.such.Driver", False, "No module named 'no'"),
        (
            "w12",
            "backup_driver = lustack.cinder.backup.LustreBackupDriver\nbackup_lustre_share = nonsense",
            False,
            "nonsense",
        ),
    ],
)
def test_the_backup_service_must_know_our_connections(look, section: str, default: str, is_ready: bool, trouble: str):
    found = look(section, "volume_driver = cinder.volume.drivers.nfs.NfsDriver", default)["backup"]
    assert found["is_ready"] is is_ready
    assert trouble in found["trouble"] if trouble else not found["trouble"]


def test_the_share_of_backups_is_named(look, tmp_path: Path):
    default = "backup_driver = lustack.cinder.backup.LustreBackupDriver\nbackup_lustre_share = 1.1.1.1:/lfs/backups"
    found = look("w13", "volume_driver = cinder.volume.drivers.nfs.NfsDriver", default)["backup"]
    assert (found["share"], found["is_ready"]) == ("1.1.1.1:/lfs/backups", True)
    assert Path(found["point"]).parent == tmp_path / "backup_mount"


def test_it_prints_one_line_of_json(look, tmp_path: Path, monkeypatch, capsys):
    path = tmp_path / "cinder.conf"
    path.write_text(f"[DEFAULT]\nstate_path = {tmp_path}\n")
    monkeypatch.setattr(sys, "argv", ["witness", "--config-file", str(path)])
    monkeypatch.delitem(sys.modules, "lustack.cinder.witness")
    runpy.run_module("lustack.cinder.witness", run_name="__main__")
    seen = json.loads(capsys.readouterr().out)
    assert (seen["lustack"], seen["backends"]) == (__version__, [])
