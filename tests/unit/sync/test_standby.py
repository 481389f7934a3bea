# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

from lustack.sync import status
from lustack.sync.standby import Standby


def test_it_says_that_it_stands_by_and_writes_its_status(tmp_path):
    now_s, told = [100.0], []
    standby = Standby(str(tmp_path), told.append, lambda: now_s[0])
    standby(0)
    assert told == ["READY=1\nSTATUS=standing by: another daemon works"]
    assert status.read(str(tmp_path)) is None
    standby(1)
    first = status.read(str(tmp_path))
    assert (first.state, first.pid) == ("standby", os.getpid())
    now_s[0] += 0.5
    standby(1)
    assert status.read(str(tmp_path)) == first
    now_s[0] += 0.6
    standby(1)
    assert status.read(str(tmp_path)).written_ns > first.written_ns
    assert len(told) == 1
    # It has worked in between.
    now_s[0] += 100
    standby(1)
    assert len(told) == 2
