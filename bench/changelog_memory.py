# SPDX-License-Identifier: Apache-2.0
"""How much the daemon grows while it catches up with millions of records: all of it, a device that makes them up.

    python bench/changelog_memory.py [--records 3000000] [--memory-mib 1]

Each ten records are those of a file that is made and closed nine times, in three containers, 1000 files in a directory.
The files are not there any more, so each row is a deletion; the sink throws rows away. What grows is the daemon alone.
"""

from __future__ import annotations

import argparse
import os
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lustack.lustre.changelog import Record, Type, render_record
from lustack.lustre.fake import FakeLustre
from lustack.lustre.fid import NO_FID, Fid, FidKey
from lustack.sync.backlog import Backlog
from lustack.sync.budget import divide
from lustack.sync.clock import Clock
from lustack.sync.garbage import collect_seldom
from lustack.sync.metrics import Metrics
from lustack.sync.plan import SentRow
from lustack.sync.service import Daemon
from lustack.sync.settings import Settings
from lustack.sync.sinks.fake import FakeContainer, FakeSink
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.sinks.rings import Policy
from lustack.sync.sources.changelog_window import Memory
from lustack.sync.sources.changelogs import ChangelogSources
from lustack.sync.sources.choose import Choice
from lustack.sync.sources.roots import Root
from lustack.sync.state import State
from lustack.sync.world import World

MIB = 2**20
CONTAINERS = ("big0", "big1", "big2")
RECORDS_OF_A_FILE = 10
FILES_OF_A_FOLDER = 1000
PIECE_BYTES = 43_000
"""Source: measured, a read of the device gives 34 104 to 72 571."""
SHOWN = (200_000, 600_000, 1_000_000, 2_000_000, 3_000_000)
_INDEX, _TIME = struct.Struct("<Q"), 1_700_000_000 << 30
_INDEX_AT, _TARGET_AT, _PARENT_AT, _END = 8, 32, 48, 64
"""Where a record has its index and its two identities. Source: lustre_user.h, see `lustack.lustre.changelog`."""


@dataclass
class Made:
    """A log that is made up as it is read.

    Attributes:
        folders: where the files are, one of each container.
        goal: index of the last record; 0: it is empty.
        cleared: index up to which it is cleared.
    """

    folders: list[list[FidKey]]
    goal: int = 0
    cleared: int = 0
    _create: bytearray = field(default_factory=lambda: _render(Type.CREAT, 0x1000, b"result-0000000"))
    _close: bytearray = field(default_factory=lambda: _render(Type.CLOSE, 0x1242, b""))

    def record(self, index: int) -> bytearray:
        """One, which is overwritten by the next."""
        number, kind = divmod(index - 1, RECORDS_OF_A_FILE)
        record = self._close if kind else self._create
        _INDEX.pack_into(record, _INDEX_AT, index)
        record[_TARGET_AT:_PARENT_AT] = Fid(0x200000402, number, 0).key
        if not kind:
            folder = number // len(CONTAINERS) // FILES_OF_A_FOLDER
            record[_PARENT_AT:_END] = self.folders[folder][number % len(CONTAINERS)]
            record[-7:] = b"%07d" % number
        return record

    def open(self, _mdt: str, index: int, *, follow: bool) -> Reading:
        """See `Lustre.open_changelog`."""
        del follow
        return Reading(self, max(index, self.cleared + 1))

    def clear(self, _mdt: str, _user: str, index: int) -> None:
        """See `Lustre.clear`."""
        self.cleared = index


@dataclass
class Reading:
    """See `lustack.lustre.protocol.Changelog`."""

    log: Made
    index: int

    def read(self, _timeout_s: float) -> bytes:
        """Whole records."""
        found = bytearray()
        while self.index <= self.log.goal and len(found) < PIECE_BYTES:
            found += self.log.record(self.index)
            self.index += 1
        return bytes(found)

    def close(self) -> None:
        """Nothing is open."""


