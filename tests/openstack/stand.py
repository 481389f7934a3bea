# SPDX-License-Identifier: Apache-2.0
"""A whole OpenStack on this machine: Keystone, Glance, Placement, Cinder with our drivers, Nova with guests.

    with running(directory) as stand: ...           also: make openstack

Volumes are those of tests/cinder, with the stand-in for `mount -t lustre` over a file system in a file; Nova has
`compute_driver = lustack_ext.LibvirtDriver` and mounts the same shares for itself. Everything is of PyPI, unmodified.

Rule 1: everything lies below one directory, listens on loopback on free ports, and is gone in the end.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cinder import broker
from tests.cinder import stand as volumes
from tests.cinder.stand import wait_for
from tests.functional import filesystem
from tests.openstack import catalogue, database, guest, hypervisor, network, settings, tables
from tests.openstack.crew import PROGRAMS, Crew
from tests.openstack.settings import Site
from tests.ports import find_ports

BACKENDS = {"raw": "", "qcow2": "lustre_qcow2_volumes = true\nimage_volume_cache_enabled = true\n"}
SIZE_GIB = 40


@dataclass
class Stand:
    """An OpenStack that is running.

    Attributes:
        site: where everything is.
        crew: its processes, but Cinder's.
        cinder: Cinder's, and the files of volumes.
        image: the guest's disk, qcow2.
    """

    site: Site
    crew: Crew
    cinder: volumes.Stand
    image: Path

    @property
    def libvirt(self) -> Path:
        return self.site.root / "libvirt"

    def check(self) -> None:
        """Fail when a service has ended by itself."""
        self.crew.check()
        self.cinder.check()


def _write_settings(stand: Stand) -> None:
    site = stand.site
    settings.write(site.etc / "keystone/keystone.conf", settings.keystone(site))
    settings.write(site.etc / "glance/glance-api.conf", settings.glance(site))
    shipped = PROGRAMS.parent / "etc/glance/glance-api-paste.ini"
    shutil.copy(shipped, site.etc / "glance")
    settings.write(site.etc / "glance" / shipped.name, settings.glance_pipeline(site, shipped))
    settings.write(site.etc / "placement/placement.conf", settings.placement(site))
    settings.write(site.etc / "nova/nova.conf", settings.nova(site))
    shutil.copy(PROGRAMS.parent / "etc/nova/api-paste.ini", site.etc / "nova/api-paste.ini")
    for name in ("keystone", "glance/images", "nova/instances", "nova/lock"):
        (site.state / name).mkdir(parents=True)
    _write_keys(site.state / "keystone")


def _write_keys(directory: Path) -> None:
    """The keys that Keystone makes tokens with: one in use and one for later, 32 bytes each."""
    for kind in ("fernet", "credential"):
        (directory / kind).mkdir(mode=0o700)
        for number in (0, 1):
            path = directory / kind / str(number)
            path.write_bytes(base64.urlsafe_b64encode(os.urandom(32)))
            path.chmod(0o600)


def _start_identity(stand: Stand) -> None:
    site = stand.site
    directory = site.etc / "keystone"
    files = {"OS_KEYSTONE_CONFIG_DIR": str(directory), "OS_KEYSTONE_CONFIG_FILES": str(directory / "keystone.conf")}
    stand.crew.serve("keystone", "keystone.wsgi.api:application", site.ports["keystone"], **files)


def _start_services(stand: Stand) -> None:
    crew, site = stand.crew, stand.site
    directories = {name: {f"OS_{name.upper()}_CONFIG_DIR": str(site.etc / name)} for name in settings.SERVICES}
    crew.serve("glance", "glance.wsgi.api:application", site.ports["glance"], **directories["glance"])
    crew.serve("placement", "placement.wsgi.api:application", site.ports["placement"], **directories["placement"])
    stand.cinder.start(*volumes.SERVICES)
    crew.serve("nova", "nova.wsgi.osapi_compute:application", site.ports["nova"], **directories["nova"])
    for name in ("conductor", "scheduler"):
        crew.start(f"nova-{name}", PROGRAMS / f"nova-{name}", "--config-file", site.etc / "nova/nova.conf")
    for name in ("glance", "placement", "cinder", "nova"):
        wait_for(lambda name=name: stand.check() or broker.can_connect(site.ports[name]), f"{name} listens")
    hypervisor.wait(crew, stand.libvirt)
    start_compute(stand)


def start_compute(stand: Stand) -> None:
    """Start nova-compute, or start it again; returns when servers can be made."""
    stand.crew.start("nova-compute", PROGRAMS / "nova-compute", "--config-file", stand.site.etc / "nova/nova.conf")
    with catalogue.connect(stand.site, "demo") as cloud:

        def is_up() -> bool:
            stand.check()
            return any(each.state == "up" for each in cloud.compute.services(binary="nova-compute"))

        wait_for(is_up, "nova-compute is up")
    query = "SELECT host FROM nova_api.host_mappings"
    wait_for(lambda: database.ask(stand.site.root / "mariadb", query), "Nova's scheduler knows the compute node")


def _environment(root: Path) -> dict[str, str]:
    path = f"{root / 'bin'}:{PROGRAMS}:{os.environ['PATH']}:/usr/sbin:/sbin"
    # Where `gates` puts what services load first.
    return os.environ | {"PATH": path, "PYTHONPATH": str(root / "python"), "PYTHONWARNINGS": "ignore"}


def _write_cinder(stand: Stand) -> None:
    for directory in ("conversion", "lock", "coordination"):
        (stand.cinder.state / directory).mkdir(parents=True)
    volumes.make_programs(stand.cinder)
    images = stand.site.url("glance")
    # A type that names no back end is to be one of ours.
    volumes.write_configuration(stand.cinder, stand.site.transport, images, BACKENDS, with_stock=False)
    settings.write(stand.site.etc / "cinder.conf", settings.cinder(stand.site))


def _remember(site: Site) -> None:
    """Write down what `attach` needs."""
    facts = dataclasses.asdict(site) | {"root": str(site.root)}
    (site.root / "site.json").write_text(json.dumps(facts))


def attach(root: Path) -> Stand:
    """A stand that another process runs (`make openstack`), without its processes."""
    facts = json.loads((root / "site.json").read_text())
    site = Site(**facts | {"root": root})
    environment = _environment(root)
    files = volumes.Stand(root, root / "ext4", site.ports["cinder"], environment, site.url("glance"))
    return Stand(site, Crew(root / "log", environment), files, guest.image())


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """A place for one stand, of which nothing may be left in the end.

    Not pytest's own: guests are users without rights, and must reach their disks.
    """
    rules = list_rules()
    root = Path(tempfile.mkdtemp(prefix="lustack-", dir="/var/tmp"))
    root.chmod(0o755)
    try:
        yield root
        with contextlib.suppress(AssertionError):  # said in full below
            wait_for(lambda: not find_left_over(root), "what was stopped is gone")
        assert find_left_over(root) == []
        assert list_rules() == rules
    finally:
        shutil.rmtree(root)


@contextlib.contextmanager
def running(root: Path, *, prepare: Callable[[volumes.Stand], None] = lambda stand: None) -> Iterator[Stand]:
    """Run an OpenStack.

    Args:
        root: an existing, empty directory that every user of the machine can reach: guests have no rights.
        prepare: called before Cinder's services start.
    """
    with contextlib.ExitStack() as stack:
        image = guest.image()
        files = stack.enter_context(filesystem.in_a_file(root, "ext4", SIZE_GIB))
        for name in ("broker", "log", "etc", "state"):
            (root / name).mkdir()
        ports = dict(zip(("mariadb", *settings.SERVICES), find_ports(1 + len(settings.SERVICES)), strict=True))
        crew = Crew(root / "log", _environment(root))
        stack.enter_context(hypervisor.places())
        stack.callback(crew.stop_all)
        transport = stack.enter_context(broker.running(root / "broker"))
        site = Site(root, ports, transport, hypervisor.uri(root / "libvirt"), hypervisor.find_accelerator(image))
        cinder = volumes.Stand(root, files, ports["cinder"], dict(crew.environment), site.url("glance"))
        stand = Stand(site, crew, cinder, image)
        stack.enter_context(network.running(ports["neutron"]))
        _write_settings(stand)
        _write_cinder(stand)
        prepare(stand.cinder)
        stack.callback(volumes.unmount_all, root)
        hypervisor.share(settings.mounts(site))
        hypervisor.start(crew, root / "libvirt", site.accelerator)
        stack.callback(_stop, stand)
        _start(stand)
        _remember(site)
        yield stand


def _start(stand: Stand) -> None:
    site = stand.site
    tables.prepare(stand.crew, site)
    _start_identity(stand)
    wait_for(lambda: stand.check() or broker.can_connect(site.ports["keystone"]), "Keystone listens")
    settings.write(site.etc / "cinder.conf", settings.cinder_tenant(*catalogue.fill(site)))
    _start_services(stand)


def _stop(stand: Stand) -> None:
    """Stop what uses the broker and the mounts, guests first."""
    stand.crew.stop(*[name for name in reversed(stand.crew.processes) if name != database.NAME])
    stand.cinder.stop(*stand.cinder.processes)


def list_rules() -> list[str]:
    """The host's network interfaces, and the rules of its packet filter as far as it has programs that tell them."""
    found = sorted(os.listdir("/sys/class/net"))
    for command in (["nft", "list", "ruleset"], ["iptables-save"], ["ip6tables-save"]):
        if shutil.which(command[0]):
            text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            # Without the packets that were counted, and when it was said.
            found += [re.sub(r"\[?\d+:\d+\]?", "", line) for line in text.splitlines() if not line.startswith("#")]
    return found


def find_left_over(root: Path) -> list[str]:
    """What a stand that was stopped has left: mounts, loop devices, processes."""
    with open("/proc/self/mounts") as lines:
        mounts = [line.split(" ")[1] for line in lines if f" {root}/" in line]
    command = ["losetup", "--list", "--noheadings", "--output", "BACK-FILE"]
    loops = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    found = [f"mount {point}" for point in mounts]
    found += [f"loop device of {path}" for path in loops if path.startswith(f"{root}/")]
    return found + [f"process {command}" for command in _find_processes(f"{root}/".encode())]


def _find_processes(word: bytes) -> list[str]:
    """Commands of the processes, this one aside, that have a word in their arguments or their environment.

    Some are named in their environment only: the servers of WSGI, RabbitMQ's port mapper, libvirt's daemons.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended
            command = (process / "cmdline").read_bytes()
            is_named = word in command or word in (process / "environ").read_bytes()
            if is_named and int(process.name) != os.getpid():
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found
