# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes: plain for the guest, and nowhere else."""

from __future__ import annotations

import pytest
from tests.openstack.cloud import KINDS, Cloud
from tests.openstack.console import DISK, GIB_SECTORS

pytestmark = pytest.mark.timeout(3600)

SECRET = b"GUEST-WROTE"


@pytest.mark.parametrize("kind", KINDS)
def test_an_encrypted_volume_is_plain_for_the_guest_only(cloud: Cloud, kind: str):
    name = f"encrypted-{kind}"
    if not cloud.volumes.find_type(name):
        made = cloud.make_type(name, volume_backend_name=kind)
        cloud.volumes.create_type_encryption(
            made, provider="luks", cipher="aes-xts-plain64", key_size=256, control_location="front-end"
        )
    root = cloud.make_volume("root", name, image_id=cloud.image.id)
    server, console = cloud.boot("server", root)
    disk = cloud.make_volume("disk", name)
    cloud.attach(server, disk)
    console.disk(DISK, GIB_SECTORS)
    written = console.counter(DISK)
    # Neither Nova nor libvirt can do this; the guest does not notice.
    with pytest.raises(AssertionError, match="error"):
        cloud.snapshot(disk, "refused")
    written = console.counter(DISK)
    cloud.servers.reboot_server(server.id, "HARD")
    console.wait_for_boot()
    assert int(console.disk(DISK, GIB_SECTORS).rpartition(" ")[2]) >= written
    written = console.counter(DISK)
    cloud.detach(server, disk)
    cloud.delete_snapshots(*cloud.volumes.snapshots(volume_id=disk.id))
    for path in cloud.share_of(disk).glob(f"volume-{disk.id}*"):
        with path.open("rb") as file:
            assert SECRET not in file.read(64 << 20)
    snapshot = cloud.snapshot(disk, "snapshot")
    clone = cloud.make_volume("clone", name, source_volume_id=disk.id)
    copy = cloud.make_volume("copy", name, snapshot_id=snapshot.id)
    cloud.delete_snapshots(snapshot)
    for each in (clone, copy, disk):
        cloud.attach(server, each)
        assert int(console.disk(DISK, GIB_SECTORS).rpartition(" ")[2]) >= written
        cloud.detach(server, each)
    cloud.delete_servers(server)
    cloud.delete_everything()
    assert cloud.left_over() == []
