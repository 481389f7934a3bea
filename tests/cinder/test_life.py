# SPDX-License-Identifier: Apache-2.0
"""The life of volumes in a real Cinder; after each step the files are what Cinder says."""

from __future__ import annotations

import os
import subprocess

import pytest
from tests.cinder.api import Cinder
from tests.cinder.stand import TIMEOUT_S, wait_for

KINDS = ("raw", "qcow2")
pytestmark = pytest.mark.timeout(TIMEOUT_S)


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_is_made_extended_and_deleted_without_left_overs(cinder: Cinder, kind: str):
    volume = cinder.create(1, kind)
    assert cinder.check(volume)["format"] == kind
    # One back end wants it for the service's group only (nas_secure_file_permissions).
    assert cinder.active_path(volume).stat().st_mode & 0o777 == (0o660 if kind == "qcow2" else 0o666)
    cinder.write(volume, 0x41, 3)
    cinder.api.volumes.extend(volume, 2)
    cinder.volume(volume)
    cinder.check(volume)
    cinder.holds(volume, (0x41, 3))
    share = cinder.share_of(volume)
    cinder.gone(volume)
    assert not list(share.glob(f"*{volume.id}*"))


def find_room_gib(cinder: Cinder) -> float:
    """What is free in the pool with the least room, as far as the scheduler knows."""
    pools = [pool.to_dict() for pool in cinder.api.pools.list(detailed=True)]
    return min(pool.get("capabilities", pool)["free_capacity_gb"] for pool in pools)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_a_copy_for_which_there_is_no_room(cinder: Cinder, kind: str):
    source = cinder.create(1, kind)
    cinder.write(source, 0x41, 0, 256)
    share = cinder.share_of(source)
    before = set(share.iterdir())
    ballast = share.parent / "ballast"
    try:
        with ballast.open("wb") as file:
            found = os.fstatvfs(file.fileno())
            os.posix_fallocate(file.fileno(), 0, found.f_bfree * found.f_frsize - (64 << 20))
        copy = cinder.api.volumes.create(1, volume_type=kind, source_volid=source.id)
        cinder.volume(copy, "error")
        # Cinder has it made anew several times, and it has no host in the end.
        assert set(share.iterdir()) == before
    finally:
        ballast.unlink()
        wait_for(lambda: find_room_gib(cinder) > 10, "the scheduler knows that there is room again")
    cinder.holds(source, (0x41, 0))
    cinder.gone(source)
    cinder.api.volumes.delete(copy)
    wait_for(lambda: not cinder.exists(copy), "the copy is gone")


@pytest.mark.parametrize("kind", KINDS)
def test_snapshots_make_a_chain_that_reads_right_until_the_last_is_gone(cinder: Cinder, kind: str):
    volume = cinder.create(1, kind)
    cinder.write(volume, 0x41, 0)
    first = cinder.snapshot(volume, "first")
    cinder.write(volume, 0x42, 1)
    second = cinder.snapshot(volume, "second")
    cinder.write(volume, 0x43, 2)
    assert cinder.check(volume)["format"] == "qcow2"
    assert cinder.recorded(volume, "base_format") == kind
    cinder.api.volumes.extend(volume, 2)
    cinder.volume(volume)
    cinder.check(volume)
    cinder.gone(first)
    cinder.holds(volume, (0x41, 0), (0x42, 1), (0x43, 2))
    cinder.gone(second)
    assert cinder.check(volume)["format"] == kind
    cinder.holds(volume, (0x41, 0), (0x42, 1), (0x43, 2))
    assert cinder.files_of(volume) == [f"volume-{volume.id}", f"volume-{volume.id}.info"]
    cinder.gone(volume)


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_gets_the_whole_of_what_a_snapshot_saw_that_an_image_names(cinder: Cinder, kind: str):
    source = cinder.create(1, kind)
    cinder.write(source, 0x41, 0)
    seen = cinder.snapshot(source)
    volume = cinder.create(1, kind)
    cinder.write(volume, 0x42, 700)
    own = cinder.snapshot(volume)
    cinder.write(volume, 0x43, 701)
    cinder.api.volumes.reimage(volume, cinder.name_snapshot(seen))
    cinder.volume(volume)
    cinder.check(volume)
    cinder.holds(volume, (0x41, 0), (0, 700), (0, 701))
    copy = cinder.create(1, kind, snapshot_id=own.id)
    cinder.holds(copy, (0, 0), (0x42, 700), (0, 701))
    cinder.gone(own, copy)
    cinder.holds(volume, (0x41, 0), (0, 700), (0, 701))
    cinder.gone(seen, source, volume)


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_goes_back_to_its_latest_snapshot_and_the_chain_stays_whole(cinder: Cinder, kind: str):
    volume = cinder.create(1, kind)
    cinder.write(volume, 0x41, 0)
    older, latest = cinder.snapshot(volume, "older"), cinder.snapshot(volume, "latest")
    cinder.write(volume, 0x42, 0)
    cinder.api.volumes.revert_to_snapshot(volume, latest)
    cinder.volume(volume)
    cinder.holds(volume, (0x41, 0))
    cinder.check(volume)
    cinder.gone(older, latest)
    cinder.holds(volume, (0x41, 0))
    cinder.gone(volume)


