# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal

from lustack.server.fake import FakeLauncher, FakeProcess
from lustack.server.topology import Program


def test_a_process_ends_by_a_signal():
    process = FakeProcess(1)
    assert process.poll() is None
    process.signal(signal.SIGTERM)
    assert process.poll() == -signal.SIGTERM


def test_a_stubborn_one_by_kill_only():
    process = FakeProcess(1, stubborn=True)
    process.signal(signal.SIGTERM)
    assert process.poll() is None
    process.signal(signal.SIGKILL)
    assert process.poll() == -signal.SIGKILL
    assert process.signals == [signal.SIGTERM, signal.SIGKILL]


def test_every_start_is_another_process():
    launch = FakeLauncher(frozenset({"b"}))
    pids = [launch(Program(name, ())).pid for name in "aab"]
    assert pids == [1, 2, 3]
    assert [p.stubborn for name in "ab" for p in launch.started[name]] == [False, False, True]
