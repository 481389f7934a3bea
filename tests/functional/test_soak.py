# SPDX-License-Identifier: Apache-2.0
"""Two minutes of `make soak`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "soak" / "run.py"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_five_hundred_clients_make_no_server_grow() -> None:
    run = subprocess.run(
        [sys.executable, PROGRAM, "--clients", "500", "--seconds", "120"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
