# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from cinder import exception
from oslo_concurrency import processutils
from tests.unit.cinder.bench import SHARE, Bench, Snapshot, Type, Volume


def test_all_files_of_a_volume_go_with_it_and_none_of_its_neighbour(stage: Bench):
    stage.set_up()
    volume, neighbour = stage.create(), stage.create()
    for suffix in (".info", ".0badcafe", ".0badcafe.fresh"):
        (stage.share / f"{volume.name}{suffix}").write_text("x")
    (stage.share / f"{volume.name}0").write_text("another volume's")
    stage.driver.delete_volume(volume)
    assert stage.names() == sorted([neighbour.name, f"{volume.name}0"])


@pytest.mark.expects_log("was never made")
def test_a_volume_that_was_never_made_is_deleted(stage: Bench):
    stage.set_up()
    stage.driver.delete_volume(Volume(provider_location=None))
    stage.driver.delete_volume(Volume(provider_location=None, host="here@lustre#scratch/elsewhere"))


# Cinder learns where a volume lies from what the driver returns; a copy that a migration makes begins as its original.
@pytest.mark.parametrize("recorded", [None, "10.0.0.9@tcp:/other/volumes"])
def test_what_was_being_made_when_the_service_was_killed_goes_with_its_volume(stage: Bench, recorded: str | None):
    stage.set_up()
    volume = stage.create()
    volume.provider_location = recorded
    stage.driver.delete_volume(volume)
    assert stage.names() == []


def test_a_volume_on_a_share_that_is_not_configured_is_not_forgotten(stage: Bench):
    stage.set_up()
    volume = Volume(provider_location="10.0.0.9@tcp:/other/volumes", host="here@lustre#other/volumes")
    with pytest.raises(exception.VolumeDriverException, match="not configured"):
        stage.driver.delete_volume(volume)


@pytest.mark.expects_log("it stays")
def test_a_file_that_did_not_become_a_volume_in_the_end_outlives_the_attempt(stage: Bench):
    stage.set_up()
    volume = stage.create()
    volume.status = "error_managing_deleting"
    stage.driver.delete_volume(volume)
    assert stage.names() == [volume.name]


# Its status is what an administrator has given to it, since Cinder shows one that is being managed as `creating`.
@pytest.mark.parametrize("recorded", [None, SHARE])
@pytest.mark.expects_log("it stays")
def test_a_file_that_was_about_to_become_a_volume_outlives_it_in_any_status(stage: Bench, recorded: str | None):
    stage.set_up()
    (stage.share / "disk").write_bytes(b"x" * 4096)
    volume = Volume(status="error", launched_at=None)
    stage.driver.manage_existing(volume, {"source-name": f"{SHARE}/disk"})
    volume.provider_location = recorded
    stage.driver.delete_volume(volume)
    assert stage.names() == [volume.name]


@pytest.mark.expects_log("it stays")
def test_a_file_outlives_its_managing_wherever_that_was_cut_off(stage: Bench):
    stage.set_up()
    disk = stage.share / "disk"
    disk.write_bytes(b"x" * 4096)
    volumes: list[Volume] = []

    def attempt() -> None:
        volumes.append(Volume(status="error", provider_location=None, launched_at=None))
        stage.driver.manage_existing(volumes[-1], {"source-name": f"{SHARE}/disk"})

    names = set()
    for _ in stage.cut(attempt):
        stage.driver.delete_volume(volumes[-1])
        (name,) = stage.names()
        names.add(name.replace(volumes[-1].id, ""))
        (stage.share / name).rename(disk)
    assert names == {"disk", "volume-"}


def test_a_file_that_became_a_volume_goes_with_it_and_so_does_a_copy_that_was_being_made(stage: Bench):
    stage.set_up()
    (stage.share / "disk").write_bytes(b"x" * 4096)
    volume = Volume()
    stage.driver.manage_existing(volume, {"source-name": f"{SHARE}/disk"})
    copy = stage.create()
    # A migration gives it what is recorded with the volume.
    copy.admin_metadata, copy.launched_at = dict(volume.admin_metadata), None
    stage.driver.delete_volume(copy)
    stage.driver.delete_volume(volume)
    assert stage.names() == []


