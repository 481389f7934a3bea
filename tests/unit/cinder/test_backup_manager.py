# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from cinder.backup import manager
from os_brick.initiator import connector

from lustack.cinder.backup_manager import BackupManager


def test_it_is_cinder_s_own_and_knows_the_connector():
    assert issubclass(BackupManager, manager.BackupManager)
    assert connector.get_connector_mapping("x86_64")["LUSTRE"].endswith("LustreConnector")
