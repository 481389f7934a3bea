# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from swift.common import storage_policy

from lustack.swift.policies import is_ours


def test_a_policy_is_ours_by_its_disk_file(swift_conf):
    assert [is_ours(policy) for policy in storage_policy.POLICIES] == [True, False]
