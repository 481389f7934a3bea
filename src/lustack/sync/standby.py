# SPDX-License-Identifier: Apache-2.0
"""What a daemon says of itself while another one works."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from oslo_log import log

from lustack.sync import status
from lustack.sync.status import Status

LOG = log.getLogger(__name__)

_WRITE_S = 1.0


class Standby:
    """Is told again and again that another daemon works."""

    def __init__(
        self,
        state_dir: str,
        notify: Callable[[str], None],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Says nothing yet.

        Args:
            state_dir: where the status goes.
            notify: tells systemd.
            monotonic_s: a clock that never goes back.
        """
        self._state_dir = state_dir
        self._notify = notify
        self._monotonic_s = monotonic_s
        self._started_ns = time.time_ns()
        self._said_s = self._written_s = -60.0

    def __call__(self, held: int) -> None:
        """Another daemon works.

        Args:
            held: leases that are held here; the first is that of the state directory, and with it goes the status.

        Raises:
            StateError: the status cannot be written.
        """
        now_s = self._monotonic_s()
        # Asked several times a second: a long silence means that this daemon has worked in between.
        if now_s - self._said_s > 10 * _WRITE_S:
            LOG.info("standing by: another daemon works")
            self._notify("READY=1\nSTATUS=standing by: another daemon works")
        self._said_s = now_s
        if held and now_s - self._written_s >= _WRITE_S:
            self._written_s = now_s
            found = Status(
                state="standby",
                written_ns=time.time_ns(),
                started_ns=self._started_ns,
                pid=os.getpid(),
                host=socket.gethostname(),
            )
            status.write(self._state_dir, found)
