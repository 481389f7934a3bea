# SPDX-License-Identifier: Apache-2.0
"""Back ends that cannot work, in one real Cinder with one that can: each says why, and the good one goes on.

Rule 1: the faults are real ones. Where Lustre is needed for a fault, the same answer comes from somewhere else: a file
    system that hangs is a FUSE program that is stopped; locks that are off are system calls that the kernel refuses.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cinderclient import exceptions
from tests.cinder import api, stand
from tests.cinder.stand import TIMEOUT_S, wait_for

pytestmark = pytest.mark.timeout(TIMEOUT_S)

ATTEMPTS = 2
BACKENDS = {
    "good": "",
    "missing": f"lustre_mount_attempts = {ATTEMPTS}\n",
    "nid": f"lustre_mount_attempts = {ATTEMPTS}\n",
    "locks": "",
    "readonly": "lustre_mount_options = flock,ro\n",
    "owner": "",
    "asleep": "lustre_mount_attempts = 1\n",
    "frozen": "lustre_answer_timeout = 10\n",
    "nofile": "lustre_shares_config = /no/such/file\n",
}
SAID = {
    "missing": r"share 127\.0\.0\.1@tcp:/lfs/missing cannot be mounted: .*No such file.*\(2 attempts\)",
    "nid": r"share 127\.0\.0\.1@tcp:/lfs/nid cannot be mounted: .*Is the MGS running\? \(2 attempts\)",
    "locks": r"mount of 127\.0\.0\.1@tcp:/lfs/locks is not fit .*: mount with -o flock \(lustre_mount_options\)",
    "readonly": r"mount of 127\.0\.0\.1@tcp:/lfs/readonly is not fit .*read-only .*: see lustre_mount_options",
    "owner": r"mount of 127\.0\.0\.1@tcp:/lfs/owner is not fit .*cannot write there .*nas_secure_file_operations",
    "nofile": r"lustre_shares_config.*/no/such/file",
}
WHERE_TO_LOOK = r"\[{name}\]:? lustre_shares_config"

MOUNTS = {
    "nid": 'echo "mount.lustre: mount $3 at $2 failed: Input/output error\nIs the MGS running?" >&2; exit 5',
    "locks": '/bin/mount --bind "$1" "$2" && echo "$2" >>{root}/without-locks',
    "readonly": '/bin/mount --bind "$1" "$2" && exec /bin/mount -o remount,bind,ro "$2"',
    "asleep": "exec sleep 1000",
    "frozen": 'exec bindfs "$1" "$2"',
}

# qemu-img as it is on a Lustre that is mounted with `noflock`: the kernel says ENOSYS to every lock of a file there.
# Source: seccomp(2); F_GETLK to F_SETLKW are 5 to 7, F_OFD_GETLK to F_OFD_SETLKW 36 to 38.
WITHOUT_LOCKS = """#!{python}
import ctypes, errno, os, platform, struct, sys
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.ENOSYS
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
fcntl = 72 if platform.machine() == "x86_64" else 25
points = open("{root}/without-locks").read().split() if os.path.exists("{root}/without-locks") else []
if any(word.startswith(point) for word in sys.argv for point in points):
    commands = (5, 6, 7, 36, 37, 38)
    code = [(LOAD, 0, 0, 0), (EQUAL, 0, len(commands) + 1, fcntl), (LOAD, 0, 0, 24)]
    code += [(EQUAL, len(commands) - place, 0, command) for place, command in enumerate(commands)]
    code += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    header = struct.pack("HL", len(code), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, header) == 0
