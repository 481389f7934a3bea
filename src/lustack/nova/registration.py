# SPDX-License-Identifier: Apache-2.0
"""Makes nova-compute know the volume driver.

Nova's table of volume drivers is closed (nova 34 virt/libvirt/driver.py:181), but it is read each time a volume is
attached (:2172): who adds a row when the process starts has changed nothing of Nova's own files.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

PROTOCOL: Final = "lustre"
"""What connections are called (`driver_volume_type`), see lustack.brick.connector."""

DRIVER: Final = "lustack.nova.volume.LibvirtLustreVolumeDriver"


def register() -> None:
    """Add our driver to Nova's table unless somebody else has one of that name; may be called again."""
    # Not an import statement: the hook calls this while that module is being imported.
    import_module("nova.virt.libvirt.driver").VOLUME_DRIVERS.setdefault(PROTOCOL, DRIVER)
