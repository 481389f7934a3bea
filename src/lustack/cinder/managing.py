# SPDX-License-Identifier: Apache-2.0
"""The part of the driver that takes over files that exist, gives volumes back as files, and moves volumes.

Rule 1: only here is a format found out by looking, since nobody recorded it; Cinder's inspector looks, and what it
    thinks unsafe is refused. It is recorded at once.
Rule 2: what Cinder is told of a name is durable before.
Rule 3: a file stays when it did not become a volume in the end (see `removing`).
Rule 4: no file of a volume that Cinder has is taken from it. Cinder's own check of that expects a bare name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

from cinder import exception
from cinder.image import image_utils
from cinder.volume import volume_utils
from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_log import log as logging

from lustack.cinder.chains import MANAGED, ChainMixin
from lustack.cinder.errors import UnknownShareError
from lustack.cinder.files import VolumeFiles
from lustack.cinder.images import GIB
from lustack.cinder.shares import ConfiguredShare
from lustack.cinder.specs import PLACING, is_shared_type

LOG = logging.getLogger(__name__)


class ManagingMixin(ChainMixin):
    """Manages, unmanages and moves volumes; a part of `LustreDriver`."""

    # What the other parts of the driver provide.
    _known: dict[str, ConfiguredShare]
    _mounted_shares: list[str]
    _ensure_share_mounted: Any
    _find_recorded: Any
    _get_capacity_info: Any
    _is_volume_attached: Any
    _list_named: Any
    _spec: Any

    def _find_reference(self, reference: dict[str, str]) -> tuple[str, str]:
        """The share and the path of a file that an administrator names as `SHARE/NAME`.

        Raises:
            ManageExistingInvalidReference: there is no such file; says how one is named.
        """
        source = reference.get("source-name", "")
        for address in self._known:
            if source.startswith(address + "/"):
                self._ensure_share_mounted(address)
                path = os.path.join(self._get_mount_point_for_share(address), source[len(address) + 1 :])
                if "/" not in source[len(address) + 1 :] and self._is_plain_file(path):
                    return address, path
        reason = (
            f"`source-name` must be a share, a slash, and a file directly in it; the shares are {sorted(self._known)}"
        )
        raise exception.ManageExistingInvalidReference(existing_ref=reference, reason=reason)

    @staticmethod
    def _is_plain_file(path: str) -> bool:
        """Whether a path is a regular file; symbolic links are not followed."""
        try:
            return stat.S_ISREG(os.lstat(path).st_mode)
        except OSError:
            return False

    def _look_at(self, reference: dict[str, str], path: str) -> tuple[str, int]:
        """The format and the size, GiB, of a file that nobody recorded.

        Raises:
            ManageExistingInvalidReference: it cannot be a volume; says why.
        """
        try:
            found = image_utils.qemu_img_info(path, run_as_root=self._execute_as_root)
        except exception.Invalid as error:
            reason = f"it is no image that is safe to use: {error}"
            raise exception.ManageExistingInvalidReference(existing_ref=reference, reason=reason) from error
        if found.backing_file or found.file_format not in {"raw", "qcow2"}:
            reason = f"format {found.file_format}, backed by {found.backing_file}: only raw and qcow2 without are taken"
            raise exception.ManageExistingInvalidReference(existing_ref=reference, reason=reason)
        return found.file_format, -(-found.virtual_size // (1 << 30))

    def _manage_existing(self, volume: Any, reference: dict[str, str]) -> dict[str, str]:
        address, path = self._find_reference(reference)
        self._refuse_known(volume, address, os.path.basename(path))
        image_format, _ = self._look_at(reference, path)
        if volume.multiattach and image_format != "raw":
            raise exception.ManageExistingInvalidReference(
                existing_ref=reference, reason="multi-attach needs a raw file"
            )
        self._set_rw_permissions(path)
        self._set_formats(volume, is_new=True, format=image_format, **{MANAGED: volume.id})
        # Last, since from now on it is a volume.
        self._move(path, os.path.join(os.path.dirname(path), volume.name))
        return {"provider_location": address}

    def _refuse_known(self, volume: Any, address: str, name: str) -> None:
        """Refuse a file of a volume that Cinder has: the volume would lose it.

        Raises:
            ManageExistingAlreadyManaged: it is one.
        """
        context = volume.obj_context.elevated()
        name_ids = [volume_utils.extract_id_from_volume_name(start) for start in _list_starts(name)]
        owners = [each for name_id in name_ids if name_id for each in self._list_named(context, name_id)]
        if any(self._lies_on(address, each) for each in owners):
            raise exception.ManageExistingAlreadyManaged(volume_ref=name)

    def _lies_on(self, address: str, volume: Any) -> bool:
        try:
            return bool(self._find_recorded(volume) == address)
        except UnknownShareError:
            return False

    def _move(self, path: str, target: str) -> None:
        """Rename a file durably; nothing has the other name."""
        self._run("mv", "-n", "-T", path, target)
        self._sync_names(target)

    def _list_manageable(self, volumes: list[Any]) -> list[dict[str, Any]]:
        """What lies in the shares, and whether it can be managed."""
        known = {volume.name: volume for volume in volumes}
        found = []
        for address in self._mounted_shares:
            directory = self._get_mount_point_for_share(address)
            out, _ = self._run("find", directory, "-maxdepth", "1", "-type", "f", "-name", "*", "-printf", "%f\\n")
            for name in sorted(out.splitlines()):
                owner = next((known[start] for start in _list_starts(name) if start in known), None)
                if not name.startswith(".") and (owner is None or owner.name == name):
                    found.append(self._describe(address, os.path.join(directory, name), owner))
        return found

    def _describe(self, address: str, path: str, owner: Any | None) -> dict[str, Any]:
        reference = {"source-name": f"{address}/{os.path.basename(path)}"}
        size_gib, reason = 0, None
        if owner is not None:
            size_gib, reason = owner.size, "it is a volume already"
        else:
            try:
                _, size_gib = self._look_at(reference, path)
            except exception.ManageExistingInvalidReference as error:
                reason = str(error)
            except (OSError, processutils.ProcessExecutionError) as error:
                # Removed meanwhile, say: the others are listed. Cinder's inspector opens it before `qemu-img` does.
                reason = f"it cannot be looked at: {error}"
        return {
            "reference": reference,
            "size": size_gib,
            "safe_to_manage": reason is None,
            "reason_not_safe": reason,
            "cinder_id": owner.id if owner is not None else None,
            "extra_info": None,
        }

    def _unmanage(self, volume: Any) -> None:
        """Leave one plain file under the volume's name; asked again after it was cut off, it finishes.

        Raises:
            VolumeIsBusy: it has snapshots that Cinder has forgotten, and one file cannot hold them.
        """
        self._ensure_share_mounted(volume.provider_location)
        files = self._files(volume)
        if files.recorded.ids:
            # Cinder puts the volume back to `available` and says no more than that it is busy.
            LOG.error("Volume %s still has snapshots: manage and delete them first: %s", volume.id, files.record_path)
            raise exception.VolumeIsBusy(volume_name=volume.name)
        if files.record is not None:
            active, plain = files.path(files.active), files.path(files.name)
            # What is under another name takes the place of the bottom of the chain, and only once.
            if active != plain and (self._exists(active) or not self._exists(plain)):
                self._make_whole(volume, files)
                self._run("mv", "-f", "-T", active, plain)
            self._images.remove([files.record_path])
        self._sync_names(files.record_path)

    def _make_whole(self, volume: Any, files: VolumeFiles) -> None:
        """Write all that a guest sees into the active file."""
        with self._opened(volume, files, files.active) as image:
            if self._find_layers(files, files.active)[0].backing is not None:
                self._images.make_whole(image)

    def _update_migrated(self, volume: Any, new_volume: Any, original_status: str) -> dict[str, str | None]:
        """Give a copy that was made elsewhere the name of the volume that it replaces.

        Returns:
            What Cinder must record of the volume.
        """
        update = self._take_name(volume, new_volume, original_status)
        # Last, right before Cinder records where the volume is now: cut off before, it is what it was.
        self._swap_formats(volume, new_volume)
        return update

    def _take_name(self, volume: Any, new_volume: Any, original_status: str) -> dict[str, str | None]:
        location = new_volume.provider_location
        kept = {"_name_id": new_volume._name_id or new_volume.id, "provider_location": location}  # noqa: SLF001
        # In use, or on the same share, where the original still has its name: the copy keeps its own.
        if original_status != "available" or location == volume.provider_location:
            return kept
        directory = self._get_mount_point_for_share(location)
        name = cfg.CONF.volume_name_template % volume.id
        target = os.path.join(directory, name)
        if self._exists(target):
            return kept
        self._move(os.path.join(directory, new_volume.name), target)
        return {"_name_id": None, "provider_location": location}

    def _swap_formats(self, volume: Any, new_volume: Any) -> None:
        """Swap the formats of the two volumes, unless Cinder does it afterwards.

        Cinder swaps what it has loaded of the new volume, and a user's request has not loaded this.
        Source: cinder 29.0.0, objects/volume.py, finish_volume_migration.
        """
        if new_volume.obj_attr_is_set("admin_metadata"):
            return
        with volume.obj_as_admin(), new_volume.obj_as_admin():
            old, new = self._read_metadata(volume), self._read_metadata(new_volume)
            # The copy first: what the volume is stays known.
            for target, formats in ((new_volume, old), (volume, new)):
                rest = {key: value for key, value in target.admin_metadata.items() if "format" not in key}
                target.admin_metadata = rest | {
                    key: formats[key] for key in ("format", "base_format") if key in formats
                }
                target.save()

    def _retype_in_place(self, volume: Any, new_type: Any, diff: dict[str, Any]) -> bool:
        """Change what can be changed where the volume is; whether that was all."""
        changed = {key for key, (old, new) in (diff.get("extra_specs") or {}).items() if old != new}
        wanted = self._spec(volume, new_type.extra_specs or {})
        files = self._files(volume)
        # Where a file lies is decided when it is made.
        if changed & PLACING or wanted.image_format != files.bottom_format:
            return False
        if is_shared_type(new_type.extra_specs or {}) and files.recorded.is_layered_for_good:
            LOG.info("Volume %s shares a file with another one: only a copy of it can be multi-attached", volume.id)
            return False
        if wanted.is_thick and files.find_format(files.active) == "raw" and not self._is_volume_attached(volume):
            self._reserve(volume, files)
        return True

    def _reserve(self, volume: Any, files: VolumeFiles) -> None:
        """Reserve room for all of a raw file.

        Raises:
            InvalidVolume: there is not enough. To try it would take what there is from all others on the share.
        """
        image = files.image(files.active)
        out, _ = self._run("stat", "-c", "%b %B", image.path)
        blocks, block_bytes = map(int, out.split())
        more = volume.size * GIB - blocks * block_bytes
        if more > self._get_capacity_info(volume.provider_location)[1]:
            reason = f"volume {volume.id} needs {more >> 20} MiB more to be thick, and its share has not so much room"
            raise exception.InvalidVolume(reason=reason)
        self._images.resize(image, volume.size, is_thick=True)


def _list_starts(name: str) -> Iterator[str]:
    """The names that a volume may have whose file this is: up to each of its dots, and all of it."""
    return (name[:end] for end, character in enumerate(name + ".") if character == ".")
