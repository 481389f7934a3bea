# SPDX-License-Identifier: Apache-2.0
"""What several commands have in common on the command line."""

from __future__ import annotations

import argparse

import pytest

from lustack.cli import arguments, exits, main
from lustack.errors import ConfigurationError


def test_files_of_the_configuration_add_up():
    parser = argparse.ArgumentParser(parents=[arguments.configured()])
    assert parser.parse_args(["--config-file", "a", "--config-file", "b"]).config_file == ["a", "b"]


def test_each_parser_has_files_of_its_own():
    first, second = (argparse.ArgumentParser(parents=[arguments.configured()]) for _ in range(2))
    first.parse_args(["--config-file", "a"])
    assert second.parse_args([]).config_file == []


def test_the_settings_are_those_of_the_files(tmp_path):
    conf = tmp_path / "lustack.conf"
    conf.write_text(f"[sync]\ndevices = {tmp_path}\n")
    assert arguments.read([str(conf)]).devices == str(tmp_path)


def test_without_files_it_is_the_operators(monkeypatch, tmp_path):
    monkeypatch.setattr(arguments, "DEFAULT_FILE", str(tmp_path / "missing"))
    with pytest.raises(ConfigurationError, match="missing"):
        arguments.read([])


def test_help_keeps_its_lines(capsys):
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    arguments.add_command(commands, "look", "looks", description="First.\nSecond.", epilog="examples:\n  look")
    with pytest.raises(SystemExit):
        parser.parse_args(["look", "--help"])
    shown = capsys.readouterr().out
    assert "First.\nSecond." in shown
    assert "examples:\n  look" in shown


@pytest.mark.parametrize(
    "command",
    [
        ["fsck", "a\udcff"],
        ["sync", "reconcile", "a\udcff/c"],
        ["export", "add", "a\udcff", "c", "/d"],
        ["export", "remove", "a", "c\udcff"],
        ["export", "add", "a", "c", "/d", "--policy", "\udcff"],
    ],
)
def test_names_of_swift_are_utf8(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(command)
    assert caught.value.code == exits.YOURS_TO_FIX
    assert "is not UTF-8" in capsys.readouterr().err
