# SPDX-License-Identifier: Apache-2.0
"""Cinder's own code swaps the two volumes in a real database, and is cut off before each of its transactions."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cinder import context, exception, objects
from cinder.db import api as db
from cinder.db import models
from oslo_concurrency import processutils
from oslo_utils import timeutils
from tests.unit.cinder.bench import Bench, opened_by_a_guest, run
from tests.unit.cinder.migrations import NEW, OLD, SHARES, A, B, Cutter, Migration, Moving, database

from lustack.brick.client import LustreClient
from lustack.cinder import healer, retiring
from lustack.cinder.halfway import Place
from lustack.cinder.healer import NotHealedError, heal
from lustack.cinder.served import ServedShare


@pytest.fixture
def stage(stage: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A driver with two shares, and Cinder's database."""
    (tmp_path / "shares").write_text("".join(f"{share}\n" for share in SHARES.values()))
    stage.set_up()
    stage.driver._list_volumes = objects.VolumeList.get_all
    monkeypatch.setattr(LustreClient, "is_mounted", lambda self, point: Path(point).exists())
    monkeypatch.setattr(processutils, "execute", run)
    with database(tmp_path):
        yield stage


@pytest.fixture
def cutter(stage: Bench, monkeypatch: pytest.MonkeyPatch) -> Cutter:
    return Cutter(stage, monkeypatch)


CASES = [
    (("raw", "qcow2"), (A, B), True),
    (("raw", "qcow2"), (A, B), False),
    (("raw", "qcow2"), (A, A), True),
    (("raw", "qcow2"), (A, A), False),
    (("qcow2", "raw"), (A, B), True),
    (("qcow2", "raw"), (A, B), False),
    (("raw", "raw"), (A, B), False),
]


@pytest.mark.parametrize(("formats", "pools", "by_admin"), CASES)
def test_a_migration_that_is_cut_off_anywhere_is_healed(stage: Bench, cutter: Cutter, formats, pools, by_admin: bool):
    cuts = 0
    while True:
        migration = Migration(stage, formats, pools, by_admin=by_admin)
        if not cutter.cut(migration.complete, cuts):
            break
        assert migration.heal() == [f"its copy is to be deleted: cinder delete {migration.copy.id}"]
        migration.check()
        cuts += 1
    assert cuts > 5


@pytest.mark.parametrize("pools", [(A, B), (A, A)])
def test_healing_that_is_cut_off_is_asked_for_again(stage: Bench, cutter: Cutter, pools):
    cuts = 0
    while True:
        migration = Migration(stage, ("raw", "qcow2"), pools, by_admin=False)
        if not cutter.cut(migration.complete, cuts):
            break
        # The first of its transactions makes the volume one that may be healed.
        steps = 1
        while cutter.cut(migration.heal, steps):
            steps += 1
        assert steps > 3
        migration.check()
        cuts += 1


@pytest.mark.parametrize("pools", [(A, B), (A, A)])
@pytest.mark.parametrize("has_detached", [True, False])
def test_a_guest_that_has_moved_to_the_copy_keeps_what_it_wrote(stage: Bench, cutter: Cutter, pools, *, has_detached):
    """Nova has asked Cinder to complete it; it has deleted the attachment that it knows, or was killed before."""
    cuts = 1  # from where Cinder has recorded that it completes
    while True:
        moving = Moving(stage, ("raw", "qcow2"), pools)
        moving.switch(has_detached=has_detached)
        if not cutter.cut(lambda moving=moving: moving.complete("in-use"), cuts):
            break
        assert moving.heal() == [f"its copy is to be deleted: cinder delete {moving.copy.id}"]
        moving.check_switched()
        cuts += 1
    assert cuts > 4


