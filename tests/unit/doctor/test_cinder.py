# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import pwd

import pytest

from lustack.brick.errors import CommandError, NoAnswerError
from lustack.doctor import cinder
from lustack.doctor.findings import Verdict, is_ready
from lustack.doctor.host import Host

HELPER = "sudo cinder-rootwrap /etc/cinder/rootwrap.conf"
OURS = {
    "name": "lustre",
    "driver": "lustack.cinder.driver.LustreDriver",
    "trouble": "",
    "is_ours": True,
    "mount_options": "flock,noatime",
    "operations": "true",
    "permissions": "true",
    "shares": [{"address": "10.0.0.1@tcp:/lfs/volumes", "point": "/somewhere"}],
}
STOCK = {"name": "lvm", "driver": "cinder.volume.drivers.lvm.LVMVolumeDriver", "trouble": "", "is_ours": False}
BACKUP = {
    "manager": "lustack.cinder.backup_manager.BackupManager",
    "driver": "cinder.backup.drivers.swift.SwiftBackupDriver",
    "trouble": "",
    "is_ready": True,
    "share": None,
    "point": None,
}
SEEN = {
    "lustack": "0.1",
    "cinder": "29.0.0",
    "os-brick": "7.1.1",
    "backends": [STOCK, OURS],
    "backup": BACKUP,
    "registered": "lustack.brick.connector.LustreConnector",
    "root_helper": HELPER,
    "cluster": None,
    "coordination": "file:///var/lib/cinder",
    "has_account": True,
}
NOBODY = pwd.getpwuid(65534).pw_name


class Runner:
    """A host with current programs, an interpreter that sees something, and a rootwrap that allows what it is told."""

    def __init__(self, seen, denied=()):
        self.seen = seen
        self.denied = denied
        self.commands = []

    def run(self, command, *, key, limit_s, as_root=False):
        self.commands.append(list(command))
        if "cinder-rootwrap" in command:
            return self.run_as_root([word for word in command if word not in HELPER.split()])
        if "--version" in command:
            return "version 9.0.0\n"
        if isinstance(self.seen, Exception):
            raise self.seen
        if "-m" in command:
            return json.dumps(self.seen)
        return "exclusive\n"

    def run_as_root(self, command):
        name = next(word for word in command if not word.startswith(("setpriv", "--re", "--init")))
        if name in self.denied:
            raise self.denied[name]
        if name in {"lustack-rawview", "lustack-record", "lustack-copy"}:
            raise CommandError(name, 2, f"usage: {name} FILE ...")
        return "" if name == "find" else f"{name} from util-linux 2.38\n"


@pytest.fixture
def examine(tmp_path):
    (tmp_path / "filesystems").write_text("nodev lustre\n")
    (tmp_path / "point").mkdir()

    def look(seen=None, *, user=NOBODY, is_mounted=True, options="flock", denied=(), fuse="/dev/null", **changes):
        share = {"address": "10.0.0.1@tcp:/lfs/volumes", "point": str(tmp_path / "point")}
        whole = {**SEEN, "backends": [STOCK, {**OURS, "shares": [share]}], **changes} if seen is None else seen
        mounts = tmp_path / "mounts"
        mounts.write_text(f"10.0.0.1@tcp:/lfs/volumes {tmp_path}/point lustre rw,{options} 0 0\n" if is_mounted else "")
        runner = Runner(whole, denied)
        host = Host(runner, str(mounts), str(tmp_path / "filesystems"))
        found = cinder.examine(host, "/opt/cinder/bin/python", ["/etc/cinder/cinder.conf"], user, fuse)
        return [finding for finding in found if finding.check != "mount helper"], runner

    return look


def bad(findings, verdict=Verdict.BAD):
    return [(finding.check, finding.found) for finding in findings if finding.verdict is verdict]


def test_a_host_with_everything_is_ready(examine):
    found, runner = examine()
    assert {finding.verdict for finding in found} == {Verdict.OK}
    assert is_ready(found)
    assert [
        *("/opt/cinder/bin/python", "-W", "ignore", "-P", "-m", "lustack.cinder.witness"),
        *("--config-file", "/etc/cinder/cinder.conf"),
    ] in runner.commands


def test_what_the_service_must_run_as_root_is_tried_as_its_user(examine):
    _, runner = examine()
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--init-groups"]
    assert [*become, *HELPER.split(), "lustack-rawview"] in runner.commands
    assert [*become, *HELPER.split(), "fallocate", "--version"] in runner.commands


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs a service as root")
def test_a_service_of_root_needs_no_rootwrap(examine):
    for user in ("", "root"):
        found, runner = examine(user=user)
        assert "rootwrap" not in {finding.check for finding in found}
        assert not [command for command in runner.commands if "setpriv" in command]


