# SPDX-License-Identifier: Apache-2.0
"""Kills a service of the stand at an exact step: before, during or after the n-th command that changes something, or
after the n-th change of a volume in the database.

The services find programs of ours before the system's. Each counts itself, and when its turn has come it kills. What
the driver runs as a module of Python finds its way there by `sitecustomize`.

Rule 1: nothing depends on time: the same number and moment kill at the same step.
Rule 2: what the service had started lives on when only the service is killed (`during`, `before`, `after`), as after
    kill -9 or out of memory; it dies, too, with the whole group (`together`), as systemd does it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

from tests.cinder.stand import BACKUP_BEGINS, LIMIT_S, Stand, wait_for, write_program

MOMENTS = ("before", "during", "together", "after")
CHANGING = ("chmod", "cp", "dd", "fallocate", "mv", "qemu-img", "rm", "truncate")

GATE = """#!/bin/bash
# Counts this command, and kills the service when its turn has come.
real={real}
[ -e {root}/gate ] || exec "$real" "$@"
exec 9>>{root}/gate.log
flock 9
echo "${{0##*/}} $*" >&9
count=$(wc -l <{root}/gate.log)
exec 9>&-
read -r at moment pids <{root}/gate
[ "$count" = "$at" ] || exec "$real" "$@"
rm {root}/gate
case $moment in
    before) kill -9 $pids ;;
    during) "$real" "$@" <&0 & child=$!; kill -9 $pids; wait $child ;;
    together) "$real" "$@" <&0 & sleep 0.02; kill -9 -- -"${{pids%% *}}" ;;
    after) "$real" "$@"; kill -9 $pids ;;
esac
"""

# Programs of the package. Appended to the stand's own `sitecustomize`.
GATED = """
import os, sys
if {{"lustack.cinder.copier", "lustack.cinder.recorder"}} & set(sys.orig_argv):
    if os.path.exists("{root}/gate") and os.environ.pop("LUSTACK_PASSED", None) is None:
        os.environ["LUSTACK_PASSED"] = "1"
        os.execv("{root}/bin/lustack-python", ["lustack-python", *sys.orig_argv[1:]])
"""

# The service counts the transactions that change a volume, and kills itself after one of them. Appended likewise.
COUNTED = """
import signal
if sys.orig_argv[1:2] and sys.orig_argv[1].endswith("/cinder-volume"):
    class CountedCursor(Cursor):
        def execute(self, sql, *rest):
            if sql.startswith(("UPDATE volumes ", "UPDATE volume_admin", "INSERT INTO volume_admin")):
                self.connection.changes = getattr(self.connection, "changes", 0) + 1
            return super().execute(sql, *rest)

    class CountedConnection(Connection):
        def cursor(self, factory=CountedCursor):
            return super().cursor(factory)

        def commit(self):
            super().commit()
            changes, self.changes = getattr(self, "changes", 0), 0
            if changes and os.path.exists("{root}/changes"):
                with open("{root}/changes", "r+") as file:
                    left = int(file.read()) - 1
                    file.seek(0)
                    file.truncate()
                    file.write(str(left))
                if not left:
                    os.killpg(0, signal.SIGKILL)

    sqlite3.connect = sqlite3.dbapi2.connect = lambda *args, **rest: connect(
        *args, **{{"factory": CountedConnection, **rest}}
    )
"""


def find_group(leader: int) -> list[int]:
    """The service's own processes: the leader, and those that it forked and that are the same program still."""
    command = Path(f"/proc/{leader}/cmdline").read_bytes()
    found = [leader]
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == leader and (path / "cmdline").read_bytes() == command:
                found.append(int(path.name))
    return found


class Killer:
    """Kills services of a stand."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.gate, self.log = stand.root / "gate", stand.root / "gate.log"
        self.changes = stand.root / "changes"
        rest = stand.environment["PATH"].partition(":")[2]  # behind the stand's own
        for name in CHANGING:
            real = shutil.which(name, path=rest)
            assert real, f"{name} is not installed"
            program = stand.root / "bin" / name
            if not program.exists():
                write_program(program, GATE.format(real=real, root=stand.root))
        write_program(stand.root / "bin" / "lustack-python", GATE.format(real=sys.executable, root=stand.root))
        with (stand.root / "python" / "sitecustomize.py").open("a") as file:
            file.write(GATED.format(root=stand.root) + COUNTED.format(root=stand.root))

    def arm(self, service: str, at: int = 0, moment: str = "before") -> None:
        """From now on count commands; at the n-th one (from 1; 0: never) kill."""
        self.log.unlink(missing_ok=True)
        pids = find_group(self.stand.processes[service].pid)
        self.gate.write_text(f"{at} {moment} {' '.join(map(str, pids))}\n")

    def count(self) -> int:
        """How many commands there were; counting ends."""
        self.gate.unlink(missing_ok=True)
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def arm_database(self, at: int = 0) -> None:
        """From now on count changes of volumes in the database; after the n-th one (from 1; 0: never) kill."""
        self.changes.write_text(str(at))

    def count_changes(self) -> int:
        """How many there were since it was armed to never kill; counting ends."""
        left = int(self.changes.read_text())
        self.changes.unlink()
        return -left

    def has_killed(self, service: str) -> bool:
        return self.stand.processes[service].poll() is not None

    def kill(self, service: str) -> None:
        """Kill it now, by itself."""
        for pid in find_group(self.stand.processes[service].pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def restart(self, service: str) -> None:
        """Start a service that was killed again, when all of it is gone."""
        self.gate.unlink(missing_ok=True)
        self.changes.unlink(missing_ok=True)
        process = self.stand.processes.pop(service)
        process.wait(LIMIT_S)
        initialized = "Driver post RPC initialization completed successfully"
        told, count = {"volume": (initialized, len(self.backends())), "backup": (BACKUP_BEGINS, 1)}[service]
        before = self.stand.log(service).count(told)
        self.stand.start(service)

        def is_up() -> bool:
            self.stand.check()
            has_begun = self.stand.log(service).count(told) >= before + count
            return has_begun and (service == "volume" or self.stand.can_back_up())

        wait_for(is_up, f"cinder-{service} is ready again")

    def backends(self) -> list[str]:
        for line in (self.stand.etc / "cinder.conf").read_text().splitlines():
            if line.startswith("enabled_backends"):
                return line.partition("=")[2].split(",")
        raise AssertionError("no back ends")
