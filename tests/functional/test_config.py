# SPDX-License-Identifier: Apache-2.0
"""What `lustack config render` writes makes a Swift, with Swift's own ring builder and programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import swiftclient
from tests.functional.nodes import PATIENCE_S, wait_for_port
from tests.functional.test_modes import LUSTACK, running

from lustack.cli.serve import name_of
from lustack.server import ports
from lustack.server.supervise import Launcher, Supervisor
from lustack.server.topology import LOOPBACK, Program

SERVERS = ("proxy", "object", "container", "account")


@dataclass(frozen=True)
class Cluster:
    """A cluster of one node.

    Attributes:
        device: the directory of its objects.
        out: what was rendered.
        connection: of its user.
    """

    device: Path
    out: Path
    connection: swiftclient.Connection


def describe(base: Path, port: dict[str, int]) -> str:
    """A site whose only node is this one; the database servers' disks are directories."""
    places = {"swift_dir": "etc", "devices": "node", "database_devices": "db", "spool": "spool", "cache": "cache"}
    lines = [
        "[nodes]",
        f'proxies = ["{LOOPBACK}"]',
        f'databases = ["{LOOPBACK}/d1"]',
        f'memcached = ["{LOOPBACK}:{port["memcached"]}"]',
        *("[swift]", f'user = "{name_of(os.geteuid())}"', "part_power = 4"),
        *("[ports]", *(f"{name} = {port[name]}" for name in SERVERS)),
        *("[places]", *(f'{key} = "{base}/{name}"' for key, name in places.items()), f'state = "{base}/sync"'),
        *("[[policies]]", "index = 0", 'name = "lustre"', 'device = "lustre"'),
        *("[auth]", 'kind = "tempauth"', 'users = ["test:tester:testing"]'),
        *(f'[override."{kind}-server.conf".DEFAULT]\nmount_check = "false"' for kind in ("account", "container")),
        f'[override."lustack.conf".sync]\nmetrics_port = "{port["metrics"]}"',
    ]
    return "\n".join((*lines, ""))


@contextmanager
def started(base: Path, port: dict[str, int]) -> Iterator[None]:
    """The programs, for the time of a block."""
    supervisor = Supervisor(Launcher(f"{base}/etc/swift.conf", f"{base}/log"))
    memcached = shutil.which("memcached") or "memcached"
    command = (memcached, "-l", LOOPBACK, "-p", str(port["memcached"]), "-U", "0", "-u", name_of(os.geteuid()))
    programs = [Program("memcached", command)]
    for kind in SERVERS:
        conf = f"{base}/etc/{kind}-server.conf"
        programs.append(Program(f"{kind}-server", (f"swift-{kind}-server", conf, "verbose"), port[kind]))
    try:
        supervisor.start(programs)
        for name in ("memcached", *SERVERS):
            wait_for_port(port[name])
        yield
    finally:
        supervisor.stop()


@pytest.fixture
def cluster(file_system: Path, tmp_path: Path) -> Iterator[Cluster]:
    port = asdict(ports.settle(0, {}))
    site, out = tmp_path / "site.toml", tmp_path / "out"
    site.write_text(describe(tmp_path, port))
    with ExitStack() as stack:
        device = file_system / "configured"
        device.mkdir()
        stack.callback(shutil.rmtree, device)
        for name in ("node", "db/d1", "spool/lustre", "cache", "log"):
            (tmp_path / name).mkdir(parents=True)
        (tmp_path / "node" / "lustre").symlink_to(device)
        subprocess.run([*LUSTACK, "config", "render", site, out], check=True)
        for _ in range(2):
            make_rings(out)
        # As `rsync -a out/NODE/ root@NODE:/` does it.
        shutil.copytree(f"{out}/{LOOPBACK}{tmp_path}/etc", tmp_path / "etc")
        stack.enter_context(started(tmp_path, port))
        url = f"http://{LOOPBACK}:{port['proxy']}/auth/v1.0"
        connection = stack.enter_context(closing(swiftclient.Connection(url, "test:tester", "testing")))
        yield Cluster(device, out, connection)


def make_rings(out: Path) -> None:
    """The script finds Swift's tool where this Python is."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run([out / "make-rings.sh"], check=True, env=environment, cwd="/")


def test_a_rendered_cluster_serves_files(cluster: Cluster, tmp_path: Path) -> None:
    connection = cluster.connection
    connection.put_container("c")
    connection.put_object("c", "a/b", b"by a client")
    directory = cluster.device / "AUTH_test" / "c"
    assert (directory / "a" / "b").read_bytes() == b"by a client"
    (directory / "job").write_bytes(b"by a job")
    assert connection.get_object("c", "job")[1] == b"by a job"
    with running(cluster.out / LOOPBACK / "etc/lustack/lustack.conf", tmp_path / "daemon.log"):
        until_s = time.monotonic() + PATIENCE_S
        while (names := [each["name"] for each in connection.get_container("c")[1]]) != ["a/b", "job"]:
            assert time.monotonic() < until_s, names
            time.sleep(0.1)
    connection.delete_object("c", "a/b")
    assert not (directory / "a").exists()
