# SPDX-License-Identifier: Apache-2.0
"""The volume driver of nova-compute for volumes that are files on a Lustre share.

    connect:     a mounted share that does not answer -> StaleVolumeMount
                 mount, counted under the volume's own name -> path of the active file
                 no such file, or another is written to by now: Cinder is asked, and that is written down for Nova
    disconnect:  a share that does not answer -> StaleVolumeMount
                 what a restart has counted under names of files is taken back too; the last one unmounts
                 not counted where Nova says: likewise

Rule 1: nothing here asks a mounted file system in the service's own thread; a child with a time limit does.
Rule 2: the format of a file is what Cinder has recorded, never what its bytes look like.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final

import nova.conf
from nova import exception
from nova.virt import block_device
from nova.virt.libvirt.volume import fs, mount
from oslo_log import log as logging

from lustack.brick.bounded import BoundedRunner
from lustack.brick.errors import BrickError, CommandError, NoAnswerError
from lustack.lustre import mounts
from lustack.nova import attachments, moved, opts

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
opts.register(CONF)

FSTYPE: Final = "lustre"

_MOUNTS: Final = "/proc/self/mounts"
_MISSING: Final = "No such file or directory"


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
            connection_info: what Cinder said; gets `device_path`, and another place if the volume has moved since.
            instance: the server that the volume is for.

        Raises:
            StaleVolumeMount: the share is mounted but does not answer.
            ProcessExecutionError: the share cannot be mounted.
            InvalidVolume: the file is not there or another is written to by now, and Cinder does not know better.
        """
        fault = self._mount(connection_info, instance)
        if fault:
            try:
                self._follow(connection_info, instance)
            except moved.UnknownPlaceError as error:
                raise exception.InvalidVolume(reason=_explain(fault, str(error))) from error
            path = self._get_device_path(connection_info)
            if self._mount(connection_info, instance, is_confirmed=True):
                why = f"Cinder says that it is {path}, which is not there"
                raise exception.InvalidVolume(reason=_explain(fault, why))
        data = connection_info["data"]
        if data.get("encrypted"):
            data.pop("device_path", None)
        else:
            data["device_path"] = self._get_device_path(connection_info)

    def disconnect_volume(self, connection_info: dict[str, Any], instance: Any, force: bool = False) -> bool:
        """Unmount the share of a volume if no other volume on this node needs it.

        Args:
            connection_info: what Cinder said; gets another place if the volume has moved since.
            instance: the server that the volume was for.
            force: Nova's; there is nothing to force.

        Returns:
            Whether the share is still in use.

        Raises:
            StaleVolumeMount: the share does not answer: it stays counted, to be asked for again. Nova would look at its
                mount point in the service's own thread, with a lock that all volumes on the share need.
        """
        self._check_answer(self._get_mount_path(connection_info))
        is_elsewhere = self._is_elsewhere(connection_info, instance)
        is_in_use = self._release(connection_info, instance)
        if is_elsewhere:
            try:
                if self._follow(connection_info, instance):
                    return self._release(connection_info, instance)
            except moved.UnknownPlaceError as error:
                LOG.warning("A mount of the volume may be left if it has moved: %s", error, instance=instance)
        return is_in_use

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

    def _mount(self, connection_info: dict[str, Any], instance: Any, *, is_confirmed: bool = False) -> str:
        """Mount and count; what is wrong with the file that Nova names. If something is, nothing is counted.

        Args:
            connection_info: what Cinder said.
            instance: the server that the volume is for.
            is_confirmed: Cinder has just said it again, so that it need only be there.
        """
        point = self._get_mount_path(connection_info)
        self._check_answer(point)
        export, options = connection_info["data"]["export"], self._mount_options(connection_info)
        mount.mount(self.fstype, export, _key(connection_info), point, instance, options)
        fault = "nothing was found out"
        try:
            fault = self._find_fault(connection_info, is_confirmed=is_confirmed)
        finally:
            if fault:
                self._release(connection_info, instance)
        return fault

    def _release(self, connection_info: dict[str, Any], instance: Any) -> bool:
        """Take back all that is counted for a volume where Nova says that it is; whether the share is still in use."""
        point, key = self._get_mount_path(connection_info), _key(connection_info)
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

    def _is_elsewhere(self, connection_info: dict[str, Any], instance: Any) -> bool:
        """Whether an instance has volumes, but this one is not counted where Nova says that it is."""
        with mount.get_manager().get_state() as state:
            counted = {point: frozenset(each.attachments) for point, each in list(state.mountpoints.items())}
        here = counted.get(self._get_mount_path(connection_info), frozenset())
        key = _key(connection_info)
        if (key, instance.uuid) in here or attachments.find_aliases(here, key, instance.uuid):
            return False
        return any(uuid == instance.uuid for names in counted.values() for _, uuid in names)

    def _follow(self, connection_info: dict[str, Any], instance: Any) -> bool:
        """Replace the place by the one that Cinder says; whether it is another.

        Raises:
            UnknownPlaceError: Cinder cannot be asked.
        """
        before = self._get_device_path(connection_info)
        data = moved.ask(connection_info, instance)
        after = self._get_device_path({"data": data})
        if after == before:
            return False
        LOG.info("The volume has moved from %s to %s.", before, after, instance=instance)
        # In place: Nova saves what it has handed over (nova 34 virt/libvirt/driver.py:6301).
        connection_info["data"].clear()
        connection_info["data"].update(data)
        return True

    def _find_fault(self, connection_info: dict[str, Any], *, is_confirmed: bool) -> str:
        """What is wrong with the file that Nova names.

        What cannot be told is left to QEMU, which may have other rights. A snapshot that was cut off can have left Nova
        with the file of before. What is written to is in the record beside the volume before a guest writes to it, see
        lustack.cinder.record.
        """
        point, path = self._get_mount_path(connection_info), self._get_device_path(connection_info)
        try:
            self._ask(point, ["env", "LC_ALL=C", "stat", "--format=%F", path])
        except CommandError as error:
            return f"{path} is not there" if _MISSING in error.message else ""
        if is_confirmed:
            return ""
        try:
            said = self._ask(point, ["cat", os.path.join(point, f"{_key(connection_info)}.info")])
            active = json.loads(said)["active"]
        except (CommandError, ValueError, LookupError, TypeError):
            return ""  # of a volume that has no record, or one that is damaged, which Cinder reports
        return "" if active == connection_info["data"]["name"] else f"{path} was written to before {active} was made"

    def _check_answer(self, point: str) -> None:
        with open(_MOUNTS, "rb") as lines:
            if not mounts.is_mount_point(lines, os.fsencode(point)):
                return
        try:
            self._ask(point, ["stat", "--file-system", "--format=%T", point])
        except CommandError as error:
            raise _stale(point, error) from error

    def _ask(self, point: str, command: list[str]) -> str:
        """What a command says that depends on a mount.

        Raises:
            CommandError: it failed.
            StaleVolumeMount: it has not ended in time.
        """
        try:
            return self._runner.run(command, key=point, limit_s=CONF.libvirt.lustre_answer_timeout)
        except NoAnswerError as error:
            raise _stale(point, error) from error


def _stale(point: str, error: BrickError) -> exception.StaleVolumeMount:
    return exception.StaleVolumeMount(f"{point} is mounted and cannot be used: {error}")


def _explain(fault: str, why: str) -> str:
    return (
        f"{fault}; {why}. Is the share the right one? If the volume was migrated, stop the server, then: "
        "nova-manage volume_attachment refresh SERVER VOLUME CONNECTOR"
    )


def _key(connection_info: dict[str, Any]) -> str:
    return attachments.key_of(connection_info["data"]["name"], block_device.get_volume_id(connection_info))
