# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from cinder import exception
from tests.unit.cinder.bench import SHARE, Bench, Snapshot, Volume

pytestmark = pytest.mark.usefixtures("coordinated")


@dataclass
class Request:
    """Who asks, and the snapshots that are in Cinder's database."""

    known: set[str] = field(default_factory=set)

    def elevated(self) -> Request:
        return self

    def look(self, snapshot_id: str) -> None:
        if snapshot_id not in self.known:
            raise exception.SnapshotNotFound(snapshot_id=snapshot_id)


@pytest.fixture
def asker(stage: Bench) -> Request:
    stage.set_up()
    stage.driver._look_at_snapshot = Request.look
    return Request()


def freeze(stage: Bench, request: Request, volume: Volume) -> Snapshot:
    snapshot = Snapshot(volume, obj_context=request)
    stage.driver.create_snapshot(snapshot)
    request.known.add(snapshot.id)
    return snapshot


def forget(stage: Bench, request: Request, snapshot: Snapshot) -> dict[str, str]:
    stage.driver.unmanage_snapshot(snapshot)
    request.known.remove(snapshot.id)
    return {"source-name": snapshot.id}


def test_a_snapshot_that_was_forgotten_is_taken_back_and_holds_what_it_held(stage: Bench, asker: Request):
    volume = stage.create()
    stage.write(volume, 1, 0)
    reference = forget(stage, asker, freeze(stage, asker, volume))
    stage.write(volume, 2, 0)
    again = Snapshot(volume, obj_context=asker)
    assert stage.driver.manage_existing_snapshot_get_size(again, reference) == 1
    stage.driver.manage_existing_snapshot(again, reference)
    copy = Volume()
    copy.provider_location = stage.driver.create_volume_from_snapshot(copy, again)["provider_location"]
    assert stage.reads(copy, 1, 0)
    stage.driver.delete_snapshot(again)
    assert stage.reads(volume, 2, 0)
    assert json.loads((stage.share / f"{volume.name}.info").read_text()) == {"active": volume.name}


def test_its_size_is_what_the_volume_had_then(stage: Bench, asker: Request):
    volume = stage.create()
    snapshot = freeze(stage, asker, volume)
    stage.driver.extend_volume(volume, 3)
    reference = forget(stage, asker, snapshot)
    assert stage.driver.manage_existing_snapshot_get_size(Snapshot(volume, obj_context=asker), reference) == 1


def test_what_cinder_has_or_nobody_recorded_is_refused(stage: Bench, asker: Request):
    volume = stage.create()
    snapshot = freeze(stage, asker, volume)
    again = Snapshot(volume, obj_context=asker)
    for reference in ({"source-name": snapshot.id}, {"source-name": "other"}, {"source-id": "other"}):
        with pytest.raises(exception.ManageExistingInvalidReference, match="source-name"):
            stage.driver.manage_existing_snapshot(again, reference)
    assert snapshot.id in json.loads((stage.share / f"{volume.name}.info").read_text())


def test_what_is_recorded_is_listed_with_whose_it_is(stage: Bench, asker: Request):
    volume = stage.create()
    kept, forgotten = freeze(stage, asker, volume), freeze(stage, asker, volume)
    forget(stage, asker, forgotten)
    stage.create()
    found = stage.driver.get_manageable_snapshots([kept], None, 10, 0, ["size"], ["asc"])
    by_id = {each["reference"]["source-name"]: each for each in found}
    assert set(by_id) == {kept.id, forgotten.id}
    assert (by_id[kept.id]["cinder_id"], by_id[kept.id]["safe_to_manage"]) == (kept.id, False)
    assert (by_id[forgotten.id]["cinder_id"], by_id[forgotten.id]["safe_to_manage"]) == (None, True)
    assert by_id[forgotten.id]["source_reference"] == {"source-name": f"{SHARE}/{volume.name}"}
    assert by_id[forgotten.id]["size"] == 1


def test_a_volume_that_is_deleted_while_snapshots_are_listed_is_left_out(stage: Bench, asker: Request):
    volume = stage.create()
    freeze(stage, asker, volume)
    record = stage.share / f"{volume.name}.info"
    stage.driver._read_record = lambda path, name: record.unlink()
    assert stage.driver.get_manageable_snapshots([], None, 10, 0, ["size"], ["asc"]) == []


@pytest.mark.expects_log("manage and delete them first")
def test_a_volume_with_forgotten_snapshots_is_not_left_behind_as_one_file(stage: Bench, asker: Request):
    volume = stage.create()
    forget(stage, asker, freeze(stage, asker, volume))
    before = stage.names()
    with pytest.raises(exception.VolumeIsBusy):
        stage.driver.unmanage(volume)
    assert stage.names() == before
