# SPDX-License-Identifier: Apache-2.0
"""A libvirt of our own: its configuration, its state and its guests are seen by nobody else.

It runs in a mount namespace, where the directories of libvirt are directories of the stand, and in a process namespace,
with which its guests end. Guests run as libvirt's own user, without rights, as on a real compute node, so that it is
seen when a volume has the wrong owner; where the host does not have that user, the namespace has it.

Rule 1: below `mounts` must be all that Nova mounts: it is shared, and the namespace sees nothing else that comes later.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.cinder.stand import wait_for
from tests.openstack.crew import Crew

# What is libvirt's on a host, and where it is below the stand's directory.
DIRECTORIES = {
    "/etc/libvirt": "etc",
    "/run/libvirt": "run",
    "/var/lib/libvirt": "lib",
    "/var/cache/libvirt": "cache",
    "/var/log/libvirt": "log",
}
# The first process here is the shell, so that somebody buries those whose parents have gone: libvirt waits for that.
#
# libvirt asks whether guests may use /dev/kvm, and when that is so for root only, it asks qemu for its abilities anew
# 12 times at each start of a guest: 50 s. Where it is not used it is hidden.
START = """
set -eu
@MOUNTS@
if [ @ACCELERATOR@ = qemu ] && [ -e /dev/kvm ]; then mount --bind @HIDDEN@ /dev/kvm; fi
virtlogd --pid-file /run/libvirt/virtlogd.pid &
libvirtd --pid-file /run/libvirt/libvirtd.pid &
wait -n
"""

QEMU_CONF = """
group = "{group}"
security_driver = "none"
namespaces = []
cgroup_controllers = []
"""

LIBVIRTD_CONF = """
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "{uuid}"
"""

# libvirt does not start without these, whatever its configuration says (it is built with their names).
GUESTS_USER = "libvirt-qemu"
ACCOUNTS = {
    "/etc/passwd": f"{GUESTS_USER}:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n",
    "/etc/group": f"{GUESTS_USER}:x:64055:\nlibvirt:x:64056:\n",
}

PROBE_LIMIT_S = 30


def find_accelerator(image: Path) -> str:
    """`kvm` where a guest really starts with it, else `qemu`: a /dev/kvm may be there and run nothing."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "qemu"
    command = ["qemu-system-x86_64", "-accel", "kvm", "-m", "128", "-nic", "none", "-nographic", "-snapshot"]
    try:
        probe = subprocess.run(
            [*command, "-drive", f"file={image},if=virtio"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=PROBE_LIMIT_S,
        )
    except subprocess.TimeoutExpired as expired:
        return "kvm" if b"GUEST-UP" in (expired.stdout or b"") else "qemu"
    return "kvm" if b"GUEST-UP" in probe.stdout else "qemu"


def share(mounts: Path) -> None:
    """Make what is mounted below a directory later appear in the namespace; needs to be unmounted in the end."""
    mounts.mkdir(parents=True)
    subprocess.run(["mount", "--bind", mounts, mounts], check=True)
    subprocess.run(["mount", "--make-shared", mounts], check=True)


@contextlib.contextmanager
def places() -> Iterator[None]:
    """Have the directories of libvirt, which its own are put over; those that the host lacks are removed again."""
    made = [Path(path) for path in DIRECTORIES if not Path(path).exists()]
    for path in made:
        path.mkdir(parents=True)
    try:
        yield
    finally:
        for path in made:
            path.rmdir()


def start(crew: Crew, directory: Path, accelerator: str) -> None:
    """Start libvirt, within `places`.

    Args:
        crew: whose process it becomes.
        directory: does not exist yet.
        accelerator: `kvm` or `qemu`.
    """
    for name in DIRECTORIES.values():
        (directory / name).mkdir(parents=True)
    group = "kvm" if accelerator == "kvm" else GUESTS_USER
    (directory / "etc" / "qemu.conf").write_text(QEMU_CONF.format(group=group))
    (directory / "etc" / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(uuid=uuid.uuid4()))
    hidden = directory / "hidden"
    hidden.touch(mode=0)
    places = {path: directory / name for path, name in DIRECTORIES.items()} | _add_accounts(directory)
    mounts = "\n".join(f"mount --bind {source} {path}" for path, source in places.items())
    script = START.replace("@MOUNTS@", mounts).replace("@HIDDEN@", str(hidden)).replace("@ACCELERATOR@", accelerator)
    namespaces = ("--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child", "--mount-proc")
    crew.start("libvirt", "unshare", *namespaces, "bash", "-c", script)


def _add_accounts(directory: Path) -> dict[str, Path]:
    """The host's lists of users and groups, with those that libvirt needs; empty where it has them."""
    if any(line.startswith(f"{GUESTS_USER}:") for line in Path("/etc/passwd").read_text().splitlines()):
        return {}
    found = {}
    for path, lines in ACCOUNTS.items():
        found[path] = directory / Path(path).name
        found[path].write_text(Path(path).read_text() + lines)
    return found


def uri(directory: Path) -> str:
    """How libvirt's clients name it."""
    return f"qemu+unix:///system?socket={directory / 'run' / 'libvirt-sock'}"


def virsh(directory: Path, *words: str) -> str:
    """What virsh says.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = ["virsh", "--quiet", "--connect", uri(directory), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait(crew: Crew, directory: Path) -> None:
    """Wait until it answers."""
    command = ["virsh", "--quiet", "--connect", uri(directory), "version"]

    def answers() -> bool:
        crew.check()
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    wait_for(answers, "libvirt answers")
