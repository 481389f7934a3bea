# SPDX-License-Identifier: Apache-2.0
"""One OpenStack for all tests; in the end nothing of it is left.

LUSTACK_TEST_STAND=/var/tmp/lustack-openstack tox -e openstack      uses the one that `make openstack` has started
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import mounts
from tests.cinder.stand import wait_for
from tests.openstack.cloud import Cloud
from tests.openstack.stand import Stand, attach, find_left_over, list_rules, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What kills the services comes last."""
    items.sort(key=lambda item: item.path.name == "test_cut_off.py")


@pytest.fixture(scope="session")
def stand() -> Iterator[Stand]:
    mounts.needs_root()
    if other := os.environ.get("LUSTACK_TEST_STAND"):
        yield attach(Path(other))
        return
    rules = list_rules()
    # Not pytest's own place: guests are users without rights, and must reach their disks.
    root = Path(tempfile.mkdtemp(prefix="lustack-", dir="/var/tmp"))
    root.chmod(0o755)
    try:
        with running(root) as found:
            yield found
        with contextlib.suppress(AssertionError):  # said in full below
            wait_for(lambda: not find_left_over(root), "what was stopped is gone")
        assert find_left_over(root) == []
        assert list_rules() == rules
    finally:
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def cloud(stand: Stand) -> Iterator[Cloud]:
    found = Cloud(stand)
    yield found
    found.close()
