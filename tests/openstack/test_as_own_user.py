# SPDX-License-Identifier: Apache-2.0
"""Guests with a Cinder that is not root, on files that only its user and group may use: the guide's own configuration.

libvirt gives what a guest opens to the guests' user, and does not give all of it back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests import mounts
from tests.cinder import rootwrapped
from tests.cinder.stand import Stand
from tests.openstack.cloud import KINDS, Cloud
from tests.openstack.console import DISK, GIB_SECTORS
from tests.openstack.stand import directory, running

pytestmark = pytest.mark.timeout(3600)


def prepare(cinder: Stand) -> None:
    rootwrapped.prepare(cinder)
    path = cinder.etc / "cinder.conf"
    text = path.read_text()
    for option in ("nas_secure_file_operations", "nas_secure_file_permissions"):
        text = text.replace(f"{option} = false", f"{option} = true")
    path.write_text(text)
    for share in cinder.share("").iterdir():
        share.chmod(0o755)
        os.chown(share, rootwrapped.UID, rootwrapped.UID)


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    mounts.needs_root()
    with directory() as root, rootwrapped.root_for(root), running(root, prepare=prepare) as stand:
        found = Cloud(stand)
        yield found
        found.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_guests_have_used_stays_cinder_s(cloud: Cloud, kind: str):
    root, disk = cloud.make_volume("root", kind, image_id=cloud.image.id), cloud.make_volume("disk", kind)
    server, console = cloud.boot("server", root)
    cloud.attach(server, disk)
    console.disk(DISK, GIB_SECTORS)
    owner = cloud.active_path(disk).stat()
    assert (owner.st_mode & 0o777, owner.st_uid != rootwrapped.UID) == (0o660, True)
    first, second = cloud.snapshot(disk, "first"), cloud.snapshot(disk, "second")
    cloud.volumes.extend_volume(disk.id, 2)
    cloud.volume(disk, "in-use")
    before = console.counter(DISK)
    backup = cloud.backup(disk)
    clone = cloud.make_volume("clone", kind, 2, source_volume_id=disk.id)
    assert cloud.counter_of(clone) >= before
    cloud.delete_snapshots(first)  # libvirt commits
    written = console.counter(DISK)
    cloud.detach(server, disk)
    bottom = cloud.share_of(disk) / f"volume-{disk.id}"
    assert bottom.stat().st_uid != rootwrapped.UID  # libvirt kept it
    cloud.delete_snapshots(second)  # Cinder commits
    cloud.volumes.extend_volume(disk.id, 3)
    cloud.volume(disk)
    assert cloud.counter_of(disk) >= written
    cloud.attach(server, disk)
    assert int(console.disk(DISK, 3 * GIB_SECTORS).rpartition(" ")[2]) >= written
    cloud.detach(server, disk)
    cloud.restore(backup, disk)
    assert before <= cloud.counter_of(disk) <= written
    cloud.delete_servers(server)
    cloud.delete_backups(backup)
    cloud.delete_volumes(clone)
    cloud.delete_everything()
    assert cloud.left_over() == []
    assert rootwrapped.list_touched_as_root(cloud.stand.cinder) == []
    assert kind == "raw" or rootwrapped.find_viewers(cloud.stand.cinder) == {rootwrapped.UID}
    assert "Unauthorized command" not in cloud.stand.cinder.log("volume") + cloud.stand.cinder.log("backup")
