# SPDX-License-Identifier: Apache-2.0
"""What Cinder's own NFS driver (29.0.0) does wrong in the code that we inherit, and our driver beside it.

Each test does the same with both. When the stock half of one fails, the release mended it: then our remedy can go.

What needs no Cinder is beside our own code: that `nas_secure_file_*` is overruled in tests/unit/cinder/test_driver.py,
a share that another process has mounted meanwhile in tests/unit/brick/test_client.py, mounts that Nova keeps for ever
in tests/unit/nova/test_volume.py. Files that libvirt keeps after a snapshot of a disk in use: test_unprivileged.py,
since the NFS driver makes no snapshots where files are not used as root.
"""

from __future__ import annotations

import pytest
from tests.cinder.api import GIB, Cinder, info
from tests.cinder.stand import TIMEOUT_S

KINDS = (pytest.param("nfs", marks=pytest.mark.long), "raw")
pytestmark = [pytest.mark.timeout(TIMEOUT_S), pytest.mark.parametrize("kind", KINDS)]


def test_a_clone_of_a_volume_with_a_snapshot_can_grow(cinder: Cinder, kind: str):
    source = cinder.create(1, kind)
    cinder.snapshot(source)
    clone = cinder.create(1, kind, source_volid=source.id)
    assert info(cinder.active_path(clone), "raw")[0]["virtual-size"] == GIB
    cinder.api.volumes.extend(clone, 2)
    if kind == "nfs":
        # It recorded the format of its source's overlay.
        assert cinder.recorded(clone) == "qcow2"
        cinder.volume(clone, "error_extending")
    else:
        cinder.volume(clone)
        assert cinder.check(clone)["format"] == "raw"


def test_a_copy_that_is_larger_than_its_source_is(cinder: Cinder, kind: str):
    source = cinder.create(1, kind)
    snapshot = cinder.snapshot(source)
    for options in ({"source_volid": source.id}, {"snapshot_id": snapshot.id}):
        copy = cinder.create(2, kind, **options)
        size_bytes = info(cinder.active_path(copy), "raw")[0]["virtual-size"]
        assert size_bytes == (GIB if kind == "nfs" else 2 * GIB)


def test_the_older_snapshot_can_be_deleted_after_the_volume_went_back_to_the_latest(cinder: Cinder, kind: str):
    volume = cinder.create(1, kind)
    older, latest = cinder.snapshot(volume, "older"), cinder.snapshot(volume, "latest")
    cinder.api.volumes.revert_to_snapshot(volume, latest)
    cinder.volume(volume)
    if kind == "nfs":
        # The bytes of the guest were written over the qcow2 file.
        assert cinder.active_path(volume).read_bytes()[:4] != b"QFI\xfb"
        older.manager.delete(older.id)
        cinder.look(older, "error_deleting")
    else:
        cinder.check(volume)
        cinder.gone(older)
        cinder.check(volume)


def test_a_backup_of_a_volume_with_a_snapshot_does_not_need_the_volume(cinder: Cinder, kind: str):
    volume = cinder.create(1, kind)
    cinder.write(volume, 0x41, 0)
    cinder.snapshot(volume)
    backup = cinder.backup(volume)
    restored = cinder.create(1, kind)
    cinder.restore(backup, restored)
    with cinder.active_path(restored).open("rb") as file:
        head = file.read(4)
    # The container file, whose data is in the volume that was backed up.
    assert head == (b"QFI\xfb" if kind == "nfs" else b"AAAA")
