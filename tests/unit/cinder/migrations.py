# SPDX-License-Identifier: Apache-2.0
"""Migrations that are under way: Cinder's own objects on a database, real files, and what cuts them off."""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
from cinder import context, objects
from cinder.db import api as db
from cinder.db import models
from cinder.volume import manager
from oslo_concurrency import processutils
from tests.unit.cinder.bench import Bench, CutError

from lustack.cinder import attachments, recorder
from lustack.cinder.healer import heal
from lustack.cinder.looking import find_active
from lustack.cinder.record import LINKED, SUFFIX, Record
from lustack.cinder.served import ServedShare

A, B = "scratch/a", "scratch/b"
SHARES = {A: "10.0.0.1@tcp:/scratch/a", B: "10.0.0.1@tcp:/scratch/b"}
PROJECT = "0123456789abcdef0123456789abcdef"
OLD, NEW = 0x41, 0x42
# The steps before which somebody may be killed, beside the commands of the driver.
STEPS = [
    (db, "volume_update"),
    (db, "volume_admin_metadata_update"),
    (db, "volume_attachment_update"),
    (attachments, "keep"),
    (recorder, "replace"),
    (recorder, "sync"),
    (os, "link"),
    (os, "unlink"),
    (processutils, "execute"),
]


@contextlib.contextmanager
def database(directory: Path) -> Iterator[None]:
    """An empty database of Cinder's."""
    engine = sqlalchemy.create_engine(f"sqlite:///{directory}/cinder.db")
    models.BASE.metadata.create_all(engine)
    reset = db.main_context_manager.patch_engine(engine)
    try:
        yield
    finally:
        reset()
        engine.dispose()


def reads(path: Path, image_format: str, pattern: int) -> bool:
    """Whether a guest would read a pattern at the beginning of a file."""
    reading = ["qemu-io", "-f", image_format, "-c", f"read -P {pattern} 0 64k", path]
    done = subprocess.run(reading, check=True, capture_output=True, text=True)
    return "verification failed" not in done.stdout


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
        path = self.path(volume)
        assert found["name"] == path.name
        assert reads(path, found["format"], pattern)
        assert (copy.status, copy.migration_status, volume.migration_status) == ("error", None, None)
        self.stage.driver.delete_volume(copy)
        assert self.files() == [path.name]
        self.stage.driver.delete_volume(volume)
        assert self.files() == []

    def files(self) -> list[str]:
        points = [Path(self.stage.client.get_mount_point(share)) for share in SHARES.values()]
        return [path.name for point in points for path in point.iterdir()]

    def heal(self, image_format: str | None = None, known_id: str | None = None) -> list[str]:
        """As an administrator does it."""
        db.volume_update(context.get_admin_context(), self.volume.id, {"status": "error"})
        return heal(self.volume.id, self.shares(), image_format, known_id)

    def shares(self) -> list[ServedShare]:
        return [ServedShare("lustre", each, self.stage.client.get_mount_point(each)) for each in SHARES.values()]


