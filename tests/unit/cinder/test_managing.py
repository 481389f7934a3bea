# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess

import pytest
from cinder import exception
from oslo_concurrency import processutils
from tests.unit.cinder.bench import GIB, SHARE, Bench, Snapshot, Type, Volume


def put(stage: Bench, name: str, kind: str = "raw", *more: str) -> dict[str, str]:
    stage.share.mkdir(parents=True, exist_ok=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *more, stage.share / name, "1G"], check=True)
    return {"source-name": f"{SHARE}/{name}"}


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_file_becomes_a_volume_and_its_format_is_recorded(stage: Bench, kind: str):
    stage.set_up()
    reference = put(stage, "disk", kind)
    volume = Volume(volume_type=Type())
    assert stage.driver.manage_existing_get_size(volume, reference) == 1
    assert stage.driver.manage_existing(volume, reference) == {"provider_location": SHARE}
    assert stage.names() == [volume.name]
    assert stage.active(volume)[1] == kind


@pytest.mark.parametrize("name", ["gone", "../volumes/disk", "link", "directory", ""])
def test_what_is_no_plain_file_in_a_share_is_refused(stage: Bench, name: str):
    stage.set_up()
    put(stage, "disk")
    os.symlink("/etc/passwd", stage.share / "link")
    (stage.share / "directory").mkdir()
    with pytest.raises(exception.ManageExistingInvalidReference, match="source-name"):
        stage.driver.manage_existing_get_size(Volume(), {"source-name": f"{SHARE}/{name}" if name else "elsewhere"})


@pytest.mark.parametrize("name", ["{}", "{}.info", "{}.0badcafe"])
@pytest.mark.parametrize("is_named_after_a_copy", [False, True])
def test_a_file_of_a_volume_is_not_taken_from_it(stage: Bench, name: str, is_named_after_a_copy: bool):
    stage.set_up()
    owner = stage.create()
    if is_named_after_a_copy:
        owner = Volume(_name_id=owner.id)
    stage.database.append(owner)
    file = name.format(owner.name)
    (stage.share / file).touch()
    names = stage.names()
    with pytest.raises(exception.ManageExistingAlreadyManaged, match=file):
        stage.driver.manage_existing(Volume(), {"source-name": f"{SHARE}/{file}"})
    assert stage.names() == names


def test_a_file_that_has_the_name_of_a_volume_elsewhere_becomes_one(stage: Bench):
    stage.set_up()
    owner = Volume(provider_location="1.1.1.1@tcp:/elsewhere")
    stage.database.append(owner)
    volume = Volume()
    stage.driver.manage_existing(volume, put(stage, owner.name))
    assert stage.names() == [volume.name]


