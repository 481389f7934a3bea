# SPDX-License-Identifier: Apache-2.0
"""Cinder's own code swaps the two volumes in a real database, and is cut off before each of its transactions."""

from __future__ import annotations

import errno
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
from cinder import context, objects
from cinder.common import config
from cinder.db import api as db
from cinder.db import models
from cinder.volume import manager
from tests.unit.cinder.bench import Bench, CutError, opened_by_a_guest

from lustack.brick.client import LustreClient
from lustack.cinder import healer
from lustack.cinder.halfway import Place
from lustack.cinder.healer import NotHealedError, ServedShare, heal

SHARES = {"scratch/a": "10.0.0.1@tcp:/scratch/a", "scratch/b": "10.0.0.1@tcp:/scratch/b"}
PROJECT = "0123456789abcdef0123456789abcdef"
WRITERS = ("volume_update", "volume_admin_metadata_update")
OLD, NEW = 0x41, 0x42


class Migration:
    """A volume that is being migrated, up to where its copy is whole."""

    def __init__(self, stage: Bench, formats: tuple[str, str], pools: tuple[str, str], *, by_admin: bool) -> None:
        self.stage = stage
        self.asking = context.RequestContext(PROJECT, PROJECT, is_admin=by_admin)
        self.volume = self.make(formats[0], pools[0], OLD)
        self.volume.update({"status": "retyping", "previous_status": "available", "migration_status": "migrating"})
        self.volume.save()
        target = f"target:{self.volume.id}"
        self.copy = self.make(formats[1], pools[1], OLD, migration_status=target, use_quota=False)

    def make(self, image_format: str, pool: str, pattern: int, **more: Any) -> Any:
        specs = {"name": str(uuid.uuid4()), "extra_specs": {"lustre:format": image_format}}
        kind = db.volume_type_create(context.get_admin_context(), specs)
        made = objects.Volume(
            self.asking,
            host=f"here@lustre#{pool}",
            size=1,
            status="available",
            attach_status="detached",
            volume_type_id=kind["id"],
            project_id=PROJECT,
            user_id=PROJECT,
            **more,
        )
        made.create()
        made.update(self.stage.driver.create_volume(made))
        made.save()
        self.write(made, image_format, pattern)
        return self.load(made.id)

    def load(self, volume_id: str, asking: Any = None) -> Any:
        return objects.Volume.get_by_id(asking or self.asking, volume_id)

    def path(self, volume: Any) -> Path:
        return Path(self.stage.client.get_mount_point(volume.provider_location)) / volume.name

    def write(self, volume: Any, image_format: str, pattern: int) -> None:
        command = ["qemu-io", "-f", image_format, "-c", f"write -P {pattern} 0 64k", self.path(volume)]
        subprocess.run(command, check=True, capture_output=True)

    def complete(self, status: str = "available") -> None:
        """As Cinder does it. Source: cinder 29.0.0, volume/manager.py, migrate_volume_completion."""
        volume, copy = self.load(self.volume.id), self.load(self.copy.id)
        volume.migration_status = "completing"
        volume.save()
        service = SimpleNamespace(driver=self.stage.driver)
        manager.VolumeManager.update_migrated_volume(service, self.asking, volume, copy, status)
        volume.refresh()
        copy.refresh()
        volume.finish_volume_migration(copy)

    def check(self, pattern: int = OLD) -> None:
        """The volume reads right by what is recorded; when the copy is deleted, nothing of it is left."""
        volume = self.load(self.volume.id, context.get_admin_context())
        copy = self.load(self.copy.id, context.get_admin_context())
        assert SHARES[volume.host.partition("#")[2]] == volume.provider_location
        found = self.stage.driver.initialize_connection(volume, {})["data"]
        reading = ["qemu-io", "-f", found["format"], "-c", f"read -P {pattern} 0 64k"]
        path = self.path(volume)
        assert found["name"] == path.name
        done = subprocess.run([*reading, path], check=True, capture_output=True, text=True)
        assert "verification failed" not in done.stdout
        assert (copy.status, copy.migration_status, volume.migration_status) == ("error", None, None)
        self.stage.driver.delete_volume(copy)
        assert self.files() == [path.name]
        self.stage.driver.delete_volume(volume)
        assert self.files() == []

    def files(self) -> list[str]:
        points = [Path(self.stage.client.get_mount_point(share)) for share in SHARES.values()]
        return [path.name for point in points for path in point.iterdir()]

    def heal(self, image_format: str | None = None) -> list[str]:
        """As an administrator does it."""
        db.volume_update(context.get_admin_context(), self.volume.id, {"status": "error"})
        return heal(self.volume.id, self.shares(), image_format)

    def shares(self) -> list[ServedShare]:
        return [ServedShare("lustre", each, self.stage.client.get_mount_point(each)) for each in SHARES.values()]


