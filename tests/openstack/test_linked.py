# SPDX-License-Identifier: Apache-2.0
"""Guests on volumes that share a file (`lustre:copies=linked`): each reads what was frozen, and none writes to it.

The file that is shared has the same checksum as long as it has a name, whatever is done to the volumes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.openstack.cloud import KINDS, Cloud
from tests.openstack.console import DISK, GIB_SECTORS, Console
from tests.openstack.marks import digest, find_mark, mark

pytestmark = pytest.mark.timeout(3600)

SECOND_DISK = "vdc"


@dataclass(frozen=True)
class Frozen:
    """The file that a snapshot has frozen, as it was then.

    Attributes:
        path: of the file, by the name that is the linked volume's.
        digest: of its bytes.
    """

    path: Path
    digest: str

    def is_as_it_was(self) -> bool:
        return digest(self.path) == self.digest


def link(cloud: Cloud, kind: str, source, snapshot, name: str = "linked") -> tuple[object, Frozen]:
    """A volume of a snapshot of a volume that has no other, and the file that both share."""
    cloud.make_type(f"{kind}-linked", **{"volume_backend_name": kind, "lustre:copies": "linked"})
    share = cloud.share_of(source)
    before = digest(share / f"volume-{source.id}")
    made = cloud.make_volume(name, f"{kind}-linked", snapshot_id=snapshot.id)
    path = share / f"volume-{made.id}"
    assert path.samefile(share / f"volume-{source.id}")
    assert cloud.chain_of(made) == [f"volume-{made.id}.linked", path.name]
    return made, Frozen(path, before)


def held(text: str) -> int:
    """The counter that a guest has found on a disk."""
    return int(text.rpartition(" ")[2])


@dataclass
class Guest:
    """A server, and a disk that it writes to.

    Attributes:
        kind: of the disk.
        source: the disk.
        mark: checksum of what is on it where no guest writes.
    """

    kind: str
    server: object
    console: Console
    source: object
    mark: str


@pytest.fixture
def guest(request, cloud: Cloud) -> Iterator[Guest]:
    kind = request.param
    root = cloud.make_volume("root", kind, image_id=cloud.image.id)
    server, console = cloud.boot("server", root)
    source = cloud.make_volume("source", kind)
    found = Guest(kind, server, console, source, mark(cloud, source))
    cloud.attach(server, source)
    console.disk(DISK, GIB_SECTORS)
    yield found
    cloud.delete_everything()
    assert cloud.left_over() == []


@pytest.mark.parametrize("kind", KINDS)
def test_guests_boot_from_volumes_that_share_the_file_of_one_that_is_deleted_meanwhile(cloud: Cloud, kind: str):
    golden = cloud.make_volume("golden", kind, image_id=cloud.image.id)
    snapshot = cloud.snapshot(golden, "golden")
    (first, _), (second, frozen) = (link(cloud, kind, golden, snapshot, name) for name in ("first", "second"))
    (going, _), (staying, console) = (cloud.boot("server", root) for root in (first, second))
    disk = {"file": f"volume-{second.id}.linked", "format": "qcow2", "serial": second.id, "io": "native"}
    assert cloud.disks(staying) == [disk]
    cloud.delete_snapshots(snapshot)
    cloud.delete_volumes(golden)
    cloud.delete_servers(going)
    cloud.delete_volumes(first)
    assert frozen.path.stat().st_nlink == 1
    cloud.servers.reboot_server(staying.id, "HARD")
    console.wait_for_boot()
    cloud.server(staying)
    assert cloud.disks(staying) == [disk]
    assert frozen.is_as_it_was()
    cloud.delete_servers(staying)
    assert cloud.mounts() == []
    cloud.delete_everything()
    assert cloud.left_over() == []


@pytest.mark.parametrize("guest", KINDS, indirect=True)
def test_a_linked_disk_is_used_beside_its_source_and_outlives_it(cloud: Cloud, guest: Guest):
    server, console, source = guest.server, guest.console, guest.source
    before = console.counter(DISK)
    snapshot = cloud.snapshot(source, "snapshot")
    after = console.counter(DISK)
    linked, frozen = link(cloud, guest.kind, source, snapshot)
    cloud.attach(server, linked)
    found = held(console.disk(SECOND_DISK, GIB_SECTORS))
    assert before <= found <= after
    assert console.counter(SECOND_DISK) > found
    cloud.delete_snapshots(snapshot)
    assert cloud.chain_of(source) == [f"volume-{source.id}.{snapshot.id}", f"volume-{source.id}"]
    assert console.counter(DISK) > after
    own = cloud.snapshot(linked, "own")
    chain = [f"volume-{linked.id}{more}" for more in (f".{own.id}", ".linked", "")]
    assert cloud.chain_of(linked) == chain
    cloud.volumes.extend_volume(linked.id, 2)
    cloud.volume(linked, "in-use")
    assert console.disk(SECOND_DISK, 2 * GIB_SECTORS)
    written = console.counter(DISK)
    cloud.detach(server, source)
    assert cloud.counter_of(source) >= written
    assert find_mark(cloud, source) == guest.mark
    assert frozen.is_as_it_was()
    cloud.delete_volumes(source)
    assert cloud.files_of(linked) == sorted([*chain, f"volume-{linked.id}.info"])
    before = console.counter(SECOND_DISK)
    backup = cloud.backup(linked)
    after = console.counter(SECOND_DISK)
    cloud.delete_snapshots(own)  # libvirt pulls what is between the two into the active file
    # The active file has the name of the snapshot that the backup was made of.
    assert cloud.chain_of(linked)[1:] == chain[-1:]
    written = console.counter(SECOND_DISK)
    cloud.servers.reboot_server(server.id, "HARD")
    console.wait_for_boot()
    cloud.server(server)
    assert held(console.disk(DISK, 2 * GIB_SECTORS)) >= written
    written = console.counter(DISK)
    cloud.detach(server, linked)
    assert cloud.counter_of(linked) >= written
    assert find_mark(cloud, linked) == guest.mark
    assert frozen.is_as_it_was()
    cloud.delete_volumes(linked)
    restored = cloud.make_volume("restored", guest.kind, 2)
    cloud.restore(backup, restored)
    assert before <= cloud.counter_of(restored) <= after
    assert find_mark(cloud, restored) == guest.mark


@pytest.mark.parametrize("guest", ["raw"], indirect=True)
def test_a_source_in_use_outlives_its_linked_volume_and_has_snapshots_as_before(cloud: Cloud, guest: Guest):
    server, console, source = guest.server, guest.console, guest.source
    first = cloud.snapshot(source, "first")
    linked, frozen = link(cloud, guest.kind, source, first)
    cloud.delete_snapshots(first)
    written = console.counter(DISK)
    assert frozen.is_as_it_was()
    cloud.delete_volumes(linked)
    second = cloud.snapshot(source, "second")
    assert len(cloud.chain_of(source)) == 3
    cloud.delete_snapshots(second)  # libvirt pulls what stayed of the first
    assert cloud.chain_of(source) == [f"volume-{source.id}.{second.id}", f"volume-{source.id}"]
    assert console.counter(DISK) > written
    written = console.counter(DISK)
    cloud.detach(server, source)
    assert cloud.counter_of(source) >= written
    assert find_mark(cloud, source) == guest.mark
