# SPDX-License-Identifier: Apache-2.0
"""Volumes of Cinder as files on Lustre.

    cinder.conf:  volume_driver = lustack.cinder.driver.LustreDriver

Each share is a pool. A volume is a file in the root of its share, `volume-<id>`, raw or qcow2; with snapshots it is a
chain of files and a record (see `record`).

Rule 1: this class is what Cinder calls: locks, checks that the share answers, and the translation of errors. What is
    done is in the parts that it is made of: mounting, chains, snapshots, copies, managing, removing.
Rule 2: importing this module registers the connector of `lustack.brick`.
"""

from __future__ import annotations

import os
from typing import Any, Final

from cinder import coordination, exception, interface, utils
from cinder.volume import volume_utils
from cinder.volume.drivers import remotefs
from oslo_concurrency import processutils
from oslo_log import log as logging

from lustack.brick import connector
from lustack.brick.bounded import BoundedRunner
from lustack.brick.client import LustreClient
from lustack.cinder import keys, specs
from lustack.cinder.copies import CopyMixin
from lustack.cinder.faults import translated
from lustack.cinder.images import GIB, Image, Images
from lustack.cinder.managing import ManagingMixin
from lustack.cinder.managing_snapshots import SnapshotManagingMixin
from lustack.cinder.mounting import name_option
from lustack.cinder.opts import VOLUME_OPTS
from lustack.cinder.pools import PoolMixin
from lustack.cinder.removing import RemovalMixin
from lustack.cinder.shares import ConfiguredShare

LOG = logging.getLogger(__name__)
_LOCK: Final = "{self.driver_prefix}-{volume.id}"