def _render(kind: Type, flags: int, name: bytes) -> bytearray:
    return bytearray(render_record(Record(1, kind, flags, _TIME, NO_FID, NO_FID, name, uid=0, gid=0, nid=bytes(24))))


class NoSink(FakeSink):
    """Throws rows away."""

    def send(self, key: ContainerKey, rows: Sequence[SentRow]) -> None:
        """See `Sink`."""


def peak_bytes() -> int:
    """The most memory that this process ever had."""
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=3_000_000)
    parser.add_argument("--memory-mib", type=int, default=1)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        measure(Path(base), wanted.records, wanted.memory_mib * MIB)


def make_folders(lustre: FakeLustre, records: int) -> list[list[FidKey]]:
    """The directories of all files."""
    for path in (".lustack", ".lustack/fence", "AUTH_test", *(f"AUTH_test/{name}" for name in CONTAINERS)):
        lustre.mkdir(path.encode())
    count = records // RECORDS_OF_A_FILE // len(CONTAINERS) // FILES_OF_A_FOLDER + 1
    return [
        [lustre.mkdir(f"AUTH_test/{name}/run{number:04}".encode()) for name in CONTAINERS] for number in range(count)
    ]


def measure(base: Path, records: int, memory_bytes: int) -> None:
    """Runs the daemon over the records."""
    (base / "files").mkdir()
    (base / "state").mkdir()
    lustre = FakeLustre(os.fsencode(base / "files"), mdts=1)
    (mdt,) = lustre.mdts()
    users, log = {mdt: lustre.logs[mdt].register()}, Made(make_folders(lustre, records))
    lustre.open_changelog, lustre.clear = log.open, log.clear  # type: ignore[method-assign,assignment]
    budget = divide(memory_bytes)

    def choose(_wanted: str, device: str, roots: Sequence[Root]) -> Choice:
        memory = partial(Memory, budget.identities)
        return Choice("changelog", ChangelogSources(device, lustre, users, roots, memory=memory), "for the benchmark")

    keys = [ContainerKey("AUTH_test", name) for name in CONTAINERS]
    sink = NoSink(accounts={"AUTH_test"}, containers={key: FakeContainer() for key in keys})
    settings = Settings(
        devices=str(base),
        state_dir=str(base / "state"),
        check_interval_s=86_400.0,
        hash_bytes_per_s=0,
        memory_bytes=memory_bytes,
    )
    state = State(str(base / "state" / "sync.sqlite"))
    collect_seldom()
    with ThreadPoolExecutor(1) as executor:
        world = World(settings, (Policy(0, "gold", "files"),), sink, state, Clock(state), executor)
        daemon = Daemon(world, threading.Event(), Metrics(), choose, Backlog(budget.hashing))
        thread = threading.Thread(target=daemon.run)
        thread.start()
        try:
            watch(daemon, log, records)
        finally:
            daemon.stop.set()
            thread.join()
            state.close()


def watch(daemon: Daemon, log: Made, records: int) -> None:
    """Lets the records come, and says how much the process grew."""
    while not (daemon.cycles and daemon.engine.readers and not daemon.engine.wants_tree()):
        time.sleep(0.05)
    before_bytes, used_s, marks = peak_bytes(), time.process_time(), [each for each in SHOWN if each < records]
    log.goal = records
    print(f"load {os.getloadavg()[0]:.1f}, {before_bytes // MIB} MiB before")
    print("| records cleared | grown by MiB | records/s of CPU |\n| ---: | ---: | ---: |")
    for mark in (*marks, records):
        while log.cleared < mark:
            if daemon.stop.wait(0.05):
                sys.exit("the daemon has ended")
        rate = log.cleared / (time.process_time() - used_s)
        print(f"| {log.cleared} | {(peak_bytes() - before_bytes) / MIB:.0f} | {rate:.0f} |", flush=True)
    print(f"losses: {sum(reader.losses for reader in daemon.engine.readers)}")


if __name__ == "__main__":
    main()
