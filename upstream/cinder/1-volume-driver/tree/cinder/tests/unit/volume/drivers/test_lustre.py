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

"""Unit tests for the Lustre volume driver."""

import json
import os
import time
from unittest import mock

import ddt
from os_brick import exception as brick_exception
from oslo_concurrency import processutils as putils
from oslo_utils import units

from cinder import context
from cinder.db import api as db_api
from cinder import exception
from cinder.image import image_utils
from cinder import objects
from cinder.tests.unit import fake_constants as fake
from cinder.tests.unit import fake_snapshot
from cinder.tests.unit import fake_volume
from cinder.tests.unit import test
from cinder.volume import configuration as conf
from cinder.volume import driver as base_driver
from cinder.volume.drivers import lustre
from cinder.volume.drivers import remotefs
from cinder.volume import volume_utils

SHARE = '10.0.0.1@tcp:10.0.0.2@tcp:/scratch/volumes'
SHARE2 = '10.0.1.1@o2ib:/fast'
POINT = '/mnt/point'
VOLUME_NAME = 'volume-' + fake.VOLUME_ID
SNAP_FILE = '%s.%s' % (VOLUME_NAME, fake.SNAPSHOT_ID)
SNAP2_FILE = '%s.%s' % (VOLUME_NAME, fake.SNAPSHOT2_ID)


