# SPDX-License-Identifier: Apache-2.0
"""How somebody asks a command to stop: a signal sets an event that the command looks at.

Rule 1: a handler takes no lock. It runs in the main thread, between any two of its instructions: also where that holds
the lock of the event, because it is just about to wait for it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def stopped_by(numbers: Iterable[int]) -> Iterator[threading.Event]:
    """An event that signals set; afterwards they mean what they meant before.

    Args:
        numbers: of the signals.
    """
    stop = threading.Event()

    def set_it(*_: object) -> None:
        # One that is no daemon takes a lock of the module before `start` returns, which may be held here just now.
        # Source: CPython 3.11 and 3.12, threading.py, _set_tstate_lock.
        threading.Thread(target=stop.set, name="stop", daemon=True).start()

    before = {number: signal.signal(number, set_it) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
