# SPDX-License-Identifier: Apache-2.0
"""The connector that cinder-volume, cinder-backup and Glance use to reach the bytes of a volume.

Rule 1: the caller gets raw bytes, always. os-brick's own connector hands out the container file of a qcow2 volume, and
    a backup of that is worthless (measured on cinder 29 with its NFS driver); here it is shown through a raw view.
Rule 2: importing this module registers the connector; nothing else is needed and nothing is patched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from os_brick.initiator import connector as brick_connector
from os_brick.initiator.connectors import base
from os_brick.initiator.connectors import remotefs as remotefs_connector

from lustack.brick import rawview
from lustack.brick.client import LustreClient

PROTOCOL: Final = "lustre"
"""What connections are called (`driver_volume_type`)."""


# Where nobody said where: as Cinder's option has it by default. Glance is told by Cinder what to mount, and not where.
_default_base = "/var/lib/cinder/mnt"


class LustreConnector(remotefs_connector.RemoteFsConnector):
    """Mounts the share of a volume, and shows the volume as a file of raw bytes."""

    def __init__(
        self,
        root_helper: str,
        driver: object = None,
        execute: Callable[..., Any] | None = None,
        conn: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        mount_base = (conn or {}).get("mount_point_base") or rest.get("lustre_mount_point_base") or _default_base
        self._remotefsclient = LustreClient(
            root_helper, mount_base, rest.get("lustre_mount_options", ""), execute=execute
        )
        # The base class makes a client of its own, which knows no Lustre; its parent does the rest.
        base.BaseLinuxConnector.__init__(self, root_helper, driver=driver, execute=execute)
        self._views: dict[str, rawview.RawView] = {}

    def connect_volume(self, connection_properties: dict[str, Any]) -> dict[str, Any]:
        """Show a volume as a file of raw bytes.

        Args:
            connection_properties: `export` (the share), `name` (of the active file), `format` (raw or qcow2), and
                optionally `options` for mount.

        Returns:
            `path`: a file whose bytes are those of the guest; writing to it writes to the volume.

        Raises:
            MountError: the share cannot be mounted.
            RawViewError: a qcow2 volume cannot be shown.
        """
        image = self._get_volume_path(connection_properties)
        if connection_properties.get("format") != "qcow2":
            return {"path": image}
        view = rawview.open_view(image, self._root_helper)
        self._views[view.path] = view
        return {"path": view.path}

    def disconnect_volume(
        self,
        connection_properties: dict[str, Any],
        device_info: dict[str, Any] | None,
        force: bool = False,  # noqa: FBT001, FBT002 - os-brick's signature
        ignore_errors: bool = False,  # noqa: FBT001, FBT002 - os-brick's signature
    ) -> None:
        """Stop showing a volume; the share stays mounted.

        Raises:
            RawViewError: what was written did not reach the volume.
        """
        view = self._views.pop((device_info or {}).get("path", ""), None)
        if view is not None:
            view.close()

    def extend_volume(self, connection_properties: dict[str, Any]) -> int:
        """Say how long the raw bytes are: a file needs no rescan.

        Returns:
            The size in bytes.
        """
        image = self._get_volume_path(connection_properties)
        return rawview.measure(image, connection_properties.get("format") or "raw")


def set_mount_base(directory: str) -> None:
    """Mount below another directory, where the caller does not say where."""
    global _default_base  # noqa: PLW0603 - os-brick makes connectors, and passes on nothing of ours
    _default_base = directory


def register() -> None:
    """Make os-brick's factory know the connector on every architecture; may be called again."""
    name = f"{LustreConnector.__module__}.{LustreConnector.__qualname__}"
    for mapping in (
        brick_connector._connector_mapping_linux,  # noqa: SLF001 - there is no other way in
        brick_connector._connector_mapping_linux_s390x,  # noqa: SLF001
        brick_connector._connector_mapping_linux_ppc64,  # noqa: SLF001
    ):
        mapping.setdefault(PROTOCOL.upper(), name)


register()
