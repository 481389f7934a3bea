# SPDX-License-Identifier: Apache-2.0
"""Which names an attachment of a volume may have been counted under.

Nova counts who uses a mount point by the name of the volume's active file (nova 34 virt/libvirt/volume/mount.py:167),
and that name changes with each online snapshot: the count of the old name is never taken back, and the share stays
mounted for ever. So ours are counted under a name that stays, the volume's; the names of files appear only when
nova-compute starts again and looks at the disks of running guests (mount.py:195-222).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def key_of(file_name: str, volume_id: str | None) -> str:
    """The name under which an attachment is counted: it stays the same while snapshots come and go.

    Args:
        file_name: of the volume's active file.
        volume_id: of the volume; None or empty: not known. A volume that was migrated while it was in use has files
            that are named after its copy; the first UUID is that copy's then.
    """
    if volume_id and volume_id in file_name:
        before, _, _ = file_name.partition(volume_id)
        return before + volume_id
    found = _UUID.search(file_name)
    return file_name[: found.end()] if found else file_name


def find_aliases(counted: Iterable[tuple[str, str]], key: str, instance_uuid: str) -> list[str]:
    """Other names under which the attachment of one volume to one instance is counted, in order.

    Args:
        counted: pairs of a name and the instance that it is counted for.
        key: the volume's, see `key_of`.
        instance_uuid: of the instance.
    """
    return sorted(name for name, uuid in counted if uuid == instance_uuid and name.startswith(f"{key}."))
