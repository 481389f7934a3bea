# SPDX-License-Identifier: Apache-2.0
"""The part of the driver that fills volumes: from other volumes, from snapshots, from images, and back to images.

Rule 1: the format of a copy is that of its own type, and is recorded; its size is its own, whatever the source's.
Rule 2: nothing is copied twice: a volume from a snapshot is not made first and then overwritten.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from cinder import exception
from cinder.image import image_utils
from cinder.objects import fields
from cinder.objects import snapshot as snapshot_objects
from cinder.volume import volume_utils

from lustack.cinder import copier, keys
from lustack.cinder.files import VolumeFiles
from lustack.cinder.images import GIB, Image, Layer
from lustack.cinder.snapshots import SnapshotMixin
from lustack.cinder.specs import VolumeSpec

_CLONABLE: Final = ("available", "in-use", "backing-up", "downloading")
_SNAPSHOT_USABLE: Final = ("available", "backing-up", "restoring")


class CopyMixin(SnapshotMixin):
    """Copies between volumes, snapshots and images; a part of `LustreDriver`."""

    # What the other parts of the driver provide.
    configuration: Any
    _find_share: Any
    _spec: Any
    local_path: Any
    # How a snapshot is made in the database.
    _new_snapshot: Any = snapshot_objects.Snapshot

    def _create_cloned_volume(self, volume: Any, src_vref: Any, context: Any) -> dict[str, str]:
        self._validate_state(src_vref.status, _CLONABLE, obj_description="source volume")
        self._ensure_share_mounted(src_vref.provider_location)
        if self._is_volume_attached(src_vref):
            with self._frozen(src_vref, volume, context) as snapshot:
                return self._create_from(volume, src_vref, self._find_frozen(snapshot), src_vref.size)
        return self._create_from(volume, src_vref, self._files(src_vref).active, src_vref.size)

    @contextlib.contextmanager
    def _frozen(self, source: Any, volume: Any, context: Any) -> Iterator[Any]:
        """A snapshot of a volume that a guest is writing to, for as long as it is copied.

        Of one that could not be made nothing stays, but where nobody knows what the guest writes to by now: that one is
        in `error`, for an administrator to delete.
        """
        snapshot = self._new_snapshot(
            context=context,
            volume_id=source.id,
            user_id=context.user_id,
            project_id=context.project_id,
            status=fields.SnapshotStatus.CREATING,
            progress="0%",
            volume_size=source.size,
            # How Cinder's own driver calls it. Source: cinder 29.0.0, remotefs.py, _create_cloned_volume.
            display_name=f"tmp-snap-{volume.id}",
            volume_type_id=source.volume_type_id,
            encryption_key_id=source.encryption_key_id,
        )
        snapshot.create()
        is_made = False
        try:
            self._create_snapshot(snapshot)
            is_made = True
            yield snapshot
        finally:
            is_over = is_made or snapshot.id not in self._files(source).recorded.snapshots
            snapshot.status = fields.SnapshotStatus.DELETING if is_over else fields.SnapshotStatus.ERROR
            snapshot.context = context.elevated()
            snapshot.save()
            if is_over:
                self._delete_snapshot(snapshot)
                snapshot.destroy()

    def _create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> dict[str, str]:
        self._validate_state(
            snapshot.status, _SNAPSHOT_USABLE, obj_description="snapshot", invalid_exc=exception.InvalidSnapshot
        )
        self._ensure_share_mounted(snapshot.volume.provider_location)
        name = self._find_frozen(snapshot)
        volume.provider_location = self._find_share(volume)
        if self._spec(volume).is_linked and self._try_to_link(volume, snapshot.volume, name):
            return {"provider_location": volume.provider_location}
        return self._create_from(volume, snapshot.volume, name, snapshot.volume_size)

    def _find_frozen(self, snapshot: Any) -> str:
        """The file that holds what a snapshot saw.

        Raises:
            InvalidSnapshot: nothing is recorded of it.
        """
        files = self._files(snapshot.volume)
        name = files.recorded.snapshots.get(snapshot.id)
        backing = self._find_layers(files, name)[0].backing if name else None
        if backing is None:
            raise exception.InvalidSnapshot(
                f"snapshot {snapshot.id} is not recorded with its volume: {files.record_path}"
            )
        return backing

    def _create_from(self, volume: Any, source: Any, name: str, copied_gib: int) -> dict[str, str]:
        """Make a volume with the bytes of another volume's file, which shows so many GiB."""
        volume.provider_location = self._find_share(volume)
        self._ensure_share_mounted(volume.provider_location)
        spec: VolumeSpec = self._spec(volume)
        path = self.local_path(volume)
        with (
            self._made_or_removed(volume),
            self._opened(source, self._files(source), name) as original,
            keys.passphrase_file(volume.obj_context, volume.encryption_key_id) as key,
        ):
            self._images.place(path, spec)
            copy = Image(path, spec.image_format, key)
            if original.image_format == copy.image_format == "raw":
                self._copy_raw(original, copy, volume.size, is_thick=spec.is_thick)
            else:
                self._convert(original, copy, volume, spec, copied_gib)
            self._set_formats(volume, is_new=True, format=spec.image_format)
        return {"provider_location": volume.provider_location}

    def _copy_raw(self, original: Image, copy: Image, size_gib: int, *, is_thick: bool) -> None:
        """Copy a file of bytes; it has its size and its permissions then, and is durable."""
        words = (original.path, copy.path, size_gib * GIB, self._mode)
        self._run(*copier.render_command(*words, is_for_root=self._execute_as_root))
        self._keep_access(copy.path)
        if is_thick:
            self._images.resize(copy, size_gib, is_thick=True)
            self._images.make_durable(copy.path)

    def _convert(self, original: Image, copy: Image, volume: Any, spec: VolumeSpec, copied_gib: int) -> None:
        """Copy what a guest sees into a file of another format, or of the same, if that is not raw."""
        self._images.copy(original, copy, keys.find_cipher(volume))
        if spec.is_thick or volume.size != copied_gib:
            self._images.resize(copy, volume.size, is_thick=spec.is_thick)
        self._images.make_durable(copy.path)
        self._set_rw_permissions(copy.path)

    def _copy_image_to_volume(
        self, context: Any, volume: Any, image_service: Any, image_id: str, *, disable_sparse: bool
    ) -> None:
        """Write an image of Glance into a volume, in the place of what it holds.

        Raises:
            ImageUnacceptable: it does not fit, or is not what it says.
        """
        with self._filling(volume, image_id) as files:
            if volume.encryption_key_id is not None:
                # It is encrypted with the passphrase of the volume already.
                with self._temporary(volume, "fetch") as temporary:
                    image_utils.fetch(context, image_service, image_id, temporary, None, None)
                    self._write_image(volume, files, temporary, "luks")
            elif not self._list_below(files):
                fetched = (files.path(files.active), files.find_format(files.active))
                self._fetch(context, volume, image_service, image_id, fetched, disable_sparse=disable_sparse)
            else:
                self._fetch_aside(context, volume, image_service, image_id, files)

    def _copy_image_to_encrypted_volume(
        self, context: Any, volume: Any, image_service: Any, image_id: str, *, disable_sparse: bool
    ) -> None:
        """Write an image that is not encrypted into an encrypted volume, in the place of what it holds.

        Raises:
            ImageUnacceptable: it does not fit, or is not what it says.
        """
        with self._filling(volume, image_id) as files:
            self._fetch_aside(context, volume, image_service, image_id, files)

    def _fetch_aside(self, context: Any, volume: Any, image_service: Any, image_id: str, files: VolumeFiles) -> None:
        """Write an image into a file that cannot be made anew by Cinder's own checks."""
        with self._temporary(volume, "fetch") as temporary:
            self._fetch(context, volume, image_service, image_id, (temporary, "raw"), disable_sparse=False)
            self._write_image(volume, files, temporary, "raw")

    def _list_below(self, files: VolumeFiles) -> list[Layer]:
        """The files that are below the active one.

        One that began with no snapshot is at the bottom, whatever it holds by now: when the writing of an image was cut
        off, it may not even begin as its format does.
        """
        if files.recorded.find_snapshot(files.active) is None:
            return []
        return self._find_layers(files, files.active)[1:]

    @contextlib.contextmanager
    def _filling(self, volume: Any, image_id: str) -> Iterator[VolumeFiles]:
        """The files of a volume, while an image is written into the active one.

        Raises:
            ImageUnacceptable: what was written cannot have the size of the volume.
        """
        self._ensure_share_mounted(volume.provider_location)
        files = self._files(volume)
        yield files
        spec: VolumeSpec = self._spec(volume)
        with self._opened(volume, files, files.active) as image:
            self._images.resize(image, volume.size, is_thick=spec.is_thick)
        size_bytes = self._find_layers(files, files.active)[0].size_bytes
        if size_bytes != volume.size * GIB:
            reason = f"the volume has {size_bytes} bytes instead of {volume.size} GiB"
            raise exception.ImageUnacceptable(image_id=image_id, reason=reason)
        self._set_rw_permissions(files.path(files.active))

    def _fetch(
        self,
        context: Any,
        volume: Any,
        image_service: Any,
        image_id: str,
        target: tuple[str, str],
        *,
        disable_sparse: bool,
    ) -> None:
        """Write an image to a path in a format, by Cinder's own checks."""
        with self._fetched(context, volume, image_service, image_id):
            image_utils.fetch_to_volume_format(
                context,
                image_service,
                image_id,
                *target,
                self.configuration.volume_dd_blocksize,
                size=volume.size,
                run_as_root=self._execute_as_root,
                disable_sparse=disable_sparse,
            )

    @staticmethod
    def _fetched(context: Any, volume: Any, image_service: Any, image_id: str) -> Any:
        """An image in a file that the service removes at its next start if it is killed; Cinder finds it there.

        Cinder does that itself for a volume that is made, but not for one that is given another image. Source: cinder
        29.0.0, flows/manager/create_volume.py, _create_from_image_cache_or_download; manager.py, reimage.
        """
        images = image_utils.TemporaryImages
        if images.for_image_service(image_service).get(context, image_id):
            return contextlib.nullcontext()
        backend = volume_utils.extract_host(volume.host)
        return images.fetch(image_service, context, image_id, suffix=f"_{backend}")

    def _write_image(self, volume: Any, files: VolumeFiles, path: str, image_format: str) -> None:
        """Write an image into the active file, encrypted if the volume is; what is below, snapshots have or share."""
        below = self._list_below(files)
        with keys.passphrase_file(volume.obj_context, volume.encryption_key_id) as key:
            source = Image(path, image_format, key if image_format == "luks" else None)
            if not below:
                self._images.copy(source, files.image(files.active, key), keys.find_cipher(volume))
                self._images.make_durable(files.path(files.active))
                return
            with self._replaced(volume, files, below[0].name) as fresh:
                target = Image(files.path(fresh), "qcow2", key, len(below))
                self._images.overwrite(source, target, volume.size)
                self._images.make_durable(target.path)

    def _erase(self, volume: Any) -> None:
        """Prepare a volume for Cinder, which copies only what is not zero into it; the rest would stay what it was.

        A raw file Cinder makes anew, what it sees of another one it cannot.

        Raises:
            InvalidVolume: it is encrypted, and Cinder has no way to what a guest sees of it.
        """
        if volume.encryption_key_id is not None:
            raise exception.InvalidVolume(f"volume {volume.id} is encrypted: a snapshot cannot be copied into it")
        self._ensure_share_mounted(volume.provider_location)
        files = self._files(volume)
        image = files.image(files.active)
        if image.image_format != "raw":
            self._images.erase(image, volume.size)

    @staticmethod
    def _temporary(volume: Any, what: str) -> Any:
        """A temporary file, named so that the service removes it at its next start if it is killed.

        Source: cinder 29.0.0, image_utils.py, cleanup_temporary_file.
        """
        backend = volume_utils.extract_host(volume.host)
        return image_utils.temporary_file(prefix=f"{volume.id}.{what}.", suffix=f"_{backend}")

    def _copy_volume_to_image(
        self, context: Any, volume: Any, image_service: Any, image_meta: dict[str, Any], store_id: str | None = None
    ) -> None:
        """Upload what a guest sees to Glance, in the format that was asked for."""
        self._ensure_share_mounted(volume.provider_location)
        files = self._files(volume)
        wanted = image_utils.fixup_disk_format(image_meta["disk_format"])
        if volume.encryption_key_id is not None:
            # Glance records which key it has; the bytes stay encrypted with it, as those of other drivers do.
            with self._temporary(volume, "upload") as temporary:
                with self._opened(volume, files, files.active) as image:
                    encrypted = Image(temporary, "luks", image.key)
                    self._images.copy(image, encrypted, keys.find_cipher(volume))
                self._upload(context, volume, image_service, image_meta, temporary)
            return
        is_plain = files.find_format(files.active) == "raw"
        if is_plain and wanted == "raw":
            self._upload(context, volume, image_service, image_meta, files.path(files.active))
            return
        image_utils.check_image_conversion_disable(image_meta["disk_format"], "raw", image_meta["id"], upload=True)
        with self._temporary(volume, "upload") as temporary:
            with self._opened(volume, files, files.active) as image:
                self._images.copy(image, Image(temporary, wanted))
            self._upload(context, volume, image_service, image_meta, temporary)

    def _upload(self, context: Any, volume: Any, image_service: Any, image_meta: dict[str, Any], path: str) -> None:
        volume_utils.upload_volume(
            context,
            image_service,
            image_meta,
            path,
            volume,
            volume_format=image_meta["disk_format"],
            run_as_root=self._execute_as_root,
        )