@ddt.ddt
class LustreDriverTestCase(test.TestCase):

    def setUp(self):
        super().setUp()
        self.context = context.get_admin_context()
        self.configuration = conf.Configuration(
            [], config_group=conf.SHARED_CONF_GROUP)
        self.override_config('lustre_mount_point_base', '/mnt',
                             conf.SHARED_CONF_GROUP)
        self.driver = lustre.LustreDriver(configuration=self.configuration)
        self.driver.shares = {SHARE: None, SHARE2: '-o noatime'}
        self.driver._mounted_shares = [SHARE, SHARE2]
        self.execute = self.mock_object(self.driver, '_execute',
                                        return_value=('', ''))
        self.client = mock.Mock()
        self.client.get_mount_point.return_value = POINT
        self.driver._remotefsclient = self.client
        self.volume = self._make_volume()
        self.chain = {}
        self.mock_object(self.driver, '_qemu_img_info', self._fake_info)
        self.written = {}
        self.mock_object(self.driver, '_read_info_file',
                         lambda *args, **kwargs: dict(self.written))
        self.mock_object(self.driver, '_write_info_file', self._fake_write)
        self.mock_object(image_utils, 'convert_image')
        self.mock_object(image_utils, 'resize_image')
        self.mock_object(time, 'sleep')
        self.load = self.mock_object(db_api, 'volume_admin_metadata_get',
                                     return_value={})

    def _make_volume(self, **kwargs):
        values = {'id': fake.VOLUME_ID, 'size': 2, 'status': 'available',
                  'provider_location': SHARE, 'attach_status': 'detached',
                  'host': 'host@lustre#scratch/volumes', 'use_quota': True}
        metadata = kwargs.pop('admin_metadata', {'format': 'raw'})
        values.update(kwargs)
        volume = fake_volume.fake_volume_obj(self.context, **values)
        volume.admin_metadata = metadata
        volume.volume_attachment = objects.VolumeAttachmentList(objects=[])
        volume.save = mock.Mock()
        return volume

    def _make_snapshot(self, snapshot_id=fake.SNAPSHOT_ID, volume=None):
        snapshot = fake_snapshot.fake_snapshot_obj(
            self.context, id=snapshot_id, status='available')
        snapshot.volume = volume or self.volume
        return snapshot

    def _fake_info(self, path, volume_name, img_format=None):
        name = os.path.basename(path)
        self.asked_formats = getattr(self, 'asked_formats', [])
        self.asked_formats.append((name, img_format))
        return mock.Mock(backing_file=self.chain.get(name),
                         virtual_size=2 * units.Gi, file_format=img_format)

    def _fake_write(self, path, info):
        self.written = dict(info)

    def _record_snapshots(self):
        self.volume.admin_metadata = {'format': 'qcow2', 'base_format': 'raw'}
        self.chain = {SNAP2_FILE: SNAP_FILE, SNAP_FILE: VOLUME_NAME}
        self.written = {'active': SNAP2_FILE, fake.SNAPSHOT_ID: SNAP_FILE,
                        fake.SNAPSHOT2_ID: SNAP2_FILE}

    # Shares

    def test_get_driver_options(self):
        options = {opt.name for opt in self.driver.get_driver_options()}
        self.assertIn('lustre_shares_config', options)
        self.assertIn('nas_share_path', options)

    def test_do_setup_without_shares_file(self):
        self.mock_object(remotefs.RemoteFSSnapDriverBase, 'do_setup')
        self.mock_object(os.path, 'exists', return_value=False)
        self.assertRaises(exception.InvalidConfigurationValue,
                          self.driver.do_setup, self.context)

    def test_do_setup_with_nothing_mounted(self):
        self.mock_object(remotefs.RemoteFSSnapDriverBase, 'do_setup')
        self.mock_object(os.path, 'exists', return_value=True)
        self.mock_object(self.driver, '_ensure_shares_mounted')
        self.driver._mounted_shares = []
        self.assertRaises(exception.VolumeDriverException,
                          self.driver.do_setup, self.context)

    @ddt.data(('true', False), ('false', True))
    @ddt.unpack
    def test_do_setup(self, secure, as_root):
        self.mock_object(remotefs.RemoteFSSnapDriverBase, 'do_setup')
        self.mock_object(self.driver, '_ensure_shares_mounted')
        self.driver.configuration.nas_host = '10.0.0.1@tcp'
        self.driver.configuration.nas_share_path = '/scratch/volumes'
        self.driver.configuration.nas_secure_file_operations = secure
        self.driver.configuration.nas_secure_file_permissions = secure
        self.driver.do_setup(self.context)
        self.assertEqual(as_root, self.driver._execute_as_root)

    def test_load_shares_config(self):
        self.mock_object(self.driver, '_read_config_file', return_value=[
            '# a comment\n', '\n', SHARE + '\n', SHARE2 + ' -o noatime\n'])
        self.driver._load_shares_config('/etc/cinder/lustre_shares')
        self.assertEqual({SHARE: None, SHARE2: '-o noatime'},
                         self.driver.shares)

    def test_ensure_share_mounted(self):
        self.driver._ensure_share_mounted(SHARE2)
        self.client.mount.assert_called_once_with(SHARE2, ['-o', 'noatime'])

    @ddt.data(brick_exception.BrickException(), putils.ProcessExecutionError())
    def test_ensure_share_mounted_retries(self, error):
        self.client.mount.side_effect = [error, None]
        self.driver._ensure_share_mounted(SHARE)
        self.assertEqual(2, self.client.mount.call_count)

    def test_ensure_share_mounted_gives_up(self):
        self.client.mount.side_effect = putils.ProcessExecutionError()
        self.assertRaises(putils.ProcessExecutionError,
                          self.driver._ensure_share_mounted, SHARE)
        self.assertEqual(3, self.client.mount.call_count)

    @ddt.data((SHARE, 'scratch/volumes'), (SHARE2, 'fast'),
              ('mgs:/scratch//volumes/', 'scratch/volumes'))
    @ddt.unpack
    def test_get_pool_name_from_share(self, share, pool):
        self.assertEqual(pool, self.driver._get_pool_name_from_share(share))

    def test_get_share_from_pool_name(self):
        self.assertEqual(SHARE2,
                         self.driver._get_share_from_pool_name('fast'))
        self.assertRaises(exception.VolumeDriverException,
                          self.driver._get_share_from_pool_name, 'other')

    def test_get_pool(self):
        self.assertEqual('scratch/volumes', self.driver.get_pool(self.volume))
        self.volume.provider_location = None
        self.assertIsNone(self.driver.get_pool(self.volume))

    def test_update_volume_stats(self):
        self.mock_object(self.driver, '_ensure_shares_mounted')
        self.execute.return_value = ('4096 1048576 262144', '')
        stats = self.driver.get_volume_stats(refresh=True)
        self.assertEqual('lustre', stats['storage_protocol'])
        self.assertEqual(['scratch/volumes', 'fast'],
                         [pool['pool_name'] for pool in stats['pools']])
        pool = stats['pools'][0]
        self.assertEqual(4.0, pool['total_capacity_gb'])
        self.assertEqual(1.0, pool['free_capacity_gb'])
        self.assertNotIn('provisioned_capacity_gb', pool)
        self.assertTrue(pool['thin_provisioning_support'])
        self.assertTrue(pool['online_extend_support'])

    # Files

    def test_format_is_never_guessed(self):
        self.volume.admin_metadata = {}
        self.assertRaises(exception.InvalidVolume,
                          self.driver._get_format, self.volume, VOLUME_NAME)

    def test_get_format(self):
        self._record_snapshots()
        self.assertEqual('raw',
                         self.driver._get_format(self.volume, VOLUME_NAME))
        self.assertEqual('qcow2',
                         self.driver._get_format(self.volume, SNAP_FILE))

    def test_format_of_a_volume_that_was_loaded_for_a_user(self):
        volume = self._make_volume(admin_metadata={})
        volume._context = context.RequestContext(fake.USER_ID,
                                                 fake.PROJECT_ID)
        self.load.return_value = {'format': 'qcow2', 'base_format': 'raw'}
        self.assertEqual('raw', self.driver._get_format(volume, VOLUME_NAME))
        self.load.assert_called_once_with(mock.ANY, volume.id)
        self.assertTrue(self.load.call_args[0][0].is_admin)

    def test_set_format_keeps_what_was_not_loaded(self):
        volume = self._make_volume(admin_metadata={})
        self.load.return_value = {'format': 'qcow2', 'base_format': 'raw'}
        self.driver._set_format(volume, 'raw')
        self.assertEqual({'format': 'raw', 'base_format': 'raw'},
                         volume.admin_metadata)
        volume.save.assert_called_once_with()

    def test_get_backing_chain_for_path(self):
        self._record_snapshots()
        self.assertEqual(
            [{'filename': SNAP2_FILE, 'backing-filename': SNAP_FILE},
             {'filename': SNAP_FILE, 'backing-filename': VOLUME_NAME},
             {'filename': VOLUME_NAME, 'backing-filename': None}],
            self.driver._get_backing_chain_for_path(
                self.volume, os.path.join(POINT, SNAP2_FILE)))
        self.assertIn((VOLUME_NAME, 'raw'), self.asked_formats)

    def test_create_volume(self):
        self.mock_object(self.driver, '_ensure_shares_mounted')
        self.assertEqual({'provider_location': SHARE},
                         self.driver.create_volume(self.volume))
        self.execute.assert_any_call(
            'truncate', '-s', '2G', os.path.join(POINT, VOLUME_NAME),
            run_as_root=True)
        self.assertEqual('raw', self.volume.admin_metadata['format'])

    def test_create_volume_thick(self):
        self.mock_object(self.driver, '_ensure_shares_mounted')
        self.driver.configuration.lustre_sparsed_volumes = False
        self.driver.create_volume(self.volume)
        self.execute.assert_any_call(
            'fallocate', '-l', '2G', os.path.join(POINT, VOLUME_NAME),
            run_as_root=True)

    def test_create_volume_encrypted(self):
        self.volume.encryption_key_id = fake.ENCRYPTION_KEY_ID
        self.assertRaises(exception.VolumeDriverException,
                          self.driver.create_volume, self.volume)
        self.execute.assert_not_called()

    def test_delete_volume(self):
        self.driver.delete_volume(self.volume)
        self.assertEqual(
            [mock.call('rm', '-f', os.path.join(POINT, name),
                       run_as_root=True)
             for name in (VOLUME_NAME, VOLUME_NAME + '.info')],
            self.execute.call_args_list)

    def test_delete_volume_with_another_active_file(self):
        self.written = {'active': SNAP_FILE}
        self.driver.delete_volume(self.volume)
        self.assertEqual(
            [os.path.join(POINT, name)
             for name in (SNAP_FILE, VOLUME_NAME, VOLUME_NAME + '.info')],
            [call[0][2] for call in self.execute.call_args_list])

    def test_delete_volume_that_was_never_made(self):
        self.volume.provider_location = None
        self.driver.delete_volume(self.volume)
        self.execute.assert_not_called()

    def test_extend_volume(self):
        self.driver.extend_volume(self.volume, 3)
        image_utils.resize_image.assert_called_once_with(
            os.path.join(POINT, VOLUME_NAME), 3, run_as_root=True,
            file_format='raw')

    def test_extend_volume_with_snapshot(self):
        self._record_snapshots()
        self.driver.extend_volume(self.volume, 3)
        image_utils.resize_image.assert_called_once_with(
            os.path.join(POINT, SNAP2_FILE), 3, run_as_root=True,
            file_format='qcow2')

    def test_extend_volume_thick(self):
        self.driver.configuration.lustre_sparsed_volumes = False
        self.driver.extend_volume(self.volume, 3)
        self.execute.assert_called_once_with(
            'fallocate', '-l', '3G', os.path.join(POINT, VOLUME_NAME),
            run_as_root=True)

    def test_extend_attached_volume_is_left_to_nova(self):
        self.volume.attach_status = 'attached'
        self.driver.extend_volume(self.volume, 3)
        image_utils.resize_image.assert_not_called()

    def test_extend_volume_attached_twice(self):
        volume = self._make_volume(attach_status='attached')
        volume.volume_attachment.objects = [objects.VolumeAttachment(),
                                            objects.VolumeAttachment()]
        self.assertRaises(exception.ExtendVolumeError,
                          self.driver.extend_volume, volume, 3)

    def test_initialize_connection(self):
        self.assertEqual(
            {'driver_volume_type': 'lustre',
             'data': {'export': SHARE, 'name': VOLUME_NAME, 'format': 'raw',
                      'options': '-o flock'},
             'mount_point_base': '/mnt'},
            self.driver.initialize_connection(self.volume, {}))

    def test_initialize_connection_with_snapshot_and_flags(self):
        self._record_snapshots()
        self.volume.provider_location = SHARE2
        data = self.driver.initialize_connection(self.volume, {})['data']
        self.assertEqual(SNAP2_FILE, data['name'])
        self.assertEqual('qcow2', data['format'])
        self.assertEqual('-o flock -o noatime', data['options'])

    def test_initialize_connection_without_options(self):
        self.driver._mount_options = None
        data = self.driver.initialize_connection(self.volume, {})['data']
        self.assertNotIn('options', data)

    def test_initialize_connection_refuses_a_larger_file(self):
        self.volume.size = 1
        self.assertRaises(exception.InvalidVolume,
                          self.driver.initialize_connection, self.volume, {})

    def test_initialize_connection_extends_what_nova_did_not(self):
        self.volume.size = 3
        self.driver.initialize_connection(self.volume, {})
        image_utils.resize_image.assert_called_once_with(
            os.path.join(POINT, VOLUME_NAME), 3, run_as_root=True,
            file_format='raw')

    # Snapshots

    def test_create_snapshot(self):
        self.driver.create_snapshot(self._make_snapshot())
        self.execute.assert_any_call(
            'qemu-img', 'create', '-f', 'qcow2', '-u', '-b', VOLUME_NAME,
            '-F', 'raw', os.path.join(POINT, SNAP_FILE), '2G',
            run_as_root=True)
        self.assertEqual({'active': SNAP_FILE, fake.SNAPSHOT_ID: SNAP_FILE},
                         self.written)
        self.assertEqual({'format': 'qcow2', 'base_format': 'raw'},
                         self.volume.admin_metadata)

    def test_delete_latest_snapshot(self):
        self._record_snapshots()
        self.driver.delete_snapshot(self._make_snapshot(fake.SNAPSHOT2_ID))
        self.assertEqual(
            [mock.call('qemu-img', 'commit', '-d', '-f', 'qcow2',
                       os.path.join(POINT, SNAP2_FILE), run_as_root=True),
             mock.call('rm', '-f', os.path.join(POINT, SNAP2_FILE),
                       run_as_root=True)],
            self.execute.call_args_list)
        self.assertEqual({'active': SNAP_FILE, fake.SNAPSHOT_ID: SNAP_FILE},
                         self.written)
        self.assertEqual('qcow2', self.volume.admin_metadata['format'])

    def test_delete_last_snapshot(self):
        self._record_snapshots()
        self.written = {'active': SNAP_FILE, fake.SNAPSHOT_ID: SNAP_FILE}
        self.driver.delete_snapshot(self._make_snapshot())
        self.assertEqual({'active': VOLUME_NAME}, self.written)
        self.assertEqual('raw', self.volume.admin_metadata['format'])

    def test_delete_older_snapshot(self):
        self._record_snapshots()
        self.driver.delete_snapshot(self._make_snapshot())
        self.assertEqual(
            [mock.call('qemu-img', 'commit', '-d', '-f', 'qcow2',
                       os.path.join(POINT, SNAP_FILE), run_as_root=True),
             mock.call('qemu-img', 'rebase', '-u', '-b', VOLUME_NAME,
                       os.path.join(POINT, SNAP2_FILE), '-F', 'raw',
                       run_as_root=True),
             mock.call('rm', '-f', os.path.join(POINT, SNAP_FILE),
                       run_as_root=True)],
            self.execute.call_args_list)
        self.assertEqual({'active': SNAP2_FILE,
                          fake.SNAPSHOT2_ID: SNAP2_FILE}, self.written)

    def test_delete_older_snapshot_again_after_the_rebase(self):
        self._record_snapshots()
        self.chain = {SNAP2_FILE: VOLUME_NAME, SNAP_FILE: VOLUME_NAME}
        self.driver.delete_snapshot(self._make_snapshot())
        self.execute.assert_called_once_with(
            'rm', '-f', os.path.join(POINT, SNAP_FILE), run_as_root=True)
        self.assertNotIn(fake.SNAPSHOT_ID, self.written)

    def test_delete_snapshot_that_is_not_recorded(self):
        self.driver.delete_snapshot(self._make_snapshot())
        self.execute.assert_not_called()

    def test_delete_stale_snapshot(self):
        self._record_snapshots()
        self.chain = {}
        stale = self.mock_object(self.driver, '_delete_stale_snapshot')
        snapshot = self._make_snapshot()
        self.driver.delete_snapshot(snapshot)
        stale.assert_called_once_with(snapshot)

    @ddt.data((fake.SNAPSHOT_ID, SNAP_FILE, VOLUME_NAME, None, None),
              (fake.SNAPSHOT2_ID, SNAP2_FILE, SNAP_FILE, fake.SNAPSHOT_ID,
               VOLUME_NAME))
    @ddt.unpack
    def test_delete_snapshot_online(self, snapshot_id, name, base, base_id,
                                    new_base):
        self._record_snapshots()
        self.volume.attach_status = 'attached'
        self.volume.status = 'in-use'
        online = self.mock_object(self.driver, '_delete_snapshot_online')
        snapshot = self._make_snapshot(snapshot_id)
        snapshot.progress = '90%'
        save = self.mock_object(
            snapshot, 'save',
            side_effect=lambda: self.assertEqual('0%', snapshot.progress))
        self.driver.delete_snapshot(snapshot)
        save.assert_called_once_with()
        online.assert_called_once_with(snapshot.obj_context, snapshot, {
            'active_file': SNAP2_FILE, 'snapshot_file': name,
            'base_file': base, 'base_id': base_id, 'new_base_file': new_base})
        self.execute.assert_not_called()

    def test_revert_to_snapshot(self):
        self._record_snapshots()
        self.driver.revert_to_snapshot(
            self.context, self.volume, self._make_snapshot(fake.SNAPSHOT2_ID))
        self.execute.assert_any_call(
            'qemu-img', 'create', '-f', 'qcow2', '-u', '-b', SNAP_FILE,
            '-F', 'qcow2', os.path.join(POINT, SNAP2_FILE), '2G',
            run_as_root=True)

    # Copies

    def test_create_volume_from_snapshot(self):
        self._record_snapshots()
        volume = self._make_volume(id=fake.VOLUME2_ID, size=4,
                                   admin_metadata={})
        self.assertEqual(
            {'provider_location': SHARE},
            self.driver.create_volume_from_snapshot(
                volume, self._make_snapshot(fake.SNAPSHOT2_ID)))
        path = os.path.join(POINT, volume.name)
        image_utils.convert_image.assert_called_once_with(
            os.path.join(POINT, SNAP_FILE), path, 'raw', src_format='qcow2',
            data=mock.ANY, run_as_root=True)
        image_utils.resize_image.assert_called_once_with(
            path, 4, run_as_root=True, file_format='raw')
        self.assertEqual('raw', volume.admin_metadata['format'])

    def test_create_volume_from_snapshot_in_a_wrong_state(self):
        snapshot = self._make_snapshot()
        snapshot.status = 'error'
        self.assertRaises(exception.InvalidSnapshot,
                          self.driver.create_volume_from_snapshot,
                          self.volume, snapshot)

    def test_clone_records_its_own_format(self):
        self._record_snapshots()
        volume = self._make_volume(id=fake.VOLUME2_ID, admin_metadata={})
        self.driver.create_cloned_volume(volume, self.volume)
        image_utils.convert_image.assert_called_once_with(
            os.path.join(POINT, SNAP2_FILE), os.path.join(POINT, volume.name),
            'raw', src_format='qcow2', data=mock.ANY, run_as_root=True)
        self.assertEqual('raw', volume.admin_metadata['format'])

    def test_clone_to_qcow2(self):
        self.driver.configuration.lustre_qcow2_volumes = True
        volume = self._make_volume(id=fake.VOLUME2_ID, admin_metadata={})
        self.driver.create_cloned_volume(volume, self.volume)
        self.assertEqual('qcow2', volume.admin_metadata['format'])

    def test_clone_for_a_backup_is_raw(self):
        self.driver.configuration.lustre_qcow2_volumes = True
        volume = self._make_volume(
            id=fake.VOLUME2_ID, admin_metadata={}, use_quota=False,
            display_name='backup-vol-' + fake.VOLUME_ID)
        self.driver.create_cloned_volume(volume, self.volume)
        self.assertEqual('raw', volume.admin_metadata['format'])

    def test_clone_in_a_wrong_state(self):
        self.volume.status = 'error'
        self.assertRaises(exception.InvalidVolume,
                          self.driver.create_cloned_volume,
                          self._make_volume(id=fake.VOLUME2_ID), self.volume)

    @mock.patch('cinder.objects.Snapshot')
    def test_clone_of_an_attached_volume(self, snapshot_class):
        self.volume.attach_status = 'attached'
        self.volume.status = 'in-use'
        snapshot = snapshot_class.return_value
        snapshot.volume = self.volume
        snapshot.id = fake.SNAPSHOT_ID
        create = self.mock_object(
            self.driver, '_create_snapshot',
            side_effect=lambda snap: self._record_snapshots())
        delete = self.mock_object(self.driver, '_delete_snapshot')
        volume = self._make_volume(id=fake.VOLUME2_ID, admin_metadata={})
        self.driver.create_cloned_volume(volume, self.volume)
        create.assert_called_once_with(snapshot)
        image_utils.convert_image.assert_called_once_with(
            os.path.join(POINT, VOLUME_NAME),
            os.path.join(POINT, volume.name), 'raw', src_format='raw',
            data=mock.ANY, run_as_root=True)
        delete.assert_called_once_with(snapshot)
        snapshot.destroy.assert_called_once_with()

    def test_backup_of_a_raw_volume(self):
        backup = mock.Mock(volume_id=fake.VOLUME_ID)
        self.mock_object(base_driver.BaseVD, '_get_backup_volume_temp_volume',
                         return_value=self.volume)
        self.assertEqual((self.volume, False),
                         self.driver.get_backup_device(self.context, backup))

    def test_backup_of_a_qcow2_volume_reads_a_raw_copy(self):
        self._record_snapshots()
        backup = mock.Mock(volume_id=fake.VOLUME_ID)
        self.mock_object(base_driver.BaseVD, '_get_backup_volume_temp_volume',
                         return_value=self.volume)
        copy = self._make_volume(id=fake.VOLUME2_ID)
        self.mock_object(self.driver, '_create_temp_cloned_volume',
                         return_value=copy)
        self.assertEqual((copy, False),
                         self.driver.get_backup_device(self.context, backup))
        self.assertEqual(fake.VOLUME2_ID, backup.temp_volume_id)
        backup.save.assert_called_once_with()

    def test_copy_image_to_volume(self):
        fetch = self.mock_object(image_utils, 'fetch_to_volume_format')
        self.driver.copy_image_to_volume(self.context, self.volume,
                                         mock.sentinel.service, fake.IMAGE_ID)
        path = os.path.join(POINT, VOLUME_NAME)
        fetch.assert_called_once_with(
            self.context, mock.sentinel.service, fake.IMAGE_ID, path, 'raw',
            mock.ANY, size=2, run_as_root=True, disable_sparse=False)
        image_utils.resize_image.assert_called_once_with(
            path, 2, run_as_root=True, file_format='raw')

    def test_copy_image_to_volume_of_a_wrong_size(self):
        self.mock_object(image_utils, 'fetch_to_volume_format')
        self.volume.size = 3
        self.assertRaises(exception.ImageUnacceptable,
                          self.driver.copy_image_to_volume, self.context,
                          self.volume, mock.sentinel.service, fake.IMAGE_ID)

    def test_copy_image_to_volume_with_snapshots(self):
        fetch = self.mock_object(image_utils, 'fetch_to_volume_format')
        self._record_snapshots()
        self.assertRaises(exception.InvalidVolume,
                          self.driver.copy_image_to_volume, self.context,
                          self.volume, mock.sentinel.service, fake.IMAGE_ID)
        fetch.assert_not_called()

    @ddt.data(False, True)
    def test_copy_volume_to_image(self, is_qcow2):
        if is_qcow2:
            self._record_snapshots()
        upload = self.mock_object(volume_utils, 'upload_volume')
        temporary = self.mock_object(image_utils, 'temporary_file')
        temporary.return_value.__enter__ = mock.Mock(return_value='/tmp/raw')
        temporary.return_value.__exit__ = mock.Mock(return_value=False)
        meta = {'id': fake.IMAGE_ID}
        self.driver.copy_volume_to_image(self.context, self.volume,
                                         mock.sentinel.service, meta)
        upload.assert_called_once_with(
            self.context, mock.sentinel.service, meta,
            '/tmp/raw' if is_qcow2 else os.path.join(POINT, VOLUME_NAME),
            self.volume, run_as_root=True)
        self.assertEqual(is_qcow2, image_utils.convert_image.called)

    # Managing and moving

    def test_manage_existing_records_the_format(self):
        location = {'share': SHARE, 'mountpoint': POINT,
                    'vol_local_path': os.path.join(POINT, 'disk')}
        self.mock_object(self.driver, '_get_manageable_vol_location',
                         return_value=location)
        self.mock_object(self.driver, '_is_volume_manageable',
                         return_value=(True, None))
        self.mock_object(image_utils, 'qemu_img_info',
                         return_value=mock.Mock(file_format='qcow2'))
        rename = self.mock_object(os, 'rename')
        updates = self.driver.manage_existing(self.volume, {})
        self.assertEqual({'provider_location': SHARE}, updates)
        rename.assert_called_once_with(os.path.join(POINT, 'disk'),
                                       os.path.join(POINT, VOLUME_NAME))
        self.assertEqual('qcow2', self.volume.admin_metadata['format'])

    def test_unmanage(self):
        self.driver.unmanage(self.volume)
        self.execute.assert_called_once_with(
            'rm', '-f', os.path.join(POINT, VOLUME_NAME + '.info'),
            run_as_root=True)

    def test_unmanage_leaves_the_name_of_the_volume(self):
        self.written = {'active': SNAP_FILE}
        self.driver.unmanage(self.volume)
        self.execute.assert_any_call(
            'mv', '-f', '-T', os.path.join(POINT, SNAP_FILE),
            os.path.join(POINT, VOLUME_NAME), run_as_root=True)

    def test_unmanage_refuses_a_chain(self):
        self._record_snapshots()
        self.assertRaises(exception.VolumeIsBusy,
                          self.driver.unmanage, self.volume)
        self.execute.assert_not_called()

    def test_unmanage_snapshot_is_refused(self):
        self.assertRaises(exception.SnapshotIsBusy,
                          self.driver.unmanage_snapshot,
                          self._make_snapshot())

    def test_update_migrated_volume(self):
        copy = self._make_volume(id=fake.VOLUME2_ID, provider_location=SHARE2)
        self.assertEqual(
            {'_name_id': None, 'provider_location': SHARE2},
            self.driver.update_migrated_volume(self.context, self.volume,
                                               copy, 'available'))
        self.execute.assert_called_once_with(
            'mv', '-n', '-T', os.path.join(POINT, copy.name),
            os.path.join(POINT, VOLUME_NAME), run_as_root=True)

    @ddt.data(('in-use', SHARE2), ('available', SHARE))
    @ddt.unpack
    def test_update_migrated_volume_keeps_the_name(self, status, share):
        copy = self._make_volume(id=fake.VOLUME2_ID, provider_location=share)
        self.assertEqual(
            {'_name_id': fake.VOLUME2_ID, 'provider_location': share},
            self.driver.update_migrated_volume(self.context, self.volume,
                                               copy, status))
        self.execute.assert_not_called()

    def test_update_migrated_volume_that_cannot_be_renamed(self):
        copy = self._make_volume(id=fake.VOLUME2_ID, provider_location=SHARE2)
        self.execute.side_effect = putils.ProcessExecutionError()
        self.assertEqual(
            {'_name_id': fake.VOLUME2_ID, 'provider_location': SHARE2},
            self.driver.update_migrated_volume(self.context, self.volume,
                                               copy, 'available'))


