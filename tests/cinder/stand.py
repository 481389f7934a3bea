# SPDX-License-Identifier: Apache-2.0
"""A real Cinder without Keystone: API, scheduler, volume and backup services, SQLite, RabbitMQ, and a file system.

The file system is an ext4 in a file. `mount -t lustre` reaches it: a program `mount` that the services find before
the system's binds a directory of it where a share is to be mounted; so does `mount -t nfs`, for the stock driver.

Rule 1: everything lies below one directory, listens on loopback on free ports, and is gone in the end.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.cinder import broker, glance
from tests.functional import filesystem
from tests.ports import find_ports

SERVICES = ("api", "scheduler", "volume", "backup")
# What cinder-backup logs once when it starts, under the request under which it then tells the scheduler how it is.
BACKUP_BEGINS = "Cleaning up incomplete backup operations"
# Far more than anything here takes on a busy machine: what waits for a state fails late, never early.
LIMIT_S = 300.0
# ... and of one test: it may wait for several.
TIMEOUT_S = 1200
PROJECT = "0123456789abcdef0123456789abcdef"
# The passphrase of every encrypted volume.
FIXED_KEY = "0123456789abcdef" * 4
SERVER = "127.0.0.1@tcp"

MOUNT = """#!/bin/bash
# `mount -t lustre|nfs [-o OPTIONS] SHARE DIRECTORY` binds a directory of the test's file system; else as the system's.
if [ "$1" != -t ] || { [ "$2" != lustre ] && [ "$2" != nfs ]; }; then exec /bin/mount "$@"; fi
shift 2
options=
while [ $# -gt 2 ]; do case $1 in -o) options=$options,$2; shift 2 ;; *) shift ;; esac; done
echo "$1 $2 $options" >>@ROOT@/mounts.log
if [ -e @ROOT@/unreachable ]; then echo "mount.lustre: mount $1 at $2 failed: Input/output error" >&2; exit 5; fi
directory=@FILES@/${1##*:/}
# A test may have its own way of mounting a share.
if [ -x "@ROOT@/mount-${directory##*/}" ]; then exec "@ROOT@/mount-${directory##*/}" "$directory" "$2" "$1"; fi
if [ ! -d "$directory" ]; then echo "mount.lustre: mount $1 at $2 failed: No such file or directory" >&2; exit 2; fi
exec /bin/mount --bind "$directory" "$2"
"""

# A transaction that reads first and writes later is refused at once when another service wrote meanwhile, and Cinder
# does not try again (it is made for servers). So each waits for its turn before it begins. Found as `sitecustomize`.
PATIENCE = """
import sqlite3

class Cursor(sqlite3.Cursor):
    def execute(self, sql, *rest):
        return super().execute("BEGIN IMMEDIATE" if sql == "BEGIN" else sql, *rest)

class Connection(sqlite3.Connection):
    def cursor(self, factory=Cursor):
        return super().cursor(factory)

connect = sqlite3.connect
sqlite3.connect = sqlite3.dbapi2.connect = lambda *args, **rest: connect(*args, **{"factory": Connection, **rest})
"""

CONF = """
[DEFAULT]
host = stand
my_ip = 127.0.0.1
state_path = {state}
backend_stats_polling_interval = 3
backup_driver_stats_polling_interval = 10
default_log_levels = cinder.scheduler.host_manager=DEBUG,amqp=WARN,sqlalchemy=WARN,stevedore=WARN,taskflow=WARN
report_interval = 10
periodic_interval = 5
service_down_time = 600
graceful_shutdown_timeout = 5
auth_strategy = noauth
transport_url = {transport}
rpc_response_timeout = 300
osapi_volume_listen = 127.0.0.1
osapi_volume_listen_port = {port}
osapi_volume_workers = 1
enabled_backends = {backends}
default_volume_type = raw
glance_api_servers = {glance}
glance_num_retries = 0
api_paste_config = {etc}/api-paste.ini
resource_query_filters_file = {etc}/resource_filters.json
image_conversion_dir = {state}/conversion
backup_manager = lustack.cinder.backup_manager.BackupManager
backup_driver = lustack.cinder.backup.LustreBackupDriver
backup_lustre_share = {server}:/lfs/backups
backup_lustre_mount_point_base = {state}/backup_mount
backup_compression_algorithm = zstd
backup_file_size = 67108864
backup_sha_block_size_bytes = 1048576
volume_clear = none
quota_volumes = -1
quota_snapshots = -1
quota_gigabytes = -1
quota_backups = -1
quota_backup_gigabytes = -1
cinder_internal_tenant_project_id = {project}
cinder_internal_tenant_user_id = {project}
migration_create_volume_timeout_secs = 300
[database]
connection = sqlite:///{state}/cinder.db?timeout=120
[oslo_concurrency]
lock_path = {state}/lock
[oslo_messaging_notifications]
driver = noop
[key_manager]
backend = cinder.keymgr.conf_key_mgr.ConfKeyManager
fixed_key = {key}
[coordination]
backend_url = file://{state}/coordination
"""

BACKEND = """
[{name}]
volume_driver = lustack.cinder.driver.LustreDriver
volume_backend_name = {name}
lustre_shares_config = {etc}/{name}_shares
lustre_mount_point_base = {state}/mnt
lustre_answer_timeout = 60
nas_secure_file_operations = false
nas_secure_file_permissions = false
"""

NFS = """
[nfs]
volume_driver = cinder.volume.drivers.nfs.NfsDriver
volume_backend_name = nfs
nfs_shares_config = {etc}/nfs_shares
nfs_mount_point_base = {state}/nfs
nfs_snapshot_support = true
nas_secure_file_operations = false
nas_secure_file_permissions = false
"""


@dataclass
class Stand:
    """A Cinder that is running.

    Attributes:
        root: everything is below it.
        files: the file system that shares are directories of.
        port: of the API.
        images: URL of Glance.
        processes: the services by name.
        become: words that make a service run as who it is to be; none: as who this is.
    """

    root: Path
    files: Path
    port: int
    environment: dict[str, str]
    images: str
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)
    become: tuple[str, ...] = ()

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def etc(self) -> Path:
        return self.root / "etc"

    def share(self, name: str) -> Path:
        """The directory of a share."""
        return self.files / "lfs" / name

    def log(self, service: str) -> str:
        path = self.root / f"{service}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, *services: str) -> None:
        for service in services:
            command = [
                *self.become,
                str(Path(sys.executable).parent / f"cinder-{service}"),
                "--config-file",
                str(self.etc / "cinder.conf"),
            ]
            with (self.root / f"{service}.out").open("ab") as out:
                self.processes[service] = subprocess.Popen(
                    [*command, "--log-file", str(self.root / f"{service}.log")],
                    env=self.environment,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )

    def can_back_up(self) -> bool:
        """Whether the scheduler has heard that cinder-backup is ready; else it puts a backup into error.

        When it starts it may say that it is not; what one that was killed had said may come later, but not after that.
        """
        begun = re.findall(rf"(req-[0-9a-f-]+) .*{BACKUP_BEGINS}", self.log("backup"))
        told = [line for line in self.log("scheduler").splitlines() if "Received backup service update" in line]
        if len(begun) > 1:
            first = next((at for at, line in enumerate(told) if begun[-1] in line), len(told))
            told = told[first:]
        return bool(begun) and any("'backend_state': True" in line for line in told)

    def check(self) -> None:
        """Fail when a service has ended by itself."""
        ended = [name for name, process in self.processes.items() if process.poll() is not None]
        assert not ended, "\n".join(self.log(name)[-3000:] for name in ended)
        text = self.log("volume")
        assert "failed to start" not in text, text[-3000:]

    def stop(self, *services: str) -> None:
        """Stop services, whether or not they have ended by themselves, with all that they started."""
        for service in services:
            _signal(self.processes[service], signal.SIGTERM)
        for service in services:
            process = self.processes.pop(service)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(120)
            # A service that ends by its own alarm leaves its children behind; they would mount again what is unmounted.
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen, number: int) -> None:
    """Send a signal to a service's group, if anybody is left of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


PAUSE_S = 0.1


def wait_for(is_done, what: str, limit_s: float = LIMIT_S):
    """Wait until something comes true; what it returned.

    It is asked every `PAUSE_S`, and less often what takes long: to ask Cinder costs as much as what is waited for.
    """
    begin_s = time.monotonic()
    while not (found := is_done()):
        waited_s = time.monotonic() - begin_s
        assert waited_s < limit_s, f"not within {limit_s:g} s: {what}"
        time.sleep(min(max(PAUSE_S, waited_s / 50), 1.0))
    return found


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def write_configuration(
    stand: Stand, transport: str, images: str, backends: dict[str, str], *, with_stock: bool = True
) -> None:
    """Write what the services read.

    Args:
        stand: where.
        transport: URL of the broker.
        images: URL of Glance.
        backends: for each back end more lines of its section.
        with_stock: the stock NFS driver is a further back end.
    """
    shipped = Path(sys.prefix) / "etc/cinder"
    for name in ("api-paste.ini", "resource_filters.json"):
        shutil.copy(shipped / name, stand.etc / name)
    names = [*backends, "nfs"] if with_stock else [*backends]
    words = {"state": stand.state, "etc": stand.etc, "port": stand.port, "project": PROJECT, "server": SERVER}
    text = CONF.format(transport=transport, backends=",".join(names), glance=images, key=FIXED_KEY, **words)
    for name, more in backends.items():
        stand.share(name).mkdir(parents=True)
        (stand.etc / f"{name}_shares").write_text(f"# shares of {name}\n{SERVER}:/lfs/{name}\n")
        text += BACKEND.format(name=name, **words) + more
    stand.share("nfs").mkdir()
    stand.share("backups").mkdir()
    (stand.etc / "nfs_shares").write_text("127.0.0.1:/lfs/nfs\n")
    (stand.etc / "cinder.conf").write_text(text + NFS.format(**words))


def make_programs(stand: Stand) -> None:
    """What the services find before the system's programs."""
    programs = stand.root / "bin"
    programs.mkdir()
    text = MOUNT.replace("@ROOT@", str(stand.root)).replace("@FILES@", str(stand.files))
    write_program(programs / "mount", text)
    for name in ("mount.lustre", "mount.nfs"):
        write_program(programs / name, "#!/bin/sh\nexit 0\n")
    # The tests are root already, so the helpers that would make them root just go on.
    helper = '#!/bin/bash\ncase "$1" in cinder-rootwrap | nova-rootwrap | glance-rootwrap) shift 2 ;; esac\nexec "$@"\n'
    write_program(programs / "sudo", helper)
    # Stripes and projects need a real Lustre; here it is seen what was asked for.
    write_program(programs / "lfs", f'#!/bin/sh\necho "$@" >>{stand.root}/lfs.log\nfor last; do :; done\n: >>"$last"\n')


def _find_processes(root: Path) -> list[int]:
    """What runs for the services of a stand: command lines name its configuration or its state."""
    names = [f"{root}/{directory}/".encode() for directory in ("etc", "state")]
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended
            line = path.read_bytes()
            if any(name in line for name in names):
                found.append(int(path.parent.name))
    return found


def unmount_all(root: Path) -> None:
    """Unmount what the stopped services of a stand have mounted, when nobody is left who could mount it again.

    Privsep's helpers, file systems in user space and what was run by rootwrap are of no group of ours.
    """

    def is_nobody_left() -> bool:
        found = _find_processes(root)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    wait_for(is_nobody_left, f"no process works for the services in {root}")
    with open("/proc/self/mounts") as lines:
        points = [line.split(" ")[1] for line in lines]
    for point in reversed([point for point in points if point.startswith(f"{root}/state/")]):
        subprocess.run(["umount", "--lazy", point], check=False)


@contextlib.contextmanager
def running(
    root: Path,
    backends: dict[str, str],
    *,
    services: tuple[str, ...] = SERVICES,
    prepare: Callable[[Stand], None] = lambda stand: None,
) -> Iterator[Stand]:
    """Run a Cinder.

    Args:
        root: an existing, empty directory.
        backends: names of back ends with our driver, each with more lines for its section.
        services: which to start.
        prepare: called before they start.
    """
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(filesystem.in_a_file(root, "ext4", 24))
        (root / "broker").mkdir()
        transport = stack.enter_context(broker.running(root / "broker"))
        images = stack.enter_context(glance.running(root / "images"))
        environment = os.environ | {
            "PATH": f"{root / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "PYTHONPATH": str(root / "python"),
            "PYTHONWARNINGS": "ignore",
        }
        stand = Stand(root, files, find_ports(1)[0], environment, images)
        for directory in (stand.state / "conversion", stand.state / "lock", stand.state / "coordination", stand.etc):
            directory.mkdir(parents=True)
        (root / "python").mkdir()
        (root / "python" / "sitecustomize.py").write_text(PATIENCE)
        make_programs(stand)
        write_configuration(stand, transport, images, backends)
        manage = [
            Path(sys.executable).parent / "cinder-manage",
            "--config-file",
            stand.etc / "cinder.conf",
            "db",
            "sync",
        ]
        subprocess.run(manage, env=environment, check=True, capture_output=True)
        with contextlib.closing(sqlite3.connect(stand.state / "cinder.db")) as database:
            # Without it the services lock each other out.
            database.execute("PRAGMA journal_mode = WAL")
        stack.callback(unmount_all, root)
        stack.callback(lambda: stand.stop(*stand.processes))
        prepare(stand)
        stand.start(*services)
        wait_for(lambda: stand.check() or broker.can_connect(stand.port), "the API listens")
        yield stand
