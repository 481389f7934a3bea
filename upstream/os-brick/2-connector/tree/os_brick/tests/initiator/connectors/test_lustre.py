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

from unittest import mock

from os_brick import exception
from os_brick.initiator import connector
from os_brick.initiator.connectors import lustre
from os_brick.remotefs import remotefs as remotefs_client
from os_brick.tests.initiator import test_connector


class LustreConnectorTestCase(test_connector.ConnectorTestCase):
    """Test cases for the Lustre initiator class."""
    TEST_SHARE = '10.0.0.1@tcp:/scratch/volumes'
    # The md5 sum of 'scratch/volumes'
    TEST_PATH = '/mnt/test/0c6dfa99d2fe1dd202a917f495441c94'
    TEST_NAME = 'volume-9c592d52-ce47-4263-8c21-4ecf3c029cdb'

    def setUp(self):
        super().setUp()
        self.connection_properties = {'export': self.TEST_SHARE,
                                      'name': self.TEST_NAME}
        self.connector = self._factory('x86_64')

    def _factory(self, arch):
        return connector.InitiatorConnector.factory(
            'lustre', 'sudo', arch=arch,
            conn={'mount_point_base': '/mnt/test'})

    def test_factory_knows_it_on_every_architecture(self):
        for arch in ('x86_64', 's390x', 'ppc64le', 'aarch64'):
            self.assertIsInstance(self._factory(arch), lustre.LustreConnector)

    def test_get_search_path(self):
        self.assertEqual('/mnt/test', self.connector.get_search_path())

    @mock.patch.object(remotefs_client.LustreRemoteFsClient, 'mount')
    def test_connect_volume(self, mock_mount):
        self.connection_properties['options'] = '-o flock'
        device = self.connector.connect_volume(self.connection_properties)
        self.assertEqual({'path': self.TEST_PATH + '/' + self.TEST_NAME},
                         device)
        mock_mount.assert_called_once_with(self.TEST_SHARE, ['-o', 'flock'])

    @mock.patch.object(remotefs_client.LustreRemoteFsClient, 'mount')
    def test_connect_volume_raw(self, mock_mount):
        self.connection_properties['format'] = 'raw'
        device = self.connector.connect_volume(self.connection_properties)
        self.assertEqual({'path': self.TEST_PATH + '/' + self.TEST_NAME},
                         device)

    @mock.patch.object(remotefs_client.LustreRemoteFsClient, 'mount')
    def test_connect_volume_refuses_qcow2(self, mock_mount):
        self.connection_properties['format'] = 'qcow2'
        self.assertRaises(exception.BrickException,
                          self.connector.connect_volume,
                          self.connection_properties)
        mock_mount.assert_not_called()
