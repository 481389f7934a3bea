# SPDX-License-Identifier: Apache-2.0
"""Kills or holds nova-compute and cinder-volume at an exact step.

The services find a `sitecustomize` of ours, which counts what passes a gate: calls of libvirt in nova-compute, what
cinder-volume records of a migration. A gate does nothing unless a file of its name says so.

Rule 1: nothing depends on time: a service is killed at the same step however fast the machine is.
Rule 2: a service dies with all that it is made of, as by kill -9 of its group.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from tests.cinder.stand import wait_for
from tests.openstack import database
from tests.openstack import stand as whole
from tests.openstack.stand import BACKENDS, Stand

ASKED = "asked-for-job"
"""nova-compute asks libvirt how far a copy or a merge is, which goes on meanwhile."""
SWITCHING = "switching-disk"
"""nova-compute is about to make a guest write to the file of a snapshot."""
SWITCHED = "switched-disk"
"""A guest writes to another file by now, and nova-compute has told nobody."""
COMPLETING = "completing-migration"
"""cinder-volume is about to record that it completes a migration: Nova has deleted the attachment that it knows."""
LOCATED = "located-volume"
"""cinder-volume has recorded where a volume is."""
COMPLETED = "completed-migration"
"""cinder-volume has recorded that a migration is over, and is about to have the copy deleted."""
GIVING = "giving-attachment"
"""cinder-volume has the copy deleted, and is about to give the volume the copy's attachment."""
PLACES = {
    "ASKED": ASKED,
    "SWITCHING": SWITCHING,
    "SWITCHED": SWITCHED,
    "COMPLETING": COMPLETING,
    "LOCATED": LOCATED,
    "COMPLETED": COMPLETED,
    "GIVING": GIVING,
}
"""What the program below calls them."""

COMPUTE, VOLUME = "nova-compute", "cinder-volume"

GATES = """
import os, signal, sys, time

def pass_gate(name):
    path = "@ROOT@/gates/" + name
    try:
        with open(path) as file:
            left = file.read()
    except FileNotFoundError:
        return
    if left == "hold":
        open(path + ".reached", "w").close()
        while os.path.exists(path):
            time.sleep(0.1)
        return
    with open(path, "w") as file:
        file.write(str(int(left) - 1))
    if left == "1":
        os.killpg(0, signal.SIGKILL)

program = os.path.basename(sys.orig_argv[1]) if len(sys.orig_argv) > 1 else ""
if program == "nova-compute":
    import libvirt
    PIVOT = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT

    class Domain:
        info, abort = libvirt.virDomain.blockJobInfo, libvirt.virDomain.blockJobAbort
        snapshot = libvirt.virDomain.snapshotCreateXML

    def blockJobInfo(self, *args, **more):
        pass_gate("@ASKED@")
        return Domain.info(self, *args, **more)

    def blockJobAbort(self, disk, flags=0):
        found = Domain.abort(self, disk, flags)
        if flags & PIVOT:
            pass_gate("@SWITCHED@")
        return found

    def snapshotCreateXML(self, *args, **more):
        pass_gate("@SWITCHING@")
        found = Domain.snapshot(self, *args, **more)
        pass_gate("@SWITCHED@")
        return found

    for function in (blockJobInfo, blockJobAbort, snapshotCreateXML):
        setattr(libvirt.virDomain, function.__name__, function)

if program == "cinder-volume":
    from pymysql import connections, cursors

    execute, commit = cursors.Cursor.execute, connections.Connection.commit

    def find_gate(query, values):
        if "success" in values:
            return "@COMPLETED@"
        return "@LOCATED@" if "provider_location" in query else None

    def watched_execute(self, query, args=None):
        values = list(args.values() if isinstance(args, dict) else args or ())
        if query.startswith("UPDATE volumes SET"):
            if "completing" in values:
                pass_gate("@COMPLETING@")
            self.connection.gate = find_gate(query, values) or getattr(self.connection, "gate", None)
        if query.startswith("UPDATE volume_attachment SET") and " volume_id=" in query:
            pass_gate("@GIVING@")
        return execute(self, query, args)

    def watched_commit(self):
        commit(self)
        gate, self.gate = getattr(self, "gate", None), None
        if gate is not None:
            pass_gate(gate)

    cursors.Cursor.execute, connections.Connection.commit = watched_execute, watched_commit
"""


class Gates:
    """The gates of a stand, and its services when they have died."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.directory = stand.site.root / "gates"
        self._program = stand.site.root / "python" / "sitecustomize.py"

    def open(self) -> None:
        """Let the services that are started from now on pass gates."""
        self.directory.mkdir()
        self._program.parent.mkdir()
        text = GATES.replace("@ROOT@", str(self.stand.site.root))
        for name, gate in PLACES.items():
            text = text.replace(f"@{name}@", gate)
        self._program.write_text(text)

    def reset(self) -> None:
        """After a test that failed: let everybody pass, and start again who is dead."""
        for path in self.directory.iterdir():
            path.unlink(missing_ok=True)
        for service in (VOLUME, COMPUTE):
            if self._process(service).poll() is not None:
                self.restart(service)

    def close(self) -> None:
        """Let those that wait go on, and those that are started from now on pass none."""
        shutil.rmtree(self._program.parent)
        shutil.rmtree(self.directory)

    def kill_at(self, gate: str, number: int = 1) -> None:
        """Kill who passes a gate for the n-th time from now on."""
        (self.directory / gate).write_text(str(number))

    def hold_at(self, gate: str) -> None:
        """Make who passes a gate wait there."""
        (self.directory / gate).write_text("hold")

    def wait_at(self, gate: str) -> None:
        """Wait until somebody waits at a gate."""
        wait_for((self.directory / f"{gate}.reached").exists, f"somebody waits at {gate}")

    def release(self, gate: str) -> None:
        """Let who waits at a gate go on, and who comes there."""
        (self.directory / f"{gate}.reached").unlink(missing_ok=True)
        (self.directory / gate).unlink()

    def _process(self, service: str):
        processes = self.stand.crew.processes if service == COMPUTE else self.stand.cinder.processes
        return processes["volume" if service == VOLUME else service]

    def kill(self, service: str) -> None:
        os.killpg(self._process(service).pid, signal.SIGKILL)
        self.wait_for_death(service)

    def wait_for_death(self, service: str) -> None:
        wait_for(lambda: self._process(service).poll() is not None, f"{service} is dead")

    def restart(self, service: str) -> None:
        """Start a service again, which has died or is stopped now; returns when it works."""
        if service == COMPUTE:
            # It resets what is under way of servers when it starts, so it has to have done that.
            query = "SELECT report_count FROM nova_cell1.services WHERE `binary` = 'nova-compute'"
            directory = self.stand.site.root / "mariadb"
            before = database.ask(directory, query)
            self.stand.crew.stop(service)
            whole.start_compute(self.stand)
            wait_for(lambda: database.ask(directory, query) != before, "nova-compute is at work")
            return
        log = Path(self.stand.cinder.root / "volume.log")
        ready = "Driver post RPC initialization completed successfully"
        before = log.read_text(errors="replace").count(ready)
        self.stand.cinder.stop("volume")
        self.stand.cinder.start("volume")

        def is_up() -> bool:
            self.stand.cinder.check()  # another service may be dead
            return log.read_text(errors="replace").count(ready) >= before + len(BACKENDS)

        wait_for(is_up, "all back ends are initialized again")