class LustreInfoTestCase(test.TestCase):
    """What is asked of qemu-img, and what is recorded."""

    def setUp(self):
        super().setUp()
        self.driver = lustre.LustreDriver(
            configuration=conf.Configuration(
                [], config_group=conf.SHARED_CONF_GROUP))
        self.execute = self.mock_object(self.driver, '_execute',
                                        return_value=('', ''))
        self.base = self.mock_object(self.driver, '_qemu_img_info_base')

    def _asked_format(self):
        return self.base.call_args[1]['img_format']

    def test_qemu_img_info_of_a_snapshot_file(self):
        self.driver._qemu_img_info('/mnt/' + SNAP_FILE, VOLUME_NAME)
        self.assertEqual('qcow2', self._asked_format())

    def test_qemu_img_info_of_a_volume_file(self):
        self.driver._qemu_img_info('/mnt/' + VOLUME_NAME, VOLUME_NAME, 'raw')
        self.assertEqual('raw', self._asked_format())

    def test_qemu_img_info_of_a_file_that_is_no_volume_yet(self):
        self.driver._qemu_img_info('/mnt/disk', None)
        self.assertIsNone(self._asked_format())

    def test_write_info_file(self):
        info = {'active': VOLUME_NAME}
        self.driver._write_info_file('/mnt/x.info', info)
        self.assertEqual(
            [mock.call('dd', 'of=/mnt/x.info.new', 'conv=fsync',
                       'status=none',
                       process_input=json.dumps(info, indent=1),
                       run_as_root=True),
             mock.call('chmod', 'ugo+rw', '/mnt/x.info.new',
                       run_as_root=True),
             mock.call('mv', '-f', '-T', '/mnt/x.info.new', '/mnt/x.info',
                       run_as_root=True)],
            self.execute.call_args_list)

    def test_write_info_file_without_active(self):
        self.assertRaises(exception.RemoteFSException,
                          self.driver._write_info_file, '/mnt/x.info', {})
        self.execute.assert_not_called()
