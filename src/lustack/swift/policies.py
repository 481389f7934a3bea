# SPDX-License-Identifier: Apache-2.0
"""Which storage policies are ours."""

from __future__ import annotations

from typing import Any

_DISK_FILE = "egg:lustack#"


def is_ours(policy: Any) -> bool:
    """Whether the objects of a policy are readable files.

    Args:
        policy: one of `swift.common.storage_policy.POLICIES`.
    """
    return str(policy.diskfile_module).startswith(_DISK_FILE)
