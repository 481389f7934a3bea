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
    module = ModuleType("lustack.cinder.healer")
    module.configure = list
    module.heal = lambda volume, shares, image_format: [f"it is: {' '.join([volume, *shares, str(image_format)])}"]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(cinder, "healer", module, raising=False)


def test_what_is_left_to_do_is_printed(healer, capsys):
    assert main.main(["volume", "heal", "1", "--config-file", "a", "--config-file", "b", "--format", "raw"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "volume 1 can be used again",
        "it is: 1 --config-file a --config-file b raw",
    ]
