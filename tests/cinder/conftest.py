# SPDX-License-Identifier: Apache-2.0
"""What the tests with a real Cinder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cinder import api, stand
from tests.cinder.killing import Killer

SECURE = "nas_secure_file_operations = true\nnas_secure_file_permissions = true\n"
LUKS = {"provider": "luks", "cipher": "aes-xts-plain64", "key_size": 256, "control_location": "front-end"}
BACKENDS = {"raw": "", "qcow2": f"lustre_qcow2_volumes = true\nimage_volume_cache_enabled = true\n{SECURE}"}


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stand.Stand]:
    """A Cinder with our driver in two back ends, `raw` and `qcow2`, and the stock NFS driver in a third."""
    with stand.running(tmp_path_factory.mktemp("stand"), BACKENDS) as running:
        yield running


@pytest.fixture(scope="session")
def cinder(running: stand.Stand) -> api.Cinder:
    """A client, and a volume type for each back end."""
    found = api.Cinder(running)
    found.wait_for_services(*BACKENDS, "nfs", others=2)
    for name in (*BACKENDS, "nfs"):
        found.make_type(name, volume_backend_name=name)
    # Cinder copies only within a back end, so these are types of one whose volumes have the other format.
    found.make_type("raw-qcow2", volume_backend_name="raw", lustre__format="qcow2")
    found.make_type("qcow2-raw", volume_backend_name="qcow2", lustre__format="raw")
    for name in BACKENDS:
        found.make_type(f"{name}-linked", volume_backend_name=name, lustre__copies="linked")
        found.make_type(f"{name}-thick", volume_backend_name=name, provisioning__type="thick")
    found.api.volume_encryption_types.create(found.make_type("encrypted", volume_backend_name="raw"), LUKS)
    return found


@pytest.fixture(scope="session")
def only_killer(cinder: api.Cinder) -> Killer:
    """One for a stand, whose services it changes."""
    return Killer(cinder.stand)


@pytest.fixture(scope="module")
def killer(only_killer: Killer) -> Iterator[Killer]:
    """Kills services at exact steps; in the end it counts no more."""
    yield only_killer
    only_killer.count()
