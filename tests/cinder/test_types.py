# SPDX-License-Identifier: Apache-2.0
"""What volume types and groups ask of volumes, in a real Cinder."""

from __future__ import annotations

import pytest
from tests.cinder.api import GIB, Cinder
from tests.cinder.stand import TIMEOUT_S, wait_for

pytestmark = pytest.mark.timeout(TIMEOUT_S)


def connector(host: str) -> dict[str, str | None]:
    return {"host": host, "ip": "127.0.0.1", "initiator": None}


def test_a_type_says_how_much_room_a_volume_reserves_and_where_lustre_places_it(cinder: Cinder):
    specs = {"provisioning__type": "thick", "lustre__stripe_count": "4", "lustre__stripe_size": "4M"}
    cinder.make_type("placed", volume_backend_name="raw", lustre__project="1001", **specs)
    volume = cinder.create(1, "placed")
    assert cinder.check(volume)["format"] == "raw"
    assert cinder.active_path(volume).stat().st_blocks * 512 >= GIB
    asked = [line.split() for line in (cinder.stand.root / "lfs.log").read_text().splitlines() if volume.id in line]
    assert [words[:-1] for words in asked] == [["setstripe", "-c", "4", "-S", "4M"], ["project", "-p", "1001"]]
    cinder.gone(volume)


def test_a_type_that_asks_for_what_is_impossible_makes_no_volume(cinder: Cinder):
    cinder.make_type("impossible", volume_backend_name="raw", lustre__stripe_count="many")
    volume = cinder.volume(cinder.api.volumes.create(1, volume_type="impossible"), "error")
    cinder.gone(volume)
    assert not list(cinder.stand.share("raw").glob(f"*{volume.id}*"))


def test_a_type_changes_in_place_where_no_copy_is_needed(cinder: Cinder):
    cinder.make_type("thick", volume_backend_name="raw", provisioning__type="thick")
    volume = cinder.create(1, "raw")
    cinder.write(volume, 0x41, 0)
    before = cinder.active_path(volume).stat()
    cinder.api.volumes.retype(volume, "thick", "never")
    wait_for(lambda: cinder.moved(volume, "thick"), "the volume has its new type")
    after = cinder.active_path(volume).stat()
    assert (before.st_ino, after.st_blocks * 512 >= GIB) == (after.st_ino, True)
    cinder.holds(volume, (0x41, 0))
    cinder.gone(volume)


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_several_guests_may_use_a_volume_whose_type_says_so_and_it_is_raw(cinder: Cinder, kind: str):
    cinder.make_type(f"shared-{kind}", volume_backend_name=kind, multiattach="<is> True")
    volume = cinder.create(1, f"shared-{kind}")
    assert cinder.check(volume)["format"] == "raw"
    made = []
    for host in ("one", "two"):
        made.append(cinder.api.attachments.create(volume.id, connector(host)))
        cinder.api.attachments.complete(made[-1]["id"])
    found = [each["connection_info"] for each in made]
    assert [(each["name"], each["format"]) for each in found] == [(f"volume-{volume.id}", "raw")] * 2
    assert len(cinder.volume(volume, "in-use").attachments) == 2
    for each in made:
        cinder.api.attachments.delete(each["id"])
    cinder.volume(volume)
    cinder.gone(volume)


def test_a_qcow2_volume_that_several_guests_are_to_use_becomes_raw_by_a_migration_only(cinder: Cinder):
    cinder.make_type("to-share", volume_backend_name="qcow2", multiattach="<is> True")
    volume = cinder.create(1, "qcow2")
    cinder.write(volume, 0x41, 0)
    cinder.api.volumes.retype(volume, "to-share", "never")
    wait_for(lambda: cinder.volume(volume).volume_type == "qcow2", "the retype is refused")
    assert cinder.check(volume)["format"] == "qcow2"
    cinder.api.volumes.retype(volume, "to-share", "on-demand")
    wait_for(lambda: cinder.moved(volume, "to-share"), "the volume has its new type")
    assert cinder.check(volume)["format"] == "raw"
    cinder.holds(volume, (0x41, 0))
    cinder.gone(volume)


def test_a_volume_migrates_to_another_share_and_takes_its_format(cinder: Cinder):
    cinder.make_type("anywhere", capabilities__storage_protocol="lustre")
    volume = cinder.create(1, "anywhere")
    cinder.write(volume, 0x41, 0)
    cinder.write(volume, 0x42, 700)
    here = cinder.share_of(volume).name
    there = {"raw": "qcow2", "qcow2": "raw"}[here]
    target = f"stand@{there}#lfs/{there}"
    cinder.api.volumes.migrate_volume(volume, target, False, False)
    wait_for(lambda: cinder.volume(volume) and cinder.host_of(volume) == target, "the volume is there")
    wait_for(lambda: cinder.moved(volume, "anywhere"), "the migration is over")
    assert cinder.check(volume)["format"] == there
    cinder.holds(volume, (0x41, 0), (0x42, 700))
    wait_for(lambda: not list(cinder.stand.share(here).glob(f"*{volume.id}*")), "nothing is left behind")
    cinder.snapshot_and_back(volume)
    cinder.gone(volume)


def test_the_volumes_of_a_group_have_snapshots_together_and_make_another_group(cinder: Cinder):
    kind = cinder.api.group_types.create("group")
    group = cinder.look(cinder.api.groups.create(kind.id, "raw,raw-qcow2", name="g"))
    volumes = [cinder.create(1, name, group_id=group.id) for name in ("raw", "raw-qcow2")]
    for volume in volumes:
        cinder.write(volume, 0x41, 0)
    snapshot = cinder.look(cinder.api.group_snapshots.create(group.id))
    for volume in volumes:
        cinder.write(volume, 0x42, 0)
    other = cinder.look(cinder.api.groups.get(cinder.api.groups.create_from_src(snapshot.id, None)["id"]))
    copies = [each for each in cinder.api.volumes.list() if each.group_id == other.id]
    assert sorted(cinder.check(copy)["format"] for copy in copies) == ["qcow2", "raw"]
    for copy in copies:
        cinder.holds(copy, (0x41, 0))
    cinder.gone(snapshot)
    for volume in volumes:
        cinder.holds(volume, (0x42, 0))
        cinder.check(volume)
    for each in (other, group):
        cinder.api.groups.delete(each.id, delete_volumes=True)
    wait_for(lambda: not any(cinder.exists(each) for each in (*volumes, *copies)), "the volumes are gone")
