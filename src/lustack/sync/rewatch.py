# SPDX-License-Identifier: Apache-2.0
"""Which directories the sources of events watch: the root of a device, and those that are exported into it.

Rule 1: the source comes first, the import of an export after it; so who imports waits for this.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from lustack.sync.device import open_device
from lustack.sync.errors import DeviceMissingError
from lustack.sync.reader import Reader
from lustack.sync.sources.protocol import Rooted
from lustack.sync.sources.roots import Root


def roots_of(device: str) -> list[Root]:
    """What is to be watched for a device, its root first; whether the others are there is not asked.

    Raises:
        DeviceMissingError: it is not there, or nobody knows what is exported.
    """
    with open_device(device) as found:
        return [Root(os.fsdecode(root.path), root.prefix) for root in found.roots()]


def rewatch(readers: Iterable[Reader]) -> bool:
    """Has every source that can do so watch what is exported now.

    Returns:
        whether all do; if not, try again when the device is back.
    """
    is_done = True
    for reader in readers:
        if not isinstance(reader.source, Rooted):
            continue
        try:
            roots = roots_of(reader.device)
        except DeviceMissingError:
            is_done = False
        else:
            reader.source.watch(roots)
    return is_done
