#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""Volumes as files on a Lustre file system."""

from __future__ import annotations

import contextlib
import json
import os
import typing
from typing import Any, Optional  # noqa: H301

from os_brick import exception as brick_exception
from os_brick.remotefs import remotefs as remotefs_brick
from oslo_concurrency import processutils as putils
from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import units

from cinder.common import constants
from cinder import context as cinder_context
from cinder import coordination
from cinder import exception
from cinder.i18n import _
from cinder.image import image_utils
from cinder import interface
from cinder import objects
from cinder.objects import fields
from cinder import utils
from cinder.volume import configuration
from cinder.volume.drivers import remotefs
from cinder.volume import volume_utils

if typing.TYPE_CHECKING:
    from oslo_utils import imageutils

LOG = logging.getLogger(__name__)

lustre_opts = [
    cfg.StrOpt('lustre_shares_config',
               default='/etc/cinder/lustre_shares',
               help='File with the list of shares that hold volumes, one in '
                    'a line: a Lustre file system or a directory in one, '
                    'such as 10.0.0.1@tcp:/scratch/volumes, optionally '
                    'followed by "-o" and mount options. Each share is a '
                    'pool. Not read when nas_host and nas_share_path are '
                    'set.'),
    cfg.BoolOpt('lustre_sparsed_volumes',
                default=True,
                help='Create volumes as sparse files, which take space when '
                     'they are written to. If set to False, the space of a '
                     'volume is allocated when it is created.'),
    cfg.BoolOpt('lustre_qcow2_volumes',
                default=False,
                help='Create volumes as QCOW2 files rather than raw files.'),
    cfg.StrOpt('lustre_mount_point_base',
               default='$state_path/mnt',
               help='Base dir containing mount points for Lustre shares.'),
    cfg.StrOpt('lustre_mount_options',
               default='flock',
               help='Mount options passed to the Lustre client. See the '
                    'mount.lustre(8) man page for details. QEMU locks the '
                    'files that it uses, which needs "flock".'),
    cfg.IntOpt('lustre_mount_attempts',
               min=1,
               default=3,
               help='The number of attempts to mount a Lustre share before '
                    'it counts as failed.'),
]

CONF = cfg.CONF
CONF.register_opts(lustre_opts, group=configuration.SHARED_CONF_GROUP)


