# SPDX-License-Identifier: Apache-2.0
"""The fences of all devices, for who compares everything: what was there before a comparison may pass after it.

Rule 1: a device that cannot be looked at has nobody who waits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from lustack.sync import fence
from lustack.sync.device import open_device
from lustack.sync.errors import DeviceMissingError
from lustack.sync.settings import Settings
from lustack.sync.sinks.rings import Policy

_MISSING = (DeviceMissingError, OSError)


@dataclass(frozen=True)
class Fences:
    """Those of some devices.

    Attributes:
        settings: of the daemon.
        policies: whose devices.
    """

    settings: Settings
    policies: Sequence[Policy]

    def prepare(self, policy: Policy) -> None:
        """Makes it possible to wait.

        Raises:
            DeviceMissingError: the device is not there.
            OSError: the file system fails.
        """
        with open_device(self._path(policy)) as device:
            fence.prepare(device.root.fd)

    def pending(self) -> list[tuple[Policy, list[bytes]]]:
        """Who waits."""
        found = []
        for policy in self.policies:
            with suppress(*_MISSING), open_device(self._path(policy)) as device:
                nonces = fence.pending(device.root.fd)
                if nonces:
                    found.append((policy, nonces))
        return found

    def let_pass(self, waiting: Sequence[tuple[Policy, list[bytes]]]) -> None:
        """They need not wait any more."""
        for policy, nonces in waiting:
            with suppress(*_MISSING), open_device(self._path(policy)) as device:
                fence.remove(device.root.fd, nonces)

    def _path(self, policy: Policy) -> str:
        return os.path.join(self.settings.devices, policy.device)