@interface.volumedriver
class LustreDriver(
    PoolMixin, CopyMixin, ManagingMixin, SnapshotManagingMixin, RemovalMixin, remotefs.RemoteFSSnapDriverDistributed
):
    """Cinder's driver for volumes on Lustre.

    Version history:

        1.0.0 - the first.
    """

    VERSION = "1.0.0"
    # The wiki page of the project that tests it.
    CI_WIKI_NAME = "Lustack_CI"

    driver_volume_type = connector.PROTOCOL
    driver_prefix = "lustre"
    volume_backend_name = "Lustre"
    vendor_name = "lustack"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(VOLUME_OPTS)
        self.base = os.path.realpath(self.configuration.lustre_mount_point_base)
        root_helper = utils.get_root_helper()
        options = self.configuration.nas_mount_options or self.configuration.lustre_mount_options
        execute = kwargs.get("execute", processutils.execute)
        self._remotefsclient = LustreClient(root_helper, self.base, options, execute=execute)
        self._runner = BoundedRunner(root_helper)
        self._images = Images(self._run)
        self._supports_encryption = True
        self._secure_permissions = False
        self._mount_options = options
        self._init_mounting()

    @staticmethod
    def get_driver_options() -> list[Any]:
        """The options that the driver reads."""
        return [*VOLUME_OPTS, *remotefs.nas_opts]

    @translated
    def do_setup(self, context: Any) -> None:
        """Mount what is configured and see that it is fit for volumes.

        Raises:
            VolumeDriverException: no share can be used; says which option must change.
        """
        super().do_setup(context)
        self._check_programs()
        # Shares are tried as who will use them.
        self._execute_as_root = self.configuration.nas_secure_file_operations != "true"
        self._ensure_shares_mounted()
        if not self._mounted_shares:
            where = f"[{self.configuration.config_group}] {name_option(self.configuration)}"
            why = "; ".join(self._failing.values())
            raise exception.VolumeDriverException(message=f"{where}: no share can be used: {why}")
        self.set_nas_security_options(self._is_voldb_empty_at_startup)

    def set_nas_security_options(self, is_new_cinder_install: bool) -> None:  # noqa: FBT001 - Cinder's signature
        """Decide whether files are used as root, and by whom they may be used; the configuration decides.

        `auto` means true on a new installation, or where it was true before.
        """
        point = self._get_mount_point_for_share(self._mounted_shares[0])
        decided = {}
        for option in ("nas_secure_file_operations", "nas_secure_file_permissions"):
            value = getattr(self.configuration, option)
            decided[option] = self._determine_nas_security_option_setting(value, point, is_new_cinder_install) == "true"
        if self._execute_as_root == decided["nas_secure_file_operations"]:
            self._execute_as_root = not self._execute_as_root
            self._answered_s.clear()  # shares are tried anew
        self._secure_permissions = decided["nas_secure_file_permissions"]
        LOG.info(
            "Files are used as %s, by %s",
            "root" if self._execute_as_root else "the service's user",
            "owner and group" if self._secure_permissions else "everybody",
        )

    def secure_file_operations_enabled(self) -> bool:
        """Whether files are used as the service's own user rather than as root."""
        return not self._execute_as_root

    def _spec(self, volume: Any, extra_specs: dict[str, str] | None = None) -> specs.VolumeSpec:
        """How a volume is made, as its type, or the one that it is to get, and the configuration say."""
        # Whether several guests may use it Cinder writes down at some time in a retype, and not in the copy for it.
        # Source: cinder 29.0.0, volume/api.py, retype.
        is_shared = extra_specs is None and bool(volume.multiattach)
        if extra_specs is None:
            extra_specs = (volume.volume_type.extra_specs if volume.volume_type else None) or {}
        is_thick = self.configuration.nas_volume_prov_type == "thick"
        defaults = specs.Defaults(
            self.configuration.lustre_qcow2_volumes, self.configuration.lustre_sparsed_volumes and not is_thick
        )
        is_encrypted = volume.encryption_key_id is not None
        return specs.decide(extra_specs, defaults, is_encrypted=is_encrypted, is_shared=is_shared)

    # Life of a volume.

    @translated
    @coordination.synchronized(_LOCK)
    def create_volume(self, volume: Any) -> dict[str, str]:
        """Make an empty volume.

        Returns:
            What Cinder must record of it.
        """
        volume.provider_location = self._find_share(volume)
        self._ensure_share_mounted(volume.provider_location)
        spec = self._spec(volume)
        path = self.local_path(volume)
        with self._made_or_removed(volume):
            self._images.place(path, spec)
            with keys.passphrase_file(volume.obj_context, volume.encryption_key_id) as key:
                image = Image(path, spec.image_format, key)
                self._images.create(image, volume.size, is_thick=spec.is_thick, cipher=keys.find_cipher(volume))
            self._set_rw_permissions(path)
            self._set_formats(volume, is_new=True, format=spec.image_format)
        return {"provider_location": volume.provider_location}

    @translated
    @coordination.synchronized(_LOCK)
    def delete_volume(self, volume: Any) -> None:
        """Remove all files of a volume, recorded or not."""
        self._remove(volume)

    @translated
    @coordination.synchronized(_LOCK)
    def extend_volume(self, volume: Any, size_gb: int) -> None:
        """Make a volume larger.

        Of a volume that a guest uses, Nova makes the file larger, with the guest's disk, right after this.
        """
        self._ensure_share_mounted(volume.provider_location)
        self._check_room(volume, size_gb)
        if self._is_volume_attached(volume):
            if volume.encryption_key_id is not None:
                raise exception.ExtendVolumeError(f"volume {volume.id} is encrypted: detach it first")
            if len(volume.volume_attachment) > 1:
                raise exception.ExtendVolumeError(f"volume {volume.id} is attached more than once: detach all but one")
            return
        self._extend_file(volume, size_gb)

    def _extend_file(self, volume: Any, size_gb: int) -> None:
        files = self._files(volume)
        with self._opened(volume, files, files.active) as image:
            self._images.resize(image, size_gb, is_thick=self._spec(volume).is_thick)

    def _check_room(self, volume: Any, size_gb: int) -> None:
        """Refuse what can never fit.

        Raises:
            ExtendVolumeError: the share is too small.
        """
        total, free, _ = self._get_capacity_info(volume.provider_location)
        more = (size_gb - volume.size) * GIB
        limit = free if self._spec(volume).is_thick else total * self._oversubscription
        if more > limit:
            raise exception.ExtendVolumeError(f"{more // GIB} GiB more do not fit on {volume.provider_location}")

    @property
    def _oversubscription(self) -> float:
        ratio = self.configuration.max_over_subscription_ratio
        # `auto` is decided by the scheduler; the largest that it comes to.
        return 20.0 if ratio == "auto" else float(ratio)

    # Snapshots and copies: the base class locks and calls the parts.

    @translated
    def create_snapshot(self, snapshot: Any) -> None:
        """Freeze what a volume holds."""
        super().create_snapshot(snapshot)

    @translated
    def delete_snapshot(self, snapshot: Any) -> None:
        """Forget what a volume held."""
        super().delete_snapshot(snapshot)

    @translated
    def revert_to_snapshot(self, context: Any, volume: Any, snapshot: Any) -> None:
        """Go back to the latest snapshot."""
        super().revert_to_snapshot(context, volume, snapshot)

    @translated
    @coordination.synchronized("{self.driver_prefix}-{snapshot.volume.id}")
    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> dict[str, str]:
        """Make a volume that holds what a snapshot saw; no neighbour of it is merged meanwhile."""
        found: dict[str, str] = super().create_volume_from_snapshot(volume, snapshot)
        return found

    @translated
    def create_cloned_volume(self, volume: Any, src_vref: Any) -> dict[str, str]:
        """Make a volume that holds what another one holds."""
        found: dict[str, str] = super().create_cloned_volume(volume, src_vref)
        return found

    def _create_temp_volume_from_snapshot(self, context: Any, volume: Any, *words: Any, **options: Any) -> Any:
        """Make a volume of a snapshot: to back it up, or to copy it into a volume that gets another image.

        Source: cinder 29.0.0, volume/manager.py, _revert_to_snapshot_generic.
        """
        if volume.status == "downloading":
            self._begin_anew(volume)
        return super()._create_temp_volume_from_snapshot(context, volume, *words, **options)

    @translated
    @coordination.synchronized(_LOCK)
    def _begin_anew(self, volume: Any) -> None:
        self._erase(volume)

    @translated
    @coordination.synchronized(_LOCK)
    def copy_image_to_volume(
        self,
        context: Any,
        volume: Any,
        image_service: Any,
        image_id: str,
        disable_sparse: bool = False,  # noqa: FBT001, FBT002 - Cinder's signature
    ) -> None:
        """Fill a volume from an image."""
        self._copy_image_to_volume(context, volume, image_service, image_id, disable_sparse=disable_sparse)

    @translated
    @coordination.synchronized(_LOCK)
    def copy_image_to_encrypted_volume(
        self,
        context: Any,
        volume: Any,
        image_service: Any,
        image_id: str,
        disable_sparse: bool = False,  # noqa: FBT001, FBT002 - Cinder's signature
    ) -> None:
        """Fill an encrypted volume from an image that is not encrypted."""
        self._copy_image_to_encrypted_volume(context, volume, image_service, image_id, disable_sparse=disable_sparse)

    def _attach_volume(self, context: Any, volume: Any, properties: Any, remote: bool = False) -> Any:  # noqa: FBT001, FBT002 - Cinder's signature
        """Attach a volume to this host.

        Raises:
            RekeyNotSupported: it is encrypted, so there is no raw view of it. Cinder asks when it would give a clone a
                key of its own, and goes on without. Source: cinder 29.0.0, flows/manager/create_volume.py.
        """
        if volume.encryption_key_id is not None:
            raise exception.RekeyNotSupported
        return super()._attach_volume(context, volume, properties, remote)

    @translated
    def copy_volume_to_image(self, context: Any, volume: Any, image_service: Any, image_meta: dict[str, Any]) -> None:
        """Make an image of a volume."""
        super().copy_volume_to_image(context, volume, image_service, image_meta)

    # Connections.

    @translated
    @coordination.synchronized(_LOCK)
    def initialize_connection(self, volume: Any, connector: dict[str, Any]) -> dict[str, Any]:
        """What a host needs to use a volume.

        Raises:
            InvalidVolume: the file is larger than the volume, which only somebody who tampered with it can do; or it
                has snapshots and is attached already, or is encrypted.
        """
        self._ensure_share_mounted(volume.provider_location)
        files = self._files(volume)
        image_format = files.find_format(files.active)
        self._check_size(volume, files)
        self._check_keys(volume, files)
        if image_format != "raw" and self._is_volume_attached(volume) and volume.multiattach:
            raise exception.InvalidVolume(f"volume {volume.id} has snapshots, or is linked: only one guest may use it")
        self._set_formats(volume, format=image_format)
        share = self._find_configured(volume.provider_location)
        data = {"export": share.address, "name": files.active, "format": image_format, "options": self._flags(share)}
        return {"driver_volume_type": self.driver_volume_type, "data": data, "mount_point_base": self.base}

    def _flags(self, share: ConfiguredShare) -> str:
        options = f"-o {self._mount_options}" if self._mount_options else ""
        return f"{options} {share.flags}".strip()

    def _check_size(self, volume: Any, files: Any) -> None:
        size_bytes = self._find_layers(files, files.active)[0].size_bytes
        if size_bytes > volume.size * GIB:
            reason = f"{files.active} shows {size_bytes} bytes, more than its {volume.size} GiB: was it tampered with?"
            LOG.error("Volume %s: %s", volume.id, reason)
            raise exception.InvalidVolume(reason=reason)
        if size_bytes < volume.size * GIB and not self._is_volume_attached(volume):
            # It was extended while it was attached, and Nova did not get to it.
            LOG.info("Volume %s has %d bytes instead of %d GiB: extended", volume.id, size_bytes, volume.size)
            self._extend_file(volume, volume.size)

    def _check_keys(self, volume: Any, files: Any) -> None:
        if volume.encryption_key_id is not None and len(self._find_layers(files, files.active)) > 1:
            # Nova tells libvirt the key of the active file only, and libvirt starts no guest then.
            # Source: measured, libvirt 9.0.0; nova 34.0.0, virt/libvirt/config.py, LibvirtConfigGuestDisk.
            reason = f"volume {volume.id} is encrypted and has snapshots: delete them, or attach a volume made of one"
            raise exception.InvalidVolume(reason=reason)

    def ensure_export(self, ctx: Any, volume: Any) -> None:
        """Nothing but a word where it is due: an error would put a volume that a guest uses into `error`."""
        self._say_unless_configured(volume.provider_location)

    # Managing and moving.

    @translated
    def manage_existing(self, volume: Any, existing_ref: dict[str, str]) -> dict[str, str]:
        """Make a volume of a file."""
        return self._manage_existing(volume, existing_ref)

    @translated
    def manage_existing_get_size(self, volume: Any, existing_ref: dict[str, str]) -> int:
        """The size, GiB, of a file that is to become a volume; rounded up."""
        _, path = self._find_reference(existing_ref)
        return self._look_at(existing_ref, path)[1]

    @translated
    def get_manageable_volumes(
        self,
        cinder_volumes: list[Any],
        marker: str,
        limit: int,
        offset: int,
        sort_keys: list[str],
        sort_dirs: list[str],
    ) -> list[dict[str, Any]]:
        """The files that could be managed."""
        found: list[dict[str, Any]] = volume_utils.paginate_entries_list(
            self._list_manageable(cinder_volumes), marker, limit, offset, sort_keys, sort_dirs
        )
        return found

    @translated
    @coordination.synchronized(_LOCK)
    def unmanage(self, volume: Any) -> None:
        """Leave a volume behind as one file."""
        self._unmanage(volume)

    @translated
    def update_migrated_volume(
        self, ctxt: Any, volume: Any, new_volume: Any, original_volume_status: str
    ) -> dict[str, str | None]:
        """Put a copy in the place of the volume that it was made of."""
        return self._update_migrated(volume, new_volume, original_volume_status)

    @translated
    @coordination.synchronized(_LOCK)
    def retype(
        self, context: Any, volume: Any, new_type: dict[str, Any], diff: dict[str, Any], host: dict[str, Any]
    ) -> tuple[bool, dict[str, str]]:
        """Change a volume's type where it is, if that needs no copy.

        Returns:
            Whether it is done, and what Cinder must record.
        """
        self._ensure_share_mounted(volume.provider_location)
        is_here = host["host"] == volume.host
        return is_here and self._retype_in_place(volume, new_type, diff), {}
