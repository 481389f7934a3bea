# SPDX-License-Identifier: Apache-2.0
"""How fast changes of files become events: the source `fanotify`, as root, on a file system of its own in memory.

    python bench/watch.py [--files 200000] [--directory-files 1000] [--at DIR]

First what a queue full of events costs to read (their CPU, per event), then how many events a file makes, and how much
CPU each takes, when somebody writes files as fast as he can and the source gathers for 0, 5, 10 and 20 ms. Prints a
table in Markdown.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lustack.posix import fanotify
from lustack.sync.sources.fanotify import FanotifySource, LinuxKernel
from lustack.sync.sources.roots import Root

_QUIET_S = 0.5


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        name: what was done.
        count: events.
        cpu_s: of this process.
        wall_s: duration.
    """

    name: str
    count: int
    cpu_s: float
    wall_s: float

    def row(self, files: int) -> str:
        """A line of the table."""
        per_event_us = self.cpu_s / self.count * 1e6
        return (
            f"| {self.name} | {self.count} | {self.count / files:.3f} | {per_event_us:.2f} "
            f"| {1000 / per_event_us:.0f} | {files / self.wall_s:.0f} |"
        )


def write_files(top: Path, files: int, directory_files: int) -> None:
    """Small files, made, written and closed one after the other."""
    for number in range(files):
        directory = top / f"run{number // directory_files:05d}"
        if number % directory_files == 0:
            directory.mkdir(exist_ok=True)
        fd = os.open(directory / f"result-{number:07d}.dat", os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(fd, b"0123456789")
        os.close(fd)


@contextmanager
def file_system(at: str | None) -> Iterator[Path]:
    """A new tmpfs, or a directory of another file system."""
    with tempfile.TemporaryDirectory(dir=at, prefix="lustack-bench-") as place:
        if at is None:
            subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
        try:
            yield Path(place)
        finally:
            if at is None:
                subprocess.run(["umount", place], check=True)


def drain(name: str, source: FanotifySource, is_done: Callable[[], bool]) -> Measured:
    """Reads until nothing happens any more."""
    count, cpu_s, started_s, last_s = 0, time.process_time(), time.monotonic(), time.monotonic()
    while True:
        batch = source.read(0.1)
        if batch is not None:
            count += len(batch.events)
            last_s = time.monotonic()
        elif is_done() and time.monotonic() - last_s > _QUIET_S:
            return Measured(name, count, time.process_time() - cpu_s, last_s - started_s)


def measure_parse(top: Path, files: int, directory_files: int) -> Measured:
    """What the bytes alone cost."""
    group = LinuxKernel().start([str(top)])
    write_files(top, files, directory_files)
    count, cpu_s, started_s = 0, time.process_time(), time.monotonic()
    while True:
        try:
            count += len(fanotify.parse(os.read(group, 262_144)))
        except BlockingIOError:
            break
    measured = Measured("full queue, bytes only", count, time.process_time() - cpu_s, time.monotonic() - started_s)
    os.close(group)
    return measured


def measure_full(top: Path, files: int, directory_files: int) -> Measured:
    """What a full queue costs, with the paths of all events."""
    source = FanotifySource("bench", [Root(str(top))], is_local=True)
    source.open(None)
    write_files(top, files, directory_files)
    try:
        return drain("full queue, events with paths", source, lambda: True)
    finally:
        source.close()


def measure_live(top: Path, files: int, directory_files: int, gather_s: float) -> Measured:
    """Somebody writes while the source reads."""
    source = FanotifySource("bench", [Root(str(top))], is_local=True, gather_s=gather_s)
    source.open(None)
    writer = multiprocessing.Process(target=write_files, args=(top, files, directory_files))
    writer.start()
    try:
        return drain(f"live, gathering {gather_s * 1000:.0f} ms", source, lambda: not writer.is_alive())
    finally:
        writer.join()
        source.close()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--directory-files", type=int, default=1000)
    parser.add_argument("--at", metavar="DIR", help="a directory of another file system than a new tmpfs")
    wanted = parser.parse_args()
    files, directory_files = wanted.files, wanted.directory_files
    runs: list[Measured] = []
    for measure in (measure_parse, measure_full):
        with file_system(wanted.at) as top:
            runs.append(measure(top, files, directory_files))
    for gather_ms in (0, 5, 10, 20):
        with file_system(wanted.at) as top:
            runs.append(measure_live(top, files, directory_files, gather_ms / 1000))
    print(f"{files} files, load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print("| run | events | per file | CPU µs/event | k events/s/core | files/s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for run in runs:
        print(run.row(files))


if __name__ == "__main__":
    main()
