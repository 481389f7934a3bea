# SPDX-License-Identifier: Apache-2.0
"""A server that was booted from a volume is rebuilt: Cinder writes another image into the volume, below Nova's hands.

Both images write to their disk and say at boot which one they are, so that the guest itself tells what it has found.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.openstack import guest
from tests.openstack.cloud import KINDS, Cloud
from tests.openstack.console import DISK, GIB_SECTORS, Console
from tests.openstack.test_linked import digest, held

pytestmark = pytest.mark.timeout(3600)

ROOT_DISK = "vda"
FIRST, SECOND = "first", "second"


@pytest.fixture(scope="module")
def images(cloud: Cloud) -> Iterator[dict[str, object]]:
    """Two images of guests, by the word that each says."""
    found = {}
    for word in (FIRST, SECOND):
        path = guest.labelled(word, cloud.stand.site.root)
        with path.open("rb") as file:
            found[word] = cloud.connection.image.create_image(
                word, data=file, disk_format="raw", container_format="bare", wait=True
            )
        path.unlink()
    yield found
    for image in found.values():
        cloud.connection.image.delete_image(image.id)


@dataclass
class Rebuilt:
    """A server and its volumes.

    Attributes:
        server: the server.
        console: of its guest.
        root: the volume it was booted from.
        disk: another volume, to which it writes.
    """

    server: object
    console: Console
    root: object
    disk: object


@pytest.fixture
def rebuilt(request, cloud: Cloud, images) -> Iterator[Rebuilt]:
    try:
        root = cloud.make_volume("root", request.param, image_id=images[FIRST].id)
        server, console = cloud.boot("server", root)
        assert find_word(console) == FIRST
        disk = cloud.make_volume("disk", request.param)
        cloud.attach(server, disk)
        console.disk(DISK, GIB_SECTORS)
        yield Rebuilt(server, console, root, disk)
    finally:
        cloud.delete_everything()
    assert cloud.left_over() == []


def find_word(console: Console) -> str:
    """Which image the guest has booted last."""
    return re.findall(r"GUEST-IMAGE (\w+)", console.text())[-1]


def rebuild(cloud: Cloud, rebuilt: Rebuilt, image) -> str:
    """Rebuild the server with an image, and wait until its guest is up; what it found on its root disk."""
    cloud.servers.rebuild_server(rebuilt.server.id, image)
    cloud.server(rebuilt.server)
    cloud.volume(rebuilt.root, "in-use")
    rebuilt.console.wait_for_boot()
    return rebuilt.console.disk(ROOT_DISK, GIB_SECTORS)


@pytest.mark.parametrize("rebuilt", KINDS, indirect=True)
def test_a_rebuilt_server_boots_its_new_image_and_the_snapshots_keep_the_old_one(
    cloud: Cloud, rebuilt: Rebuilt, images
):
    console, root = rebuilt.console, rebuilt.root
    before = console.counter(ROOT_DISK)
    snapshot, of_disk = cloud.snapshot(root, "snapshot"), cloud.snapshot(rebuilt.disk, "of disk")
    after = console.counter(ROOT_DISK)
    bottom = cloud.share_of(root) / cloud.chain_of(root)[-1]
    frozen = digest(bottom)
    written = console.counter(DISK)
    assert rebuild(cloud, rebuilt, images[SECOND]) == ""  # not what the first guest wrote
    assert find_word(console) == SECOND
    assert held(console.disk(DISK, GIB_SECTORS)) >= written
    active = f"volume-{root.id}.{snapshot.id}"
    assert cloud.chain_of(root) == [active, bottom.name]
    found = cloud.disk(rebuilt.server, root)
    assert (found["file"], found["format"]) == (active, "qcow2")
    assert console.counter(ROOT_DISK) > 0
    assert digest(bottom) == frozen
    old = cloud.make_volume("old", cloud.volumes.get_volume(root.id).volume_type, snapshot_id=snapshot.id)
    assert before <= cloud.counter_of(old, guest.ROOT_BLOCK) <= after
    _, older = cloud.boot("older", old)
    assert find_word(older) == FIRST
    assert before <= held(older.disk(ROOT_DISK, GIB_SECTORS)) <= after
    written = console.counter(ROOT_DISK)
    cloud.delete_snapshots(snapshot, of_disk)  # libvirt pulls what is below
    assert console.counter(ROOT_DISK) > written
    assert cloud.chain_of(root) == [active]
    assert rebuild(cloud, rebuilt, images[FIRST]) == ""
    assert find_word(console) == FIRST
    assert cloud.chain_of(root) == [active]
    assert cloud.volumes.get_volume(root.id).volume_image_metadata["image_name"] == FIRST


@pytest.mark.parametrize("rebuilt", ["raw"], indirect=True)
def test_a_rebuild_that_failed_is_done_again_when_the_volumes_count_as_used(cloud: Cloud, rebuilt: Rebuilt, images):
    path = cloud.stand.site.root / "large.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "2G"], check=True)
    with path.open("rb") as file:
        large = cloud.connection.image.create_image(
            "large", data=file, disk_format="qcow2", container_format="bare", wait=True
        )
    path.unlink()
    cloud.snapshot(rebuilt.root, "snapshot")
    written = rebuilt.console.counter(DISK)
    cloud.servers.rebuild_server(rebuilt.server.id, large)
    cloud.server(rebuilt.server, "ERROR")
    cloud.connection.image.delete_image(large.id)
    for volume in (rebuilt.root, rebuilt.disk):
        cloud.volume(volume, "reserved")
        cloud.volumes.reset_volume_status(volume.id, "in-use", "attached", None)
    assert rebuild(cloud, rebuilt, images[SECOND]) == ""
    assert find_word(rebuilt.console) == SECOND
    assert held(rebuilt.console.disk(DISK, GIB_SECTORS)) >= written
