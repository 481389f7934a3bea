# SPDX-License-Identifier: Apache-2.0
"""One OpenStack for all tests; in the end nothing of it is left.

LUSTACK_TEST_STAND=/var/tmp/lustack-openstack tox -e openstack      uses the one that `make openstack` has started
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import mounts
from tests.openstack.cloud import Cloud
from tests.openstack.stand import Stand, attach, directory, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What kills the services comes last."""
    items.sort(key=lambda item: item.path.name == "test_cut_off.py")


@pytest.fixture(scope="session")
def stand() -> Iterator[Stand]:
    mounts.needs_root()
    if other := os.environ.get("LUSTACK_TEST_STAND"):
        yield attach(Path(other))
        return
    with directory() as root, running(root) as found:
        yield found


@pytest.fixture(scope="session")
def cloud(stand: Stand) -> Iterator[Cloud]:
    found = Cloud(stand)
    yield found
    found.close()
