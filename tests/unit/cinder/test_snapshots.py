# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import json
import subprocess

import pytest
from cinder import exception
from cinder.volume.drivers import nfs
from tests.unit.cinder.bench import Attachment, Bench, CutError, Snapshot, Volume, opened_by_a_guest

KINDS = ("raw", "qcow2")


def snap(stage: Bench, volume: Volume) -> Snapshot:
    snapshot = Snapshot(volume)
    stage.driver.create_snapshot(snapshot)
    return snapshot


def fill(stage: Bench, kind: str) -> tuple[Volume, list[Snapshot]]:
    """A volume with three snapshots, and something written after each."""
    stage.set_up()
    volume = stage.create(specs={"lustre:format": kind})
    stage.write(volume, 1, 0)
    snapshots = []
    for number in (2, 3, 4):
        snapshots.append(snap(stage, volume))
        stage.write(volume, number, number)
    return volume, snapshots


def holds_all(stage: Bench, volume: Volume) -> bool:
    return stage.reads_all(volume, (1, 0), (2, 2), (3, 3), (4, 4))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_snapshots_are_deleted_in_any_order_and_the_volume_is_as_it_was(
    stage: Bench, kind: str, order: tuple[int, ...]
):
    volume, snapshots = fill(stage, kind)
    for index in order:
        stage.driver.delete_snapshot(snapshots[index])
        assert holds_all(stage, volume)
    assert stage.active(volume) == (stage.share / volume.name, kind)
    assert stage.names() == [volume.name, f"{volume.name}.info"]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_kill_anywhere_in_the_deletion_of_a_snapshot_loses_nothing_and_a_second_try_finishes(
    stage: Bench, index: int
):
    volume, snapshots = fill(stage, "raw")
    cuts = 0
    for _ in stage.cut(lambda: stage.driver.delete_snapshot(snapshots[index])):
        cuts += 1
        assert holds_all(stage, volume)
    assert cuts > 4
    assert holds_all(stage, volume)
    # Whatever was left over goes with the volume's other snapshots.
    for snapshot in snapshots:
        stage.driver.delete_snapshot(snapshot)
    assert stage.active(volume) == (stage.share / volume.name, "raw")
    assert stage.names() == [volume.name, f"{volume.name}.info"]


