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

import nova.conf
from nova.virt import block_device
from nova.virt.libvirt.volume import fs
from nova.virt.libvirt.volume import mount

CONF = nova.conf.CONF


class LibvirtLustreVolumeDriver(fs.LibvirtMountedFileSystemVolumeDriver):
    """Class implements libvirt part of volume driver for Lustre.

    The mount manager counts who uses a mount point by the name of a volume's
    file. With snapshots of an attached volume that name changes, and what was
    counted under the old one is never taken back: the share stays mounted.
    So attachments are counted here under the name that the file had without
    snapshots.
    """

    def __init__(self, host):
        super().__init__(host, 'lustre')

    def _get_mount_point_base(self):
        return CONF.libvirt.lustre_mount_point_base

    def _normalize_export(self, export):
        # The file system and the directory, without the addresses of the
        # servers: these may change while the share is mounted.
        parts = export.rpartition(':/')[2].split('/')
        return '/'.join(part for part in parts if part)

    def _mount_options(self, connection_info):
        options = []
        if CONF.libvirt.lustre_mount_options:
            options.extend(['-o', CONF.libvirt.lustre_mount_options])

        conn_options = connection_info['data'].get('options')
        if conn_options:
            options.extend(conn_options.split(' '))

        return options

    @staticmethod
    def _get_volume_name(connection_info):
        """Return the name of a volume's file without that of a snapshot."""
        name = connection_info['data']['name']
        volume_id = block_device.get_volume_id(connection_info)
        if not volume_id or volume_id not in name:
            return name
        return name[:name.index(volume_id) + len(volume_id)]

    def get_config(self, connection_info, disk_info):
        """Returns xml for libvirt."""
        conf = super().get_config(connection_info, disk_info)

        conf.source_type = 'file'
        conf.source_path = self._get_device_path(connection_info)
        conf.driver_format = connection_info['data'].get('format', 'raw')
        if not CONF.libvirt.use_default_aio_mode_for_volumes:
            conf.driver_io = 'native'
        return conf

    def connect_volume(self, connection_info, instance):
        """Connect the volume."""
        mount.mount(self.fstype, connection_info['data']['export'],
                    self._get_volume_name(connection_info),
                    self._get_mount_path(connection_info), instance,
                    self._mount_options(connection_info))

        if connection_info['data'].get('encrypted'):
            # Where the driver is told a path, it writes a LUKS header over
            # what does not begin with one. That of a QCOW2 file is inside,
            # and QEMU opens it.
            connection_info['data'].pop('device_path', None)
        else:
            connection_info['data']['device_path'] = \
                self._get_device_path(connection_info)

    def disconnect_volume(self, connection_info, instance, force=False):
        """Disconnect the volume."""
        name = self._get_volume_name(connection_info)
        mountpoint = self._get_mount_path(connection_info)

        with mount.get_manager().get_state() as state:
            # When the host comes up, the mount manager counts the names of
            # the files that guests have open.
            known = set()
            if mountpoint in state.mountpoints:
                known = set(state.mountpoints[mountpoint].attachments)
            others = sorted(
                other for other, uuid in known
                if uuid == instance.uuid and other.startswith(name + '.'))
            if others and (name, instance.uuid) not in known:
                # Count the volume under its own name too, so that the last
                # of them unmounts.
                state.mount(self.fstype, connection_info['data']['export'],
                            name, mountpoint, instance, [])
            for other in others:
                state.umount(other, mountpoint, instance)
            return state.umount(name, mountpoint, instance)

    def extend_volume(self, connection_info, instance, requested_size):
        # There is nothing to do for Lustre volumes. libvirt will extend the
        # file, and resize the disk device within the instance by calling
        # virDomainBlockResize.
        return requested_size
