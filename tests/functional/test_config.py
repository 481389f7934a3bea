# SPDX-License-Identifier: Apache-2.0
"""What `lustack config render` writes makes a Swift, with Swift's own ring builder and programs.

With Keystone in place of tempauth: tests/openstack/test_swift.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import swiftclient
from tests.functional import rendered, stand
from tests.functional.rendered import Cluster
from tests.functional.test_modes import running
from tests.waiting import LIMIT_S

from lustack.server.topology import LOOPBACK

AUTH = 'kind = "tempauth"\nusers = ["test:tester:testing"]'


@pytest.fixture
def cluster(file_system: Path, tmp_path: Path) -> Iterator[Cluster]:
    device = file_system / "configured"
    device.mkdir()
    try:
        with rendered.running(tmp_path, device, AUTH) as found:
            yield found
    finally:
        stand.remove_tree(device)


@pytest.fixture
def connection(cluster: Cluster) -> Iterator[swiftclient.Connection]:
    """Of its user."""
    with closing(swiftclient.Connection(f"{cluster.url}/auth/v1.0", "test:tester", "testing")) as found:
        yield found


def test_a_rendered_cluster_serves_files(cluster: Cluster, connection: swiftclient.Connection, tmp_path: Path) -> None:
    connection.put_container("c")
    connection.put_object("c", "a/b", b"by a client")
    directory = cluster.device / "AUTH_test" / "c"
    assert (directory / "a" / "b").read_bytes() == b"by a client"
    (directory / "job").write_bytes(b"by a job")
    assert connection.get_object("c", "job")[1] == b"by a job"
    with running(cluster.out / LOOPBACK / "etc/lustack/lustack.conf", tmp_path / "daemon.log"):
        until_s = time.monotonic() + LIMIT_S
        while (names := [each["name"] for each in connection.get_container("c")[1]]) != ["a/b", "job"]:
            assert time.monotonic() < until_s, names
            time.sleep(0.1)
    connection.delete_object("c", "a/b")
    assert not (directory / "a").exists()


def test_each_daemon_of_swift_runs_with_what_was_rendered(cluster: Cluster, connection: swiftclient.Connection) -> None:
    connection.put_container("c")
    connection.put_object("c", "stays", b"stays")
    connection.put_object("c", "expires", b"expires", headers={"X-Delete-After": "1"})
    assert len(cluster.daemons) == 9, cluster.daemons
    for daemon in cluster.daemons:
        cluster.run_once(daemon)
    directory = cluster.device / "AUTH_test" / "c"
    until_s = time.monotonic() + LIMIT_S
    while [each["name"] for each in connection.get_container("c")[1]] != ["stays"]:
        said = [cluster.run_once(daemon) for daemon in ("swift-object-updater", "swift-object-expirer")]
        assert time.monotonic() < until_s, said
    assert [path.name for path in directory.iterdir()] == ["stays"]
    assert connection.get_object("c", "stays")[1] == b"stays"