@pytest.mark.parametrize(("completed", "is_linked"), [(1, True), (4, False)])
def test_healing_a_volume_in_use_that_is_cut_off_is_asked_for_again(
    stage: Bench, cutter: Cutter, completed: int, *, is_linked: bool
):
    """Cinder had recorded that it completes, or had swapped where the two are."""
    steps = 1
    while True:
        moving = Moving(stage)
        if is_linked:
            moving.link()
        moving.switch()
        assert cutter.cut(lambda moving=moving: moving.complete("in-use"), completed)
        was_cut = cutter.cut(moving.heal, steps)
        if was_cut:
            moving.heal()
        moving.check_switched()
        if not was_cut:
            break
        steps += 1
    assert steps > (15 if is_linked else 10)


def test_a_guest_that_nova_has_not_moved_keeps_its_file_and_what_nova_knows(stage: Bench):
    moving = Moving(stage)
    with opened_by_a_guest(moving.path(moving.volume)):
        assert moving.heal() == [f"its copy is to be deleted: cinder delete {moving.copy.id}"]
    assert moving.look() == ("in-use", [(moving.known.id, moving.volume.name)], 0)
    moving.check()


@pytest.mark.parametrize("has_detached", [True, False])
def test_a_guest_that_nova_has_moved_without_telling_keeps_its_file_and_nova_is_told(stage: Bench, *, has_detached):
    moving = Moving(stage)
    moving.switch(has_detached=has_detached)
    with opened_by_a_guest(moving.path(moving.copy)):
        moving.heal()
    moving.check_switched()


def test_both_back_ends_may_have_one_share(stage: Bench):
    moving = Moving(stage, ("raw", "qcow2"), (A, A))
    point = stage.client.get_mount_point(SHARES[A])
    shares = [ServedShare(name, SHARES[A], point) for name in ("lustre", "lustre2")]
    moving.copy.host = f"here@lustre2#{A}"
    moving.copy.save()
    moving.switch()
    with opened_by_a_guest(moving.path(moving.copy)):
        heal_with(moving, shares)
    healed = moving.load(moving.volume.id)
    assert (healed.host, moving.load(moving.copy.id).host) == (f"here@lustre2#{A}", f"here@lustre#{A}")
    moving.check_switched()


def test_the_attachment_that_nova_deleted_last_is_the_one_that_comes_back(stage: Bench):
    moving = Moving(stage)
    first = moving.attach(moving.volume)
    moving.detach(first)
    moving.server, server = str(uuid.uuid4()), moving.server
    moving.switch()
    moving.detach(moving.attach(moving.volume))
    moving.server = server
    with opened_by_a_guest(moving.path(moving.copy)):
        moving.heal()
    moving.check_switched()


def test_what_the_new_attachment_says_of_the_server_is_kept(stage: Bench):
    moving = Moving(stage)
    moving.switch()
    with opened_by_a_guest(moving.path(moving.copy)):
        moving.heal()
    (kept,) = moving.load(moving.volume.id).volume_attachment
    named = ("connector", "mountpoint", "attached_host", "attach_mode", "attach_status", "attach_time", "instance_uuid")
    assert [kept[name] for name in named] == [
        *(moving.other[name] for name in named[:4]),
        "attached",
        moving.other.attach_time,
        moving.server,
    ]
    assert (kept.deleted, kept.deleted_at, kept.detach_time) == (False, None, None)
    with pytest.raises(exception.VolumeAttachmentNotFound):
        moving.other.refresh()


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("is_deleted", [True, False])
def test_a_migration_that_cinder_has_all_but_completed_leaves_nova_its_attachment(
    stage: Bench, cutter: Cutter, steps: int, *, is_deleted: bool
):
    """The copy is deleted by Cinder when it starts again, and what is attached to it with it."""
    moving = Moving(stage)
    moving.switch()
    moving.complete("in-use")
    assert cutter.cut(moving.finish, steps)
    if is_deleted:
        moving.delete_copy()
    assert moving.heal() == []
    moving.check_completed()
    with pytest.raises(NotHealedError, match="no migration of it was cut off"):
        moving.heal()


