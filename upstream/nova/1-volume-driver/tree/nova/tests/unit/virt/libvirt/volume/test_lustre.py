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

import os
from unittest import mock

import ddt
from oslo_utils.fixture import uuidsentinel as uuids

from nova.tests.unit.virt.libvirt.volume import test_mount
from nova.tests.unit.virt.libvirt.volume import test_volume
from nova import utils
from nova.virt.libvirt import driver
from nova.virt.libvirt.volume import lustre
from nova.virt.libvirt.volume import mount

EXPORT = '10.0.0.1@tcp:10.0.0.2@tcp:/scratch/volumes'
MOUNT_PATH = os.path.join('/mnt', utils.get_hash_str('scratch/volumes'))
NAME = 'volume-' + uuids.volume


@ddt.ddt
class LibvirtLustreVolumeDriverTestCase(
        test_volume.LibvirtVolumeBaseTestCase):
    """Tests the libvirt Lustre volume driver."""

    def setUp(self):
        super().setUp()
        self.useFixture(test_mount.MountFixture(self))
        manager = mount.get_manager()
        manager._reset_state()
        manager.host_up(self.fake_host)
        self.flags(lustre_mount_point_base='/mnt', group='libvirt')
        self.driver = lustre.LibvirtLustreVolumeDriver(self.fake_host)
        self.instance = mock.Mock(uuid=uuids.instance)

    def _connection(self, name=NAME, **data):
        return {'serial': uuids.volume,
                'data': dict({'export': EXPORT, 'name': name}, **data)}

    def test_registered(self):
        self.assertEqual(
            'nova.virt.libvirt.volume.lustre.LibvirtLustreVolumeDriver',
            driver.VOLUME_DRIVERS['lustre'])

    def test_connect_and_disconnect(self):
        connection = self._connection()
        self.driver.connect_volume(connection, self.instance)
        self.driver.disconnect_volume(connection, self.instance)

        self.assertEqual(os.path.join(MOUNT_PATH, NAME),
                         connection['data']['device_path'])
        self.mock_ensure_tree.assert_called_once_with(MOUNT_PATH)
        self.mock_mount.assert_called_once_with(
            'lustre', EXPORT, MOUNT_PATH, ['-o', 'flock'])
        self.mock_umount.assert_called_once_with(MOUNT_PATH)
        self.mock_rmdir.assert_called_once_with(MOUNT_PATH)

    def test_mount_options_of_the_connection(self):
        connection = self._connection(options='-o flock -o noatime')
        self.flags(lustre_mount_options='user_xattr', group='libvirt')
        self.driver.connect_volume(connection, self.instance)
        self.mock_mount.assert_called_once_with(
            'lustre', EXPORT, MOUNT_PATH,
            ['-o', 'user_xattr', '-o', 'flock', '-o', 'noatime'])

    def test_no_mount_options(self):
        self.flags(lustre_mount_options='', group='libvirt')
        self.driver.connect_volume(self._connection(), self.instance)
        self.mock_mount.assert_called_once_with('lustre', EXPORT, MOUNT_PATH,
                                                [])

    @ddt.data('10.9.9.9@tcp:/scratch/volumes', 'mgs:/scratch//volumes/')
    def test_mount_point_does_not_depend_on_addresses(self, export):
        connection = self._connection(export=export)
        self.driver.connect_volume(connection, self.instance)
        self.assertEqual(os.path.join(MOUNT_PATH, NAME),
                         connection['data']['device_path'])

    def test_unmounted_after_the_name_changed(self):
        self.driver.connect_volume(self._connection(), self.instance)
        # A snapshot was made of the attached volume.
        after = self._connection('%s.%s' % (NAME, uuids.snapshot))
        self.driver.disconnect_volume(after, self.instance)
        self.mock_umount.assert_called_once_with(MOUNT_PATH)

    def test_unmounted_after_the_service_was_started_again(self):
        name = '%s.%s' % (NAME, uuids.snapshot)
        connection = self._connection(name)
        # What _HostMountState finds when it looks at the guests.
        with mount.get_manager().get_state() as state:
            state.mount('lustre', EXPORT, name, MOUNT_PATH, self.instance, [])
        later = self._connection('%s.%s' % (NAME, uuids.later))
        self.driver.disconnect_volume(later, self.instance)
        self.mock_umount.assert_called_once_with(MOUNT_PATH)
        self.assertEqual(name, connection['data']['name'])

    def test_other_volumes_keep_the_mount(self):
        other = {'serial': uuids.other,
                 'data': {'export': EXPORT, 'name': 'volume-' + uuids.other}}
        self.driver.connect_volume(self._connection(), self.instance)
        self.driver.connect_volume(other, self.instance)
        self.driver.disconnect_volume(self._connection(), self.instance)
        self.mock_umount.assert_not_called()
        self.driver.disconnect_volume(other, self.instance)
        self.mock_umount.assert_called_once_with(MOUNT_PATH)

    def test_name_without_the_id(self):
        connection = self._connection('disk')
        self.driver.connect_volume(connection, self.instance)
        self.driver.disconnect_volume(connection, self.instance)
        self.mock_umount.assert_called_once_with(MOUNT_PATH)

    @ddt.data((False, 'raw', 'native'), (True, 'qcow2', None))
    @ddt.unpack
    def test_get_config(self, default_aio, image_format, io):
        self.flags(use_default_aio_mode_for_volumes=default_aio,
                   group='libvirt')
        path = os.path.join(MOUNT_PATH, NAME)
        data = {}
        if image_format != 'raw':
            data['format'] = image_format
        conf = self.driver.get_config(self._connection(**data),
                                      self.disk_info)
        tree = conf.format_dom()
        self.assertEqual('file', tree.get('type'))
        self.assertEqual(path, tree.find('./source').get('file'))
        self.assertEqual(image_format, tree.find('./driver').get('type'))
        self.assertEqual(io, tree.find('./driver').get('io'))

    def test_encrypted_volume_has_no_path_to_write_a_header_to(self):
        connection = self._connection(encrypted=True, format='qcow2',
                                      device_path='/from/before')
        self.driver.connect_volume(connection, self.instance)
        self.assertNotIn('device_path', connection['data'])
        conf = self.driver.get_config(connection, self.disk_info)
        self.assertEqual(os.path.join(MOUNT_PATH, NAME), conf.source_path)

    def test_extend_volume(self):
        self.assertEqual(3 << 30, self.driver.extend_volume(
            self._connection(), self.instance, 3 << 30))
