# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest
from oslo_config import cfg
from tests.unit.cinder.bench import GIB, Bench


@pytest.mark.parametrize("is_sparse", [True, False])
def test_a_pool_says_what_the_scheduler_must_know(stage: Bench, is_sparse: bool):
    cfg.CONF.set_override("lustre_sparsed_volumes", is_sparse, "lustre")
    stage.set_up()
    [pool] = stage.driver.get_volume_stats(refresh=True)["pools"]
    found = os.statvfs(stage.share)
    assert pool["total_capacity_gb"] == pytest.approx(found.f_frsize * found.f_blocks / GIB)
    assert pool["thin_provisioning_support"] == is_sparse
    # Cinder adds up the sizes of its volumes by itself.
    assert "provisioned_capacity_gb" not in pool
