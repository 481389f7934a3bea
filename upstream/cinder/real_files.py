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

"""The life of volumes of the Lustre driver on real files.

No patch holds this: the unit tests of the projects mock what runs commands.
Here qemu-img runs, in a directory that stands for a mounted share, and what a
guest sees is looked at after each step. Run by `make upstream`.
"""

import os
import subprocess
import tempfile
import unittest
from unittest import mock

import ddt
from oslo_utils import imageutils
from oslo_utils import units

from cinder import context
from cinder.db import api as db_api
from cinder import exception
from cinder import objects
from cinder import privsep
from cinder.tests.unit import fake_snapshot
from cinder.tests.unit import fake_volume
from cinder.tests.unit import test
from cinder import utils
from cinder.volume import configuration as conf
from cinder.volume.drivers import lustre

SHARE = '10.0.0.1@tcp:/scratch/volumes'


def run(*command):
    return subprocess.run(command, check=True, capture_output=True,
                          text=True).stdout


@ddt.ddt
class RealFilesTestCase(test.TestCase):

    def setUp(self):
        super().setUp()
        self.context = context.get_admin_context()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        # As a mount point is named: the file names of backing chains are
        # checked against it.
        self.point = os.path.join(directory.name, 'c0ffee')
        os.mkdir(self.point)
        self.override_config('lustre_mount_point_base', directory.name,
                             conf.SHARED_CONF_GROUP)
        # Inspect formats in this process, not in a privileged one.
        privsep.sys_admin_pctxt.set_client_mode(False)
        self.addCleanup(privsep.sys_admin_pctxt.set_client_mode, True)
        self.driver = lustre.LustreDriver(
            configuration=conf.Configuration(
                [], config_group=conf.SHARED_CONF_GROUP))
        self.driver._execute = utils.execute
        self.driver._execute_as_root = False
        self.driver.configuration.nas_secure_file_operations = 'true'
        self.driver.configuration.nas_secure_file_permissions = 'true'
        self.driver.shares = {SHARE: None}
        self.driver._mounted_shares = [SHARE]
        self.driver._ensure_shares_mounted = lambda: None
        client = mock.Mock()
        client.get_mount_point.return_value = self.point
        self.driver._remotefsclient = client
        # These volumes are in no database.
        self.mock_object(db_api, 'volume_admin_metadata_get',
                         return_value={})
        self.number = 0

    def make_volume(self, **kwargs):
        self.number += 1
        values = {'id': '00000000-0000-4000-8000-%012d' % self.number,
                  'size': 1, 'status': 'available', 'use_quota': True,
                  'host': 'host@lustre#scratch/volumes',
                  'attach_status': 'detached', 'provider_location': SHARE}
        values.update(kwargs)
        volume = fake_volume.fake_volume_obj(self.context, **values)
        volume.admin_metadata = {}
        volume.volume_attachment = objects.VolumeAttachmentList(objects=[])
        volume.save = mock.Mock()
        return volume

    def make_snapshot(self, volume):
        self.number += 1
        snapshot = fake_snapshot.fake_snapshot_obj(
            self.context, status='available',
            id='11111111-0000-4000-8000-%012d' % self.number)
        snapshot.volume = volume
        self.driver.create_snapshot(snapshot)
        return snapshot

    def find(self, volume):
        data = self.driver.initialize_connection(volume, {})['data']
        return os.path.join(self.point, data['name']), data['format']

    def write(self, volume, pattern):
        """Write as a guest would, at the start of its disk."""
        path, image_format = self.find(volume)
        run('qemu-io', '-f', image_format, '-c',
            'write -P %d 0 64k' % pattern, path)

    def check(self, volume, pattern, size):
        """Look at what a guest sees."""
        path, image_format = self.find(volume)
        out = run('qemu-io', '-f', image_format, '-c',
                  'read -P %d 0 64k' % pattern, path)
        self.assertNotIn('failed', out)
        info = imageutils.QemuImgInfo(
            run('qemu-img', 'info', '--output=json', '-f', image_format,
                path), format='json')
        self.assertEqual(size * units.Gi, info.virtual_size)
        run('qemu-img', 'compare', '-f', image_format, '-F', image_format,
            path, path)

    def use(self, image_format):
        is_qcow2 = image_format == 'qcow2'
        self.driver.configuration.lustre_qcow2_volumes = is_qcow2
        self.driver.format = image_format

    @ddt.data('raw', 'qcow2')
    def test_life(self, image_format):
        self.use(image_format)
        volume = self.make_volume()
        self.driver.create_volume(volume)
        self.write(volume, 1)
        first = self.make_snapshot(volume)
        self.write(volume, 2)
        second = self.make_snapshot(volume)
        self.write(volume, 3)

        # What snapshots saw, and the volume, can be copied to larger ones.
        for pattern, make in (
                (1, lambda new: self.driver.create_volume_from_snapshot(
                    new, first)),
                (2, lambda new: self.driver.create_volume_from_snapshot(
                    new, second)),
                (3, lambda new: self.driver.create_cloned_volume(
                    new, volume))):
            copy = self.make_volume(size=2)
            make(copy)
            self.assertEqual(image_format, self.find(copy)[1])
            self.check(copy, pattern, 2)
            self.driver.extend_volume(copy, 3)
            copy.size = 3
            self.check(copy, pattern, 3)
            self.driver.delete_volume(copy)
        self.check(volume, 3, 1)

        self.driver.revert_to_snapshot(self.context, volume, second)
        self.check(volume, 2, 1)
        self.driver.extend_volume(volume, 2)
        volume.size = 2
        self.check(volume, 2, 2)
        self.driver.delete_snapshot(first)
        self.check(volume, 2, 2)
        self.assertEqual('qcow2', self.find(volume)[1])
        self.driver.delete_snapshot(second)
        self.check(volume, 2, 2)
        self.assertEqual((os.path.join(self.point, volume.name),
                          image_format), self.find(volume))
        self.driver.delete_volume(volume)
        self.assertEqual([], os.listdir(self.point))

    @ddt.data('raw', 'qcow2')
    def test_latest_snapshot_is_deleted_first(self, image_format):
        self.use(image_format)
        volume = self.make_volume()
        self.driver.create_volume(volume)
        first = self.make_snapshot(volume)
        self.write(volume, 2)
        second = self.make_snapshot(volume)
        self.write(volume, 3)
        self.driver.delete_snapshot(second)
        self.check(volume, 3, 1)
        self.driver.delete_snapshot(first)
        self.check(volume, 3, 1)
        self.driver.unmanage(volume)
        self.assertEqual([volume.name], os.listdir(self.point))

    def test_deletion_that_was_cut_off_is_asked_for_again(self):
        self.use('raw')
        volume = self.make_volume()
        self.driver.create_volume(volume)
        self.write(volume, 1)
        first = self.make_snapshot(volume)
        self.write(volume, 2)
        self.make_snapshot(volume)
        self.write(volume, 3)
        for cut_off in ('_rebase_img', '_write_info_file', '_delete'):
            with mock.patch.object(self.driver, cut_off,
                                   side_effect=KeyboardInterrupt):
                self.assertRaises(KeyboardInterrupt,
                                  self.driver.delete_snapshot, first)
            self.check(volume, 3, 1)
        self.driver.delete_snapshot(first)
        self.check(volume, 3, 1)

    def test_volume_whose_snapshot_was_forgotten_keeps_its_files(self):
        self.use('raw')
        volume = self.make_volume()
        self.driver.create_volume(volume)
        self.write(volume, 1)
        snapshot = self.make_snapshot(volume)
        self.write(volume, 2)
        self.assertRaises(exception.SnapshotIsBusy,
                          self.driver.unmanage_snapshot, snapshot)
        self.assertRaises(exception.VolumeIsBusy,
                          self.driver.unmanage, volume)
        self.check(volume, 2, 1)
        self.driver.revert_to_snapshot(self.context, volume, snapshot)
        self.check(volume, 1, 1)

    def test_backup_of_a_qcow2_volume_reads_raw_bytes(self):
        self.use('qcow2')
        volume = self.make_volume()
        self.driver.create_volume(volume)
        self.write(volume, 1)
        self.make_snapshot(volume)
        self.write(volume, 7)
        temporary = self.make_volume(
            use_quota=False, display_name='backup-vol-' + volume.id)
        self.driver.create_cloned_volume(temporary, volume)
        path, image_format = self.find(temporary)
        self.assertEqual('raw', image_format)
        self.assertEqual(units.Gi, os.path.getsize(path))
        with open(path, 'rb') as file:
            self.assertEqual(b'\7' * 65536, file.read(65536))

    def test_header_that_a_guest_wrote_is_data(self):
        self.use('raw')
        volume = self.make_volume()
        self.driver.create_volume(volume)
        path = os.path.join(self.point, volume.name)
        planted = os.path.join(os.path.dirname(self.point), 'planted')
        run('qemu-img', 'create', '-q', '-f', 'qcow2', '-u', '-b',
            '/etc/passwd', '-F', 'raw', planted, '2G')
        run('dd', 'if=' + planted, 'of=' + path, 'conv=notrunc',
            'status=none')
        with open(planted, 'rb') as file:
            written = file.read()
        snapshot = self.make_snapshot(volume)
        copies = [self.make_volume(), self.make_volume()]
        self.driver.create_volume_from_snapshot(copies[0], snapshot)
        self.driver.delete_snapshot(snapshot)
        self.driver.create_cloned_volume(copies[1], volume)
        for each in (volume, *copies):
            path, image_format = self.find(each)
            self.assertEqual('raw', image_format)
            self.assertEqual(units.Gi, os.path.getsize(path))
            with open(path, 'rb') as file:
                self.assertEqual(written, file.read(len(written)))


if __name__ == '__main__':
    unittest.main(buffer=True)
