# SPDX-License-Identifier: Apache-2.0
"""What the functional tests share: a file system, a running Swift, the suites of others. Needs root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.functional import filesystem, sdists, stand

from lustack.server.instance import Instance

FILE_SYSTEM_GIB = 12


@pytest.fixture(scope="session")
def file_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The mount point of an XFS file system."""
    with filesystem.xfs_in_a_file(tmp_path_factory.mktemp("file_system"), FILE_SYSTEM_GIB) as mount_point:
        yield mount_point


@pytest.fixture(scope="session")
def served(file_system: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """A Swift with our policy `gold` as the default and the stock policy `silver`."""
    root = file_system / "served"
    state = tmp_path_factory.mktemp("served") / "state"
    with stand.running(stand.plan(root, state, stand.ours_and_stock(root))) as served:
        yield served


@pytest.fixture(scope="session")
def suite_cache(pytestconfig: pytest.Config) -> Path:
    """A directory that outlives the run, for what is downloaded."""
    return pytestconfig.cache.mkdir("sdists")


@pytest.fixture(scope="session")
def swift_tests(suite_cache: Path) -> Path:
    """A directory with the package `test` of the installed Swift."""
    return sdists.tests_of("swift", suite_cache)


@pytest.fixture(scope="session")
def swiftclient_tests(suite_cache: Path) -> Path:
    """A directory with the package `test` of the installed python-swiftclient."""
    return sdists.tests_of("python-swiftclient", suite_cache)
