# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from os_brick.remotefs import remotefs
from oslo_concurrency import processutils

from lustack.brick import client
from lustack.brick.client import LustreClient
from lustack.brick.errors import CommandError, MountError, NoAnswerError, UnfitMountError

SHARE = "10.0.0.1@tcp:/scratch/volumes"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for /proc/self/mounts."""
    path = tmp_path / "mounts"
    path.write_text("proc /proc proc rw 0 0\n")
    monkeypatch.setattr(client, "_MOUNTS", str(path))
    return path


class Mounter:
    """Stands for the mount command."""

    def __init__(
        self, table: Path, error: Exception | None = None, *, mounts: bool = True, options: str = "rw,flock"
    ) -> None:
        self.table, self.error, self.mounts, self.options = table, error, mounts, options
        self.commands: list[tuple[str, ...]] = []

    def execute(self, *command: str, **options: object) -> tuple[str, str]:
        """As os-brick's own client runs it."""
        return self.run(list(command), key="", limit_s=0, as_root=True), ""

    def run(self, command: list[str], *, key: str, limit_s: float, as_root: bool) -> str:
        assert as_root
        self.commands.append(tuple(command))
        if self.mounts:
            with self.table.open("a") as file:
                file.write(f"{command[-2]} {command[-1]} lustre {self.options} 0 0\n")
        if self.error:
            raise self.error
        return ""


def make(tmp_path: Path, mounter: Mounter) -> LustreClient:
    return LustreClient("", str(tmp_path / "base"), "flock", runner=mounter)


def test_a_directory_that_cannot_be_made_is_said_with_what_to_change(tmp_path: Path, table: Path):
    (tmp_path / "base").write_text("no directory")
    with pytest.raises(MountError, match=r"cannot be made: .*mount_point_base"):
        make(tmp_path, Mounter(table)).mount(SHARE)


def test_a_share_is_mounted_once_with_its_options(tmp_path: Path, table: Path):
    mounter = Mounter(table)
    brick = make(tmp_path, mounter)
    brick.mount(SHARE, ["-o", "noatime"])
    brick.mount(SHARE)
    point = brick.get_mount_point(SHARE)
    assert mounter.commands == [("mount", "-t", "lustre", "-o", "flock", "-o", "noatime", SHARE, point)]
    assert os.path.isdir(point)
    assert brick.get_mount_base() == str(tmp_path / "base")


def test_a_mount_point_is_named_after_what_is_mounted_not_after_the_servers(tmp_path: Path, table: Path):
    brick = make(tmp_path, Mounter(table))
    name = hashlib.md5(b"scratch/volumes").hexdigest()
    for share in (SHARE, "192.168.1.1@o2ib,192.168.1.2@o2ib:192.168.1.3@o2ib:/scratch/volumes/"):
        assert brick.get_mount_point(share) == str(tmp_path / "base" / name)


def test_another_process_may_have_been_quicker(tmp_path: Path, table: Path):
    error = CommandError("mount", 32, "already mounted")
    make(tmp_path, Mounter(table, error)).mount(SHARE)
    with pytest.raises(MountError, match="busy"):
        make(tmp_path / "other", Mounter(table, CommandError("mount", 32, "busy"), mounts=False)).mount(SHARE)


@pytest.mark.expects_log("Failed to mount server:/volumes")
def test_os_brick_s_own_client_fails_when_another_process_was_quicker(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
):
    # It looks for the share among the mount points. Source: os-brick 7.1.1, remotefs.py:133.
    def read_mounts(brick: remotefs.RemoteFsClient) -> dict[str, str]:
        return {line.split()[1]: line.split()[0] for line in table.read_text().splitlines()}

    monkeypatch.setattr(remotefs.RemoteFsClient, "_read_mounts", read_mounts)
    mounter = Mounter(table, processutils.ProcessExecutionError(stderr="already mounted"))
    stock = remotefs.RemoteFsClient("nfs", "", execute=mounter.execute, nfs_mount_point_base=str(tmp_path))
    point = stock.get_mount_point("server:/volumes")
    with pytest.raises(processutils.ProcessExecutionError):
        stock._do_mount("nfs", "server:/volumes", point)
    assert read_mounts(stock)[point] == "server:/volumes"


def test_a_server_that_does_not_answer_is_given_up(tmp_path: Path, table: Path):
    with pytest.raises(MountError, match="no answer within 90 s"):
        make(tmp_path, Mounter(table, NoAnswerError("mount", 90), mounts=False)).mount(SHARE)


def test_a_mount_command_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "mount"
    program.write_text("#!/bin/sh\nwhile :; do sleep 0.1; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(client, "MOUNT_LIMIT_S", 1.0)
    brick = LustreClient("env", str(tmp_path / "base"))
    with pytest.raises(MountError, match="no answer within 1 s"):
        brick.mount(SHARE)
    # On a busy machine it may take a while to die.
    for child in brick._runner._stuck.values():
        child.wait()
    assert not subprocess.run(["pgrep", "-f", str(program)], capture_output=True, check=False).stdout


def test_something_else_at_the_mount_point_is_refused(tmp_path: Path, table: Path):
    brick = make(tmp_path, Mounter(table))
    with table.open("a") as file:
        file.write(f"10.0.0.1@tcp:/other {brick.get_mount_point(SHARE)} lustre rw 0 0\n")
    with pytest.raises(UnfitMountError, match="/other is mounted"):
        brick.mount(SHARE)


def test_options_that_are_bad_for_volumes_are_found(tmp_path: Path, table: Path):
    brick = make(tmp_path, Mounter(table, options="rw,localflock,nouser_xattr"))
    assert brick.find_faults(SHARE) == []
    brick.mount(SHARE)
    [fault] = brick.find_faults(SHARE)
    assert "flock" in fault


def test_without_options_there_are_none(tmp_path: Path, table: Path):
    mounter = Mounter(table)
    LustreClient("", str(tmp_path), runner=mounter).mount(SHARE)
    assert mounter.commands[0][:3] == ("mount", "-t", "lustre")
    assert "-o" not in mounter.commands[0]


def test_a_mount_is_tried_as_often_as_asked(tmp_path: Path, table: Path):
    error = CommandError("mount", 5, "Input/output error")
    mounter = Mounter(table, error, mounts=False)
    brick = make(tmp_path, mounter)
    with pytest.raises(MountError, match=r"Input/output error \(3 attempts\)"):
        brick.mount_patiently(SHARE, [], 3, 0.0)
    assert len(mounter.commands) == 3
    mounter.error, mounter.mounts = None, True
    brick.mount_patiently(SHARE, [], 1)
    assert len(mounter.commands) == 4
