# SPDX-License-Identifier: Apache-2.0
"""Lets services of the stand run without root, and become root as in production: by Cinder's real rootwrap.

What stands for sudo hands its arguments and its streams over a socket to this process, which is root and runs nothing
but cinder-rootwrap, with Cinder's own filters and ours, and the helper of privsep.

Rule 1: a service may read everything, since its interpreter may lie below /root; it may write only what is its own.
    The programs that it runs on files of volumes may not read more either.
Rule 2: these programs, and what stands for sudo, are found by these services only, in a directory of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from tests import mounts
from tests.cinder.stand import Stand, unmount_all, write_program

UID = 65534
READ_ONLY_ROOT = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
BECOME = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", *READ_ONLY_ROOT)
ALLOWED = ("cinder-rootwrap", "privsep-helper")

SUDO = """#!{python} -IS
import json, os, socket, sys
with open("{root}/became-root.log", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
client = socket.socket(socket.AF_UNIX)
client.connect("{root}/become")
socket.send_fds(client, [json.dumps([os.getcwd(), *sys.argv[1:]]).encode()], [0, 1, 2])
sys.exit(int(client.recv(16) or b"1"))
"""

# What a service runs on files of volumes.
TOUCHING = ("chmod", "cp", "dd", "fallocate", "find", "mv", "qemu-img", "qemu-storage-daemon", "rm", "stat", "truncate")
TOUCH = '#!/bin/sh\nexec setpriv --ambient-caps=-all --inh-caps=-all {program} "$@"\n'

VIEW = "qemu-storage-daemon"
SAYING_WHO = '#!/bin/sh\nid -u >> {root}/viewers.log\nexec {program} "$@"\n'

ROOTWRAP = """[DEFAULT]
filters_path = {shipped}/etc/cinder/rootwrap.d,{ours}/etc/cinder/rootwrap.d
exec_dirs = {root}/bin,{shipped}/bin,/usr/sbin,/usr/bin,/sbin,/bin
use_syslog = False
"""

CONF = """
[cinder_sys_admin]
helper_command = sudo privsep-helper --config-file {etc}/cinder.conf
[privsep_osbrick]
helper_command = sudo privsep-helper --config-file {etc}/cinder.conf
"""


def prepare(stand: Stand) -> None:
    """Have the services of a stand run as a user who may do nothing."""
    shipped, ours = Path(sys.prefix), Path(__file__).parents[2]
    (stand.etc / "rootwrap.conf").write_text(ROOTWRAP.format(shipped=shipped, ours=ours, root=stand.root))
    path = stand.etc / "cinder.conf"
    text = path.read_text().replace("[DEFAULT]\n", f"[DEFAULT]\nrootwrap_config = {stand.etc}/rootwrap.conf\n", 1)
    path.write_text(text + CONF.format(etc=stand.etc))
    _write_programs(stand)
    for directory in (stand.state, stand.etc):
        subprocess.run(["chown", "-R", f"{UID}:{UID}", directory], check=True)
    os.chown(stand.root, UID, UID)
    stand.become = BECOME


def _write_programs(stand: Stand) -> None:
    programs = stand.root / "programs"
    programs.mkdir()
    write_program(programs / "sudo", SUDO.format(python=sys.executable, root=stand.root))
    for name in TOUCHING:
        write_program(programs / name, TOUCH.format(program=shutil.which(name)))
    write_program(stand.root / "bin" / VIEW, SAYING_WHO.format(root=stand.root, program=shutil.which(VIEW)))
    stand.environment["PATH"] = f"{programs}:{stand.environment['PATH']}"


def list_touched_as_root(stand: Stand) -> list[list[str]]:
    """Commands that were run as root until now on something in a share, but mounts; the raw view is one.

    What shows it is another user's program.
    """
    commands = [json.loads(line) for line in (stand.root / "became-root.log").read_text().splitlines()]
    shares = (f"{stand.state}/mnt/", f"{stand.state}/backup_mount/")
    found = [words for words in commands if any(share in word for word in words for share in shares)]
    assert found, "no share was mounted"
    # cinder-rootwrap CONFIGURATION PROGRAM ...
    return [words for words in found if words[2] not in ("mount", "umount", "lustack-rawview")]


def find_viewers(stand: Stand) -> set[int]:
    """The users as whom qcow2 volumes were opened to be shown as raw bytes."""
    return {int(line) for line in (stand.root / "viewers.log").read_text().split()}


@contextlib.contextmanager
def reachable_directory() -> Iterator[Path]:
    """A directory that every user can reach, unlike those of pytest: access(2) knows no capabilities."""
    with tempfile.TemporaryDirectory(prefix="lustack-stand-") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@contextlib.contextmanager
def root_for(root: Path) -> Iterator[None]:
    """Serve what stands for sudo in a stand, in a process of its own: nothing of it may run in that of the tests.

    Args:
        root: directory of the stand.
    """
    mounts.open_fuse()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "become"))
        os.chmod(root / "become", 0o777)
        server.listen(64)
        # Its command line names the state: what it forks is of the stand before it is another program.
        command = [sys.executable, "-m", "tests.cinder.rootwrapped", str(server.fileno()), f"{root}/state/"]
        process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], env=_find_environment(root), pass_fds=[server.fileno()]
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()
        # A service may have asked for a mount in its last moment.
        unmount_all(root)


def _find_environment(root: Path) -> dict[str, str]:
    """As the services have it, so that rootwrap finds the stand's programs."""
    return os.environ | {"PATH": f"{root / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"}


def _serve(server: socket.socket) -> None:
    while True:
        client, _ = server.accept()
        threading.Thread(target=_run, args=(client,), daemon=True).start()


def _run(client: socket.socket) -> None:
    with client:
        message, streams, _, _ = socket.recv_fds(client, 1 << 16, 3)
        if not message:  # who asked was killed
            return
        directory, *words = json.loads(message)
        code = 1
        if words[0] in ALLOWED:
            places = dict(zip(("stdin", "stdout", "stderr"), streams, strict=True))
            code = subprocess.run(words, cwd=directory, check=False, **places).returncode
        for stream in streams:
            os.close(stream)
        with contextlib.suppress(OSError):  # who asked may be gone
            client.sendall(str(code).encode())


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
