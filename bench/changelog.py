# SPDX-License-Identifier: Apache-2.0
"""How many records of a changelog are read in a second of CPU: parsed, coalesced, and made into events with paths.

    python bench/changelog.py [--records 400000]

The records are those of files that are made, written and closed, in 100 directories, as a job leaves them; 122 bytes
each on average. For `events` there are real directories under a fake Lustre: each is looked at once for a window.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lustack.lustre.changelog import Record, Type, render_record, scan
from lustack.lustre.fake import FakeLustre
from lustack.lustre.fid import NO_FID, Fid, FidKey
from lustack.mapping.names import RelPath
from lustack.sync.sources.changelog import ChangelogSource
from lustack.sync.sources.changelog_paths import Paths
from lustack.sync.sources.changelog_window import Memory, Window
from lustack.sync.sources.roots import Root

PIECE = 400
WINDOW = 20_000
FOLDERS = 100
ROUNDS = 5
_INDEX = struct.Struct("<Q")


def make_records(count: int, folders: list[FidKey]) -> list[bytes]:
    """Raw records: two for each file."""
    records = []
    for number in range(count // 2):
        key = Fid(0x200000400 + (number >> 16), number & 0xFFFF, 0).key
        for kind, flags, parent, name in (
            (Type.CREAT, 0x1000, folders[number % len(folders)], b"output-%09d.dat" % number),
            (Type.CLOSE, 0x1242, NO_FID, b""),
        ):
            index = len(records) + 1
            record = Record(index, kind, flags, time.time_ns(), key, parent, name, uid=0, gid=0, nid=bytes(24))
            records.append(render_record(record))
    return records


def parse(pieces: list[bytes]) -> int:
    """Only reads the records."""
    return sum(1 for piece in pieces for _ in scan(piece))


def coalesce(pieces: list[bytes]) -> int:
    """Reads and coalesces, in windows."""
    memory, count = Memory(), 0
    window = Window(memory)
    for piece in pieces:
        count += window.feed(piece)
        if window.count >= WINDOW:
            window = Window(memory)
    return count


class Served:
    """A fake Lustre whose log holds these records."""

    def __init__(self, top: str, count: int) -> None:
        """Makes directories, records and a source."""
        for number in range(FOLDERS):
            os.makedirs(os.path.join(top, "AUTH_test", "c", f"d{number}"))
        self.lustre = FakeLustre(os.fsencode(top))
        (self.mdt,) = self.lustre.mdts()
        self.log = self.lustre.logs[self.mdt]
        self.user = self.log.register()
        self.folders = [self.lustre.key_at(b"AUTH_test/c/d%d" % number) for number in range(FOLDERS)]
        self.records = make_records(count, self.folders)
        self.roots = {self.lustre.key_at(b""): Root(top, RelPath(b""))}

    def report(self, executor: ThreadPoolExecutor) -> int:
        """Reads everything through a source, until the last record; acknowledges as it goes."""
        self.log.records = dict(enumerate(self.records, 1))
        self.log.last_index, self.log.users[self.user] = len(self.records), 0
        paths = Paths(self.lustre, Memory(), self.roots, executor)
        source = ChangelogSource(self.lustre, self.mdt, self.user, paths)
        # Positions are index, time and target: this is the beginning.
        source.open(source.position)
        events = 0
        while (batch := source.read(1.0)) is not None:
            events += len(batch.events)
        source.close()
        assert events >= len(self.records) // 2
        return len(self.records)


class Behind:
    """See `lustack.lustre.protocol.Changelog`: a log with millions of records, made while it is read."""

    def __init__(self, template: list[bytes], index: int, last: int) -> None:
        """Begins at an index."""
        self._piece = bytearray(b"".join(template))
        self._offsets = list(itertools.accumulate(map(len, template[:-1]), initial=0))
        # What was read last is gone: it was cleared.
        self._next, self._last = index + (index > 1), last

    def read(self, timeout_s: float) -> bytes | None:
        """See `Changelog`."""
        del timeout_s
        if self._next > self._last:
            return b""
        for offset in self._offsets:
            _INDEX.pack_into(self._piece, offset + 8, self._next)
            self._next += 1
        return bytes(self._piece)

    def close(self) -> None:
        """See `Changelog`."""


def catch_up(served: Served, count: int, executor: ThreadPoolExecutor) -> str:
    """Reads what an outage has left, acknowledges each batch; what that costs in memory, and how steadily it clears."""
    template = served.records[:PIECE]
    lustre, cleared = served.lustre, [0]

    def open_changelog(_mdt: str, index: int, **_: bool) -> Behind:
        return Behind(template, index, count)

    lustre.open_changelog = open_changelog  # type: ignore[assignment,method-assign]
    lustre.clear = lambda _mdt, _user, index: cleared.append(index)  # type: ignore[method-assign]
    source = ChangelogSource(lustre, served.mdt, served.user, Paths(lustre, Memory(), served.roots, executor))
    source.open(source.position)
    before = peak_bytes()
    while (batch := source.read(1.0)) is not None:
        source.acknowledge(batch.position)
    source.close()
    assert cleared[-1] == count
    steps = [after - earlier for earlier, after in itertools.pairwise(cleared)]
    grown = (peak_bytes() - before) / 2**20
    return f"{count} records behind: the process grew by {grown:.0f} MiB, cleared at most {max(steps)} records at once"


def peak_bytes() -> int:
    """The most memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(what: str, run: Callable[[], int]) -> None:
    """Prints records a second of CPU: median and range of some rounds."""
    rates = []
    for _ in range(ROUNDS):
        started_s = time.process_time()
        count = run()
        rates.append(count / (time.process_time() - started_s))
    middle = statistics.median(rates)
    print(f"| {what} | {middle / 1e6:.2f} M | {min(rates) / 1e6:.2f}-{max(rates) / 1e6:.2f} M |", flush=True)


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=400_000)
    parser.add_argument("--behind", type=int, default=3_000_000, help="records that wait after an outage")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as top, ThreadPoolExecutor(4) as executor:
        served = Served(top, wanted.records)
        pieces = [b"".join(served.records[at : at + PIECE]) for at in range(0, len(served.records), PIECE)]
        print(f"{wanted.records} records, load {os.getloadavg()[0]:.1f}, CPU of one core")
        print("| | records/s (median) | range |\n| --- | --- | --- |")
        measure("parse", lambda: parse(pieces))
        measure("parse and coalesce", lambda: coalesce(pieces))
        measure("events with paths, one for two records", lambda: served.report(executor))
        count = wanted.behind // PIECE * PIECE
        print(f"\n{catch_up(served, count, executor)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
