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

"""Tests for Backup Lustre driver."""

import os
import tempfile
import time
from unittest import mock

from os_brick import exception as brick_exception
from os_brick.remotefs import remotefs as remotefs_brick

from cinder.backup.drivers import lustre
from cinder import context
from cinder import exception
from cinder.tests.unit import test

SHARE = '10.0.0.1@tcp:/scratch/backups'


class BackupLustreTestCase(test.TestCase):

    def setUp(self):
        super().setUp()
        self.ctxt = context.get_admin_context()
        self.point = tempfile.TemporaryDirectory()
        self.addCleanup(self.point.cleanup)
        self.override_config('backup_lustre_share', SHARE)
        self.client = mock.Mock()
        self.client.get_mount_point.return_value = self.point.name
        self.client_class = self.mock_object(
            remotefs_brick, 'LustreRemoteFsClient', return_value=self.client)
        self.mock_object(time, 'sleep')

    def test_get_driver_options(self):
        names = {opt.name
                 for opt in lustre.LustreBackupDriver.get_driver_options()}
        self.assertIn('backup_lustre_share', names)
        self.assertIn('backup_file_size', names)

    def test_client(self):
        self.override_config('backup_lustre_mount_point_base', '/mnt')
        lustre.LustreBackupDriver(self.ctxt)
        self.client_class.assert_called_once_with(
            'lustre', mock.ANY, execute=mock.ANY,
            lustre_mount_point_base='/mnt', lustre_mount_options='flock')

    def test_check_for_setup_error(self):
        driver = lustre.LustreBackupDriver(self.ctxt)
        driver.check_for_setup_error()
        self.client.mount.assert_called_once_with(SHARE)

    def test_check_for_setup_error_without_share(self):
        self.override_config('backup_lustre_share', None)
        driver = lustre.LustreBackupDriver(self.ctxt)
        self.assertRaises(exception.InvalidConfigurationValue,
                          driver.check_for_setup_error)
        self.client.mount.assert_not_called()

    def test_check_for_setup_error_not_writable(self):
        driver = lustre.LustreBackupDriver(self.ctxt)
        self.mock_object(os, 'access', return_value=False)
        self.assertRaises(exception.BackupDriverException,
                          driver.check_for_setup_error)

    def test_mount_retries(self):
        driver = lustre.LustreBackupDriver(self.ctxt)
        self.client.mount.side_effect = [brick_exception.BrickException, None]
        driver.check_for_setup_error()
        self.assertEqual(2, self.client.mount.call_count)

    def test_mount_gives_up(self):
        driver = lustre.LustreBackupDriver(self.ctxt)
        self.client.mount.side_effect = brick_exception.BrickException
        self.assertRaises(brick_exception.BrickException,
                          driver.put_container, 'aa/bb/backup')
        self.assertEqual(3, self.client.mount.call_count)

    def test_objects(self):
        driver = lustre.LustreBackupDriver(self.ctxt)
        driver.put_container('aa/bb/backup')
        with driver.get_object_writer('aa/bb/backup', 'chunk-1') as writer:
            writer.write(b'bytes')
        self.assertEqual(['chunk-1'],
                         driver.get_container_entries('aa/bb/backup', 'chunk'))
        with driver.get_object_reader('aa/bb/backup', 'chunk-1') as reader:
            self.assertEqual(b'bytes', reader.read())
        driver.delete_object('aa/bb/backup', 'chunk-1')
        self.assertEqual(5, self.client.mount.call_count)
        self.assertEqual([], os.listdir(
            os.path.join(self.point.name, 'aa', 'bb', 'backup')))
