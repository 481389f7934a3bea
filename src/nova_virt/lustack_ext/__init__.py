# SPDX-License-Identifier: Apache-2.0
"""Nova's libvirt driver, with volumes on Lustre: `compute_driver = lustack_ext.LibvirtDriver`.

Nova looks for compute drivers below `nova.virt` only (nova 34 virt/driver.py:2105), so the wheel puts this package
there. It changes nothing: the class is Nova's own, and importing it makes the volume driver known.
"""

from __future__ import annotations

from nova.virt.libvirt import driver

from lustack.nova import registration

registration.register()


class LibvirtDriver(driver.LibvirtDriver):
    """Nova's own driver; see there."""