@pytest.mark.parametrize(
    ("source_kind", "kind"), [("raw", "raw"), ("raw", "qcow2"), ("qcow2", "raw"), ("qcow2", "qcow2")]
)
def test_clones_and_volumes_from_snapshots_have_their_own_size_and_format(cinder: Cinder, source_kind: str, kind: str):
    source = cinder.create(1, source_kind)
    cinder.write(source, 0x41, 0)
    snapshot = cinder.snapshot(source)
    cinder.write(source, 0x42, 0)
    type_name = kind if kind == source_kind else f"{source_kind}-{kind}"
    copies = [cinder.create(2, type_name, source_volid=source.id), cinder.create(3, type_name, snapshot_id=snapshot.id)]
    for copy, pattern in zip(copies, (0x42, 0x41), strict=True):
        assert cinder.check(copy)["format"] == kind
        cinder.holds(copy, (pattern, 0))
        cinder.api.volumes.extend(copy, 4)
        cinder.volume(copy)
        cinder.check(copy)
    cinder.gone(snapshot, source)
    for copy, pattern in zip(copies, (0x42, 0x41), strict=True):
        cinder.holds(copy, (pattern, 0))
    cinder.gone(*copies)


@pytest.mark.parametrize("kind", KINDS)
def test_a_linked_volume_of_a_snapshot_shares_a_file_and_outlives_its_source(cinder: Cinder, kind: str):
    source = cinder.create(1, kind)
    cinder.write(source, 0x41, 0)
    snapshot = cinder.snapshot(source)
    copy = cinder.create(2, f"{kind}-linked", snapshot_id=snapshot.id)
    share = cinder.share_of(source)
    assert (share / cinder.name_of(source)).samefile(share / cinder.name_of(copy))
    cinder.write(copy, 0x42, 1)
    cinder.write(source, 0x43, 0)
    cinder.gone(snapshot)
    for volume, first in ((source, 0x43), (copy, 0x41)):
        cinder.snapshot_and_back(volume)
        cinder.holds(volume, (first, 0))
    cinder.gone(source)
    cinder.holds(copy, (0x41, 0), (0x42, 1))
    cinder.snapshot_and_back(copy)
    cinder.gone(copy)
    assert not list(share.glob(f"*{source.id}*")) + list(share.glob(f"*{copy.id}*"))


def test_a_guest_that_writes_a_qcow2_header_into_its_raw_volume_gains_nothing(cinder: Cinder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 65536)
    trap = tmp_path / "trap"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", trap, "1G"], check=True)
    volume = cinder.create(1, "raw")
    with cinder.active_path(volume).open("r+b") as file:
        file.write(trap.read_bytes())
    snapshot = cinder.snapshot(volume)
    clone = cinder.create(1, "raw", source_volid=volume.id)
    copy = cinder.create(1, "raw", snapshot_id=snapshot.id)
    for each in (clone, copy):
        assert cinder.active_path(each).read_bytes()[:65536] == trap.read_bytes()[:65536]
        assert cinder.recorded(each) == "raw"
    cinder.gone(snapshot)
    assert cinder.recorded(volume) == "raw"
    assert cinder.active_path(volume).read_bytes()[:65536] == trap.read_bytes()[:65536]
    cinder.gone(volume, clone, copy)


# All of these are backups of a qcow2 file, since there is a snapshot.
@pytest.mark.parametrize("kind", ["raw", pytest.param("qcow2", marks=pytest.mark.long)])
def test_a_backup_holds_what_the_guest_sees_and_needs_the_source_no_more(cinder: Cinder, kind: str):
    volume = cinder.create(1, kind)
    cinder.write(volume, 0x41, 0)
    snapshot = cinder.snapshot(volume)
    cinder.write(volume, 0x42, 5)
    base = cinder.backup(volume)
    cinder.write(volume, 0x43, 9)
    backup = cinder.backup(volume, incremental=True)
    restored = cinder.create(1, "qcow2")
    cinder.restore(backup, restored)
    plain = cinder.create(1, "raw")
    cinder.restore(backup, plain)
    cinder.gone(snapshot, volume)
    for each in (restored, plain):
        cinder.check(each)
        cinder.holds(each, (0x41, 0), (0x42, 5), (0x43, 9))
    cinder.gone(backup, base, restored, plain)
    assert not [path for path in cinder.stand.share("backups").rglob("*") if path.is_file()]


