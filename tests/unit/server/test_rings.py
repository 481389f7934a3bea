# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import os

from swift.common.ring import RingData

from lustack.server import render, rings, statedir
from lustack.server.topology import Assigned, Host, Policy, Ports

HOST = Host("/data", "/data.state", policies=(Policy(), Policy(1, "two", device="d1", default=False)))
WANTED = render.rings(HOST, Assigned(Ports(1, 2, 3, 4, 5, 6), "x", "y"))


def test_every_partition_leads_to_the_one_device(tmp_path):
    rings.main(str(tmp_path), io.StringIO(WANTED))
    assert sorted(os.listdir(tmp_path)) == [
        f"{name}.ring.gz" for name in ("account", "container", "object-1", "object")
    ]
    ring = RingData.load(str(tmp_path / "object-1.ring.gz"))
    assert [list(replica) for replica in ring._replica2part2dev_id] == [[0] * 64]
    assert (ring.part_power, ring.replica_count) == (6, 1)
    assert [(d["ip"], d["port"], d["replication_port"], d["device"]) for d in ring.devs] == [("127.0.0.1", 4, 4, "d1")]


def test_the_program_does_the_same(tmp_path):
    statedir.make_rings(str(tmp_path), WANTED)
    assert len(os.listdir(tmp_path)) == len(json.loads(WANTED)["rings"])
