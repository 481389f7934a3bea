# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest
from oslo_concurrency import processutils
from tests.unit.cinder.bench import GIB, SHARE, Bench, Snapshot, Type, Volume

KINDS = ("raw", "qcow2")
LINKED = {"lustre:copies": "linked"}


def made(stage: Bench, kind: str = "raw") -> tuple[Volume, Snapshot]:
    """A volume with a snapshot: 1 before it, 2 after it."""
    stage.set_up()
    volume = stage.create(specs={"lustre:format": kind})
    stage.write(volume, 1, 0)
    return volume, snap(stage, volume, 2)


def snap(stage: Bench, volume: Volume, pattern: int) -> Snapshot:
    """A snapshot, after which something is written in the place of what was there."""
    snapshot = Snapshot(volume)
    stage.driver.create_snapshot(snapshot)
    stage.write(volume, pattern, 0)
    return snapshot


def link(stage: Bench, snapshot: Snapshot, size: int = 1, **more: str) -> Volume:
    copy = Volume(size, volume_type=Type(LINKED | more), provider_location=None)
    copy.provider_location = stage.driver.create_volume_from_snapshot(copy, snapshot)["provider_location"]
    return copy


def links(stage: Bench, volume: Volume) -> int:
    return (stage.share / volume.name).stat().st_nlink


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_of_a_snapshot_shares_its_file_and_is_its_own(stage: Bench, kind: str):
    source, snapshot = made(stage, kind)
    copy = link(stage, snapshot, 3)
    assert links(stage, source) == links(stage, copy) == 2
    assert stage.names().count(f"{copy.name}.linked") == 1
    found = stage.describe(copy)
    assert (found["format"], found["virtual-size"], found["backing-filename-format"]) == ("qcow2", 3 * GIB, kind)
    assert copy.admin_metadata == {"format": "qcow2", "base_format": kind}
    stage.write(copy, 3, 0)
    assert stage.reads(source, 2, 0)
    stage.driver.extend_volume(copy, 4)
    copy.size = 4
    assert stage.reads(copy, 3, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_snapshot_may_be_deleted_and_others_come_and_go(stage: Bench, kind: str):
    source, snapshot = made(stage, kind)
    copy = link(stage, snapshot)
    stage.driver.delete_snapshot(snapshot)
    assert stage.reads(copy, 1, 0)
    assert stage.reads(source, 2, 0)
    for volume, pattern in ((source, 2), (copy, 1)):
        later = snap(stage, volume, 5)
        assert stage.reads(link(stage, later), pattern, 0)  # a whole copy: what it would share is not alone
        stage.driver.delete_snapshot(later)
        assert stage.reads(volume, 5, 0)
    # Deleted once more, as after a kill.
    stage.driver.delete_snapshot(snapshot)
    assert stage.reads(source, 5, 0)
    assert stage.reads(copy, 5, 0)


@pytest.mark.parametrize("is_source_first", [True, False])
def test_either_may_be_deleted_first_and_nothing_is_left(stage: Bench, is_source_first: bool):
    source, snapshot = made(stage)
    copy = link(stage, snapshot)
    stage.driver.delete_snapshot(snapshot)
    first, second, pattern = (source, copy, 1) if is_source_first else (copy, source, 2)
    stage.driver.delete_volume(first)
    assert stage.reads(second, pattern, 0)
    assert links(stage, second) == 1
    later = snap(stage, second, 7)
    stage.driver.delete_snapshot(later)
    assert stage.reads(second, 7, 0)
    stage.driver.delete_volume(second)
    assert stage.names() == []


def test_when_the_copy_is_gone_the_snapshot_is_merged_as_any_other(stage: Bench):
    source, snapshot = made(stage)
    stage.driver.delete_volume(link(stage, snapshot))
    stage.driver.delete_snapshot(snapshot)
    assert stage.active(source) == (stage.share / source.name, "raw")
    assert stage.reads(source, 2, 0)


def test_a_volume_in_use_is_not_merged_into_a_shared_file_either(stage: Bench):
    source, snapshot = made(stage)
    copy = link(stage, snapshot)
    source.attach_status, source.status = "attached", "in-use"
    stage.driver._nova = None  # is not asked
    stage.driver.delete_snapshot(snapshot)
    source.attach_status, source.status = "detached", "available"
    assert stage.reads(source, 2, 0)
    assert stage.reads(copy, 1, 0)


def test_files_that_stay_in_the_place_of_a_snapshot_are_none(stage: Bench):
    source, snapshot = made(stage)
    copy = link(stage, snapshot)
    stage.driver.delete_snapshot(snapshot)
    assert stage.driver.get_manageable_snapshots([], None, 10, 0, ["size"], ["asc"]) == []
    later = snap(stage, copy, 3)
    found = stage.driver.get_manageable_snapshots([], None, 10, 0, ["size"], ["asc"])
    assert [each["reference"]["source-name"] for each in found] == [later.id]
    assert stage.reads(source, 2, 0)


def test_a_revert_and_a_snapshot_of_a_copy_leave_the_source_as_it_is(stage: Bench):
    source, snapshot = made(stage)
    copy = link(stage, snapshot)
    later = snap(stage, copy, 8)
    stage.driver.revert_to_snapshot(None, copy, later)
    assert stage.reads(copy, 1, 0)
    assert stage.reads(source, 2, 0)


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("is_source", [True, False])
def test_what_shares_a_file_is_whole_when_it_is_left_behind(stage: Bench, is_source: bool, is_cut: bool):
    source, snapshot = made(stage)
    copy = link(stage, snapshot)
    stage.driver.delete_snapshot(snapshot)
    volume, pattern, other, others = (source, 2, copy, 1) if is_source else (copy, 1, source, 2)
    if is_cut:
        assert len(list(stage.cut(lambda: stage.driver.unmanage(volume)))) > 4
    else:
        stage.driver.unmanage(volume)
    assert [name for name in stage.names() if name.startswith(volume.name)] == [volume.name]
    volume.admin_metadata = {"format": "qcow2"}
    assert "backing-filename" not in stage.describe(volume)
    assert stage.reads(volume, pattern, 0)
    assert stage.reads(other, others, 0)


def test_a_kill_anywhere_while_it_is_made_leaves_the_source_as_it_is_and_can_be_deleted(stage: Bench):
    source, snapshot = made(stage)
    attempts: list[Volume] = []

    def attempt() -> None:
        attempts.append(Volume(1, volume_type=Type(LINKED)))
        stage.driver.create_volume_from_snapshot(attempts[-1], snapshot)

    cuts = 0
    for _ in stage.cut(attempt):
        cuts += 1
        stage.driver.delete_volume(attempts[-1])
        assert links(stage, source) == 1
        assert stage.reads(source, 2, 0)
    assert cuts > 3
    assert stage.reads(attempts[-1], 1, 0)


def test_a_kill_anywhere_in_the_deletion_of_a_shared_snapshot_loses_nothing(stage: Bench):
    source, snapshot = made(stage)
    copy = link(stage, snapshot)
    for _ in stage.cut(lambda: stage.driver.delete_snapshot(snapshot)):
        assert stage.reads(source, 2, 0)
    assert stage.reads(source, 2, 0)
    assert stage.reads(copy, 1, 0)


@pytest.mark.parametrize(
    "specs",
    [{"provisioning:type": "thick"}, {"lustre:stripe_count": "2"}, {"lustre:project": "7"}, {"lustre:copies": "full"}],
)
def test_what_needs_a_file_of_its_own_is_copied(stage: Bench, specs: dict[str, str]):
    source, snapshot = made(stage)
    copy = link(stage, snapshot, **specs)
    assert links(stage, source) == links(stage, copy) == 1
    assert copy.admin_metadata == {"format": "raw"}
    assert stage.reads(copy, 1, 0)


def test_what_shares_a_file_gets_a_type_for_several_guests_by_a_copy_only(stage: Bench):
    source, snapshot = made(stage)

    def retype(volume: Volume, specs: dict[str, str]) -> bool:
        diff = {"extra_specs": {key: (None, value) for key, value in specs.items()}}
        return stage.driver.retype(None, volume, Type(specs), diff, {"host": volume.host})[0]

    shared = {"multiattach": "<is> True"}
    assert retype(source, shared)  # when its snapshot is deleted it is one raw file again
    copy = link(stage, snapshot)
    stage.driver.delete_snapshot(snapshot)
    assert not retype(source, shared)
    assert not retype(copy, shared)
    assert retype(source, {"any": "other"})
    assert retype(copy, {"any": "other"})


def test_on_another_share_it_is_copied(stage: Bench):
    other = "10.0.0.1@tcp:/scratch/other"
    (stage.root / "shares").write_text(f"{SHARE}\n{other}\n")
    source, snapshot = made(stage)
    copy = Volume(1, volume_type=Type(LINKED), provider_location=None, host="here@lustre#scratch/other")
    copy.provider_location = stage.driver.create_volume_from_snapshot(copy, snapshot)["provider_location"]
    assert copy.provider_location == other
    assert links(stage, source) == 1
    assert stage.driver._files(copy).record is None


def test_where_a_file_cannot_have_another_name_it_is_copied(stage: Bench, monkeypatch: pytest.MonkeyPatch):
    _, snapshot = made(stage)
    real = stage.driver._execute

    def refuse(*command: str, **options: object) -> object:
        if command[:2] == ("cp", "-l"):
            raise processutils.ProcessExecutionError("", "Too many links", 1, "cp")
        return real(*command, **options)

    monkeypatch.setattr(stage.driver, "_execute", refuse)
    copy = link(stage, snapshot)
    assert copy.admin_metadata == {"format": "raw"}
    assert stage.reads(copy, 1, 0)


@pytest.mark.parametrize("is_linked", [True, False])
def test_names_are_counted_as_root_where_only_root_may(stage: Bench, monkeypatch: pytest.MonkeyPatch, is_linked: bool):
    source, snapshot = made(stage)
    if is_linked:
        link(stage, snapshot)

    def refuse(path: str, **options: object) -> object:
        raise PermissionError(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", refuse)
        assert stage.driver._is_shared(str(stage.share / source.name)) is is_linked
    assert stage.commands[-1][:3] == ("stat", "-c", "%h")