@interface.volumedriver
class LustreDriver(remotefs.RemoteFSPoolMixin,
                   remotefs.RevertToSnapshotMixin,
                   remotefs.RemoteFSManageableVolumesMixin,
                   remotefs.RemoteFSSnapDriverDistributed):
    """Cinder driver for volumes that are files on Lustre.

    A share is a directory of a Lustre file system that holds nothing else,
    and is a pool.  The format of a file is what is recorded with the volume,
    never what its bytes look like: a guest decides the bytes of a raw volume.
    A file that began with a snapshot is qcow2; the file at the bottom of a
    chain has the format that was recorded when it was made.

    .. code-block:: none

      Version history:

        1.0.0 - Initial driver.
    """

    VERSION = '1.0.0'
    CI_WIKI_NAME = 'Lustack_CI'

    driver_volume_type = 'lustre'
    driver_prefix = 'lustre'
    volume_backend_name = 'Lustre'
    vendor_name = 'Open Source'
    _thin_provisioning_support = True
    _thick_provisioning_support = True

    def __init__(self, execute=putils.execute, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(lustre_opts)
        self.base = os.path.realpath(
            self.configuration.lustre_mount_point_base)
        self._mount_options = (self.configuration.nas_mount_options or
                               self.configuration.lustre_mount_options)
        self._remotefsclient = remotefs_brick.LustreRemoteFsClient(
            'lustre', utils.get_root_helper(), execute=execute,
            lustre_mount_point_base=self.base,
            lustre_mount_options=self._mount_options)
        self._sparse_copy_volume_data = True

    @staticmethod
    def get_driver_options() -> list:
        return lustre_opts + remotefs.nas_opts

    def do_setup(self, context: cinder_context.RequestContext) -> None:
        """Any initialization the volume driver does while starting."""
        super().do_setup(context)
        if not all((self.configuration.nas_host,
                    self.configuration.nas_share_path)):
            config = self.configuration.lustre_shares_config
            if not os.path.exists(config):
                raise exception.InvalidConfigurationValue(
                    option='lustre_shares_config', value=config)
        self._ensure_shares_mounted()
        if not self._mounted_shares:
            raise exception.VolumeDriverException(
                message=_('No Lustre share could be mounted.'))
        self.set_nas_security_options(self._is_voldb_empty_at_startup)

    def set_nas_security_options(self, is_new_cinder_install: bool) -> None:
        """Determine the setting to use for Secure NAS options."""
        mount_point = self._get_mount_point_for_share(self._mounted_shares[0])
        for option in ('nas_secure_file_permissions',
                       'nas_secure_file_operations'):
            value = self._determine_nas_security_option_setting(
                getattr(self.configuration, option), mount_point,
                is_new_cinder_install)
            setattr(self.configuration, option, value)
            LOG.debug('NAS option %(option)s is: %(value)s',
                      {'option': option, 'value': value})
        self._execute_as_root = not self.secure_file_operations_enabled()

    # Shares

    def _ensure_share_mounted(self, share: str) -> None:
        flags = (self.shares.get(share) or '').split()

        @utils.retry((brick_exception.BrickException,
                      putils.ProcessExecutionError),
                     retries=self.configuration.lustre_mount_attempts)
        def mount():
            self._remotefsclient.mount(share, flags)

        mount()

    def _get_pool_name_from_share(self, share: str) -> str:
        # What is mounted, without the addresses of the servers.
        parts = share.rpartition(':/')[2].split('/')
        return '/'.join(part for part in parts if part)

    def _get_share_from_pool_name(self, pool_name: Optional[str]) -> str:
        for share in self.shares:
            if self._get_pool_name_from_share(share) == pool_name:
                return share
        raise exception.VolumeDriverException(
            message=_('There is no Lustre share for pool %s.') % pool_name)

    def get_pool(self, volume: objects.Volume) -> Optional[str]:
        """Return the pool that a volume lies in."""
        share = volume.provider_location
        return self._get_pool_name_from_share(share) if share else None

    def _get_capacity_info(self, share: str) -> tuple[float, float, float]:
        mount_point = self._get_mount_point_for_share(share)
        out, _err = self._execute('stat', '-f', '-c', '%S %b %a', mount_point,
                                  run_as_root=self._execute_as_root)
        block_size, total, available = (float(word) for word in out.split())
        return (block_size * total, block_size * available,
                block_size * (total - available))

    def _update_volume_stats(self) -> None:
        """Retrieve stats of each share."""
        super()._update_volume_stats()
        self._stats['storage_protocol'] = constants.LUSTRE
        self._stats['sparse_copy_volume'] = True
        for pool in self._stats['pools']:
            # How much is provisioned is left to the scheduler, which adds up
            # the sizes of the volumes.  The file system only knows what has
            # been written to them.
            del pool['provisioned_capacity_gb']
            pool['multiattach'] = False
            pool['online_extend_support'] = True

    # Files and their formats

    @staticmethod
    def _get_admin_metadata(volume: objects.Volume) -> dict[str, str]:
        """Return what is recorded with a volume for administrators.

        A volume that was loaded for a user came with none of it.
        """
        with volume.obj_as_admin():
            if 'format' not in (volume.admin_metadata or {}):
                volume.obj_load_attr('admin_metadata')
            return dict(volume.admin_metadata)

    def _get_base_format(self, volume: objects.Volume) -> str:
        """Return the format of the file at the bottom of a volume's chain."""
        metadata = self._get_admin_metadata(volume)
        found = metadata.get('base_format') or metadata.get('format')
        if found is None:
            raise exception.InvalidVolume(
                reason=_('The format of volume %s is not recorded.')
                % volume.id)
        return found

    def _get_format(self, volume: objects.Volume, name: str) -> str:
        """Return the format of one of a volume's files."""
        if name != volume.name:
            return 'qcow2'
        return self._get_base_format(volume)

    def _set_format(self, volume: objects.Volume, image_format: str) -> None:
        metadata = self._get_admin_metadata(volume)
        if metadata.get('format') != image_format:
            with volume.obj_as_admin():
                volume.admin_metadata = dict(metadata, format=image_format)
                volume.save()

    def _qemu_img_info(self,
                       path: str,
                       volume_name: Optional[str],
                       img_format: Optional[str] = None) -> (
                           imageutils.QemuImgInfo):
        if img_format is None and volume_name not in (
                None, os.path.basename(path)):
            img_format = 'qcow2'
        return self._qemu_img_info_base(
            path, volume_name, self.base, force_share=True,
            run_as_root=self._execute_as_root, img_format=img_format)

    def _get_info(self, volume: objects.Volume,
                  name: str) -> imageutils.QemuImgInfo:
        """Return what qemu-img says about one of a volume's files."""
        path = os.path.join(self._local_volume_dir(volume), name)
        return self._qemu_img_info(path, volume.name,
                                   img_format=self._get_format(volume, name))

    def _get_backing_chain_for_path(self, volume: objects.Volume,
                                    path: str) -> list[dict]:
        chain = []
        name: Optional[str] = os.path.basename(path)
        while name:
            backing_file = self._get_info(volume, name).backing_file
            chain.append({'filename': name, 'backing-filename': backing_file})
            name = backing_file
        return chain

    def _write_info_file(self, info_path: str, snap_info: dict) -> None:
        """Write the record of snapshots: whole, or not at all."""
        if 'active' not in snap_info:
            raise exception.RemoteFSException(
                _("'active' must be present when writing snap_info."))
        temporary = info_path + '.new'
        self._execute('dd', 'of=' + temporary, 'conv=fsync', 'status=none',
                      process_input=json.dumps(snap_info, indent=1,
                                               sort_keys=True),
                      run_as_root=self._execute_as_root)
        self._set_rw_permissions(temporary)
        self._execute('mv', '-f', '-T', temporary, info_path,
                      run_as_root=self._execute_as_root)

    def _create_regular_file(self, path: str, size: int) -> None:
        """Create a file with all of its space allocated, size in GiB."""
        self._execute('fallocate', '-l', '%sG' % size, path,
                      run_as_root=self._execute_as_root)

    def _resize(self, path: str, image_format: str, size: int) -> None:
        image_utils.resize_image(path, size,
                                 run_as_root=self._execute_as_root,
                                 file_format=image_format)
        if image_format == 'raw' and (
                not self.configuration.lustre_sparsed_volumes):
            self._create_regular_file(path, size)

    # Volumes

    @coordination.synchronized('{self.driver_prefix}-{volume.id}')
    def create_volume(self, volume: objects.Volume) -> dict:
        """Create a volume."""
        return super().create_volume(volume)

    @coordination.synchronized('{self.driver_prefix}-{volume.id}')
    def delete_volume(self, volume: objects.Volume) -> None:
        """Delete all files of a volume."""
        if not volume.provider_location:
            LOG.warning('Volume %s does not have provider_location '
                        'specified, skipping', volume.name)
            return
        self._ensure_share_mounted(volume.provider_location)
        active_file = self._local_path_active_image(volume)
        self._delete(active_file)
        # After an online deletion of its oldest snapshot a volume's active
        # file is not the one that it began with.
        if active_file != self.local_path(volume):
            self._delete(self.local_path(volume))
        self._delete(self._local_path_volume_info(volume))

    def _extend_volume(self, volume: objects.Volume, size_gb: int) -> None:
        self._ensure_share_mounted(volume.provider_location)
        if self._is_volume_attached(volume):
            if len(volume.volume_attachment) > 1:
                raise exception.ExtendVolumeError(
                    reason=_('Volume %s is attached more than once.')
                    % volume.id)
            # Nova resizes the file together with the disk of the guest.
            return
        name = self.get_active_image_from_info(volume)
        self._resize(os.path.join(self._local_volume_dir(volume), name),
                     self._get_format(volume, name), size_gb)

    @coordination.synchronized('{self.driver_prefix}-{volume.id}')
    def initialize_connection(self,
                              volume: objects.Volume,
                              connector: dict) -> dict:
        """Return what a host needs to use a volume."""
        self._ensure_share_mounted(volume.provider_location)
        name = self.get_active_image_from_info(volume)
        image_format = self._get_format(volume, name)
        virtual_size = self._get_info(volume, name).virtual_size
        # A guest can write a larger size into the header of its image.
        if virtual_size > volume.size * units.Gi:
            LOG.error('The file %(name)s has %(found)s bytes, which is more '
                      'than the %(size)s GiB of its volume: aborting as we '
                      'suspect an exploit.',
                      {'name': name, 'found': virtual_size,
                       'size': volume.size})
            raise exception.InvalidVolume(
                reason=_('The virtual size does not match the size in '
                         'cinder, aborting as we suspect an exploit.'))
        if (virtual_size < volume.size * units.Gi and
                not self._is_volume_attached(volume)):
            # It was extended while it was attached, and nova did not get to
            # the file.
            self._extend_volume(volume, volume.size)
        data = {'export': volume.provider_location,
                'name': name,
                'format': image_format}
        flags = ['-o ' + self._mount_options] if self._mount_options else []
        if self.shares.get(volume.provider_location):
            flags.append(self.shares[volume.provider_location])
        if flags:
            data['options'] = ' '.join(flags)
        return {
            'driver_volume_type': self.driver_volume_type,
            'data': data,
            'mount_point_base': self.base,
        }

    # Snapshots: the base class makes and deletes them

    def _do_create_snapshot(self,
                            snapshot: objects.Snapshot,
                            backing_filename: str,
                            new_snap_path: str) -> None:
        """Create a qcow2 file backed by another file of the volume."""
        volume = snapshot.volume
        # -u: a guest may have the backing file open.
        self._execute('qemu-img', 'create', '-f', 'qcow2', '-u',
                      '-b', backing_filename,
                      '-F', self._get_format(volume, backing_filename),
                      new_snap_path, '%dG' % volume.size,
                      run_as_root=self._execute_as_root)
        self._set_rw_permissions(new_snap_path)

    def _delete_snapshot(self, snapshot: objects.Snapshot) -> None:
        volume = snapshot.volume
        self._validate_state(volume.status,
                             ['available', 'in-use', 'backing-up',
                              'deleting', 'downloading'])
        self._ensure_share_mounted(volume.provider_location)
        snap_info = self._read_info_file(
            self._local_path_volume_info(volume), empty_if_missing=True)
        if snapshot.id not in snap_info:
            LOG.info('Snapshot %s is not recorded: nothing to delete.',
                     snapshot.id)
            return
        snapshot_file = snap_info[snapshot.id]
        base_file = self._get_info(volume, snapshot_file).backing_file
        if base_file is None:
            return self._delete_stale_snapshot(snapshot)
        base_id = next((key for key, name in snap_info.items()
                        if name == base_file and key != 'active'), None)
        if not self._is_volume_attached(volume):
            return self._delete_snapshot_offline(snapshot, snap_info,
                                                 base_file)
        # What nova said when it made the snapshot, or before a deletion was
        # cut off, is no answer to this.
        snapshot.progress = '0%'
        snapshot.save()
        self._delete_snapshot_online(snapshot.obj_context, snapshot, {
            'active_file': snap_info['active'],
            'snapshot_file': snapshot_file,
            'base_file': base_file,
            'base_id': base_id,
            'new_base_file': self._get_info(volume, base_file).backing_file,
        })

    def _delete_snapshot_offline(self,
                                 snapshot: objects.Snapshot,
                                 snap_info: dict,
                                 base_file: str) -> None:
        """Merge the file of a snapshot into the one below.

        Both chains read the same until the record is changed, and the merged
        file is deleted last: whatever is interrupted can be asked for again.
        """
        volume = snapshot.volume
        vol_dir = self._local_volume_dir(volume)
        snapshot_file = snap_info.pop(snapshot.id)
        is_active = snapshot_file == snap_info['active']
        chain = self._get_backing_chain_for_path(
            volume, os.path.join(vol_dir, snap_info['active']))
        higher_file = next((layer['filename'] for layer in chain
                            if layer['backing-filename'] == snapshot_file),
                           None)
        if is_active or higher_file:
            self._execute('qemu-img', 'commit', '-d', '-f', 'qcow2',
                          os.path.join(vol_dir, snapshot_file),
                          run_as_root=self._execute_as_root)
        if higher_file:
            self._rebase_img(os.path.join(vol_dir, higher_file), base_file,
                             self._get_format(volume, base_file))
        if is_active:
            snap_info['active'] = base_file
        self._write_info_file(self._local_path_volume_info(volume), snap_info)
        self._set_format(volume, self._get_format(volume,
                                                  snap_info['active']))
        self._delete(os.path.join(vol_dir, snapshot_file))

    # Copies

    @contextlib.contextmanager
    def _temporary_snapshot(self, volume: objects.Volume,
                            reason_id: str,
                            context: cinder_context.RequestContext):
        """Freeze a volume that a guest is writing to."""
        snapshot = objects.Snapshot(
            context=context,
            volume_id=volume.id,
            user_id=context.user_id,
            project_id=context.project_id,
            status=fields.SnapshotStatus.CREATING,
            progress='0%',
            volume_size=volume.size,
            display_name='tmp-snap-%s' % reason_id,
            display_description=None,
            volume_type_id=volume.volume_type_id,
            encryption_key_id=volume.encryption_key_id)
        snapshot.create()
        self._create_snapshot(snapshot)
        try:
            yield snapshot
        finally:
            snapshot.status = fields.SnapshotStatus.DELETING
            snapshot.context = context.elevated()
            snapshot.save()
            self._delete_snapshot(snapshot)
            snapshot.destroy()

    def _get_frozen_file(self, snapshot: objects.Snapshot) -> str:
        """Return the name of the file that holds what a snapshot saw."""
        snap_info = self._read_info_file(
            self._local_path_volume_info(snapshot.volume))
        return self._get_info(snapshot.volume,
                              snap_info[snapshot.id]).backing_file

    def _copy_file(self, volume: objects.Volume,
                   src_volume: objects.Volume, src_name: str) -> dict:
        """Create a volume from a file of another one."""
        volume.provider_location = self._find_share(volume)
        self._ensure_share_mounted(volume.provider_location)
        path = self.local_path(volume)
        image_format = 'raw'
        # Backups read the bytes of temporary volumes as they are.
        if self.configuration.lustre_qcow2_volumes and not (
                self._is_temporary(volume)):
            image_format = 'qcow2'
        image_utils.convert_image(
            os.path.join(self._local_volume_dir(src_volume), src_name), path,
            image_format, src_format=self._get_format(src_volume, src_name),
            data=self._get_info(src_volume, src_name),
            run_as_root=self._execute_as_root)
        self._resize(path, image_format, volume.size)
        self._set_rw_permissions(path)
        self._set_format(volume, image_format)
        return {'provider_location': volume.provider_location}

    @staticmethod
    def _is_temporary(volume: objects.Volume) -> bool:
        """Whether a volume is made for one backup only."""
        return not volume.use_quota and (volume.display_name or '').startswith(
            'backup-vol-')

    def _create_cloned_volume(self,
                              volume: objects.Volume,
                              src_vref: objects.Volume,
                              context: cinder_context.RequestContext) -> dict:
        self._validate_state(src_vref.status,
                             ['available', 'in-use', 'backing-up',
                              'downloading'],
                             obj_description='source volume')
        self._ensure_share_mounted(src_vref.provider_location)
        if not self._is_volume_attached(src_vref):
            return self._copy_file(volume, src_vref,
                                   self.get_active_image_from_info(src_vref))
        with self._temporary_snapshot(src_vref, volume.id,
                                      context) as snapshot:
            return self._copy_file(volume, src_vref,
                                   self._get_frozen_file(snapshot))

    @coordination.synchronized('{self.driver_prefix}-{snapshot.volume.id}')
    def create_volume_from_snapshot(self,
                                    volume: objects.Volume,
                                    snapshot: objects.Snapshot) -> dict:
        """Create a volume while no neighbour of its snapshot is merged."""
        return super().create_volume_from_snapshot(volume, snapshot)

    def _create_volume_from_snapshot(self,
                                     volume: objects.Volume,
                                     snapshot: objects.Snapshot) -> dict:
        self._validate_state(snapshot.status,
                             ['available', 'backing-up', 'restoring'],
                             obj_description='snapshot',
                             invalid_exc=exception.InvalidSnapshot)
        self._ensure_share_mounted(snapshot.volume.provider_location)
        return self._copy_file(volume, snapshot.volume,
                               self._get_frozen_file(snapshot))

    def _get_backup_volume_temp_volume(self, context, backup):
        """Return a volume that a backup reads: always a raw file."""
        volume = super()._get_backup_volume_temp_volume(context, backup)
        if (volume.id != backup.volume_id or
                self._get_format(volume,
                                 self.get_active_image_from_info(volume)) ==
                'raw'):
            return volume
        temporary = self._create_temp_cloned_volume(
            context, volume, status=fields.VolumeStatus.BACKING_UP)
        backup.temp_volume_id = temporary.id
        backup.save()
        return temporary

    @coordination.synchronized('{self.driver_prefix}-{volume.id}')
    def copy_image_to_volume(self,
                             context: cinder_context.RequestContext,
                             volume: objects.Volume,
                             image_service,
                             image_id: str,
                             disable_sparse: bool = False) -> None:
        """Fetch the image from image_service and write it to the volume."""
        self._ensure_share_mounted(volume.provider_location)
        if self.get_active_image_from_info(volume) != volume.name:
            # Somebody wants another image in it: what snapshots saw would be
            # overwritten.
            raise exception.InvalidVolume(
                reason=_('volume %s has snapshots, or had some while it was '
                         'in use: it cannot be given another image')
                % volume.id)
        path = self.local_path(volume)
        image_format = self._get_base_format(volume)
        image_utils.fetch_to_volume_format(
            context, image_service, image_id, path, image_format,
            self.configuration.volume_dd_blocksize, size=volume.size,
            run_as_root=self._execute_as_root, disable_sparse=disable_sparse)
        self._resize(path, image_format, volume.size)
        virtual_size = self._get_info(volume, volume.name).virtual_size
        if virtual_size != volume.size * units.Gi:
            raise exception.ImageUnacceptable(
                image_id=image_id,
                reason=_('Expected volume size was %(size)d GiB but the file '
                         'has %(found)d bytes.')
                % {'size': volume.size, 'found': virtual_size})
        self._set_rw_permissions(path)

    def _copy_volume_to_image(self,
                              context: cinder_context.RequestContext,
                              volume: objects.Volume,
                              image_service,
                              image_meta: dict,
                              store_id: Optional[str] = None) -> None:
        self._ensure_share_mounted(volume.provider_location)
        name = self.get_active_image_from_info(volume)
        path = os.path.join(self._local_volume_dir(volume), name)
        image_format = self._get_format(volume, name)
        with image_utils.temporary_file(
                prefix='%s.temp_image.%s' % (volume.id, image_meta['id']),
                suffix='.img') as temp_path:
            if image_format != 'raw':
                image_utils.convert_image(path, temp_path, 'raw',
                                          src_format=image_format,
                                          data=self._get_info(volume, name),
                                          run_as_root=self._execute_as_root)
                path = temp_path
            volume_utils.upload_volume(context, image_service, image_meta,
                                       path, volume,
                                       run_as_root=self._execute_as_root)

    # Managing and moving

    def manage_existing(self, volume: objects.Volume,
                        existing_ref: dict) -> dict:
        """Make a volume of a file, and record its format."""
        # This is the only place where a format is found out by looking.
        location = self._get_manageable_vol_location(existing_ref)
        info = image_utils.qemu_img_info(location['vol_local_path'],
                                         run_as_root=self._execute_as_root)
        updates = super().manage_existing(volume, existing_ref)
        self._set_format(volume, info.file_format)
        return updates

    @coordination.synchronized('{self.driver_prefix}-{volume.id}')
    def unmanage(self, volume: objects.Volume) -> None:
        """Leave one file under the name of the volume."""
        self._ensure_share_mounted(volume.provider_location)
        active_file = self._local_path_active_image(volume)
        if active_file != self.local_path(volume):
            name = os.path.basename(active_file)
            if self._get_info(volume, name).backing_file is not None:
                # The file would replace what it is backed by.
                raise exception.VolumeIsBusy(volume_name=volume.name)
            self._execute('mv', '-f', '-T', active_file,
                          self.local_path(volume),
                          run_as_root=self._execute_as_root)
        self._delete(self._local_path_volume_info(volume))

    def unmanage_snapshot(self, snapshot: objects.Snapshot) -> None:
        """Refuse to forget a snapshot: its volume is made of its file."""
        raise exception.SnapshotIsBusy(snapshot_name=snapshot.name)

    def update_migrated_volume(self,
                               ctxt: cinder_context.RequestContext,
                               volume: objects.Volume,
                               new_volume: objects.Volume,
                               original_volume_status: str) -> dict[str, Any]:
        """Give a copy the name of the volume that it replaces, if it can."""
        location = new_volume.provider_location
        kept = {'_name_id': new_volume._name_id or new_volume.id,
                'provider_location': location}
        # On its own share the original still has the name.
        if (original_volume_status != 'available' or
                location == volume.provider_location):
            return kept
        new_path = os.path.join(self._get_mount_point_for_share(location),
                                CONF.volume_name_template % volume.id)
        try:
            self._execute('mv', '-n', '-T', self.local_path(new_volume),
                          new_path, run_as_root=self._execute_as_root)
        except putils.ProcessExecutionError:
            LOG.exception('Unable to rename the file of volume: %s',
                          volume.id)
            return kept
        return {'_name_id': None, 'provider_location': location}
