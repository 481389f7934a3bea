# SPDX-License-Identifier: Apache-2.0
"""The random walk of tests/lustre on the fake: with faults that a mounted Lustre does not have on demand."""

from __future__ import annotations

import pytest
from tests.contract.test_lustre import FakeGround
from tests.lustre.test_walk import WalkContract


class TestFakeWalk(WalkContract):
    silence_s = 0.1

    @pytest.fixture
    def ground(self, tmp_path):
        return FakeGround(tmp_path)
