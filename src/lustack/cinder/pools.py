# SPDX-License-Identifier: Apache-2.0
"""The part of the driver that tells the scheduler about pools: each share is one.

Rule 1: numbers come from the file system in time or not at all; a share that does not answer is not offered.
"""

from __future__ import annotations

from typing import Any

from cinder.volume.drivers import remotefs

from lustack.cinder.images import GIB
from lustack.cinder.mounting import MountingMixin
from lustack.cinder.shares import find_pool
from lustack.errors import LustackError


class PoolMixin(MountingMixin, remotefs.RemoteFSPoolMixin):
    """Describes pools; a part of `LustreDriver`."""

    # What the other parts of the driver provide.
    driver_volume_type: str
    vendor_name: str
    volume_backend_name: str
    get_version: Any

    def get_pool(self, volume: Any) -> str | None:
        """The pool that a volume lies in."""
        return self._get_pool_name_from_share(volume.provider_location) if volume.provider_location else None

    def _get_pool_name_from_share(self, share: str) -> str:
        return self._find_configured(share).pool

    def _get_share_from_pool_name(self, pool_name: str) -> str:
        return find_pool(self._known, pool_name).address

    def _update_volume_stats(self) -> None:
        """Say what the scheduler must know; a share that does not answer is left out."""
        self._ensure_shares_mounted()
        pools = []
        for address in self._mounted_shares:
            try:
                pools.append(self._describe_pool(address))
            except LustackError as error:
                self._say_failing(address, error)
        self._stats = {
            "volume_backend_name": self.configuration.safe_get("volume_backend_name") or self.volume_backend_name,
            "vendor_name": self.vendor_name,
            "driver_version": self.get_version(),
            "storage_protocol": self.driver_volume_type,
            "sparse_copy_volume": True,
            "total_capacity_gb": 0,
            "free_capacity_gb": 0,
            "pools": pools,
        }

    def _describe_pool(self, address: str) -> dict[str, Any]:
        total, free, _ = self._get_capacity_info(address)
        is_thick = not self.configuration.lustre_sparsed_volumes and not self.configuration.lustre_qcow2_volumes
        # `provisioned_capacity_gb` is left to Cinder, which knows the sizes of its volumes: a walk over the share on
        # every report is slow, and does not know how large qcow2 volumes may become.
        return {
            "pool_name": self._find_configured(address).pool,
            "total_capacity_gb": total / GIB,
            "free_capacity_gb": free / GIB,
            "reserved_percentage": self.configuration.reserved_percentage,
            "max_over_subscription_ratio": self.configuration.max_over_subscription_ratio,
            "thin_provisioning_support": not is_thick,
            "thick_provisioning_support": True,
            "multiattach": True,
            "sparse_copy_volume": True,
            "QoS_support": False,
            "online_extend_support": True,
        }