def test_a_migration_of_whose_end_nova_has_not_heard_leaves_nova_its_attachment(stage: Bench):
    moving = Moving(stage)
    moving.switch()
    moving.complete("in-use")
    moving.finish()
    moving.delete_copy()
    with pytest.raises(NotHealedError, match="say which with --attachment"):
        moving.heal()
    for other in (str(uuid.uuid4()), moving.other.id):
        with pytest.raises(NotHealedError, match="say which with --attachment"):
            moving.heal(known_id=other)
    assert moving.heal(known_id=moving.known.id) == []
    moving.check_completed()


def test_the_attachment_that_nova_knows_can_be_said(stage: Bench):
    moving = Moving(stage)
    moving.detach(moving.known)
    moving.write(moving.copy, "qcow2", NEW)
    later = moving.attach(moving.volume)
    moving.detach(later)
    with opened_by_a_guest(moving.path(moving.copy)):
        moving.heal(known_id=moving.known.id)
    moving.check_switched()


def test_a_server_that_stopped_when_nova_had_switched_it_goes_on_with_the_copy_when_that_is_said(stage: Bench):
    moving = Moving(stage)
    moving.switch()
    for known_id in (None, str(uuid.uuid4()), moving.other.id):
        with pytest.raises(NotHealedError, match="say with --attachment which Nova has"):
            moving.heal(known_id=known_id)
    moving.heal(known_id=moving.known.id)
    moving.check_switched()


def test_a_volume_that_was_detached_when_nova_had_not_switched_is_what_it_was(stage: Bench):
    moving = Moving(stage)
    with pytest.raises(NotHealedError, match="detach it first"):
        moving.heal()
    moving.detach(moving.known)
    with pytest.raises(NotHealedError, match=f"cinder attachment-delete {moving.other.id}, and ask again"):
        moving.heal()
    moving.detach(moving.other)
    moving.heal()
    check_unused(moving, OLD)


@pytest.mark.parametrize("pools", [(A, B), (A, A)])
def test_what_a_guest_wrote_is_kept_when_nova_took_the_switched_disk_away_from_it(stage: Bench, cutter: Cutter, pools):
    """Nova does that when a server is rebooted whose attachment Cinder has no more, and deletes what else it has."""
    cuts = 0  # from where Nova has asked Cinder to complete it
    while True:
        moving = Moving(stage, ("raw", "qcow2"), pools)
        moving.switch()
        if not cutter.cut(lambda moving=moving: moving.complete("in-use"), cuts):
            break
        moving.detach(moving.other)
        moving.heal()
        check_unused(moving, NEW)
        cuts += 1
    assert cuts > 4


def test_a_disk_that_was_detached_after_the_guest_had_gone_back_to_its_file_is_what_it_was(
    stage: Bench, monkeypatch: pytest.MonkeyPatch
):
    """Nova was killed before it deleted its attachment, and a reboot then took away that of the copy."""
    moving = Moving(stage)
    moving.complete_attachment()
    begin = timeutils.utcnow()
    for seconds, attachment in enumerate([moving.other, moving.known]):
        monkeypatch.setattr(timeutils, "utcnow", lambda seconds=seconds: begin + timedelta(seconds=seconds))
        moving.detach(attachment)
    moving.heal()
    check_unused(moving, OLD)


def check_unused(moving: Moving, pattern: int) -> None:
    volume = moving.load(moving.volume.id)
    assert (volume.status, volume.attach_status, volume.volume_attachment.objects) == ("available", "detached", [])
    moving.check(pattern)


def test_an_attachment_that_cinder_has_forgotten_is_named(stage: Bench):
    moving = Moving(stage)
    moving.switch()
    purge(moving.known.id)
    with opened_by_a_guest(moving.path(moving.copy)):
        first, second = moving.heal()
    assert f"server {moving.server}" in first
    assert f"cinder attachment-delete {moving.other.id}" in first
    assert second == f"its copy is to be deleted: cinder delete {moving.copy.id}"
    assert moving.look() == ("in-use", [(moving.other.id, moving.copy.name)], 0)


@db.main_context_manager.writer
def delete_for_good(asking: Any, attachment_id: str) -> None:
    asking.session.query(models.VolumeAttachment).filter_by(id=attachment_id).delete()