def test_a_backup_that_cinder_forgot_is_taken_back_by_its_exported_record(cinder: Cinder):
    volume = cinder.create(1, "qcow2")
    cinder.write(volume, 0x41, 0)
    base = cinder.backup(volume)
    cinder.write(volume, 0x42, 5)
    backups = [base, cinder.backup(volume, incremental=True)]
    records = [cinder.api.backups.export_record(each.id) for each in backups]
    for each in backups:
        cinder.forget(each)
    cinder.gone(volume)
    assert not {each.id for each in backups} & {each.id for each in cinder.api.backups.list()}
    for record in records:
        cinder.api.backups.import_record(record["backup_service"], record["backup_url"])
    back = [cinder.look(cinder.api.backups.get(each.id)) for each in backups]
    restored = cinder.create(1, "raw")
    cinder.restore(back[1], restored)
    cinder.check(restored)
    cinder.holds(restored, (0x41, 0), (0x42, 5))
    cinder.gone(back[1], back[0], restored)
    assert not [path for path in cinder.stand.share("backups").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("kind", "disk_format"),
    [
        ("raw", "raw"),
        ("qcow2", "qcow2"),
        pytest.param("raw", "qcow2", marks=pytest.mark.long),
        pytest.param("qcow2", "raw", marks=pytest.mark.long),
    ],
)
def test_a_volume_becomes_an_image_and_an_image_a_volume(cinder: Cinder, kind: str, disk_format: str):
    volume = cinder.create(1, kind)
    cinder.write(volume, 0x41, 0)
    snapshot = cinder.snapshot(volume)
    cinder.write(volume, 0x42, 7)
    image_id = cinder.upload(volume, disk_format)
    cinder.gone(snapshot, volume)
    made = cinder.create(2, kind, imageRef=image_id)
    assert cinder.check(made)["format"] == kind
    cinder.holds(made, (0x41, 0), (0x42, 7))
    assert cinder.is_cached(image_id) == (kind == "qcow2")  # as it is configured
    again = cinder.create(3, kind, imageRef=image_id)
    cinder.check(again)
    cinder.holds(again, (0x41, 0), (0x42, 7))
    cinder.gone(made, again)


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_is_left_behind_as_one_file_and_taken_back(cinder: Cinder, kind: str):
    volume = cinder.create(1, kind)
    cinder.write(volume, 0x41, 0)
    cinder.gone(cinder.snapshot(volume))
    share, host = cinder.share_of(volume), cinder.host_of(volume)
    cinder.api.volumes.unmanage(volume)
    wait_for(lambda: not cinder.exists(volume), "the volume is not Cinder's any more")
    assert [path.name for path in share.glob(f"*{volume.id}*")] == [f"volume-{volume.id}"]
    offered = cinder.api.volumes.list_manageable(host, detailed=True)
    mine = [each for each in offered if each.reference["source-name"].endswith(volume.id)]
    assert [(each.size, each.safe_to_manage) for each in mine] == [(1, True)]
    managed = cinder.volume(cinder.api.volumes.manage(host, mine[0].reference, name="back", volume_type=kind))
    assert cinder.check(managed)["format"] == kind
    cinder.holds(managed, (0x41, 0))
    cinder.gone(managed)


@pytest.mark.parametrize(("kind", "to"), [("raw", "qcow2"), ("qcow2", "raw")])
def test_a_volume_moves_to_another_back_end_and_format(cinder: Cinder, kind: str, to: str):
    before = set(cinder.stand.share(to).iterdir())
    volume = cinder.create(1, kind)
    cinder.write(volume, 0x41, 0)
    cinder.write(volume, 0x42, 900)
    cinder.api.volumes.retype(volume, to, "on-demand")
    moved = wait_for(lambda: cinder.moved(volume, to), "the volume has its new type")
    assert cinder.check(moved)["format"] == to
    cinder.holds(moved, (0x41, 0), (0x42, 900))
    assert not list(cinder.stand.share(kind).glob(f"*{volume.id}*"))
    cinder.snapshot_and_back(moved)
    cinder.gone(moved)
    wait_for(lambda: set(cinder.stand.share(to).iterdir()) == before, "nothing is left of the move")


def test_a_connection_names_the_active_file_and_its_format(cinder: Cinder):
    volume = cinder.create(1, "raw")
    connector = {"host": "nova", "ip": "127.0.0.1", "initiator": None}
    plain = cinder.api.volumes.initialize_connection(volume, connector)
    assert plain["driver_volume_type"] == "lustre"
    assert plain["data"]["format"] == "raw"
    assert plain["data"]["name"] == f"volume-{volume.id}"
    assert plain["data"]["export"] == "127.0.0.1@tcp:/lfs/raw"
    snapshot = cinder.snapshot(volume)
    layered = cinder.api.volumes.initialize_connection(volume, connector)
    assert layered["data"]["format"] == "qcow2"
    assert layered["data"]["name"] == f"volume-{volume.id}.{snapshot.id}"
    cinder.gone(snapshot, volume)


def test_pools_are_shares_with_the_capacity_of_their_file_system(cinder: Cinder):
    pools = {pool.name.partition("@")[2]: pool.to_dict() for pool in cinder.api.pools.list(detailed=True)}
    found = pools["raw#lfs/raw"]
    found = found.get("capabilities", found)
    total = os.statvfs(cinder.stand.share("raw"))
    assert found["total_capacity_gb"] == pytest.approx(total.f_frsize * total.f_blocks / (1 << 30), rel=0.01)
    assert found["thin_provisioning_support"]
    assert found["multiattach"]
    assert found["storage_protocol"] == "lustre"