@pytest.mark.parametrize(
    ("denied", "why"),
    [
        (
            {"fallocate": CommandError("x", 99, "Unauthorized command:\n fallocate\n")},
            "Unauthorized command: fallocate",
        ),
        ({"find": CommandError("x", 99, "")}, "exit code 99"),
        ({"lustack-rawview": CommandError("x", 96, "Executable not found")}, "Executable not found"),
        ({"umount": NoAnswerError("sudo", 10.0)}, "no answer within 10 s"),
        ({"umount": FileNotFoundError(2, "No such file or directory", "sudo")}, "No such file or directory"),
    ],
)
def test_what_may_not_be_run_as_root_is_named_with_the_remedy(examine, denied, why):
    (wrong,) = [finding for finding in examine(denied=denied)[0] if finding.verdict is Verdict.BAD]
    (name,) = denied
    assert wrong.found.startswith(f"{name}: ")
    assert why in wrong.found
    assert f"exec_dirs there name the directory of {name}" in wrong.remedy


def test_a_program_that_is_something_else_is_not_taken_for_ours(examine):
    class Other(Runner):
        def run_as_root(self, command):
            return "hello\n"

    host = Host(Other(SEEN))
    said = [finding.found for finding in cinder.look_at_rootwrap(HELPER, host) if finding.verdict is Verdict.BAD]
    assert "lustack-rawview: it said 'hello\\n'" in said


@pytest.mark.parametrize(
    ("check", "verdict", "changes"),
    [
        ("cinder", Verdict.WARNING, {"cinder": "28.0.0"}),
        ("os-brick", Verdict.WARNING, {"os-brick": "6.9"}),
        ("connector", Verdict.BAD, {"registered": None}),
        ("back ends", Verdict.BAD, {"backends": []}),
        ("back ends", Verdict.BAD, {"backends": [STOCK]}),
        ("configuration", Verdict.BAD, {"backends": [OURS | {"trouble": "lustre_mount_attempts = x", "shares": []}]}),
        ("options", Verdict.BAD, {"backends": [OURS | {"mount_options": "localflock"}]}),
        ("options", Verdict.BAD, {"backends": [OURS | {"mount_options": None}]}),
        ("options", Verdict.WARNING, {"backends": [OURS | {"operations": "auto"}]}),
        ("options", Verdict.WARNING, {"backends": [OURS | {"permissions": "auto"}]}),
        ("coordination", Verdict.BAD, {"cluster": "volumes"}),
        ("account", Verdict.WARNING, {"has_account": False}),
        ("coordination", Verdict.BAD, {"cluster": "volumes", "coordination": None}),
        ("backup", Verdict.WARNING, {"backup": BACKUP | {"is_ready": False}}),
        ("backup", Verdict.BAD, {"backup": BACKUP | {"trouble": "backup_lustre_share is not set"}}),
        ("share", Verdict.WARNING, {"backup": BACKUP | {"share": "1.1.1.1:/fs/backups", "point": "/elsewhere"}}),
        ("share", Verdict.WARNING, {"is_mounted": False}),
        ("mount options", Verdict.BAD, {"options": "localflock"}),
        ("fuse", Verdict.BAD, {"fuse": "/dev/no-such-device"}),
    ],
)
def test_what_is_not_right_is_said_with_its_remedy(examine, check, verdict, changes):
    found, _ = examine(**changes)
    wrong = [finding for finding in found if finding.check == check and finding.verdict is verdict]
    assert wrong
    assert all(finding.remedy for finding in wrong)


def test_locks_that_reach_all_hosts_are_fine_for_a_cluster(examine):
    found, _ = examine(cluster="volumes", coordination="etcd3+http://10.0.0.1:2379")
    assert bad(found) == []


def test_a_share_is_tried_as_root_where_files_are_used_as_root(examine, tmp_path):
    share = {"address": "10.0.0.1@tcp:/lfs/volumes", "point": str(tmp_path / "point")}
    for operations, who in (("true", "setpriv"), ("false", "root")):
        _, runner = examine(backends=[OURS | {"operations": operations, "shares": [share]}])
        (command,) = [command for command in runner.commands if command[-1] == str(tmp_path / "point")]
        assert (command[0] == "setpriv") is (who == "setpriv")


def test_an_interpreter_that_does_not_have_us_is_bad(examine):
    found, _ = examine(CommandError("python", 1, "ModuleNotFoundError: No module named 'lustack'"))
    assert [(check, "No module named 'lustack'" in said) for check, said in bad(found)] == [("interpreter", True)]


def test_a_user_that_does_not_exist_is_said(examine):
    found, _ = examine(user="no-such-user")
    assert bad(found) == [("user", "there is no user no-such-user")]


def test_without_a_named_interpreter_the_one_of_the_program_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = cinder.examine(Host(Runner(SEEN)), "", [])
    assert [finding.found for finding in found if finding.check == "interpreter"] == [
        "cinder-volume: there is no such program on PATH; name the service's Python with --python"
    ]
