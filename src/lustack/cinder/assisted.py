# SPDX-License-Identifier: Apache-2.0
"""What only Nova can do: making a guest write to another file while it runs.

Rule 1: Nova answers through Cinder's database: a snapshot's progress of 90 % means that the guest has switched.
Rule 2: an answer that did not come is not a refusal: the guest may have switched all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from cinder import exception
from keystoneauth1 import exceptions as session_exceptions
from novaclient import exceptions as client_exceptions

from lustack.cinder.errors import VolumeError

CREATE_LIMIT_S: Final = 600.0
"""As Cinder's other drivers wait for a snapshot to be made. Source: cinder remotefs.py, _create_snapshot_online."""
DELETE_LIMIT_S: Final = 7200.0
"""As they wait for files to be merged. Source: cinder remotefs.py, _nova_assisted_vol_snap_delete."""
_DONE: Final = "90%"
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0
_GROWTH: Final = 1.3
_NOT_SENT: Final = (exception.CinderException, session_exceptions.ConnectFailure, OSError)
_FIRST_OF_SERVER: Final = 500
"""Codes of HTTP below it say that the request was wrong, and nothing was done."""


class RefusedError(VolumeError):
    """Nova said that it did not do it: the guest is as it was.

    Attributes:
        snapshot: its id.
        status: what Nova set it to.
    """

    def __init__(self, snapshot: str, status: str) -> None:
        super().__init__(snapshot, status)
        self.snapshot = snapshot
        self.status = status

    def __str__(self) -> str:
        return (
            f"Nova did not do what snapshot {self.snapshot} needs (status {self.status}): see the log of nova-compute"
        )


class SilentError(VolumeError):
    """Nova did not answer in time: nobody knows what the guest writes to.

    Attributes:
        snapshot: its id.
        limit_s: how long it was given, seconds.
    """

    def __init__(self, snapshot: str, limit_s: float) -> None:
        super().__init__(snapshot, limit_s)
        self.snapshot = snapshot
        self.limit_s = limit_s

    def __str__(self) -> str:
        return f"no answer from Nova about snapshot {self.snapshot} within {self.limit_s:g} s"


def ask(
    request: Callable[[], Any],
    look: Callable[[], Any],
    busy_status: str,
    limit_s: float,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Ask Nova for something and wait until it is done.

    Args:
        request: sends the request.
        look: reads the snapshot from the database.
        busy_status: what its status is until Nova is done.
        limit_s: how long to wait, seconds.
        pause: waits for some seconds.

    Raises:
        RefusedError: Nova did not do it.
        SilentError: it did not answer in time.
        ClientException: it failed, and maybe did it all the same.
    """
    try:
        request()
    except _NOT_SENT as error:
        raise RefusedError(look().id, str(error)) from error
    except client_exceptions.ClientException as error:
        if error.code >= _FIRST_OF_SERVER:
            raise
        raise RefusedError(look().id, str(error)) from error
    waited_s, pause_s = 0.0, _FIRST_PAUSE_S
    while True:
        snapshot = look()
        if snapshot.status != busy_status:
            raise RefusedError(snapshot.id, snapshot.status)
        if snapshot.progress == _DONE:
            return
        if waited_s >= limit_s:
            raise SilentError(snapshot.id, limit_s)
        pause(pause_s)
        waited_s += pause_s
        pause_s = min(pause_s * _GROWTH, _LONGEST_PAUSE_S)
