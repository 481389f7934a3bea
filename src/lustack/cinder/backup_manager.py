# SPDX-License-Identifier: Apache-2.0
"""Makes cinder-backup know our connector, whatever backup driver it uses.

    cinder.conf:  backup_manager = lustack.cinder.backup_manager.BackupManager

Rule 1: Cinder's own manager, unchanged; loading this module registers the connector. With
    `backup_driver = lustack.cinder.backup.LustreBackupDriver` it is not needed.
"""

from __future__ import annotations

from cinder.backup import manager

from lustack.brick import connector


class BackupManager(manager.BackupManager):
    """Cinder's backup manager, in a process where the connector is registered."""


connector.register()
