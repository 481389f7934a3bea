# SPDX-License-Identifier: Apache-2.0
"""Keeps files of volumes accessible to the service's own user while libvirt gives them to guests and back.

libvirt gives each file that a guest opens to the guests' user and group. Afterwards it gives back the active one only:
what is below a snapshot stays theirs. A service that is not root would lose it, where others have no rights to it
(measured: libvirt 9.0.0). An entry of its own in the file's access control list stays, whoever the owner is.

Rule 1: for files of the service's own user only; root needs no entry.
Rule 2: only on a share that has just answered.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Final

_NAME: Final = "system.posix_acl_access"
# Source: linux/posix_acl_xattr.h, posix_acl_xattr_header and _entry: little-endian version; tag, permissions, id.
_VERSION: Final = struct.pack("<I", 2)
_ENTRY: Final = struct.Struct("<HHI")
# Source: linux/posix_acl.h, e_tag.
_OWNER, _USER, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20
_NOBODY: Final = 0xFFFFFFFF
_READ_WRITE: Final = 6
# Of a file system that has no such lists. Source: acl(5); Lustre with `noacl`: EOPNOTSUPP.
_UNKNOWN: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL})


def keep(path: str, mode: int) -> bool:
    """Let this process's user read and write a file whoever it will belong to.

    Args:
        path: a file of this user; a symbolic link is not followed.
        mode: its permissions, which stay; those of its group are the most that the entry can give.

    Returns:
        Whether the file system can do that.

    Raises:
        OSError: of the file system.
    """
    try:
        os.setxattr(path, _NAME, render(mode, os.geteuid()), follow_symlinks=False)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        return False
    return True


def is_given_away(path: str) -> bool:
    """Whether a file belongs to another user than this process's."""
    return os.stat(path).st_uid != os.geteuid()


def render(mode: int, uid: int) -> bytes:
    """The list of a file that a user may read and write beside those whom its permissions name.

    Args:
        mode: permissions.
        uid: of the user.
    """
    owner, group, others = ((mode >> shift) & 7 for shift in (6, 3, 0))
    entries = (
        (_OWNER, owner, _NOBODY),
        (_USER, _READ_WRITE, uid),
        (_GROUP, group, _NOBODY),
        (_MASK, group, _NOBODY),
        (_OTHERS, others, _NOBODY),
    )
    return _VERSION + b"".join(_ENTRY.pack(*entry) for entry in entries)
