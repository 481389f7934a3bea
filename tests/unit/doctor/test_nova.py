# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from lustack.brick.errors import CommandError
from lustack.doctor import nova
from lustack.doctor.findings import Verdict, is_ready
from lustack.doctor.host import Host

SEEN = {
    "lustack": "0.1",
    "nova": "34.0.0",
    "os-brick": "7.1.1",
    "compute_driver": "lustack_ext.LibvirtDriver",
    "trouble": "",
    "registered": "lustack.nova.volume.LibvirtLustreVolumeDriver",
    "mount_point_base": "/var/lib/nova/mnt",
    "mount_options": "flock,noatime",
    "has_account": True,
}


class Runner:
    """A host with current programs, and an interpreter that sees something."""

    def __init__(self, seen):
        self.seen = seen
        self.commands = []

    def run(self, command, *, key, limit_s, as_root=False):
        self.commands.append(list(command))
        if "--version" in command:
            return "version 9.0.0\n"
        if isinstance(self.seen, Exception):
            raise self.seen
        return json.dumps(self.seen)


@pytest.fixture
def qemu_conf(tmp_path):
    path = tmp_path / "qemu.conf"
    path.write_text('# shared_filesystems = []\nshared_filesystems = [ "/other", "/var/lib/nova/mnt/" ]\n')
    return path


@pytest.fixture
def examine(tmp_path, qemu_conf):
    (tmp_path / "mounts").write_text("")
    (tmp_path / "filesystems").write_text("nodev lustre\n")

    def look(seen=SEEN, files=(), **changes):
        runner = Runner({**seen, **changes} if isinstance(seen, dict) else seen)
        host = Host(runner, str(tmp_path / "mounts"), str(tmp_path / "filesystems"))
        found = nova.examine(host, "/opt/nova/bin/python", files, str(qemu_conf))
        return {finding.check: finding for finding in found if finding.check != "mount helper"}, runner

    return look


def test_a_host_with_everything_is_ready(examine):
    found, _ = examine()
    assert is_ready(found.values())
    assert {finding.verdict for finding in found.values()} == {Verdict.OK}


def test_novas_own_interpreter_is_asked_with_novas_configuration(examine):
    _, runner = examine(files=["/etc/nova/a.conf", "/etc/nova/b.conf"])
    assert runner.commands[-1] == [
        *("/opt/nova/bin/python", "-W", "ignore", "-P", "-m", "lustack.nova.witness"),
        *("--config-file", "/etc/nova/a.conf", "--config-file", "/etc/nova/b.conf"),
    ]


@pytest.mark.parametrize(
    ("check", "verdict", "changes"),
    [
        ("nova", Verdict.WARNING, {"nova": "33.0.0"}),
        ("os-brick", Verdict.WARNING, {"os-brick": "6.9"}),
        ("compute driver", Verdict.BAD, {"trouble": "No module named 'nova.virt.lustack'"}),
        ("registration", Verdict.BAD, {"registered": None}),
        ("registration", Verdict.BAD, {"registered": "somebody.elses.Driver"}),
        ("options", Verdict.BAD, {"mount_options": "localflock"}),
        ("options", Verdict.BAD, {"mount_options": None}),
        ("account", Verdict.WARNING, {"has_account": False}),
        ("live migration", Verdict.WARNING, {"mount_point_base": "/var/lib/nova/mnt2"}),
    ],
)
def test_what_is_not_right_is_said_with_its_remedy(examine, check, verdict, changes):
    found, _ = examine(**changes)
    assert found[check].verdict is verdict
    assert found[check].remedy


def test_an_interpreter_that_does_not_have_us_is_bad(examine):
    found, _ = examine(CommandError("python", 1, "ModuleNotFoundError: No module named 'lustack'"))
    assert found["interpreter"].verdict is Verdict.BAD
    assert "No module named 'lustack'" in found["interpreter"].found


@pytest.mark.parametrize("text", ["", "#shared_filesystems = []\n", "shared_filesystems = [ ]\n", "# \udcff\n", None])
def test_live_migration_needs_libvirt_to_know_the_file_system(examine, qemu_conf, text):
    if text is None:
        qemu_conf.unlink()
    else:
        qemu_conf.write_text(text, errors="surrogateescape")
    found, _ = examine()
    assert found["live migration"].verdict is Verdict.WARNING
    assert 'shared_filesystems = ["/var/lib/nova/mnt"]' in found["live migration"].remedy


def test_a_directory_above_will_do_for_live_migration(examine, qemu_conf):
    qemu_conf.write_text('shared_filesystems = ["/var/lib/nova"]\n')
    found, _ = examine()
    assert found["live migration"].verdict is Verdict.OK


def test_without_a_named_interpreter_the_one_of_the_program_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = nova.examine(Host(Runner(SEEN)), "", [])
    assert [finding.found for finding in found if finding.check == "interpreter"] == [
        "nova-compute: there is no such program on PATH; name the service's Python with --python"
    ]