@pytest.fixture
def stage(stage: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A driver with two shares, and Cinder's database."""
    (tmp_path / "shares").write_text("".join(f"{share}\n" for share in SHARES.values()))
    stage.set_up()
    stage.driver._list_volumes = objects.VolumeList.get_all
    monkeypatch.setattr(LustreClient, "is_mounted", lambda self, point: Path(point).exists())
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/cinder.db")
    models.BASE.metadata.create_all(engine)
    reset = db.main_context_manager.patch_engine(engine)
    yield stage
    reset()
    engine.dispose()


class Cutter:
    """Fails instead of a step: a command of the driver, or a transaction of Cinder's."""

    def __init__(self, stage: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        for name in WRITERS:
            monkeypatch.setattr(db, name, self.counted(getattr(db, name)))
        stage.driver._execute = self.counted(stage.driver._execute)

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise CutError(call)
            return call(*args, **kwargs)

        return run

    def cut(self, call: Callable[[], Any], at: int) -> bool:
        """Run something; whether it was cut off before step `at`, from 0."""
        self.left = at
        try:
            call()
        except CutError:
            return True
        finally:
            self.left = None
        return False


@pytest.fixture
def cutter(stage: Bench, monkeypatch: pytest.MonkeyPatch) -> Cutter:
    return Cutter(stage, monkeypatch)


A, B = "scratch/a", "scratch/b"
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
        assert migration.heal() == [f"cinder delete {migration.copy.id}"]
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


@pytest.mark.parametrize("attached", ["volume", "copy"])
def test_a_guest_that_has_moved_to_the_copy_keeps_what_it_wrote(stage: Bench, cutter: Cutter, attached: str):
    """Nova says when that is so; it has detached the one and attached the other, or leaves both to Cinder."""
    cuts = 1  # from where Cinder has recorded that it completes
    while True:
        migration = Migration(stage, ("raw", "qcow2"), (A, B), by_admin=True)
        user = getattr(migration, attached)
        objects.VolumeAttachment(migration.asking, volume_id=user.id, attach_status="attached").create()
        migration.write(migration.copy, "qcow2", NEW)
        if not cutter.cut(lambda migration=migration: migration.complete("in-use"), cuts):
            break
        migration.heal()
        healed = migration.load(migration.volume.id)
        assert (healed.status, len(healed.volume_attachment)) == ("in-use", 1)
        migration.check(NEW)
        cuts += 1
    assert cuts > 4


class Moving(Migration):
    """Nova was moving a guest from one qcow2 file to the other when it died."""

    def __init__(self, stage: Bench) -> None:
        super().__init__(stage, ("qcow2", "qcow2"), (A, B), by_admin=True)
        server = str(uuid.uuid4())
        self.attachments = [
            objects.VolumeAttachment(self.asking, volume_id=each.id, instance_uuid=server)
            for each in (self.volume, self.copy)
        ]
        for attachment, each in zip(self.attachments, (self.volume, self.copy), strict=True):
            attachment.create()
            attachment.connection_info = {"name": each.name}
            attachment.save()
        self.volume.update({"attach_status": "attached"})
        self.volume.save()

    def look(self) -> tuple[str, list[tuple[str, str]], int]:
        """Status of the volume, its attachments with what Nova is told, and how many the copy has."""
        volume, copy = self.load(self.volume.id), self.load(self.copy.id)
        assert (volume.attach_status, copy.attach_status) == ("attached", "detached")
        told = [(each.id, each.connection_info["name"]) for each in volume.volume_attachment]
        return volume.status, told, len(copy.volume_attachment)


def test_a_guest_that_nova_has_not_moved_keeps_its_file_and_what_nova_knows(stage: Bench):
    moving = Moving(stage)
    with opened_by_a_guest(moving.path(moving.volume)):
        moving.heal()
    assert moving.look() == ("in-use", [(moving.attachments[0].id, moving.volume.name)], 0)
    moving.check()


def test_a_guest_that_nova_has_moved_without_telling_keeps_its_file_and_nova_is_told(stage: Bench):
    moving = Moving(stage)
    moving.write(moving.copy, "qcow2", NEW)
    with opened_by_a_guest(moving.path(moving.copy)):
        moving.heal()
    assert moving.look() == ("in-use", [(moving.attachments[0].id, moving.copy.name)], 0)
    moving.check(NEW)


def test_a_guest_whose_copy_has_no_file_is_where_it_was(stage: Bench):
    moving = Moving(stage)
    moving.path(moving.copy).unlink()
    with opened_by_a_guest(moving.path(moving.volume)):
        moving.heal()
    assert moving.look() == ("in-use", [(moving.attachments[0].id, moving.volume.name)], 0)


def test_a_guest_that_nova_may_be_moving_is_left_alone(stage: Bench):
    moving = Moving(stage)
    with opened_by_a_guest(moving.path(moving.volume)), opened_by_a_guest(moving.path(moving.copy)):
        with pytest.raises(NotHealedError, match="virsh blockjob SERVER DISK --abort"):
            moving.heal()
    with pytest.raises(NotHealedError, match="detach it first"):
        moving.heal()
    moving.path(moving.volume).write_bytes(b"nothing")
    with pytest.raises(NotHealedError, match="cannot be opened"):
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


def test_the_bottom_of_a_chain_is_looked_at(tmp_path: Path):
    look = healer.look_at_files
    directory = str(tmp_path)
    assert look(directory, "v") == Place(exists=False)
    (tmp_path / "v").write_bytes(b"QFI\xfb and more")
    assert look(directory, "v") == Place(exists=True, may_be_qcow2=True)
    (tmp_path / "v.info").write_text('{"active": "v.linked", "linked": "v.linked"}')
    assert look(directory, "v") == Place(exists=True, may_be_qcow2=True, has_overlay=True)
    (tmp_path / "v").rename(tmp_path / "v.linked")
    assert look(directory, "v") == Place(exists=True, may_be_qcow2=True)
    (tmp_path / "v.linked").unlink()
    assert look(directory, "v") == Place(exists=False)


def test_the_shares_are_those_of_cinders_back_ends(tmp_path: Path, coordinated: None):
    (tmp_path / "shares").write_text("10.0.0.1@tcp:/scratch/a\n")
    (tmp_path / "cinder.conf").write_text(
        f"[DEFAULT]\nstate_path = {tmp_path}\nenabled_backends = h1,h2\n"
        f"[h1]\nvolume_driver = lustack.cinder.driver.LustreDriver\nlustre_shares_config = {tmp_path}/shares\n"
        "[h2]\nvolume_driver = cinder.volume.drivers.nfs.NfsDriver\n"
    )
    (found,) = healer.configure(["--config-file", str(tmp_path / "cinder.conf")])
    assert (found.backend, found.address, found.pool) == ("h1", SHARES[A], A)
    assert Path(found.point).parent == tmp_path / "mnt"
    config.CONF.reset()
