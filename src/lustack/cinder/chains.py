# SPDX-License-Identifier: Apache-2.0
"""The part of the driver that knows the files of a volume: reading and writing its record, its format, its chain.

Rule 1: a record appears whole or not at all, and is durable before what it replaces is removed.
Rule 2: formats are recorded with the volume in Cinder: `format` of the active file (what Nova is told), and
    `base_format` of the bottom of the chain from the first snapshot on.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any, Final

from oslo_concurrency import processutils
from oslo_log import log as logging

from lustack.cinder import access, keys, record, recorder
from lustack.cinder.errors import UnknownFormatError
from lustack.cinder.files import VolumeFiles
from lustack.cinder.images import Image, Images, Layer
from lustack.cinder.looking import read_record
from lustack.cinder.record import is_own_file

LOG = logging.getLogger(__name__)
_FORMATS: Final = frozenset({"format", "base_format"})
MANAGED: Final = "managed"
"""What is recorded with a volume before a file that was there becomes its own: its id."""


class ChainMixin:
    """Reads and writes what is recorded of volumes; a part of `LustreDriver`."""

    # What the other parts of the driver provide.
    _execute: Any
    _execute_as_root: bool
    _images: Images
    _secure_permissions: bool
    _get_mount_point_for_share: Any
    _said_no_lists: bool = False

    def _run(self, *command: str, **options: Any) -> tuple[str, str]:
        """Run a command as the configuration says: as root, or as the service's own user."""
        out: tuple[str, str] = self._execute(*command, run_as_root=self._execute_as_root, **options)
        return out

    @property
    def _mode(self) -> int:
        """Who may use files: the service's user and group, or everybody (nas_secure_file_permissions)."""
        return 0o660 if self._secure_permissions else 0o666

    def _files(self, volume: Any) -> VolumeFiles:
        """What is known of a volume's files.

        Raises:
            CorruptRecordError: its record cannot be read.
            UnknownFormatError: nobody recorded its format.
        """
        directory = self._get_mount_point_for_share(volume.provider_location)
        found = self._read_record(os.path.join(directory, volume.name + record.SUFFIX), volume.name)
        with volume.obj_as_admin():
            metadata = self._read_metadata(volume)
        bottom_format = metadata.get("base_format") or metadata.get("format")
        if bottom_format is None:
            raise UnknownFormatError(volume.id)
        return VolumeFiles(directory, volume.name, found, bottom_format)

    def _read_record(self, path: str, volume_name: str) -> record.Record | None:
        try:
            return read_record(os.path.dirname(path), volume_name)
        except PermissionError:
            text, _ = self._run("dd", f"if={path}", "status=none")
            return record.parse(text, path, volume_name)

    def _write_record(self, files: VolumeFiles, new: record.Record) -> VolumeFiles:
        """Replace the record of a volume; returns the files as they are known now."""
        command = recorder.render_command(files.record_path, self._mode, is_for_root=self._execute_as_root)
        self._run(*command, process_input=new.render())
        return VolumeFiles(files.directory, files.name, new, files.bottom_format)

    def _sync_names(self, path: str) -> None:
        """Make durable that a file was renamed, or is gone."""
        self._run(*recorder.render_sync(path, is_for_root=self._execute_as_root))

    @staticmethod
    def _read_metadata(volume: Any) -> dict[str, str]:
        """What Cinder has recorded with a volume for administrators, one of whom must be asking.

        For a user it loads nothing and keeps that, so what was loaded counts only when it says a format.
        Source: cinder 29.0.0, objects/volume.py, obj_load_attr.
        """
        if "format" not in (volume.admin_metadata or {}):
            volume.obj_load_attr("admin_metadata")
        return dict(volume.admin_metadata)

    def _set_formats(self, volume: Any, *, is_new: bool = False, **formats: str) -> None:
        """Record formats with a volume: `format` of the active file, `base_format` of the bottom.

        Args:
            volume: whose.
            is_new: its file was just made. What is recorded already is another volume's: Cinder copies it to what a
                migration makes. Source: cinder 29.0.0, volume/manager.py, _migrate_volume_generic.
            formats: by their names; or what else is recorded with it.
        """
        with volume.obj_as_admin():
            known = self._read_metadata(volume)
            kept = {key: value for key, value in known.items() if not is_new or key not in _FORMATS}
            if kept | formats != known:
                volume.admin_metadata = kept | formats
                volume.save()

    def _find_layers(self, files: VolumeFiles, name: str) -> list[Layer]:
        return self._images.inspect(files.path(name), files.find_format(name), files.name)

    @contextlib.contextmanager
    def _opened(self, volume: Any, files: VolumeFiles, name: str) -> Iterator[Image]:
        """A file of a volume, with its passphrase for as long as it is needed."""
        with keys.passphrase_file(volume.obj_context, volume.encryption_key_id) as key:
            depth = len(self._find_layers(files, name)) - 1 if key else 0
            yield files.image(name, key, depth)

    def _list_own_files(self, directory: str, volume_name: str) -> list[str]:
        """The names of all files of a volume that exist, recorded or not; its share has just answered."""
        try:
            # Without a child: it takes longer to start one than to read a large directory.
            with os.scandir(directory) as entries:
                found = [
                    entry.name
                    for entry in entries
                    if is_own_file(entry.name, volume_name) and entry.is_file(follow_symlinks=False)
                ]
        except PermissionError:
            return self._list_as_root(directory, volume_name)
        return found

    def _list_as_root(self, directory: str, volume_name: str) -> list[str]:
        # Names of other volumes begin otherwise, and a pattern keeps the answer short.
        pattern = re.sub(r"([\[\]*?])", r"[\1]", volume_name)
        out, _ = self._run(
            "find", directory, "-maxdepth", "1", "-type", "f", "-name", f"{pattern}*", "-printf", "%f\\n"
        )
        return [name for name in out.splitlines() if is_own_file(name, volume_name)]

    def _set_rw_permissions(self, path: str) -> None:
        """Let those use a file who may: the service's user and group, or everybody (nas_secure_file_permissions)."""
        if not self._execute_as_root and access.is_given_away(path):
            return  # by libvirt to its guests, after this was done
        self._run("chmod", f"{self._mode:o}", path)
        self._keep_access(path)

    def _keep_access(self, path: str) -> None:
        """See that a file stays usable for the service when libvirt gives it to a guest."""
        if self._execute_as_root or not self._secure_permissions or access.keep(path, self._mode):
            return
        if not self._said_no_lists:
            self._said_no_lists = True
            LOG.warning(
                "%s: the file system has no access control lists: put user %d into the group of libvirt's guests "
                "(`group` in qemu.conf), or set nas_secure_file_operations = false",
                path,
                os.geteuid(),
            )

    def _exists(self, path: str) -> bool:
        try:
            self._run("stat", "-c", "%s", path)
        except processutils.ProcessExecutionError:
            return False
        return True