def purge(attachment_id: str) -> None:
    """As `cinder-manage db purge` does it."""
    delete_for_good(context.get_admin_context(), attachment_id)


@pytest.mark.parametrize("completed", [None, 1])
def test_a_guest_that_was_started_again_on_its_file_of_before_stays_there(stage: Bench, cutter: Cutter, completed):
    moving = Moving(stage)
    moving.switch()
    if completed is not None:
        assert cutter.cut(lambda: moving.complete("in-use"), completed)
    with opened_by_a_guest(moving.path(moving.volume)):
        (left,) = moving.heal()
    assert left.startswith("its copy holds what a guest wrote before it was started again on the file of before")
    assert left.endswith(f": cinder delete {moving.copy.id}")
    assert moving.look() == ("in-use", [(moving.known.id, moving.volume.name)], 0)
    moving.check()


def test_a_guest_that_was_started_again_when_cinder_had_begun_to_swap_keeps_both_files(stage: Bench, cutter: Cutter):
    moving = Moving(stage)
    moving.switch()
    path = moving.path(moving.volume)
    assert cutter.cut(lambda: moving.complete("in-use"), 4)
    with opened_by_a_guest(path), pytest.raises(NotHealedError, match=f"started again on {path}.*stop the server"):
        moving.heal()
    assert path.exists()
    moving.heal()
    moving.check_switched()


def test_no_other_file_is_replaced(stage: Bench):
    moving = Moving(stage)
    moving.switch()
    taken = moving.path(moving.volume).with_name(f"volume-{retiring.name_id_of(moving.copy.id)}")
    taken.write_text("somebody's")
    with opened_by_a_guest(moving.path(moving.copy)):
        with pytest.raises(NotHealedError, match=f"cannot be renamed.*File exists.*{taken}"):
            moving.heal()
        assert taken.read_text() == "somebody's"
        taken.unlink()
        moving.heal()
    moving.check_switched()


def test_a_volume_is_not_renamed_for_a_copy_that_has_its_file(stage: Bench):
    moving = Moving(stage)
    moving.switch()
    moving.volume.update({"_name_id": moving.copy.id, "provider_location": SHARES[B]})
    moving.volume.save()
    moving.copy.update({"_name_id": moving.copy.id, "provider_location": SHARES[B]})
    moving.copy.save()
    with pytest.raises(NotHealedError, match="its copy has the same file"):
        moving.heal()
    assert moving.path(moving.volume).exists()


def test_a_guest_whose_copy_has_no_file_is_where_it_was(stage: Bench):
    moving = Moving(stage)
    moving.path(moving.copy).unlink()
    with opened_by_a_guest(moving.path(moving.volume)):
        moving.heal()
    assert moving.look() == ("in-use", [(moving.known.id, moving.volume.name)], 0)


def test_a_guest_that_nova_may_be_moving_is_left_alone(stage: Bench, programs: Path):
    moving = Moving(stage)
    with opened_by_a_guest(moving.path(moving.volume)), opened_by_a_guest(moving.path(moving.copy)):
        with pytest.raises(NotHealedError, match="virsh blockjob SERVER DISK --abort"):
            moving.heal()
    with pytest.raises(NotHealedError, match="detach it first"):
        moving.heal()
    (programs / "qemu-io").write_text("#!/bin/sh\necho Input/output error >&2\nexit 1\n")
    (programs / "qemu-io").chmod(0o755)
    with pytest.raises(NotHealedError, match="as root or Cinder's user: Input/output error"):
        moving.heal()


def test_a_volume_whose_copy_was_not_begun_is_what_it_was(stage: Bench):
    migration = Migration(stage, ("raw", "raw"), (A, B), by_admin=True)
    stage.driver.delete_volume(migration.copy)
    migration.copy.destroy()
    assert migration.heal() == []
    healed = migration.load(migration.volume.id)
    assert (healed.status, healed.migration_status) == ("available", None)
    with pytest.raises(NotHealedError, match="no migration of it was cut off"):
        migration.heal()


