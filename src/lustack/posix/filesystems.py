# SPDX-License-Identifier: Apache-2.0
"""File systems that other machines can change, too: what this kernel reports of them is not everything.

Source of all numbers: linux/magic.h, statfs(2), and the headers of the file systems outside the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from lustack.posix.kernel import LUSTRE_SUPER_MAGIC, filesystem_type

SHARED: Final[Mapping[int, str]] = MappingProxyType(
    {
        LUSTRE_SUPER_MAGIC: "Lustre",
        0x6969: "NFS",
        0x517B: "SMB",
        0xFF534D42: "CIFS",
        0xFE534D42: "SMB",
        0x65735546: "FUSE",
        0x00C36400: "Ceph",
        0x5346414F: "AFS",
        0x01021997: "9P",
        0x47504653: "GPFS",
        0x19830326: "BeeGFS",
        0x7461636F: "OCFS2",
        0x01161970: "GFS2",
        0x20030528: "OrangeFS",
    }
)


def shared_name(path: str) -> str | None:
    """The name of the file system of a directory if other machines can change it, else None.

    Raises:
        OSError: there is no such directory.
    """
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return SHARED.get(filesystem_type(fd))
    finally:
        os.close(fd)
