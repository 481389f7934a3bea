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

from typing import Any

from os_brick import exception
from os_brick.i18n import _
from os_brick.initiator.connectors import remotefs
from os_brick import utils


class LustreConnector(remotefs.RemoteFsConnector):
    """Connector class to attach/detach volumes that are files on Lustre.

    Callers of a connector read and write the bytes of the volume as they
    are.  A volume whose active file is a qcow2 image would give them the
    bytes of the container: a backup of these refers to backing files which
    it does not hold, and a restore leaves a raw file where qcow2 is recorded.
    So this class hands out raw files only.
    """

    @utils.trace
    def connect_volume(
            self,
            connection_properties: dict[str, Any]) -> dict[str, Any]:
        """Ensure that the filesystem containing the volume is mounted.

        :param connection_properties: The dictionary that describes all
                                      of the target volume attributes.
             connection_properties must include:
             export - what to mount (e.g. '10.0.0.1@tcp:/scratch/volumes')
             name - file name within the filesystem
             format - 'raw'; raw is also what is assumed without it
        :type connection_properties: dict
        :returns: dict with the path of the file
        :raises BrickException: if the file is not raw
        """
        image_format = connection_properties.get('format') or 'raw'
        if image_format != 'raw':
            raise exception.BrickException(
                _('The file %(name)s is %(format)s, and only raw files can '
                  'be read and written as they are')
                % {'format': image_format,
                   'name': connection_properties['name']})
        return super().connect_volume(connection_properties)
