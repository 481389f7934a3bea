# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from swift.common import storage_policy
from swift.common.ring import RingData

from lustack.swift.policies import is_ours, root_of


def test_a_policy_is_ours_by_its_disk_file(swift_conf):
    assert [is_ours(policy) for policy in storage_policy.POLICIES] == [True, False]


def test_its_root_is_the_first_device_of_its_ring(swift_conf, tmp_path):
    device = {"id": 1, "device": "d", "ip": "127.0.0.1", "port": 1, "region": 1, "zone": 1, "weight": 1}
    RingData([[1]], [None, device], 32).save(str(tmp_path / "object.ring.gz"))
    assert root_of(storage_policy.POLICIES[0], "/srv/node", str(tmp_path)) == "/srv/node/d"
