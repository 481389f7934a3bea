# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import sys

import pytest

from lustack.cinder import programs

MODULE = [sys.executable, "-P", "-m", "lustack.cinder.recorder", "/x", "660"]


@pytest.mark.parametrize(
    ("uid", "is_for_root", "command"),
    [(1000, True, ["lustack-record", "/x", "660"]), (1000, False, MODULE), (0, True, MODULE), (0, False, MODULE)],
)
def test_only_through_the_root_helper_a_program_is_run_by_its_name(
    monkeypatch: pytest.MonkeyPatch, uid: int, is_for_root: bool, command: list[str]
):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    found = programs.render_command("lustack-record", "lustack.cinder.recorder", "/x", "660", is_for_root=is_for_root)
    assert found == command
