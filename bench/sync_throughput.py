# SPDX-License-Identifier: Apache-2.0
"""How many events a second become rows: the engine of the daemon with real container servers, as fast as it can.

    python bench/sync_throughput.py [--files 100000] [--containers 1,4] [--at DIR]

Makes small files, then says of each what a source of events would: that it was created, and that it was closed. The
clock runs from the first event until the last is acknowledged, so until every row is in a listing. CPU is that of this
process (which is the daemon), and of the container server. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from bench_serving import Client, cpu_s, load, server_pid

from lustack.mapping.names import RelPath
from lustack.server import instance, topology
from lustack.sync.events import NameChanged
from lustack.sync.garbage import collect_seldom
from lustack.sync.metrics import Metrics
from lustack.sync.service import Daemon
from lustack.sync.settings import Settings
from lustack.sync.sources.choose import Choice
from lustack.sync.sources.fake import FakeSource
from lustack.sync.sources.protocol import Batch
from lustack.sync.world import opened

DIRECTORY_FILES = 1000
BATCH = 2000
PAUSE_S = 0.01
LIMIT_S = 600


class PatientSource(FakeSource):
    """Waits a while where nothing happens, as a real one does."""

    def read(self, timeout_s: float) -> Batch | None:
        """See `Source`."""
        found = super().read(timeout_s)
        if found is None:
            time.sleep(min(timeout_s, PAUSE_S))
        return found


@dataclass(frozen=True)
class Tree:
    """Files of a job.

    Attributes:
        account: directory of the account.
        run: makes the names of containers unique.
        containers: how many.
        files: how many.
    """

    account: Path
    run: str
    containers: int
    files: int

    def names(self) -> list[str]:
        """Of the containers."""
        return [f"{self.run}-{number}" for number in range(self.containers)]

    def make(self) -> list[NameChanged]:
        """Makes them, and returns what a source would say."""
        names = self.names()
        events = []
        for number in range(self.files):
            container = names[number % self.containers]
            relative = f"{container}/{number // DIRECTORY_FILES:05d}/result-{number:07d}.dat"
            place = self.account / relative
            if number % DIRECTORY_FILES < self.containers:
                place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"x")
            path = RelPath(f"{self.account.name}/{relative}".encode())
            events += [NameChanged(path, is_open=True, is_new=True), NameChanged(path)]
        return events


def measure(host: topology.Host, served: instance.Instance, client: Client, tree: Tree) -> str:
    """One run: a line of the table."""
    for name in tree.names():
        assert client.ask("PUT", f"/{name}")[0] in (201, 202)
    source = PatientSource(most=BATCH)
    settings = Settings(
        swift_dir=host.etc,
        devices=host.node,
        state_dir=f"{host.state}/bench-{tree.run}",
        hash_bytes_per_s=0,
    )
    collect_seldom()
    with opened(settings) as world:
        stop = threading.Event()
        daemon = Daemon(world, stop, Metrics(), choose=lambda *_: Choice("fake", source, "for the benchmark"))
        thread = threading.Thread(target=daemon.run)
        thread.start()
        while not daemon.cycles or daemon.engine.wants_tree():
            time.sleep(0.1)
        events = tree.make()
        server = server_pid(served)
        before_s, server_before_s, started_s = time.process_time(), cpu_s(server), time.monotonic()
        source.happen(*events)
        while source.acknowledged < len(events) and time.monotonic() < started_s + LIMIT_S:
            time.sleep(0.02)
        wall_s = time.monotonic() - started_s
        used_s, server_s = time.process_time() - before_s, cpu_s(server) - server_before_s
        rows = daemon.engine.parts.sink.rows
        stop.set()
        thread.join()
    assert sum(client.count(name) for name in tree.names()) == tree.files
    return (
        f"| {tree.containers} | {len(events)} | {rows} | {len(events) / wall_s:.0f} | {rows / wall_s:.0f} "
        f"| {used_s / len(events) * 1e6:.1f} | {server_s / rows * 1e6:.1f} | {load()} |"
    )


def main() -> None:
    """Measures with some numbers of containers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--containers", default="1,4")
    parser.add_argument("--at", type=Path, default=None, help="a directory on the file system to measure")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.at) as base:
        host = topology.Host(Path(base) / "data", Path(base) / "state", port=0, sync=False)
        with instance.running(host) as served:
            client = Client(served)
            print("| containers | events | rows | events/s | rows/s | daemon µs/event | server µs/row | load |")
            print("|---|---|---|---|---|---|---|---|", flush=True)
            for count in map(int, wanted.containers.split(",")):
                tree = Tree(Path(host.directory) / "AUTH_test", f"n{count}", count, wanted.files)
                print(measure(host, served, client, tree), flush=True)


if __name__ == "__main__":
    main()
