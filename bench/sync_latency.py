# SPDX-License-Identifier: Apache-2.0
"""How long it takes from the close of a file until Swift lists it, on `lustack serve`, at some rates of new files.

    python bench/sync_latency.py [--rates 10,1000,5000,10000] [--seconds 20] [--containers 4] [--at DIR]

A process writes small files at a rate, into some containers in turn; where it falls behind it writes as fast as it can
until it has caught up, and the table says which rate it reached. Another asks the proxy all the time which probes,
ten files a second in a directory of their own, are listed: one question for each container where some are not. The
clock of a probe runs from the return of close(2) to the answer that shows it; the pause between two rounds (10 ms) is
in it. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench_serving import Client, cpu_s, load, pids, read_status

from lustack.server import instance, topology

PAUSE_S = 0.01
PROBES_PER_S = 10
LIMIT_S = 60.0
SETTLE_S = 1.0
SLICES_PER_S = 200
"""So often does the writer look at its clock, at most; once for each file at low rates."""


@dataclass(frozen=True)
class Task:
    """What the writer does.

    Attributes:
        account: directory of the account.
        containers: how many.
        rate: files a second.
        seconds: for so long.
        run: makes names unique.
    """

    account: Path
    containers: int
    rate: int
    seconds: float
    run: str

    def directory(self, number: int) -> str:
        """Directory of a file that is no probe."""
        return f"{self.run}/{number // 1000:05d}/"

    @property
    def probes(self) -> str:
        """How the names of probes begin."""
        return f"{self.run}/probes/"

    def container(self, number: int) -> str:
        """Container of a file."""
        return f"c{number % self.containers}"

    def is_probe(self, number: int) -> bool:
        """Whether it is waited for."""
        # Not a multiple of the containers' number, so that probes are in all of them.
        every = max(1, self.rate // PROBES_PER_S)
        return number % every == number // every % min(every, self.containers)

    def name(self, number: int) -> str:
        """Name of a file."""
        return f"{self.probes if self.is_probe(number) else self.directory(number)}{number:07d}"


def write(task: Task, probes: multiprocessing.Queue[tuple[str, str, float] | float]) -> None:
    """Writes at the rate, and tells of the probes; at last the rate that it reached.

    Everything but the files is made before, and directories stay open: at 10 000 a second there are 100 µs for each.
    """
    work = prepare(task)
    time.sleep(SETTLE_S)
    gc.collect()
    gc.disable()
    slice_files = max(1, task.rate // SLICES_PER_S)
    began_s = time.monotonic()
    for number, (folder, entry) in enumerate(work):
        if number % slice_files == 0:
            time.sleep(max(0.0, began_s + number / task.rate - time.monotonic()))
        fd = os.open(entry, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=folder)
        os.write(fd, b"x")
        os.close(fd)
        if task.is_probe(number):
            probes.put((task.container(number), task.name(number), time.monotonic()))
    probes.put(len(work) / (time.monotonic() - began_s))


def prepare(task: Task) -> list[tuple[int, str]]:
    """Makes the directories. Returns an open one and an entry in it for each file."""
    folders: dict[str, int] = {}
    work = []
    for number in range(int(task.rate * task.seconds)):
        path, _, entry = f"{task.account}/{task.container(number)}/{task.name(number)}".rpartition("/")
        if path not in folders:
            os.makedirs(path, exist_ok=True)
            folders[path] = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        work.append((folders[path], entry))
    return work


def watch(
    client: Client, task: Task, probes: multiprocessing.Queue[tuple[str, str, float] | float]
) -> tuple[list[float], float]:
    """Waits for every probe. Returns the latencies, and the rate of the writer."""
    waiting: dict[tuple[str, str], float] = {}
    latencies: list[float] = []
    rate = 0.0
    limit_s = time.monotonic() + 600
    while (waiting or not rate) and time.monotonic() < limit_s:
        while not probes.empty():
            found = probes.get()
            if isinstance(found, float):
                rate, limit_s = found, time.monotonic() + LIMIT_S
            else:
                waiting[found[0], found[1]] = found[2]
        for container in sorted({container for container, _ in waiting}):
            first = min(name for where, name in waiting if where == container)
            for name in client.list(container, task.probes, first):
                since_s = waiting.pop((container, name), None)
                if since_s is not None:
                    latencies.append(time.monotonic() - since_s)
        time.sleep(PAUSE_S)
    assert not waiting, f"{len(waiting)} probes were never listed"
    return latencies, rate


def measure(served: instance.Instance, client: Client, task: Task) -> str:
    """One rate: a line of the table."""
    daemon, server = pids(served)
    before = (cpu_s(daemon), cpu_s(server), read_status(served).events)
    probes: multiprocessing.Queue[tuple[str, str, float] | float] = multiprocessing.Queue()
    writer = multiprocessing.Process(target=write, args=(task, probes))
    writer.start()
    latencies, rate = watch(client, task, probes)
    writer.join()
    time.sleep(1.5)
    files = int(task.rate * task.seconds)
    events = read_status(served).events - before[2]
    daemon_us = (cpu_s(daemon) - before[0]) / max(1, events) * 1e6
    server_us = (cpu_s(server) - before[1]) / files * 1e6
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return (
        f"| {task.rate} | {rate:.0f} | {files} | {events / files:.2f} | {cuts[49] * 1000:.0f} | {cuts[98] * 1000:.0f} "
        f"| {daemon_us:.1f} | {server_us:.1f} | {load()} |"
    )


def main() -> None:
    """Measures all rates."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rates", default="10,1000,5000,10000")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--containers", type=int, default=4)
    parser.add_argument("--at", type=Path, default=None, help="a directory on the file system to measure")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.at) as base:
        host = topology.Host(Path(base) / "data", Path(base) / "state", port=0)
        with instance.running(host) as served:
            client = Client(served)
            client.put_containers(wanted.containers)
            account = Path(host.directory) / "AUTH_test"
            for number in range(wanted.containers):
                (account / f"c{number}").mkdir(parents=True, exist_ok=True)
            time.sleep(3)
            print(
                "| wanted/s | files/s | files | events each | p50 ms | p99 ms | daemon µs/event | server µs/row | load"
            )
            print("|---|---|---|---|---|---|---|---|---|", flush=True)
            for rate in map(int, wanted.rates.split(",")):
                task = Task(account, wanted.containers, rate, wanted.seconds, f"r{rate}")
                print(measure(served, client, task), flush=True)
            print(json.dumps(read_status(served).__dict__, default=str))


if __name__ == "__main__":
    main()