def test_a_kill_anywhere_while_a_snapshot_is_made_loses_nothing_and_what_is_left_can_be_deleted(stage: Bench):
    volume, snapshots = fill(stage, "raw")
    attempts: list[Snapshot] = []

    def attempt() -> None:
        attempts.append(Snapshot(volume))
        stage.driver.create_snapshot(attempts[-1])

    for _ in stage.cut(attempt):
        assert holds_all(stage, volume)
        stage.driver.delete_snapshot(attempts[-1])
        assert holds_all(stage, volume)
    stage.driver.delete_snapshot(attempts[-1])
    for snapshot in snapshots:
        stage.driver.delete_snapshot(snapshot)
    assert stage.names() == [volume.name, f"{volume.name}.info"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_goes_back_to_its_latest_snapshot_only(stage: Bench, kind: str):
    volume, snapshots = fill(stage, kind)
    stage.write(volume, 9, 0)
    with pytest.raises(exception.InvalidSnapshot, match="not the latest"):
        stage.driver.revert_to_snapshot(None, volume, snapshots[0])
    stage.driver.revert_to_snapshot(None, volume, snapshots[2])
    assert stage.reads(volume, 1, 0)
    assert stage.reads(volume, 3, 3)
    assert stage.reads(volume, 0, 4)


def test_a_kill_anywhere_in_a_revert_leaves_the_volume_before_or_after_it(stage: Bench):
    volume, snapshots = fill(stage, "raw")
    for _ in stage.cut(lambda: stage.driver.revert_to_snapshot(None, volume, snapshots[2])):
        assert stage.reads(volume, 3, 3)
        assert stage.reads(volume, 4, 4) or stage.reads(volume, 0, 4)
    assert stage.reads(volume, 0, 4)


class Nova:
    """Does to the files what a hypervisor does for a guest."""

    def __init__(self, stage: Bench, *, answer: str = "90%", status: str | None = None) -> None:
        self.stage = stage
        self.answer, self.status = answer, status
        self.asked: list[dict] = []
        self.told: list[dict] = []
        self.snapshots: dict[str, Snapshot] = {}

    def look(self, context: object, snapshot_id: str) -> Snapshot:
        return self.snapshots[snapshot_id]

    def _answer(self, snapshot_id: str) -> None:
        volume = self.snapshots[snapshot_id].volume
        # What Nova asks for then. Cinder shows the volume's format, whatever the attachment's is.
        kind = volume.recorded["format"]
        self.told += [{**each.connection_info, "format": kind} for each in volume.volume_attachment]
        self.snapshots[snapshot_id].progress = self.answer
        self.snapshots[snapshot_id].status = self.status or self.snapshots[snapshot_id].status

    def create_volume_snapshot(self, context: object, volume_id: str, request: dict) -> None:
        self.asked.append(request)
        assert (self.stage.share / request["new_file"]).exists()
        self._answer(request["snapshot_id"])

    def delete_volume_snapshot(self, context: object, snapshot_id: str, request: dict) -> None:
        self.asked.append(request)
        volume = self.snapshots[snapshot_id].volume
        # Not by a connection: the driver holds the lock of the volume.
        files = self.stage.driver._files(volume)
        path = self.stage.share / files.active
        if request["merge_target_file"] is None:
            below = ["-b", request["file_to_merge"] or ""]
            below += ["-F", files.find_format(request["file_to_merge"])] if below[1] else []
            self.stage.execute("qemu-img", "rebase", "-f", "qcow2", *below, str(path))
        else:
            merged, target = self.stage.share / request["file_to_merge"], request["merge_target_file"]
            self.stage.execute("qemu-img", "commit", "-q", "-d", "-f", "qcow2", str(merged))
            layers = self.stage.driver._find_layers(files, path.name)
            above = next(layer.name for layer in layers if layer.backing == merged.name)
            kind = files.find_format(target)
            self.stage.execute(
                "qemu-img", "rebase", "-u", "-f", "qcow2", "-b", target, "-F", kind, str(self.stage.share / above)
            )
        self._answer(snapshot_id)


def attach(stage: Bench, volume: Volume, snapshots: list[Snapshot], busy: str, **answers: str) -> Nova:
    volume.attach_status, volume.status = "attached", "in-use"
    volume.volume_attachment = [Attachment({"name": volume.name, "format": "raw"})]
    nova = Nova(stage, **answers)
    for snapshot in snapshots:
        snapshot.status = busy
        nova.snapshots[snapshot.id] = snapshot
    stage.driver._nova = nova
    stage.driver._look_at_snapshot = nova.look
    return nova


def test_a_snapshot_of_a_volume_in_use_switches_the_guest_and_what_nova_starts_it_with(stage: Bench):
    stage.set_up()
    volume = stage.create()
    snapshot = Snapshot(volume)
    nova = attach(stage, volume, [snapshot], "creating")
    stage.driver.create_snapshot(snapshot)
    name = f"{volume.name}.{snapshot.id}"
    assert nova.asked == [{"type": "qcow2", "new_file": name, "snapshot_id": snapshot.id}]
    assert volume.volume_attachment[0].connection_info == {"name": name, "format": "qcow2"}
    assert stage.active(volume) == (stage.share / name, "qcow2")


def test_a_snapshot_that_nova_refuses_leaves_the_volume_as_it_was(stage: Bench):
    stage.set_up()
    volume = stage.create()
    snapshot = Snapshot(volume)
    attach(stage, volume, [snapshot], "creating", status="error")
    with pytest.raises(exception.VolumeDriverException, match="Nova did not"):
        stage.driver.create_snapshot(snapshot)
    assert volume.volume_attachment[0].connection_info == {"name": volume.name, "format": "raw"}
    assert volume.recorded["format"] == "raw"
    assert stage.active(volume) == (stage.share / volume.name, "raw")
    assert f"{volume.name}.{snapshot.id}" not in stage.names()


def test_a_guest_that_has_switched_keeps_its_file_whoever_has_changed_the_status(stage: Bench):
    stage.set_up()
    volume = stage.create()
    stage.write(volume, 1, 0)
    snapshot = Snapshot(volume)
    nova = attach(stage, volume, [snapshot], "creating", status="error")
    overlay = stage.share / f"{volume.name}.{snapshot.id}"
    with contextlib.ExitStack() as guest:
        create = nova.create_volume_snapshot

        def switch(context: object, volume_id: str, request: dict) -> None:
            guest.enter_context(opened_by_a_guest(overlay))
            create(context, volume_id, request)

        nova.create_volume_snapshot = switch
        with pytest.raises(exception.VolumeDriverException, match="Nova did not"):
            stage.driver.create_snapshot(snapshot)
    assert stage.active(volume) == (overlay, "qcow2")
    assert volume.volume_attachment[0].connection_info == {"name": overlay.name, "format": "qcow2"}
    assert nova.told == [{"name": overlay.name, "format": "qcow2"}]
    nova.status, snapshot.status = None, "deleting"
    stage.driver.delete_snapshot(snapshot)
    assert stage.reads(volume, 1, 0)
    assert len(stage.names()) == 2


def cut_off(stage: Bench, volume: Volume, snapshot: Snapshot) -> Nova:
    """Kill the service while it waits for Nova to switch the guest."""
    nova = attach(stage, volume, [snapshot], "creating")
    volume.volume_attachment[0].connection_info["format"] = volume.admin_metadata["format"]

    def die(context: object, volume_id: str, request: dict) -> None:
        raise CutError

    create, nova.create_volume_snapshot = nova.create_volume_snapshot, die
    with pytest.raises(CutError):
        stage.driver.create_snapshot(snapshot)
    snapshot.status = "deleting"
    nova.create_volume_snapshot = create
    return nova


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_snapshot_whose_making_was_cut_off_before_nova_was_asked_is_taken_back(stage: Bench, *, is_cut: bool):
    stage.set_up()
    volume = stage.create(specs={"lustre:format": "qcow2"})
    stage.write(volume, 1, 0)
    snapshot = Snapshot(volume)
    nova = cut_off(stage, volume, snapshot)
    with opened_by_a_guest(stage.share / volume.name):
        for _ in stage.cut(lambda: stage.driver.delete_snapshot(snapshot)) if is_cut else ():
            pass
        if not is_cut:
            stage.driver.delete_snapshot(snapshot)
    assert nova.asked == []
    assert stage.names() == [volume.name, f"{volume.name}.info"]
    assert volume.volume_attachment[0].connection_info == {"name": volume.name, "format": "qcow2"}
    assert stage.reads(volume, 1, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_whose_making_was_cut_off_after_the_guest_has_switched_is_merged(stage: Bench, kind: str):
    stage.set_up()
    volume = stage.create(specs={"lustre:format": kind})
    stage.write(volume, 1, 0)
    snapshot = Snapshot(volume)
    nova = cut_off(stage, volume, snapshot)
    overlay = f"{volume.name}.{snapshot.id}"
    # Nova may start the guest again before anybody deletes the snapshot.
    assert (volume.volume_attachment[0].connection_info["name"], volume.recorded["format"]) == (overlay, "qcow2")
    stage.driver.delete_snapshot(snapshot)
    assert len(nova.asked) == 1
    assert nova.told == [{"name": overlay, "format": "qcow2"}]
    assert stage.names() == [overlay, f"{volume.name}.info"]
    assert volume.volume_attachment[0].connection_info == {"name": overlay, "format": "qcow2"}
    assert volume.admin_metadata["format"] == "qcow2"
    assert stage.reads(volume, 1, 0)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("kind", KINDS)
def test_snapshots_of_a_volume_in_use_are_merged_by_nova_in_any_order(stage: Bench, kind: str, order: tuple[int, ...]):
    volume, snapshots = fill(stage, kind)
    nova = attach(stage, volume, snapshots, "deleting")
    for index in order:
        stage.driver.delete_snapshot(snapshots[index])
        assert holds_all(stage, volume)
    assert len(nova.asked) == 3
    assert len(stage.names()) == 2
    volume.attach_status, volume.status = "detached", "available"
    assert holds_all(stage, volume)
    again = snap(stage, volume)
    stage.write(volume, 5, 5)
    stage.driver.delete_snapshot(again)
    assert holds_all(stage, volume)
    assert stage.reads(volume, 5, 5)


def test_a_kill_after_nova_merged_is_finished_by_a_second_try(stage: Bench):
    volume, snapshots = fill(stage, "raw")
    for snapshot in snapshots[1:]:
        stage.driver.delete_snapshot(snapshot)
    nova = attach(stage, volume, snapshots, "deleting")
    for _ in stage.cut(lambda: stage.driver.delete_snapshot(snapshots[0])):
        snapshots[0].status = "deleting"
        assert holds_all(stage, volume)
    assert holds_all(stage, volume)
    assert nova.asked
    assert len(stage.names()) == 2


@pytest.mark.parametrize("is_attached", [False, True])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_kill_after_nova_merged_leaves_the_other_snapshots_as_they_were(
    stage: Bench, index: int, *, is_attached: bool
):
    volume, snapshots = fill(stage, "raw")
    nova = attach(stage, volume, snapshots, "deleting")
    write, stage.driver._write_record = stage.driver._write_record, raise_cut
    with pytest.raises(CutError):
        stage.driver.delete_snapshot(snapshots[index])
    stage.driver._write_record = write
    snapshots[index].status = "deleting"
    if not is_attached:  # the guest was stopped, and the disk taken away
        volume.attach_status, volume.status = "detached", "available"
    stage.driver.delete_snapshot(snapshots[index])
    assert len(nova.asked) == 1
    assert holds_all(stage, volume)
    assert len(stage.names()) == 4
    volume.attach_status, volume.status = "detached", "available"
    latest = 1 if index == 2 else 2
    stage.driver.revert_to_snapshot(None, volume, snapshots[latest])
    seen = [(number, 0 if number == 1 else number) for number in range(1, latest + 2)]
    assert stage.reads_all(volume, *seen, (0, latest + 2))


def raise_cut(*_: object) -> None:
    raise CutError


def test_a_snapshot_that_is_not_recorded_is_not_the_driver_s_to_refuse(stage: Bench):
    volume, _ = fill(stage, "raw")
    stage.driver.delete_snapshot(Snapshot(volume))
    assert holds_all(stage, volume)


class StockDriver(nfs.NfsDriver):
    """Cinder's own driver (29.0.0), on the share of a bench."""

    def __init__(self, stage: Bench) -> None:
        super().__init__(configuration=stage.driver.configuration)
        self.stage = stage
        self._execute = stage.execute

    def _check_snapshot_support(self, setup_checking: bool = False) -> None:
        pass

    def _ensure_share_mounted(self, nfs_share: str, mnt_flags: object = None) -> None:
        pass

    def _get_mount_point_for_share(self, path: str) -> str:
        return str(self.stage.share)


def read_as_recorded(stage: Bench, volume: Volume) -> bool:
    """Whether the file that the record says is active can be read, with all that it is backed by."""
    active = json.loads((stage.share / f"{volume.name}.info").read_text())["active"]
    command = ["qemu-io", "-f", "qcow2", "-c", "read 0 64k", stage.share / active]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_cinder_s_own_code_loses_a_volume_when_it_is_killed_while_it_deletes_a_snapshot(stage: Bench):
    # So the merging is ours; the tests above kill it everywhere.
    stage.set_up()
    stock = StockDriver(stage)
    volume = stage.create()
    snapshots = [Snapshot(volume) for _ in range(3)]
    for snapshot in snapshots:
        stock.create_snapshot(snapshot)
    assert read_as_recorded(stage, volume)
    stage.commands.clear()
    stage.fail_at = 2  # the file is merged and removed; the one above it is still based on it
    with pytest.raises(CutError):
        stock.delete_snapshot(snapshots[1])
    assert [command[:2] for command in stage.commands] == [("qemu-img", "commit"), ("rm", "-f"), ("qemu-img", "rebase")]
    assert not read_as_recorded(stage, volume)


class BusyNova(Nova):
    """Merges when it is looked at, unless the snapshot says that this has been done."""

    merge = staticmethod(lambda: None)

    def delete_volume_snapshot(self, context: object, snapshot_id: str, request: dict) -> None:
        self.merge = lambda: super(BusyNova, self).delete_volume_snapshot(context, snapshot_id, request)

    def look(self, context: object, snapshot_id: str) -> Snapshot:
        if self.snapshots[snapshot_id].progress != "90%":
            self.merge()
        return self.snapshots[snapshot_id]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_what_nova_answered_before_is_no_answer_to_a_merge(stage: Bench, index: int):
    volume, snapshots = fill(stage, "raw")
    for snapshot in snapshots:
        snapshot.progress = "90%"
    nova = attach(stage, volume, snapshots, "deleting")
    busy = BusyNova(stage)
    busy.snapshots = nova.snapshots
    stage.driver._nova, stage.driver._look_at_snapshot = busy, busy.look
    stage.driver.delete_snapshot(snapshots[index])
    assert len(busy.asked) == 1
    assert holds_all(stage, volume)


def test_a_volume_that_several_guests_use_is_not_frozen(stage: Bench):
    stage.set_up()
    volume = stage.create(multiattach=True)
    volume.attach_status, volume.volume_attachment = "attached", [Attachment(), Attachment()]
    with pytest.raises(exception.InvalidVolume, match="more than once"):
        stage.driver.create_snapshot(Snapshot(volume))
    assert stage.names() == [volume.name]
