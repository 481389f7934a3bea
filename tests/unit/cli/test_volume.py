# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from types import ModuleType

import pytest

from lustack import cinder
from lustack.cli import main


@pytest.fixture
def healer(monkeypatch):
    """What heals, without Cinder: it says what it was asked."""
    for name, function in (("heal", heal), ("configure", list)):
        module = ModuleType(f"lustack.cinder.{'healer' if name == 'heal' else 'served'}")
        setattr(module, name, function)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(cinder, module.__name__.rpartition(".")[2], module, raising=False)


def heal(volume: str, shares: list[str], *rest: str | None) -> list[str]:
    return [f"it is: {' '.join([volume, *shares, *map(str, rest)])}"]


def test_what_is_left_to_do_is_printed(healer, capsys):
    assert main.main(["volume", "heal", "1", "--config-file", "a", "--config-file", "b", "--format", "raw"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "volume 1 can be used again",
        "it is: 1 --config-file a --config-file b raw None",
    ]


def test_what_nova_knows_is_handed_over(healer, capsys):
    assert main.main(["volume", "heal", "1", "--attachment", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "it is: 1 None 2"
