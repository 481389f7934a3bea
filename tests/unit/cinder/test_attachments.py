# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cinder import context, objects
from cinder.db import api as db
from cinder.db import models
from tests.unit.cinder.migrations import database

from lustack.cinder.attachments import find_deleted, keep

VOLUME, COPY, SERVER = str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4())
MONDAY = dt.datetime(2026, 1, 5)  # noqa: DTZ001 - as Cinder's database has it


@pytest.fixture
def asking(coordinated: None, tmp_path: Path) -> Iterator[Any]:
    """An administrator, and a volume with its copy in a database."""
    with database(tmp_path):
        administrator = context.get_admin_context()
        for each in (VOLUME, COPY):
            db.volume_create(administrator, {"id": each, "status": "in-use", "volume_type_id": str(uuid.uuid4())})
        yield administrator


def attach(asking: Any, volume_id: str = VOLUME, server: str | None = SERVER, **more: Any) -> str:
    made = objects.VolumeAttachment(asking, volume_id=volume_id, instance_uuid=server, **more)
    made.create()
    return str(made.id)


@db.main_context_manager.writer
def change(asking: Any, attachment_id: str, values: dict[str, Any]) -> None:
    asking.session.query(models.VolumeAttachment).filter_by(id=attachment_id).update(values)


def test_none_was_deleted(asking: Any):
    attach(asking)
    assert find_deleted(asking, VOLUME, SERVER) is None


def test_the_last_one_of_this_server_and_this_volume_is_found(asking: Any):
    wanted = attach(asking)
    others = [attach(asking), attach(asking, COPY), attach(asking, server=None)]
    for number, each in enumerate([others[0], wanted, *others[1:]]):
        db.volume_detached(asking, COPY if each == others[1] else VOLUME, each)
        change(asking, each, {"deleted_at": MONDAY + dt.timedelta(seconds=number)})
    assert find_deleted(asking, VOLUME, SERVER) == wanted


def test_of_two_in_one_second_the_younger_is_found(asking: Any):
    younger, older = attach(asking), attach(asking)
    for each, made in ((younger, 1), (older, 2)):
        db.volume_detached(asking, VOLUME, each)
        change(asking, each, {"deleted_at": MONDAY, "created_at": MONDAY - dt.timedelta(hours=made)})
    assert find_deleted(asking, VOLUME, SERVER) == younger


@pytest.mark.parametrize("is_deleted", [True, False])
@pytest.mark.parametrize("has_switched", [True, False])
def test_one_stays_with_the_others_connection_if_the_guest_has_switched(asking: Any, *, is_deleted, has_switched):
    kept, gone = attach(asking, attach_mode="ro"), attach(asking, COPY, attach_mode="rw")
    change(asking, gone, {"connection_info": '{"name": "new"}', "mountpoint": "/dev/vdc"})
    change(asking, kept, {"connection_info": '{"name": "old"}', "mountpoint": "/dev/vdb"})
    if is_deleted:
        db.volume_detached(asking, VOLUME, kept)
    keep(asking, kept, gone, VOLUME, has_switched=has_switched)
    (found,) = objects.VolumeAttachmentList.get_all(asking)
    assert (found.id, found.volume_id, found.attach_status, found.detach_time) == (kept, VOLUME, "attached", None)
    told = (found.connection_info["name"], found.mountpoint, found.attach_mode)
    assert told == (("new", "/dev/vdc", "rw") if has_switched else ("old", "/dev/vdb", "ro"))
