# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import threading

import pytest
from tests.waiting import LIMIT_S

from lustack.cli.stopping import stopped_by


def test_a_signal_sets_the_event_and_means_what_it_meant_afterwards():
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with stopped_by([signal.SIGUSR1]) as stop:
            assert not stop.is_set()
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stop.wait(LIMIT_S)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_may_come_at_any_moment():
    with stopped_by([signal.SIGUSR1]) as stop, stop._cond:
        # As in the middle of Event.wait: a handler that took the lock itself would wait for ever.
        os.kill(os.getpid(), signal.SIGUSR1)
    assert stop.wait(LIMIT_S)


@pytest.mark.skipif(not hasattr(threading, "_shutdown_locks_lock"), reason="later Pythons have no such lock")
def test_a_signal_may_come_while_another_thread_is_waited_for():
    with stopped_by([signal.SIGUSR1]) as stop, threading._shutdown_locks_lock:
        # As in the middle of Thread.join.
        os.kill(os.getpid(), signal.SIGUSR1)
    assert stop.wait(LIMIT_S)
