# SPDX-License-Identifier: Apache-2.0
"""Images that Glance keeps in volumes on Lustre: its store `cinder`, with our connector."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator

import pytest
from tests.openstack.cloud import Cloud

pytestmark = pytest.mark.timeout(3600)

MIB = 1 << 20
SHOWN = 4
"""MiB at the begin of an image that are compared byte by byte in a volume made of it."""


def pieces(first: bytes, size_mib: int) -> Iterator[bytes]:
    """An image of a size that Glance is not told."""
    yield first
    for _ in range(size_mib - SHOWN):
        yield bytes(MIB)


# With a size Glance makes a volume of it; without, it makes the volume larger while it writes.
@pytest.mark.parametrize("size_mib", [None, 1026])
def test_glance_keeps_an_image_in_a_volume(cloud: Cloud, size_mib: int | None):
    images = cloud.connection.image
    first = os.urandom(SHOWN * MIB)
    made = images.post("/images", json={"name": "kept", "disk_format": "raw", "container_format": "bare"}).json()
    place, headers = f"/images/{made['id']}/file", {"Content-Type": "application/octet-stream"}
    data = first if size_mib is None else pieces(first, size_mib)
    sent = images.put(place, data=data, headers=headers | {"X-Image-Meta-Store": "volumes"})
    assert sent.status_code == 204, (sent.text, cloud.last_errors())
    kept = next(each for each in cloud.volumes.volumes(all_projects=True) if each.name == f"image-{made['id']}")
    kept = cloud.volume(kept)
    assert cloud.recorded_format(kept) == "raw"
    assert kept.size == (1 if size_mib is None else 2)
    received = images.get(place).content
    assert received[: len(first)] == first
    assert len(received) == (len(first) if size_mib is None else size_mib * MIB)
    assert hashlib.md5(received).hexdigest() == images.get_image(made["id"]).checksum
    volume = cloud.make_volume("made", "qcow2", 2, image_id=made["id"])
    copy = cloud.stand.site.root / "first"
    command = ["qemu-img", "dd", "-U", "-f", "qcow2", "-O", "raw", "bs=1M", f"count={SHOWN}"]
    subprocess.run([*command, f"if={cloud.active_path(volume)}", f"of={copy}"], check=True, capture_output=True)
    assert copy.read_bytes() == first
    copy.unlink()
    images.delete_image(made["id"])
    assert not any(each.id == kept.id for each in cloud.volumes.volumes(all_projects=True) if each.status != "deleting")
    cloud.delete_everything()
    assert cloud.left_over() == []