os.execv("{qemu_img}", sys.argv)
"""


def prepare(running: stand.Stand) -> None:
    for name, text in MOUNTS.items():
        stand.write_program(
            running.root / f"mount-{name}", f"#!/bin/bash\n{text.replace('{root}', str(running.root))}\n"
        )
    shim = {"python": sys.executable, "root": running.root, "qemu_img": shutil.which("qemu-img")}
    stand.write_program(running.root / "bin" / "qemu-img", WITHOUT_LOCKS.format(**shim))
    running.share("missing").rmdir()
    subprocess.run(["chattr", "+i", running.share("owner")], check=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stand.Stand]:
    services = ("api", "scheduler", "volume")
    with stand.running(tmp_path_factory.mktemp("bad"), BACKENDS, services=services, prepare=prepare) as running:
        yield running


@pytest.fixture(scope="module")
def cinder(running: stand.Stand) -> api.Cinder:
    found = api.Cinder(running)
    found.wait_for_services("good", "frozen", others=1)
    for name in BACKENDS:
        found.make_type(name, volume_backend_name=name)
    return found


def find_daemon(running: stand.Stand) -> list[int]:
    """The program behind the share `frozen`."""
    found = subprocess.run(["pgrep", "-f", f"^bindfs {running.share('frozen')} "], capture_output=True, check=False)
    return [int(word) for word in found.stdout.split()]


@contextlib.contextmanager
def frozen(running: stand.Stand) -> Iterator[None]:
    """The server of a share does not answer."""
    (pid,) = find_daemon(running)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("name", SAID)
def test_a_back_end_that_cannot_work_says_which_option_and_why(cinder: api.Cinder, name: str):
    def said() -> bool:
        return re.search(SAID[name], cinder.stand.log("volume"), re.DOTALL) is not None

    wait_for(said, f"the log says what is wrong with {name}")
    errors = [line for line in cinder.stand.log("volume").splitlines() if " ERROR " in line]
    assert any(re.search(WHERE_TO_LOOK.format(name=name), line) for line in errors), errors
    assert name not in cinder.pools()


def test_a_share_is_tried_as_often_as_the_configuration_says(cinder: api.Cinder):
    def count() -> int:
        tried = (cinder.stand.root / "mounts.log").read_text().splitlines()
        return len([line for line in tried if "/lfs/nid " in line])

    # Cinder itself starts a driver that failed once more, later and later (reinit_driver_count), perhaps just now.
    wait_for(lambda: count() and count() % ATTEMPTS == 0, "all attempts of a start are made")


def test_the_good_back_end_makes_volumes_meanwhile(cinder: api.Cinder):
    volume = cinder.create(1, "good")
    cinder.check(volume)
    cinder.gone(volume)


def test_no_volume_is_made_on_a_back_end_that_cannot_work(cinder: api.Cinder):
    volume = cinder.volume(cinder.api.volumes.create(1, volume_type="readonly"), "error")
    cinder.gone(volume)


@pytest.mark.long  # as long as a mount may take
def test_a_mount_that_never_ends_is_given_up_and_says_so(cinder: api.Cinder):
    wait_for(
        lambda: "/lfs/asleep cannot be mounted: no answer within 90 s" in cinder.stand.log("volume"),
        "the mount was given up",
    )
    assert not subprocess.run(["pgrep", "-f", "^sleep 1000$"], capture_output=True, check=False).stdout


def test_a_server_that_stops_answering_holds_nobody_and_comes_back_by_itself(cinder: api.Cinder):
    volume = cinder.create(1, "frozen")
    with frozen(cinder.stand):
        wait_for(lambda: "frozen" not in cinder.pools(), "the pool is not offered")
        assert re.search(r"/lfs/frozen: no answer within 10 s", cinder.stand.log("volume"))
        cinder.gone(cinder.create(1, "good"))  # while the other still does not answer
        refused = cinder.api.volume_snapshots.create(volume.id, name="s")
        wait_for(lambda: cinder.api.volume_snapshots.get(refused.id).status == "error", "it is refused")
    wait_for(lambda: "frozen" in cinder.pools(), "the pool is offered again")
    cinder.gone(cinder.api.volume_snapshots.get(refused.id))
    cinder.api.volumes.extend(volume, 2)
    cinder.volume(volume)
    cinder.gone(volume)
    with pytest.raises(exceptions.NotFound):
        cinder.api.volumes.get(volume.id)


def test_the_doctor_names_what_is_wrong_from_outside(cinder: api.Cinder):
    words = [Path(sys.executable).parent / "lustack", "doctor", "cinder", "--json", "--python", sys.executable]
    words += ["--config-file", cinder.stand.etc / "cinder.conf"]
    done = subprocess.run(words, env=cinder.stand.environment, capture_output=True, text=True, check=False)
    found = api.json.loads(done.stdout)["findings"]
    assert done.returncode == 1
    said = {(finding["check"], finding["verdict"], finding["found"]) for finding in found}
    assert any(check == "configuration" and "/no/such/file" in text for check, verdict, text in said)
    assert [text for check, verdict, text in said if check == "mount" and "Read-only file system" in text]
    assert [text for check, verdict, text in said if check == "locks" and verdict == "ok"]
