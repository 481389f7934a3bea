# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from nova.virt.libvirt import driver
from oslo_utils import importutils

from lustack.nova import registration
from lustack.nova.volume import LibvirtLustreVolumeDriver


def test_nova_finds_the_volume_driver_by_the_kind_of_connection(monkeypatch):
    monkeypatch.setattr(driver, "VOLUME_DRIVERS", dict(driver.VOLUME_DRIVERS))
    registration.register()
    registration.register()
    assert importutils.import_class(driver.VOLUME_DRIVERS["lustre"]) is LibvirtLustreVolumeDriver


def test_a_driver_that_is_there_already_stays(monkeypatch):
    monkeypatch.setattr(driver, "VOLUME_DRIVERS", {"lustre": "somebody.elses.Driver"})
    registration.register()
    assert driver.VOLUME_DRIVERS == {"lustre": "somebody.elses.Driver"}
