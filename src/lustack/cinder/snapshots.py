# SPDX-License-Identifier: Apache-2.0
"""The part of the driver that makes snapshots, deletes them, and goes back to them.

What a snapshot saw is frozen in one file; a new file on top of it takes what is written from then on (see `record`).

Rule 1: at every moment the record describes a chain that exists and that reads right, so that a kill between any two
    steps loses nothing: a file is recorded before a guest writes to it, and removed after nothing refers to it.
Rule 2: each operation may be asked for again after it was cut off, and then finishes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from cinder import compute, exception
from cinder.objects import fields
from cinder.objects import snapshot as snapshot_objects
from oslo_log import log as logging

from lustack.cinder import assisted, keys
from lustack.cinder.files import VolumeFiles
from lustack.cinder.images import Image
from lustack.cinder.linking import LinkingMixin
from lustack.cinder.record import SUFFIX

LOG = logging.getLogger(__name__)
_CREATABLE: Final = ("available", "in-use", "backing-up")
_DELETABLE: Final = ("available", "in-use", "backing-up", "deleting", "downloading")


class SnapshotMixin(LinkingMixin):
    """Makes and deletes snapshots; a part of `LustreDriver`."""

    # What the other parts of the driver provide.
    _nova: compute.API
    _ensure_share_mounted: Any
    _is_volume_attached: Any
    _validate_state: Any
    # How the database is read; Nova answers there.
    _look_at_snapshot: Any = staticmethod(snapshot_objects.Snapshot.get_by_id)

    def _create_snapshot(self, snapshot: Any) -> None:
        volume = snapshot.volume
        is_internal = (snapshot.display_name or "").startswith("tmp-snap-")
        self._validate_state(volume.status, (*_CREATABLE, "downloading") if is_internal else _CREATABLE)
        self._check_guests(volume)
        self._ensure_share_mounted(volume.provider_location)
        before = self._files(volume)
        name = f"{before.name}.{snapshot.id}"
        self._make_overlay(volume, before, name)
        if "base_format" not in volume.admin_metadata or not before.recorded.snapshots:
            self._set_formats(volume, base_format=before.bottom_format)
        after = self._write_record(before, before.recorded.with_snapshot(snapshot.id, name))
        if self._is_volume_attached(volume):
            self._switch_guest(snapshot, before, after)
        self._set_formats(volume, format="qcow2")

    def _check_guests(self, volume: Any) -> None:
        """Refuse what Nova cannot do.

        Raises:
            InvalidVolume: says why.
        """
        if not self._is_volume_attached(volume):
            return
        if volume.encryption_key_id is not None:
            # Nova does not tell libvirt the key of the new file, and libvirt refuses it.
            # Source: measured, libvirt 9.0.0; nova 34.0.0, virt/libvirt/driver.py, _volume_snapshot_create.
            reason = f"volume {volume.id} is encrypted: it has snapshots only while no guest uses it"
            raise exception.InvalidVolume(reason=reason)
        if len(volume.volume_attachment) > 1:
            raise exception.InvalidVolume(reason=f"volume {volume.id} is attached more than once: detach all but one")

    def _make_overlay(self, volume: Any, files: VolumeFiles, name: str, below: str | None = None) -> None:
        """Make an empty file on top of another one, the active one if none is named."""
        bottom = files.image(below or files.active)
        with keys.passphrase_file(volume.obj_context, volume.encryption_key_id) as key:
            overlay = Image(files.path(name), "qcow2", key)
            self._images.create_overlay(overlay, bottom, volume.size, keys.find_cipher(volume))
        self._set_rw_permissions(overlay.path)

    def _switch_guest(self, snapshot: Any, before: VolumeFiles, after: VolumeFiles) -> None:
        """Make the guest write to the new file; it is recorded already."""
        request = {"type": "qcow2", "new_file": after.active, "snapshot_id": snapshot.id}
        context = snapshot.obj_context
        # First: a guest may switch when nobody is left to tell, and one that has not may start with the new file, too.
        self._tell_nova(snapshot.volume, after)
        try:
            assisted.ask(
                lambda: self._nova.create_volume_snapshot(context, snapshot.volume_id, request),
                lambda: self._look_at_snapshot(context, snapshot.id),
                fields.SnapshotStatus.CREATING,
                assisted.CREATE_LIMIT_S,
            )
        except assisted.RefusedError:
            # An administrator can have changed the status while Nova was at work.
            if not self._images.is_written_to(after.image(after.active)):
                # The guest is as it was, so the record goes back before the file goes.
                self._tell_nova(snapshot.volume, before)
                self._write_record(before, before.recorded)
                self._images.remove([after.path(after.active)])
            raise

    def _tell_nova(self, volume: Any, files: VolumeFiles) -> None:
        """Record the file that Nova uses when it starts the guest again.

        Whatever an attachment says, Cinder shows it with the format of the volume, and Nova asks when it has merged,
        not when we are done. Never is a qcow2 file shown as raw: a guest would see, and write to, the container.
        Source: cinder 29.0.0, api/v3/attachments.py, show.
        """
        active = {"name": files.active, "format": files.find_format(files.active)}
        if active["format"] == "qcow2":
            self._set_formats(volume, format="qcow2")
        for attachment in volume.volume_attachment:
            attachment.connection_info = {**(attachment.connection_info or {}), **active}
            attachment.save()
        self._set_formats(volume, format=active["format"])

    def _delete_snapshot(self, snapshot: Any) -> None:
        volume = snapshot.volume
        self._validate_state(volume.status, _DELETABLE)
        self._ensure_share_mounted(volume.provider_location)
        files = self._files(volume)
        if snapshot.id not in files.recorded.snapshots:
            self._sweep(volume, files)
            return
        layers = self._find_layers(files, files.recorded.snapshots[snapshot.id])
        pulled = files.recorded.find_left_out([layer.name for layer in layers])
        if layers[0].backing is None:
            self._finish_pull(volume, files, snapshot.id)
        elif layers[0].name == files.active and pulled is not None:
            self._finish_pull_of(files, snapshot.id, pulled)
        elif self._is_shared(files.path(layers[0].backing)):
            # Another volume is made of what is below: nothing may be merged into it.
            self._write_record(files, files.recorded.with_kept(snapshot.id))
        elif self._is_volume_attached(volume):
            self._delete_online(snapshot, files, layers[0].name, layers[0].backing)
        else:
            self._delete_offline(snapshot, files, layers[0].name, layers[0].backing)

    def _sweep(self, volume: Any, files: VolumeFiles) -> None:
        """Remove what operations that were cut off left behind: files that neither the record nor the chain names.

        A file is recorded before a guest may write to it, so nothing that holds a guest's bytes is among them.
        """
        used = {layer.name for layer in self._find_layers(files, files.active)} | set(files.recorded.snapshots.values())
        present = self._list_own_files(files.directory, files.name)
        unused = [name for name in present if name not in used | {files.name + SUFFIX}]
        if unused:
            LOG.info("Files of volume %s that nothing refers to are removed: %s", volume.id, ", ".join(unused))
            self._images.remove([files.path(name) for name in unused])

    def _delete_offline(self, snapshot: Any, files: VolumeFiles, name: str, backing: str) -> None:
        """Merge the file of a snapshot into the one below; both chains read the same until the record is changed."""
        volume = snapshot.volume
        higher = self._find_higher(files, name)
        if higher is not None or name == files.active:
            with self._opened(volume, files, name) as image:
                self._images.commit(image)
                if higher is not None:
                    above = files.image(higher, image.key)
                    self._images.rebase(above, files.image(backing))
        active = backing if name == files.active else files.active
        after = self._write_record(files, files.recorded.without_snapshot(snapshot.id, active=active))
        self._set_formats(volume, format=after.find_format(active))
        self._images.remove([files.path(name)])

    def _find_higher(self, files: VolumeFiles, name: str) -> str | None:
        """The file that is backed by a file; None if it is on top, or if what was above it has been rebased."""
        layers = self._find_layers(files, files.active)
        return next((layer.name for layer in layers if layer.backing == name), None)

    def _delete_online(self, snapshot: Any, files: VolumeFiles, name: str, backing: str) -> None:
        """Let Nova merge files while a guest uses them."""
        if name == files.active and self._was_never_switched(files, name, backing):
            self._take_back(snapshot, files, backing)
            return
        # Its making may have been cut off.
        self._tell_nova(snapshot.volume, files)
        below_id = files.recorded.find_snapshot(backing)
        if name == files.active:
            # What is below is pulled up into the active file, which stays what the guest writes to.
            further = self._find_layers(files, backing)[0].backing if below_id is not None else None
            self._ask_to_merge(snapshot, file_to_merge=further, merge_target_file=None)
            if below_id is None:
                self._finish_pull(snapshot.volume, files, snapshot.id)
            else:
                self._finish_pull_of(files, snapshot.id, below_id)
            return
        if self._find_higher(files, name) is not None:  # else Nova has done that, and nobody was left to record it
            self._ask_to_merge(snapshot, file_to_merge=name, merge_target_file=backing)
        self._write_record(files, files.recorded.without_snapshot(snapshot.id))
        self._images.remove([files.path(name)])

    def _was_never_switched(self, files: VolumeFiles, name: str, backing: str) -> bool:
        """Whether a guest still writes to what is below a new file: the snapshot was cut off before Nova was asked.

        Only what a guest has open says so. Where it is switched off it has neither open, and starts with the new file.
        """
        is_used = self._images.is_written_to
        return not is_used(files.image(name)) and is_used(files.image(backing))

    def _take_back(self, snapshot: Any, files: VolumeFiles, backing: str) -> None:
        """Forget a file that nobody has written to, since the guest writes to the one below."""
        after = replace(files, record=files.recorded.without_snapshot(snapshot.id, active=backing))
        self._tell_nova(snapshot.volume, after)
        self._write_record(files, after.recorded)
        self._sweep(snapshot.volume, after)

    def _finish_pull(self, volume: Any, files: VolumeFiles, snapshot_id: str) -> None:
        """The oldest snapshot's file holds everything now: it is the bottom of the chain."""
        self._set_formats(volume, base_format="qcow2", format="qcow2")
        after = self._write_record(self._files(volume), files.recorded.without_snapshot(snapshot_id))
        self._sweep(volume, after)

    def _finish_pull_of(self, files: VolumeFiles, snapshot_id: str, below_id: str) -> None:
        """The latest snapshot's file holds what that of the one before held, and so begins with that one."""
        before = files.recorded.snapshots[below_id]
        self._write_record(files, files.recorded.with_file(below_id, files.active).without_snapshot(snapshot_id))
        self._images.remove([files.path(before)])

    def _ask_to_merge(self, snapshot: Any, **request: str | None) -> None:
        context = snapshot.obj_context
        whole = {**request, "type": "qcow2", "volume_id": snapshot.volume.id}
        # What Nova said when it made a snapshot that lives for a copy only, or to a deletion that was cut off, must not
        # be taken for its answer to this: files would be removed while it merges them.
        snapshot.progress = "0%"
        snapshot.save()
        assisted.ask(
            lambda: self._nova.delete_volume_snapshot(context, snapshot.id, whole),
            lambda: self._look_at_snapshot(context, snapshot.id),
            fields.SnapshotStatus.DELETING,
            assisted.DELETE_LIMIT_S,
        )

    def _revert_to_snapshot(self, context: Any, volume: Any, snapshot: Any) -> None:
        """Drop what was written since the latest snapshot."""
        self._validate_state(snapshot.volume.status, ("available", "reverting"))
        self._ensure_share_mounted(volume.provider_location)
        files = self._files(volume)
        name = files.recorded.snapshots.get(snapshot.id)
        backing = self._find_layers(files, name)[0].backing if name == files.active else None
        if backing is None:
            raise exception.InvalidSnapshot(
                f"volume {volume.id} cannot go back to snapshot {snapshot.id}: it is not the latest ({files.active})"
            )
        with self._replaced(volume, files, backing):
            pass

    @contextlib.contextmanager
    def _replaced(self, volume: Any, files: VolumeFiles, backing: str) -> Iterator[str]:
        """Put a new file in the place of the active one, in one step, when it holds what it is to hold.

        Args:
            volume: whose.
            files: of it.
            backing: what the new file is on top of.

        Yields:
            Its name until then; it is empty.
        """
        fresh = f"{files.active}.fresh"
        self._make_overlay(volume, files, fresh, backing)
        with contextlib.ExitStack() as undone:
            undone.callback(self._images.remove, [files.path(fresh)])
            yield fresh
            self._run("mv", "-f", "-T", files.path(fresh), files.path(files.active))
            undone.pop_all()
        # The record says what it said; written again, it makes the new name durable.
        self._write_record(files, files.recorded)
