# SPDX-License-Identifier: Apache-2.0
"""Guests whose disks are volumes on Lustre; whatever is done to these, the guest writes on and finds what it wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.cinder.stand import wait_for
from tests.openstack.cloud import KINDS, Cloud
from tests.openstack.console import DISK, GIB_SECTORS, Console

pytestmark = pytest.mark.timeout(3600)


@dataclass
class Guest:
    """A server, and a disk beside its first that it writes to."""

    cloud: Cloud
    kind: str
    server: object
    console: Console
    disk: object

    def sees(self, volume, size_gib: int = 1) -> str:
        """The disk is there for the guest; what it holds."""
        return self.console.disk(DISK, size_gib * GIB_SECTORS)

    def counter(self) -> int:
        return self.console.counter(DISK)

    def name(self, snapshot=None) -> str:
        """The file of the disk, or that which a snapshot has begun."""
        return f"volume-{self.disk.id}" + (f".{snapshot.id}" if snapshot else "")


@pytest.fixture(scope="module", params=KINDS)
def booted(request, cloud: Cloud) -> Iterator[tuple]:
    """A server that has booted from a volume."""
    root = cloud.make_volume("root", request.param, image_id=cloud.image.id)
    server, console = cloud.boot("server", root)
    yield request.param, server, console
    cloud.delete_everything()
    assert cloud.left_over() == []


@pytest.fixture
def guest(cloud: Cloud, booted: tuple) -> Iterator[Guest]:
    """The server with a disk attached, to which it writes."""
    kind, server, console = booted
    disk = cloud.make_volume("disk", kind)
    cloud.attach(server, disk)
    found = Guest(cloud, kind, server, console, disk)
    assert found.sees(disk) == ""
    yield found
    cloud.delete_snapshots(*cloud.volumes.snapshots(volume_id=disk.id))  # of a test that failed
    if cloud.volumes.find_volume(disk.id):
        if cloud.volumes.get_volume(disk.id).status == "in-use":
            cloud.detach(server, disk)
        cloud.delete_volumes(disk)


def test_a_disk_comes_and_goes_and_comes_back_with_what_was_written(cloud: Cloud, guest: Guest):
    written = guest.counter()
    cloud.detach(guest.server, guest.disk)
    assert len(cloud.disks(guest.server)) == 1
    assert cloud.chain_of(guest.disk) == [guest.name()]
    assert cloud.counter_of(guest.disk) >= written
    cloud.attach(guest.server, guest.disk)
    _, _, held = guest.sees(guest.disk).rpartition(" ")
    assert int(held) >= written


def test_snapshots_come_and_go_and_the_size_grows_below_a_running_guest(cloud: Cloud, guest: Guest):
    before = guest.counter()
    first = cloud.snapshot(guest.disk, "first")
    between = guest.counter()
    second = cloud.snapshot(guest.disk, "second")
    assert cloud.disk(guest.server, guest.disk)["file"] == guest.name(second)
    assert cloud.chain_of(guest.disk) == [guest.name(second), guest.name(first), guest.name()]
    cloud.volumes.extend_volume(guest.disk.id, 2)
    cloud.volume(guest.disk, "in-use")
    assert guest.sees(guest.disk, 2)
    old = cloud.make_volume("old", guest.kind, snapshot_id=first.id)
    assert before <= cloud.counter_of(old) <= between
    cloud.delete_snapshots(first)  # libvirt commits
    assert guest.counter() > between
    assert len(cloud.chain_of(guest.disk)) == 2
    cloud.delete_snapshots(second)  # libvirt pulls
    last = guest.counter()
    assert len(cloud.chain_of(guest.disk)) == 1
    cloud.detach(guest.server, guest.disk)
    assert len(cloud.files_of(guest.disk)) <= 2
    assert cloud.counter_of(guest.disk) >= last
    cloud.delete_volumes(old)


def test_a_guest_with_snapshots_finds_its_disk_after_a_hard_reboot_and_after_a_stop(cloud: Cloud, guest: Guest):
    snapshot = cloud.snapshot(guest.disk, "snapshot")
    written = guest.counter()
    cloud.servers.reboot_server(guest.server.id, "HARD")
    guest.console.wait_for_boot()
    cloud.server(guest.server)
    assert int(guest.sees(guest.disk).rpartition(" ")[2]) >= written
    assert cloud.disk(guest.server, guest.disk) == {
        "file": guest.name(snapshot),
        "format": "qcow2",
        "serial": guest.disk.id,
        "io": "native",
    }
    written = guest.counter()
    cloud.servers.stop_server(guest.server.id)
    cloud.server(guest.server, "SHUTOFF")
    assert cloud.counter_of(guest.disk) >= written
    cloud.servers.start_server(guest.server.id)
    guest.console.wait_for_boot()
    cloud.server(guest.server)
    assert int(guest.sees(guest.disk).rpartition(" ")[2]) >= written
    cloud.delete_snapshots(snapshot)
    assert guest.counter() > written


def test_a_backup_of_a_disk_in_use_outlives_the_disk(cloud: Cloud, guest: Guest):
    snapshot = cloud.snapshot(guest.disk, "snapshot")
    before = guest.counter()
    backup = cloud.backup(guest.disk)
    after = guest.counter()
    cloud.delete_snapshots(snapshot)
    cloud.detach(guest.server, guest.disk)
    cloud.delete_volumes(guest.disk)
    restored = cloud.make_volume("restored", guest.kind)
    cloud.restore(backup, restored)
    assert before <= cloud.counter_of(restored) <= after
    cloud.attach(guest.server, restored)
    _, _, held = guest.sees(restored).rpartition(" ")
    assert before <= int(held) <= after
    cloud.detach(guest.server, restored)
    cloud.delete_volumes(restored)
    cloud.delete_backups(backup)


@pytest.mark.parametrize("disk_format", KINDS)
def test_a_disk_that_was_used_becomes_an_image_and_a_volume_again(cloud: Cloud, guest: Guest, disk_format: str):
    written = guest.counter()
    snapshot = cloud.snapshot(guest.disk, "snapshot")
    cloud.detach(guest.server, guest.disk)
    image = cloud.upload(guest.disk, "image", disk_format)
    assert image.disk_format == disk_format
    made = cloud.make_volume("made", guest.kind, 2, image_id=image.id)
    assert cloud.counter_of(made) >= written
    cloud.delete_snapshots(snapshot)
    cloud.delete_volumes(made)
    cloud.connection.image.delete_image(image.id)
    wait_for(lambda: not cloud.connection.image.find_image(image.id), "the image is gone")
