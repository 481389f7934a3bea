# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from lustack import __version__
from lustack.cli import main


def test_every_noun_is_named_in_the_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        main.main(["--help"])
    said = capsys.readouterr().out
    assert all(noun in said and purpose in said for noun, (_, purpose) in main.NOUNS.items())


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit, match="0"):
        main.main(["--version"])
    assert capsys.readouterr().out == f"lustack {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["serve"], ["serve", "/d", "--port", "x"]])
def test_what_cannot_be_understood_is_yours_to_fix(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main.main(arguments)
    assert "usage: lustack" in capsys.readouterr().err


def test_the_command_runs_with_its_arguments_and_its_code_is_returned(monkeypatch, tmp_path):
    (tmp_path / "spoken.py").write_text(
        "def add_parser(subparsers):\n"
        "    parser = subparsers.add_parser('speak')\n"
        "    parser.add_argument('word')\n"
        "    parser.set_defaults(run=lambda wanted: len(wanted.word))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(main, "NOUNS", {**main.NOUNS, "speak": ("spoken", "speak")})
    monkeypatch.setattr(sys, "argv", ["lustack", "speak", "abc"])
    assert main.main() == 3


def test_a_noun_needs_nothing_that_only_another_one_needs():
    blocked = "import sys; sys.modules['oslo_config'] = sys.modules['swift'] = None\n"
    script = blocked + "from lustack.cli import main; main.build_parser('serve'); main.build_parser('')"
    subprocess.run([sys.executable, "-P", "-c", script], check=True, timeout=60)


def test_the_command_is_a_program():
    done = subprocess.run(
        [sys.executable, "-P", "-m", "lustack.cli.main", "--version"], check=True, capture_output=True, timeout=60
    )
    assert done.stdout.decode().startswith("lustack ")


@pytest.mark.parametrize("noun", list(main.NOUNS))
def test_every_noun_says_what_runs_it(noun):
    parser = main.build_parser(noun)
    assert isinstance(parser, argparse.ArgumentParser)
    assert noun in parser.format_help()
