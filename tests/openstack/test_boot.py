# SPDX-License-Identifier: Apache-2.0
"""Servers whose root disk is a volume on Lustre."""

from __future__ import annotations

import pytest
from tests.openstack.cloud import KINDS, Cloud

pytestmark = pytest.mark.timeout(3600)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_boots_from_a_volume_and_leaves_nothing(cloud: Cloud, kind: str):
    root = cloud.make_volume("root", kind, image_id=cloud.image.id)
    assert cloud.recorded_format(root) == kind
    server, _ = cloud.boot("server", root)
    disk = {"file": f"volume-{root.id}", "format": kind, "serial": root.id, "io": "native"}
    assert cloud.disks(server) == [disk]
    assert len(cloud.mounts()) == 1
    cloud.delete_servers(server)
    assert cloud.mounts() == []
    cloud.delete_volumes(root)
    cloud.delete_everything()
    assert cloud.left_over() == []
