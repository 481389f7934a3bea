# SPDX-License-Identifier: Apache-2.0
"""The wheel beside Nova in one site-packages, as on a compute node."""

from __future__ import annotations

import subprocess
import sys

# What nova-compute does with its option (nova 34 virt/driver.py:2104) and a connection (virt/libvirt/driver.py:2172).
ASK = """
from nova.virt import driver as virt
from nova.virt.libvirt import driver as libvirt
from oslo_utils import importutils
made = importutils.import_class("nova.virt.lustack_ext.LibvirtDriver")
print(issubclass(made, libvirt.LibvirtDriver) and issubclass(made, virt.ComputeDriver))
print(importutils.import_class(libvirt.VOLUME_DRIVERS["lustre"]).__name__)
"""


def ask(code, directory):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-P", "-c", code], capture_output=True, text=True, check=False, cwd=directory
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_compute_driver_of_the_wheel_is_novas_own_and_knows_lustre(tmp_path):
    assert ask(ASK, tmp_path) == ["True", "LibvirtLustreVolumeDriver"]


def test_without_it_nova_does_not_know_lustre(tmp_path):
    code = "from nova.virt.libvirt import driver; print('lustre' in driver.VOLUME_DRIVERS)"
    assert ask(code, tmp_path) == ["False"]
