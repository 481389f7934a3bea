# SPDX-License-Identifier: Apache-2.0
"""Gives a volume of a guest the attachment that Nova knows, where a service was killed while Nova swapped the disk.

Nova has two attachments then: that of the volume, which it has recorded, and that of the copy. When the guest has
switched it completes the new one, deletes the old one, asks Cinder to complete the migration, and only when that has
answered does it record the new one. Source: nova 34.0.0, compute/manager.py, _swap_volume and _do_swap_volume.

Rule 1: what Nova has recorded is the id that stays, alive or deleted; what is known of the connection is the other's.
Rule 2: of one server and one volume that is the attachment that was deleted last: from then on Nova is waiting for
    Cinder, and makes no other.
Rule 3: one transaction, so that there is one attachment at every moment.
"""

from __future__ import annotations

from typing import Any, Final

from cinder.db import api as db
from cinder.db import models

# What says how a server uses a volume.
_USE: Final = ("attached_host", "mountpoint", "attach_time", "attach_mode", "connection_info", "connector")


@db.main_context_manager.reader
def find_deleted(context: Any, volume_id: str, instance_id: str, known_id: str | None = None) -> str | None:
    """The id of the attachment of a server that was deleted last.

    Args:
        context: an administrator's.
        volume_id: of the volume.
        instance_id: of the server.
        known_id: that of the one that is wanted, if somebody knows it.

    Returns:
        None: there is none, or Cinder's database was purged.
    """
    each = models.VolumeAttachment
    query = context.session.query(each.id).filter_by(volume_id=volume_id, instance_uuid=instance_id, deleted=True)
    if known_id is not None:
        query = query.filter_by(id=known_id)
    # Databases may keep whole seconds; who is deleted last was made last.
    found = query.order_by(each.deleted_at.desc(), each.created_at.desc()).first()
    return found and str(found.id)


@db.main_context_manager.reader
def was_switched(context: Any, volume: Any, copy: Any) -> bool:
    """Whether nobody has a volume or its copy any more, and who had it went on with the copy before.

    Nova completes the attachment of the copy when the guest has switched. Cinder has the copy as in use from then on,
    also when that attachment goes. A guest that was started again on the file of before lost the volume's one last.
    Source: cinder 29.0.0, api/v3/attachments.py, complete; db/api.py, volume_detached; nova 34.0.0, compute/manager.py,
    _swap_volume and _delete_dangling_bdms, by which a reboot takes from both what only one of them knows.

    Args:
        context: an administrator's.
        volume: what was migrated.
        copy: what it was to become.
    """
    if volume.volume_attachment or copy.volume_attachment or copy.status != "in-use":
        return False
    each = models.VolumeAttachment
    query = context.session.query(each.volume_id).filter_by(deleted=True)
    deleted = query.filter(each.volume_id.in_((volume.id, copy.id)))
    last = deleted.order_by(each.deleted_at.desc(), (each.volume_id == copy.id).desc()).first()
    return last is not None and bool(last.volume_id == copy.id)


def find_replaced(context: Any, volume: Any, known_id: str | None = None) -> list[tuple[str, str]]:
    """The attachments that Nova knows and Cinder has deleted, where Cinder has completed a migration without Nova.

    Args:
        context: an administrator's.
        volume: what was migrated.
        known_id: the id of the attachment that Nova knows. That Nova did not get Cinder's answer Cinder cannot know.

    Returns:
        Each with the one that took its place.
    """
    given = {each.instance_uuid: each.id for each in volume.volume_attachment}
    strays = _find_strays(context, volume.id, volume.project_id)
    servers = strays.keys() - given if known_id is None else {**strays, **given}
    uses = {**strays, **given}
    deleted = [(find_deleted(context, volume.id, server, known_id), uses[server]) for server in sorted(servers)]
    return [(kept, gone) for kept, gone in deleted if kept is not None]


@db.main_context_manager.reader
def _find_strays(context: Any, volume_id: str, project_id: str) -> dict[str, str]:
    """The attachments, by server, that Cinder had no time to give to the volume from its copy.

    The copy is deleted then, or is about to be, and they with it, but as attached.
    Source: cinder 29.0.0, volume/manager.py, migrate_volume_completion; db/api.py, volume_destroy.
    """
    each, copy = models.VolumeAttachment, models.Volume
    query = context.session.query(each.instance_uuid, each.id).join(copy, copy.id == each.volume_id)
    found = query.filter(
        copy.display_description == f"migration src for {volume_id}",
        copy.project_id == project_id,
        each.instance_uuid.isnot(None),
        each.attach_status.notin_(("detached", "deleted")),
    )
    return {str(server): str(stray) for server, stray in found}


@db.main_context_manager.writer
def keep(context: Any, kept_id: str, gone_id: str, volume_id: str, *, has_switched: bool) -> None:
    """Have one attachment instead of two.

    Args:
        context: an administrator's.
        kept_id: which; it may be deleted.
        gone_id: the other one.
        volume_id: what is attached.
        has_switched: whether the server uses what the other one says.
    """
    find = context.session.get
    kept, gone = find(models.VolumeAttachment, kept_id), find(models.VolumeAttachment, gone_id)
    use = {name: gone[name] for name in _USE} if has_switched else {}
    alive = {"deleted": False, "deleted_at": None, "detach_time": None, "attach_status": "attached"}
    kept.update({**use, **alive, "volume_id": volume_id})
    kept.save(context.session)
    gone.delete(context.session)