def test_a_copy_without_a_file_is_deleted(stage: Bench):
    migration = Migration(stage, ("qcow2", "raw"), (A, B), by_admin=True)
    stage.driver.delete_volume(migration.copy)
    migration.heal()
    migration.check()


@pytest.mark.parametrize("is_same", [True, False])
def test_the_key_of_a_volume_is_not_deleted_with_its_copy(stage: Bench, *, is_same: bool):
    migration = Migration(stage, ("raw", "raw"), (A, B), by_admin=True)
    keys = [str(uuid.uuid4()), str(uuid.uuid4())]
    migration.volume.encryption_key_id = keys[0]
    migration.copy.encryption_key_id = keys[0 if is_same else 1]
    migration.volume.save()
    migration.copy.save()
    migration.heal()
    assert migration.load(migration.volume.id).encryption_key_id == keys[0]
    assert migration.load(migration.copy.id).encryption_key_id == (None if is_same else keys[1])


def test_what_a_guest_has_made_look_like_qcow2_is_asked_for(stage: Bench):
    migration = Migration(stage, ("raw", "qcow2"), (A, B), by_admin=True)
    with migration.path(migration.volume).open("r+b") as file:
        file.write(b"QFI\xfb")
    with pytest.raises(NotHealedError, match="--format"):
        migration.heal()
    migration.heal("raw")
    assert migration.load(migration.volume.id).admin_metadata["format"] == "raw"


def test_a_format_that_nobody_has_recorded_is_refused(stage: Bench):
    migration = Migration(stage, ("raw", "raw"), (A, B), by_admin=True)
    with pytest.raises(NotHealedError, match="--format qcow2 is neither of what is recorded"):
        migration.heal("qcow2")


def test_a_volume_without_its_file_is_left_alone(stage: Bench):
    migration = Migration(stage, ("raw", "qcow2"), (A, B), by_admin=True)
    path = migration.path(migration.volume)
    path.unlink()
    with pytest.raises(
        NotHealedError, match=f"its file is to be {path}, and is not there: move it there, or restore it"
    ):
        migration.heal()


def test_only_what_an_administrator_has_given_up_is_touched(stage: Bench):
    migration = Migration(stage, ("raw", "raw"), (A, B), by_admin=True)
    with pytest.raises(NotHealedError, match="reset-state --state error"):
        heal(migration.volume.id, migration.shares())
    with pytest.raises(NotHealedError, match="there is no such volume"):
        heal(str(uuid.uuid4()), migration.shares())
    migration.make("raw", B, OLD, migration_status=f"target:{migration.volume.id}")
    with pytest.raises(NotHealedError, match="more than one copy"):
        migration.heal()


def test_it_is_asked_where_both_shares_are_mounted(stage: Bench, monkeypatch: pytest.MonkeyPatch):
    migration = Migration(stage, ("raw", "raw"), (A, B), by_admin=True)
    here, there = migration.shares()
    with pytest.raises(NotHealedError, match="has the pool scratch/b"):
        heal_with(migration, [here])
    with pytest.raises(NotHealedError, match="has the pool scratch/b"):
        heal_with(migration, [here, ServedShare("other", there.address, there.point)])
    monkeypatch.setattr(LustreClient, "is_mounted", lambda self, point: False)
    with pytest.raises(NotHealedError, match="start cinder-volume"):
        migration.heal()


def heal_with(migration: Migration, shares: list[ServedShare]) -> None:
    db.volume_update(context.get_admin_context(), migration.volume.id, {"status": "error"})
    heal(migration.volume.id, shares)


def test_files_that_may_not_be_read_are_named(stage: Bench, monkeypatch: pytest.MonkeyPatch):
    migration = Migration(stage, ("raw", "raw"), (A, B), by_admin=True)

    def refuse(directory: str, name: str) -> Place:
        raise PermissionError(errno.EACCES, "Permission denied", name)

    monkeypatch.setattr(healer, "look_at_files", refuse)
    with pytest.raises(NotHealedError, match="ask as root or Cinder's user"):
        migration.heal()