class Moving(Migration):
    """Nova was moving a guest from one file to the other when it died."""

    def __init__(
        self,
        stage: Bench,
        formats: tuple[str, str] = ("qcow2", "qcow2"),
        pools: tuple[str, str] = (A, B),
        *,
        by_admin: bool = True,
    ) -> None:
        super().__init__(stage, formats, pools, by_admin=by_admin)
        self.formats = formats
        self.server = str(uuid.uuid4())
        self.known = self.attach(self.volume)
        self.other = self.attach(self.copy, is_complete=False)
        self.volume.update({"attach_status": "attached", "previous_status": "in-use"})
        self.volume.save()

    def attach(self, volume: Any, *, is_complete: bool = True) -> Any:
        """As Nova does it; of the copy it completes the attachment when the guest has switched.

        Source: cinder 29.0.0, volume/api.py, attachment_create; volume/manager.py, attachment_update.
        """
        admin = context.get_admin_context()
        made = objects.VolumeAttachment(
            admin, volume_id=volume.id, instance_uuid=self.server, attach_status="reserved", attach_mode="rw"
        )
        made.create()
        made.connection_info = {"name": volume.name}
        made.connector = {"host": f"node of {volume.name}"}
        made.save()
        db.volume_attached(admin, made.id, self.server, "node", f"/dev/{volume.name}", "rw", is_complete)
        made.refresh()
        return made

    def detach(self, attachment: Any) -> None:
        """As Nova does it.

        Source: cinder 29.0.0, volume/api.py, attachment_delete; objects/volume.py, finish_detach.
        """
        db.volume_detached(context.get_admin_context(), attachment.volume_id, attachment.id)

    def switch(self, *, has_detached: bool = True) -> None:
        """Nova has moved the guest, has deleted the attachment that it knows, and asks Cinder to complete it."""
        self.write(self.copy, self.formats[1], NEW)
        if has_detached:
            self.complete_attachment()
            self.detach(self.known)

    def complete_attachment(self) -> None:
        """As Nova does it. Source: cinder 29.0.0, api/v3/attachments.py, complete."""
        attachment, copy = self.load(self.copy.id).volume_attachment.objects[0], self.load(self.copy.id)
        attachment.attach_status = "attached"
        attachment.save()
        copy.update({"status": "in-use", "attach_status": "attached"})
        copy.save()

    def finish(self) -> None:
        """What Cinder does when the two are swapped.

        Source: cinder 29.0.0, volume/manager.py, migrate_volume_completion.
        """
        volume = self.load(self.volume.id)
        volume.update({"status": "in-use", "previous_status": volume.status, "migration_status": "success"})
        volume.save()
        for attachment in objects.VolumeAttachmentList.get_all_by_volume_id(self.asking, self.copy.id):
            attachment.volume_id = volume.id
            attachment.save()

    def delete_copy(self) -> None:
        """As Cinder does it, then or when it is started again."""
        copy = self.load(self.copy.id)
        assert (copy.status, copy.attach_status, copy.migration_status) == ("deleting", "detached", "deleting")
        self.stage.driver.delete_volume(copy)
        copy.destroy()

    def check_completed(self) -> None:
        """Cinder has completed it, and has the attachment that Nova knows."""
        volume = self.load(self.volume.id)
        assert (volume.status, volume.attach_status, volume.migration_status) == ("in-use", "attached", None)
        (kept,) = objects.VolumeAttachmentList.get_all(context.get_admin_context())
        assert (kept.id, kept.volume_id, kept.attach_status) == (self.known.id, volume.id, "attached")
        assert kept.connection_info["name"] == self.copy.name
        assert reads(self.path(volume), self.formats[1], NEW)

    def link(self) -> None:
        """The volume is a file on top of another one, and has a record that says so."""
        path = self.path(self.volume)
        backed = ["-b", path.name, "-F", self.formats[0], f"{path}.linked"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backed], check=True)
        recorded = Record(f"{path.name}.linked", {LINKED: f"{path.name}.linked"})
        path.with_name(path.name + SUFFIX).write_text(recorded.render())
        self.stage.driver._set_formats(self.volume, format="qcow2", base_format=self.formats[0])

    def look(self) -> tuple[str, list[tuple[str, str]], int]:
        """Status of the volume, its attachments with what Nova is told, and how many the copy has."""
        volume, copy = self.load(self.volume.id), self.load(self.copy.id)
        assert (volume.attach_status, copy.attach_status) == ("attached", "detached")
        told = [(each.id, each.connection_info["name"]) for each in volume.volume_attachment]
        return volume.status, told, len(copy.volume_attachment)

    def check_switched(self) -> None:
        """The attachment that Nova knows says where the disk is; the file of before has a name that nobody knows."""
        assert self.look() == ("in-use", [(self.known.id, self.copy.name)], 0)
        copy = self.load(self.copy.id)
        before = self.path(copy)
        active = find_active(str(before.parent), before.name)
        assert reads(before.with_name(active), self.formats[0] if active == before.name else "qcow2", OLD)
        assert [name for name in self.files() if name.startswith(self.volume.name)] == []
        # The copy's row knows all that is left of it: the driver deletes that.
        self.check(NEW)
        self.detach(self.load(self.volume.id).volume_attachment.objects[0])
        assert self.load(self.volume.id).volume_attachment.objects == []


class Cutter:
    """Fails instead of a step: a command of the driver, or a transaction of Cinder's."""

    def __init__(self, stage: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        for module, name in STEPS:
            monkeypatch.setattr(module, name, self.counted(getattr(module, name)))
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
