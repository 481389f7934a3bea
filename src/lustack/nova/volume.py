# SPDX-License-Identifier: Apache-2.0
"""The volume driver of nova-compute for volumes that are files on a Lustre share.

    connect:     a mounted share that does not answer -> StaleVolumeMount
                 mount, counted under the volume's own name -> path of the active file
    disconnect:  what a restart has counted under names of files is taken back too; the last one unmounts

Rule 1: nothing here asks a mounted file system in the service's own thread; a child with a time limit does.
Rule 2: the format of a file is what Cinder has recorded, never what its bytes look like.
"""

from __future__ import annotations

import os
from typing import Any, Final

import nova.conf
from nova import exception
from nova.virt import block_device
from nova.virt.libvirt.volume import fs, mount

from lustack.brick.bounded import BoundedRunner
from lustack.brick.errors import BrickError
from lustack.lustre import mounts
from lustack.nova import attachments, opts

CONF = nova.conf.CONF
opts.register(CONF)

FSTYPE: Final = "lustre"

_MOUNTS: Final = "/proc/self/mounts"


class LibvirtLustreVolumeDriver(fs.LibvirtMountedFileSystemVolumeDriver):
    """Attaches files on a Lustre share to guests."""

    def __init__(self, host: Any, runner: BoundedRunner | None = None) -> None:
        """Remembers who asks.

        Args:
            host: Nova's, with the connection to libvirt.
            runner: runs commands with a time limit; None: the usual one.
        """
        super().__init__(host, FSTYPE)
        self._runner = BoundedRunner() if runner is None else runner

    def get_config(self, connection_info: dict[str, Any], disk_info: dict[str, Any]) -> Any:
        """The disk as libvirt is told about it.

        Args:
            connection_info: what Cinder said.
            disk_info: bus, type and name of the disk.

        Returns:
            A LibvirtConfigGuestDisk.
        """
        conf = super().get_config(connection_info, disk_info)
        conf.source_type = "file"
        conf.source_path = self._get_device_path(connection_info)
        conf.driver_format = connection_info["data"].get("format", "raw")
        if not CONF.libvirt.use_default_aio_mode_for_volumes:
            conf.driver_io = "native"
        return conf

    def connect_volume(self, connection_info: dict[str, Any], instance: Any) -> None:
        """Mount the share of a volume unless it is mounted, and say where the file is unless it is encrypted.

        Of a volume whose path it knows, Nova looks whether it begins with a LUKS header, and writes one over it if not.
        Ours is in a qcow2 file, which QEMU opens. Source: nova 34.0.0, libvirt/driver.py, _attach_encryptor.

        Args:
            connection_info: what Cinder said; gets `device_path`.
            instance: the server that the volume is for.

        Raises:
            StaleVolumeMount: the share is mounted but does not answer.
            ProcessExecutionError: the share cannot be mounted.
        """
        point = self._get_mount_path(connection_info)
        self._check_answer(point)
        data = connection_info["data"]
        mount.mount(
            self.fstype, data["export"], _key(connection_info), point, instance, self._mount_options(connection_info)
        )
        if data.get("encrypted"):
            data.pop("device_path", None)
        else:
            data["device_path"] = self._get_device_path(connection_info)

    def disconnect_volume(self, connection_info: dict[str, Any], instance: Any, force: bool = False) -> bool:
        """Unmount the share of a volume if no other volume on this node needs it.

        Args:
            connection_info: what Cinder said.
            instance: the server that the volume was for.
            force: Nova's; there is nothing to force.

        Returns:
            Whether the share is still in use.
        """
        point = self._get_mount_path(connection_info)
        key = _key(connection_info)
        with mount.get_manager().get_state() as state:
            known = state.mountpoints[point].attachments if point in state.mountpoints else ()
            aliases = attachments.find_aliases(known, key, instance.uuid)
            if aliases and (key, instance.uuid) not in known:
                # nova-compute was started again: only the files' names are counted. The volume's own name joins
                # them, so that the share is not unmounted before all of them are gone.
                state.mount(self.fstype, connection_info["data"]["export"], key, point, instance, [])
            for alias in aliases:
                state.umount(alias, point, instance)
            return bool(state.umount(key, point, instance))

    def extend_volume(self, connection_info: dict[str, Any], instance: Any, requested_size: int) -> int:
        """Say how large the disk becomes: libvirt grows the file itself (virDomainBlockResize).

        Args:
            connection_info: what Cinder said.
            instance: the server that uses the volume.
            requested_size: in bytes.

        Returns:
            Bytes.
        """
        return requested_size

    def _get_mount_point_base(self) -> str:
        return str(CONF.libvirt.lustre_mount_point_base)

    def _normalize_export(self, export: str) -> str:
        """What is mounted, without the servers' addresses: when these change, the mount point stays."""
        return mounts.parse_share(export).identity

    def _mount_options(self, connection_info: dict[str, Any]) -> list[str]:
        options: list[str] = []
        if CONF.libvirt.lustre_mount_options:
            options += ["-o", CONF.libvirt.lustre_mount_options]
        return options + (connection_info["data"].get("options") or "").split()

    def _check_answer(self, point: str) -> None:
        with open(_MOUNTS, "rb") as lines:
            if not mounts.is_mount_point(lines, os.fsencode(point)):
                return
        try:
            self._runner.run(
                ["stat", "--file-system", "--format=%T", point], key=point, limit_s=CONF.libvirt.lustre_answer_timeout
            )
        except BrickError as error:
            raise exception.StaleVolumeMount(f"{point} is mounted and cannot be used: {error}") from error


def _key(connection_info: dict[str, Any]) -> str:
    return attachments.key_of(connection_info["data"]["name"], block_device.get_volume_id(connection_info))
