# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import runpy
import sys

import pytest

from lustack import __version__
from lustack.nova import witness


@pytest.fixture
def conf(tmp_path, node):
    path = tmp_path / "nova.conf"
    path.write_text("[DEFAULT]\nstate_path = /srv/nova\n[libvirt]\nlustre_mount_options = flock,noatime\n")
    return path


def test_it_tells_what_novas_interpreter_sees(conf):
    seen = witness.look(["--config-file", str(conf)])
    assert (seen["lustack"], seen["nova"].partition(".")[0], seen["os-brick"].partition(".")[0]) == (
        __version__,
        "34",
        "7",
    )
    assert seen["mount_options"] == "flock,noatime"
    assert (seen["compute_driver"], seen["trouble"]) == (None, "it is not set")


@pytest.mark.parametrize(
    ("section", "has_account"), [("", False), ("auth_type = password", True), ("auth_section = service_user", True)]
)
def test_it_tells_whether_nova_itself_can_ask_cinder(conf, section, has_account):
    conf.write_text(f"[cinder]\n{section}\n")
    assert witness.look(["--config-file", str(conf)])["has_account"] is has_account


@pytest.mark.parametrize(
    ("compute_driver", "trouble"),
    [
        ("libvirt.LibvirtDriver", ""),
        ("no_such.Driver", "No module named 'nova.virt.no_such'"),
        ("libvirt.NoSuch", "has no attribute 'NoSuch'"),
        ("LibvirtDriver", "it is not set"),
    ],
)
def test_trouble_is_why_the_driver_cannot_be_used(conf, compute_driver, trouble):
    conf.write_text(f"[DEFAULT]\ncompute_driver = {compute_driver}\n")
    found = witness.look(["--config-file", str(conf)])["trouble"]
    assert trouble in found if trouble else not found


def test_it_prints_one_line_of_json(conf, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["witness", "--config-file", str(conf)])
    monkeypatch.delitem(sys.modules, "lustack.nova.witness")
    runpy.run_module("lustack.nova.witness", run_name="__main__")
    assert json.loads(capsys.readouterr().out)["lustack"] == __version__
