# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest

from lustack.cli import main
from lustack.lustre import client

REGISTER = ["sync", "register"]


@pytest.fixture
def lctl(tmp_path, monkeypatch):
    """A program `lctl` that registers what is not called MDT0009."""
    (tmp_path / "lctl").write_text(
        '#!/bin/sh\necho "$@" >> "$0.log"\n[ "$2" = lustre-MDT0009 ] && { echo "no such device" >&2; exit 1; }\n'
        "echo \"$2: Registered changelog userid 'cl7-lustack'\"\n"
    )
    (tmp_path / "lctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "lctl.log"


def test_the_commands_for_the_servers_are_printed(capsys):
    assert main.main([*REGISTER, "lustre-MDT0000", "lustre-MDT0001"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("lctl --device lustre-MDT0000 changelog_register --user lustack --mask CREAT,MKDIR,")
    assert said[-1] == "changelog_users = lustre-MDT0000:clN,lustre-MDT0001:clN"


def test_they_are_run_where_the_mdts_are(lctl, capsys):
    assert main.main([*REGISTER, "--run", "lustre-MDT0000", "lustre-MDT0001"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "changelog_users = lustre-MDT0000:cl7,lustre-MDT0001:cl7"
    assert len(lctl.read_text().splitlines()) == 2


def test_an_mdt_that_does_not_register_says_why(lctl, capsys):
    assert main.main([*REGISTER, "--run", "lustre-MDT0009"]) == 1
    assert "did not register a user: no such device" in capsys.readouterr().err


def test_without_lctl_it_is_yours_to_fix(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main.main([*REGISTER, "--run", "lustre-MDT0000"]) == 2
    assert "it comes with Lustre" in capsys.readouterr().err


def test_a_path_stands_for_all_mdts_of_its_file_system(monkeypatch, capsys):
    class Connected:
        def mdts(self):
            return ("scratch-MDT0000", "scratch-MDT0001")

    monkeypatch.setattr(client, "connect", lambda path: Connected())
    assert main.main([*REGISTER, "/mnt/scratch"]) == 0
    assert "scratch-MDT0001:clN" in capsys.readouterr().out


@pytest.mark.parametrize(("where", "code"), [("/proc", 1), ("nonsense", 2)])
def test_what_is_neither_a_path_nor_an_mdt_is_refused(where, code, capsys):
    assert main.main([*REGISTER, where]) == code
    assert where in capsys.readouterr().err
