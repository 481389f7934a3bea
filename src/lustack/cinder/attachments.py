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
def find_last_deleted(context: Any, volume_id: str, instance_id: str) -> str | None:
    """The id of the attachment of a server that was deleted last.

    Args:
        context: an administrator's.
        volume_id: of the volume.
        instance_id: of the server.

    Returns:
        None: there is none, or Cinder's database was purged.
    """
    each = models.VolumeAttachment
    query = context.session.query(each.id).filter_by(volume_id=volume_id, instance_uuid=instance_id, deleted=True)
    # Databases may keep whole seconds; who is deleted last was made last.
    found = query.order_by(each.deleted_at.desc(), each.created_at.desc()).first()
    return found and str(found.id)


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
