# SPDX-License-Identifier: Apache-2.0
"""A cluster of one node, made of what `lustack config render` writes, with Swift's own ring builder and programs.

Rule 1: Swift is not imported here: it brings eventlet, with which servers in threads of a test do not get on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.torture.served import LUSTACK
from tests.waiting import LIMIT_S, wait_for_port

from lustack.cli.serve import name_of
from lustack.server import ports
from lustack.server.cluster import services
from lustack.server.site import parse
from lustack.server.supervise import Launcher, Supervisor
from lustack.server.topology import LOOPBACK, Program

SERVERS = ("proxy", "object", "container", "account")


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs.

    Attributes:
        base: of its directories.
        device: the directory of its objects.
        out: what was rendered.
        port: of each server.
    """

    base: Path
    device: Path
    out: Path
    port: dict[str, int]

    @property
    def log(self) -> Path:
        """The directory of what its servers say."""
        return self.base / "log"

    @property
    def daemons(self) -> list[str]:
        """Swift's programs that are to run beside the servers."""
        site = parse((self.base / "site.toml").read_text(), "site.toml")
        found = services(site, LOOPBACK)
        return [name for name in found if name.startswith("swift-") and not name.endswith("-server")]

    @property
    def url(self) -> str:
        """Where clients come in."""
        return f"http://{LOOPBACK}:{self.port['proxy']}"

    def run_once(self, daemon: str) -> str:
        """Let one of Swift's daemons look once at what there is; what it says.

        Raises:
            AssertionError: it failed.
        """
        kind = daemon.removeprefix("swift-")
        own = self.base / f"etc/{kind}.conf"
        conf = own if own.exists() else own.with_name(f"{kind.partition('-')[0]}-server.conf")
        launch = [sys.executable, "-m", "lustack.server.launch", "--parent", str(os.getpid())]
        command = [*launch, "--swift-conf", self.base / "etc/swift.conf", daemon, conf, "once", "verbose"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{daemon}: {said}"
        assert "Traceback" not in said, f"{daemon}: {said}"
        return said


def describe(base: Path, port: dict[str, int], auth: str) -> str:
    """A site whose only node is this one; the database servers' disks are directories.

    Args:
        base: of its directories.
        port: of each server.
        auth: the lines of its table `[auth]`.
    """
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
        *("[auth]", auth),
        *(f'[override."{kind}-server.conf".DEFAULT]\nmount_check = "false"' for kind in ("account", "container")),
        f'[override."lustack.conf".sync]\nmetrics_port = "{port["metrics"]}"',
    ]
    return "\n".join((*lines, ""))


@contextmanager
def running(base: Path, device: Path, auth: str) -> Iterator[Cluster]:
    """Render a cluster, make its rings, and run it for the time of a block.

    Args:
        base: a directory of its own.
        device: the directory of its objects, which exists.
        auth: the lines of the table `[auth]` of its description.
    """
    port = asdict(ports.settle(0, {}))
    site, out = base / "site.toml", base / "out"
    site.write_text(describe(base, port, auth))
    for name in ("node", "db/d1", "spool/lustre", "cache", "log"):
        (base / name).mkdir(parents=True)
    (base / "node" / "lustre").symlink_to(device)
    subprocess.run([*LUSTACK, "config", "render", site, out], check=True)
    for _ in range(2):
        _make_rings(out)
    # As `rsync -a out/NODE/ root@NODE:/` does it.
    shutil.copytree(f"{out}/{LOOPBACK}{base}/etc", base / "etc")
    with _started(base, port):
        yield Cluster(base, device, out, port)


def _make_rings(out: Path) -> None:
    """The script finds Swift's tool where this Python is."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run([out / "make-rings.sh"], check=True, env=environment, cwd="/")


@contextmanager
def _started(base: Path, port: dict[str, int]) -> Iterator[None]:
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
