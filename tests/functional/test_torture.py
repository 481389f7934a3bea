# SPDX-License-Identifier: Apache-2.0
"""The torture, short and with a fixed seed. `make torture` is the long one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.torture.run import MEMORY, Plan, Torture

SEED = 20
LIMIT_S = 900


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """Databases are synced a lot; in memory where there is such, as nobody pulls a plug here."""
    parent = MEMORY if os.access(MEMORY, os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=parent) as place:
        yield Path(place) / "state"


@pytest.mark.timeout(LIMIT_S)
def test_killing_anybody_at_any_moment_loses_nothing(file_system: Path, state: Path) -> None:
    torture = Torture(file_system / "tortured", state, Plan(SEED, rounds=1, round_s=25.0, longest_pause_s=3.0))
    torture.run()
    assert not torture.world.failures.sentences, "\n\n".join(torture.world.failures.sentences)
    assert torture.world.tally["PUT 201"] > 0
