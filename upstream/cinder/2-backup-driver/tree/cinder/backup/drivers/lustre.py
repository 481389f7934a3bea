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

"""Implementation of a backup service that keeps backups on Lustre."""

import os

from os_brick import exception as brick_exception
from os_brick.remotefs import remotefs as remotefs_brick
from oslo_concurrency import processutils as putils
from oslo_config import cfg
from oslo_log import log as logging

from cinder.backup.drivers import posix
from cinder import coordination
from cinder import exception
from cinder.i18n import _
from cinder import interface
from cinder import utils

LOG = logging.getLogger(__name__)

lustrebackup_service_opts = [
    cfg.StrOpt('backup_lustre_share',
               help='Lustre file system, or directory in one, that holds '
                    'backups, such as 10.0.0.1@tcp:/scratch/backups.'),
    cfg.StrOpt('backup_lustre_mount_point_base',
               default='$state_path/backup_mount',
               help='Base dir containing the mount point for the Lustre '
                    'share.'),
    cfg.StrOpt('backup_lustre_mount_options',
               default='flock',
               help='Mount options passed to the Lustre client. See the '
                    'mount.lustre(8) man page for details.'),
    cfg.IntOpt('backup_lustre_mount_attempts',
               min=1,
               default=3,
               help='The number of attempts to mount the Lustre share before '
                    'raising an error.'),
]

CONF = cfg.CONF
CONF.register_opts(lustrebackup_service_opts)


@interface.backupdriver
class LustreBackupDriver(posix.PosixBackupDriver):
    """Provides backup, restore and delete using a Lustre file system.

    The share is mounted when something is read or written, not only at
    start: a host that lost its mount would fill its root file system.
    """

    def __init__(self, context):
        self._client = remotefs_brick.LustreRemoteFsClient(
            'lustre',
            utils.get_root_helper(),
            execute=putils.execute,
            lustre_mount_point_base=os.path.realpath(
                CONF.backup_lustre_mount_point_base),
            lustre_mount_options=CONF.backup_lustre_mount_options)
        path = None
        if CONF.backup_lustre_share:
            path = self._client.get_mount_point(CONF.backup_lustre_share)
        super().__init__(context, backup_path=path)

    @staticmethod
    def get_driver_options():
        return lustrebackup_service_opts + posix.posixbackup_service_opts

    def check_for_setup_error(self):
        """Raises error if backups cannot be written."""
        if not CONF.backup_lustre_share:
            raise exception.InvalidConfigurationValue(
                option='backup_lustre_share', value=CONF.backup_lustre_share)
        self._mount()
        if not os.access(self.backup_path, os.W_OK | os.X_OK):
            raise exception.BackupDriverException(
                reason=_('%(share)s cannot be written to by uid %(uid)s.')
                % {'share': CONF.backup_lustre_share, 'uid': os.geteuid()})

    def _mount(self):
        @coordination.synchronized('mount-lustre-backup-share')
        @utils.retry((brick_exception.BrickException,
                      putils.ProcessExecutionError),
                     retries=CONF.backup_lustre_mount_attempts)
        def mount():
            self._client.mount(CONF.backup_lustre_share)

        mount()

    def put_container(self, container):
        self._mount()
        super().put_container(container)

    def get_container_entries(self, container, prefix):
        self._mount()
        return super().get_container_entries(container, prefix)

    def get_object_writer(self, container, object_name, extra_metadata=None):
        self._mount()
        return super().get_object_writer(container, object_name,
                                         extra_metadata)

    def get_object_reader(self, container, object_name, extra_metadata=None):
        self._mount()
        return super().get_object_reader(container, object_name,
                                         extra_metadata)

    def delete_object(self, container, object_name):
        self._mount()
        super().delete_object(container, object_name)
