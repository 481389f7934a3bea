# SPDX-License-Identifier: Apache-2.0
"""Which storage policies are ours, and where their objects are."""

from __future__ import annotations

import os
from typing import Any

_DISK_FILE = "egg:lustack#"


def is_ours(policy: Any) -> bool:
    """Whether the objects of a policy are readable files.

    Args:
        policy: one of `swift.common.storage_policy.POLICIES`.
    """
    return str(policy.diskfile_module).startswith(_DISK_FILE)


def root_of(policy: Any, devices: str, swift_dir: str) -> str:
    """The device root of a policy of ours.

    Args:
        policy: one of `swift.common.storage_policy.POLICIES`.
        devices: the directory that holds the device roots.
        swift_dir: the directory of the rings.
    """
    policy.load_ring(swift_dir)
    device = next(device["device"] for device in policy.object_ring.devs if device)
    return os.path.join(devices, str(device))