@pytest.mark.expects_log("failed safety check")
def test_a_file_that_names_another_one_is_refused(stage: Bench):
    stage.set_up()
    reference = put(stage, "disk", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw")
    with pytest.raises(exception.ManageExistingInvalidReference, match="safe"):
        stage.driver.manage_existing(Volume(), reference)


def test_formats_that_are_not_for_volumes_are_refused(stage: Bench):
    stage.set_up()
    with pytest.raises(exception.ManageExistingInvalidReference, match="only raw and qcow2"):
        stage.driver.manage_existing(Volume(), put(stage, "disk", "vdi"))
    with pytest.raises(exception.ManageExistingInvalidReference, match="multi-attach"):
        stage.driver.manage_existing(Volume(multiattach=True), put(stage, "other", "qcow2"))


def test_what_lies_in_a_share_is_listed_with_what_it_is(stage: Bench):
    stage.set_up()
    volume = stage.create()
    stage.driver.create_snapshot(Snapshot(volume))
    put(stage, "disk")
    put(stage, "odd", "vdi")
    (stage.share / ".hidden").write_text("")
    found = stage.driver.get_manageable_volumes([volume], None, 10, 0, ["size"], ["asc"])
    by_name = {each["reference"]["source-name"].rpartition("/")[2]: each for each in found}
    assert set(by_name) == {"disk", "odd", volume.name}
    assert by_name["disk"]["safe_to_manage"]
    assert not by_name["odd"]["safe_to_manage"]
    assert by_name[volume.name]["cinder_id"] == volume.id


def test_a_file_that_cannot_be_looked_at_hides_no_other(stage: Bench):
    stage.set_up()
    put(stage, "disk")
    # `find` prints it as two names, and neither is one of a file; so is one that is removed meanwhile.
    (stage.share / "two\nlines").write_text("")
    found = stage.driver.get_manageable_volumes([], None, 10, 0, ["size"], ["asc"])
    by_name = {each["reference"]["source-name"].rpartition("/")[2]: each for each in found}
    assert by_name["disk"]["safe_to_manage"]
    assert not by_name["two"]["safe_to_manage"]
    assert "No such file" in by_name["two"]["reason_not_safe"]


@pytest.mark.parametrize("has_snapshot", [True, False])
def test_a_volume_is_left_behind_as_one_file(stage: Bench, has_snapshot: bool):
    stage.set_up()
    volume = stage.create()
    stage.write(volume, 1, 0)
    if has_snapshot:
        snapshot = Snapshot(volume)
        stage.driver.create_snapshot(snapshot)
        stage.driver.delete_snapshot(snapshot)
    stage.driver.unmanage(volume)
    assert stage.names() == [volume.name]


def test_the_file_that_nova_pulled_everything_into_is_what_is_left_behind(stage: Bench):
    stage.set_up()
    volume = stage.create(specs={"lustre:format": "qcow2"})
    pulled = f"{volume.name}.0badcafe"
    os.rename(stage.share / volume.name, stage.share / pulled)
    (stage.share / f"{volume.name}.info").write_text(f'{{"active": "{pulled}"}}')
    stage.driver.unmanage(volume)
    assert stage.names() == [volume.name]


def test_a_volume_that_is_left_behind_is_one_file_whenever_that_is_cut_off(stage: Bench):
    stage.set_up()
    for leaves_old in (False, True):
        volume = stage.create()
        pulled = f"{volume.name}.0badcafe"
        stage.write(volume, 1, 0)
        os.rename(stage.share / volume.name, stage.share / pulled)
        if leaves_old:
            (stage.share / volume.name).write_text("what Nova merged, not removed yet")
        (stage.share / f"{volume.name}.info").write_text(f'{{"active": "{pulled}"}}')
        cuts = len(list(stage.cut(lambda volume=volume: stage.driver.unmanage(volume))))
        assert cuts > 3
        assert stage.reads(volume, 1, 0)
        assert stage.names() == [volume.name]
        stage.driver.delete_volume(volume)


def test_a_volume_that_has_lost_its_file_keeps_its_record(stage: Bench):
    stage.set_up()
    volume = stage.create()
    record = f"{volume.name}.info"
    (stage.share / record).write_text(f'{{"active": "{volume.name}.0badcafe"}}')
    (stage.share / volume.name).unlink()
    with pytest.raises(processutils.ProcessExecutionError, match="No such file"):
        stage.driver.unmanage(volume)
    assert stage.names() == [record]


def test_new_names_are_durable_before_cinder_hears_of_them(stage: Bench):
    stage.set_up()
    volume, copy = Volume(volume_type=Type()), stage.create()
    stage.driver.manage_existing(volume, put(stage, "disk"))
    assert stage.commands[-1][-2:] == ("--sync", str(stage.share / volume.name))
    stage.driver.unmanage(volume)
    assert stage.commands[-1][-2:] == ("--sync", str(stage.share / f"{volume.name}.info"))
    replaced = Volume(provider_location="1.1.1.1@tcp:/elsewhere")
    stage.driver.update_migrated_volume(None, replaced, copy, "available")
    assert stage.commands[-1][-2:] == ("--sync", str(stage.share / replaced.name))


def test_a_copy_takes_the_name_and_the_format_of_the_volume_that_it_replaces(stage: Bench):
    stage.set_up()
    volume = Volume(
        provider_location="1.1.1.1@tcp:/elsewhere", admin_metadata={"format": "qcow2", "attached_mode": "rw"}
    )
    copy = stage.create()
    update = stage.driver.update_migrated_volume(None, volume, copy, "available")
    assert update == {"_name_id": None, "provider_location": SHARE}
    assert stage.names() == [volume.name]
    assert volume.admin_metadata == {"format": "raw", "attached_mode": "rw"}
    assert copy.admin_metadata == {"format": "qcow2"}
    volume.provider_location = SHARE
    assert stage.describe(volume)["virtual-size"] == GIB


def test_formats_are_left_to_cinder_when_it_swaps_them_itself(stage: Bench):
    stage.set_up()
    volume = Volume(provider_location="1.1.1.1@tcp:/elsewhere", admin_metadata={"format": "qcow2"})
    copy = stage.create(has_loaded=True)
    stage.driver.update_migrated_volume(None, volume, copy, "available")
    assert volume.admin_metadata == {"format": "qcow2"}


@pytest.mark.parametrize(("status", "location"), [("in-use", "1.1.1.1@tcp:/elsewhere"), ("available", SHARE)])
def test_a_copy_keeps_its_name_while_the_other_is_needed(stage: Bench, status: str, location: str):
    stage.set_up()
    copy = stage.create()
    update = stage.driver.update_migrated_volume(None, Volume(provider_location=location), copy, status)
    assert update["_name_id"] == copy.id
    assert stage.names() == [copy.name]


def test_a_copy_never_replaces_a_file(stage: Bench):
    stage.set_up()
    copy, volume = stage.create(), stage.create()
    volume.provider_location = "1.1.1.1@tcp:/elsewhere"
    assert stage.driver.update_migrated_volume(None, volume, copy, "available")["_name_id"] == copy.id
    assert len(stage.names()) == 2
