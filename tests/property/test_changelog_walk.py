# SPDX-License-Identifier: Apache-2.0
"""The random walk of tests/lustre on the fake: with faults that a mounted Lustre does not have on demand."""

from __future__ import annotations

import time

import pytest
from tests.contract.test_lustre import FakeGround
from tests.lustre.test_walk import WalkContract

SILENCE_S, LIMIT_S = 0.2, 300.0


class TestFakeWalk(WalkContract):
    @pytest.fixture
    def ground(self, tmp_path):
        ground = FakeGround(tmp_path)
        self.logs = ground.lustre.logs
        return ground

    def take(self, source, events):
        """Everything that is in the logs, however long that takes; what is held back may stay there."""
        until_s, position = time.monotonic() + LIMIT_S, None
        while True:
            is_read = self.is_read(source)
            batch = source.read(SILENCE_S)
            if batch is not None:
                events += batch.events
                position = batch.position
            elif is_read and position is not None:
                return position
            assert time.monotonic() < until_s, "records are not read"

    def is_read(self, source):
        return all(
            each._tail.cursor.index == self.logs[mdt].last_index and each._window is None
            for mdt, each in source._sources.items()
        )