# What a migration leaves in Cinder's database when it is cut off after it saved the one volume, or the other, too.
@pytest.mark.expects_log("they stay")
@pytest.mark.parametrize("is_named_after_the_copy", [True, False])
def test_a_copy_that_a_migration_left_does_not_take_the_files_of_the_volume_with_it(
    stage: Bench, is_named_after_the_copy: bool
):
    stage.set_up()
    volume = stage.create()
    other = Volume(provider_location=SHARE)
    if is_named_after_the_copy:
        copy, owner = volume, other
        owner._name_id = copy.id
    else:
        copy, owner = other, volume
        copy._name_id = owner.id
    stage.database += [copy, owner]
    stage.driver.delete_volume(copy)
    assert stage.names() == [volume.name]


# As a migration ends: the copy is named after the volume, on its own share, or the volume after the copy.
@pytest.mark.parametrize("name_id", [None, "another"])
def test_the_original_goes_when_its_copy_has_taken_its_place(stage: Bench, name_id: str | None):
    stage.set_up()
    original = stage.create()
    moved = Volume(id=original.id, _name_id=name_id, provider_location="1.1.1.1@tcp:/elsewhere")
    replaced = Volume(_name_id=original.id)
    stage.database += [moved, replaced]
    stage.driver.delete_volume(replaced)
    assert stage.names() == []


def fill_up(programs: Path, name: str) -> None:
    """Have a program, whose last argument is a file, write as much as there is room for, and fail."""
    text = f'#!/bin/sh\nfor last; do :; done; echo some >"$last"; echo "{name}: No space left on device" >&2; exit 1\n'
    (programs / name).write_text(text)
    (programs / name).chmod(0o755)


# Cinder makes it anew then, elsewhere or not at all, and takes its host from it: nobody finds the files afterwards.
# Source: cinder 29.0.0, flows/manager/create_volume.py, OnFailureRescheduleTask.
def test_nothing_is_left_of_a_volume_that_could_not_be_made(stage: Bench, programs: Path):
    stage.set_up()
    fill_up(programs, "fallocate")
    with pytest.raises(processutils.ProcessExecutionError, match="No space left"):
        stage.create(specs={"provisioning:type": "thick"})
    assert stage.names() == []


@pytest.mark.parametrize("specs", [{"provisioning:type": "thick"}, {"lustre:format": "qcow2"}])
def test_nothing_is_left_of_a_copy_that_could_not_be_made(stage: Bench, programs: Path, specs: dict[str, str]):
    stage.set_up()
    source = stage.create()
    fill_up(programs, "fallocate")
    # What is copied to qcow2 is made durable before it is a volume.
    (programs / "dd").write_text('#!/bin/sh\necho "No space left on device" >&2; exit 1\n')
    (programs / "dd").chmod(0o755)
    with pytest.raises(processutils.ProcessExecutionError, match="No space left"):
        stage.driver.create_cloned_volume(Volume(volume_type=Type(specs)), source)
    assert stage.names() == [source.name]


def test_nothing_is_left_of_a_linked_volume_that_could_not_be_made(stage: Bench):
    stage.set_up()
    source = stage.create()
    snapshot = Snapshot(source)
    stage.driver.create_snapshot(snapshot)
    before = stage.names()

    def fail(*words: object) -> None:
        raise processutils.ProcessExecutionError(stderr="No space left on device")

    stage.driver._write_record = fail
    with pytest.raises(processutils.ProcessExecutionError, match="No space left"):
        stage.driver.create_volume_from_snapshot(Volume(volume_type=Type({"lustre:copies": "linked"})), snapshot)
    assert stage.names() == before


@pytest.mark.expects_log("cannot be removed")
def test_what_went_wrong_first_is_what_is_said(stage: Bench, programs: Path):
    stage.set_up()
    fill_up(programs, "fallocate")
    (programs / "rm").write_text("#!/bin/sh\nexit 1\n")
    (programs / "rm").chmod(0o755)
    with pytest.raises(processutils.ProcessExecutionError, match="No space left"):
        stage.create(specs={"provisioning:type": "thick"})
