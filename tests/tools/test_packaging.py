# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml promises to other programs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENTRIES = [
    *PROJECT["scripts"].values(),
    *(path for group in PROJECT["entry-points"].values() for path in group.values()),
]


def test_oslo_config_generator_knows_every_table_of_options():
    tables = {
        "lustack." + path.parent.name
        for path in (ROOT / "src" / "lustack").glob("*/opts.py")
        if "def list_opts(" in path.read_text()
    }
    found = PROJECT["entry-points"]["oslo.config.opts"]
    assert found == {name: f"{name}.opts:list_opts" for name in tables}


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_point_is_there(entry):
    module, _, function = entry.partition(":")
    path = ROOT / "src" / Path(*module.split(".")).with_suffix(".py")
    text = path.read_text()
    assert any(text.find(f"\n{word} {function}") > 0 for word in ("def", "class"))
