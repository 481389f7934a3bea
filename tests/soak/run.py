# SPDX-License-Identifier: Apache-2.0
"""Many clients for long, and whether the servers grow: descriptors, threads, memory.

    python tests/soak/run.py [--clients 500] [--seconds 1800] [--at DIR]

Serves a temporary directory on the short path. Clients read and write, fast and slowly, and go away in the middle.
Every answer is checked. The servers are measured when the clients have warmed them up, and again at the end, at rest
both times.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import re
import shutil
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.functional.client import log_in
from tests.soak.clients import Place, Run, serve_all

from lustack.mapping import layout
from lustack.server import instance
from lustack.server.topology import Host

TROUBLE = re.compile(r"ERROR|WARNING|does not answer|imeout| 50[0-9] |Traceback")
MOST_LINES = 15
WARM_PART = 0.5
"""How much of the time makes a server as large as it needs to be: both halves see the same crowd, so that what was
needed once (up to 1 MiB for each upload under way) is not taken for growth."""

REST_S = 10
MORE_DESCRIPTORS = 16
"""Connections to memcached and between servers come and go."""

MOST_LOCKS = 256
"""Files of locks that a server keeps open, one for each: it comes by them as names hash to them (decision 0022)."""

MORE_THREADS = 8
"""They are made when all others are busy, up to a bound of 30 for each device: what hangs makes more than that."""

MORE_MEMORY_PART, MORE_MEMORY_MIB = 0.15, 24
SERVERS = ("proxy-server", "container-server", "account-server", "object-server")


@dataclass(frozen=True)
class Size:
    """How large a process is; `descriptors` without those of locks."""

    descriptors: int
    locks: int
    threads: int
    memory_mib: float

    @classmethod
    def of(cls, pid: int) -> Size:
        """Measures a process."""
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        memory_mib = int(fields["VmRSS"].split()[0]) / 1024
        opened = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]
        locks = sum(os.fsdecode(layout.LOCKS) in path for path in opened)
        return cls(len(opened) - locks, locks, int(fields["Threads"]), memory_mib)

    def grew_to(self, later: Size) -> list[str]:
        """What is more than it may be."""
        allowed_mib = self.memory_mib * (1 + MORE_MEMORY_PART) + MORE_MEMORY_MIB
        found = {
            "descriptors": later.descriptors > self.descriptors + MORE_DESCRIPTORS,
            "locks": later.locks > MOST_LOCKS,
            "threads": later.threads > self.threads + MORE_THREADS,
            "memory": later.memory_mib > allowed_mib,
        }
        return [what for what, is_more in found.items() if is_more]

    def __str__(self) -> str:
        counts = f"{self.descriptors} descriptors, {self.locks} locks, {self.threads} threads"
        return f"{counts}, {self.memory_mib:.0f} MiB"


def measure(served: instance.Instance) -> dict[str, Size]:
    """The size of each server."""
    pids = served.supervisor.pids()
    return {name: Size.of(pids[name]) for name in SERVERS}


def place_of(served: instance.Instance) -> Place:
    """A new container."""
    port = served.assigned.ports.proxy
    token = log_in(served.access)
    prefix = urllib.parse.urlsplit(served.access.storage_url).path + "/soak"
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", prefix, b"", token)
    assert connection.getresponse().status in (201, 202)
    connection.close()
    return Place(port, prefix, token)


def work(place: Place, clients: int, seconds: float) -> Run:
    """Lets clients work for a while."""
    run = Run(place)
    asyncio.run(serve_all(run, clients, lambda: asyncio.sleep(seconds)))
    return run


def soak(served: instance.Instance, clients: int, seconds: float) -> Mapping[str, list[str]]:
    """Works, measures, and returns what grew, by server."""
    place = place_of(served)
    sizes = []
    for part in (WARM_PART, 1 - WARM_PART):
        began_s = time.monotonic()
        run = work(place, clients, seconds * part)
        lasted_s = time.monotonic() - began_s
        print(f"{lasted_s:.0f} s, {clients} clients: {', '.join(f'{n} {who}' for who, n in run.done.items())}")
        time.sleep(REST_S)
        sizes.append(measure(served))
    for name, size in sizes[0].items():
        print(f"{name}: {size}; at the end {sizes[1][name]}", flush=True)
    return {name: grown for name, size in sizes[0].items() if (grown := size.grew_to(sizes[1][name]))}


def trouble_in(logs: Path) -> list[str]:
    """The last lines of the servers' logs that speak of trouble."""
    found = []
    for log in sorted(logs.glob("*-server.log")):
        lines = [line for line in log.read_text(errors="replace").splitlines() if TROUBLE.search(line)]
        found += [f"{log.stem}: {line[:300]}" for line in lines[-MOST_LINES:]]
    return found


def main() -> int:
    """Serves, soaks, and says what grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500, help="at the same time (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1800, help="how long (%(default)s)")
    parser.add_argument("--at", metavar="DIR", help="where the files lie")
    wanted = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="lustack-soak-", dir=wanted.at))
    try:
        (base / "data").mkdir()
        host = Host(str(base / "data"), str(base / "state"), port=0, memcached=shutil.which("memcached"), sync=False)
        with instance.running(host) as served:
            try:
                grown = soak(served, wanted.clients, wanted.seconds)
            except BaseExceptionGroup:
                print("\n".join(trouble_in(Path(host.logs))), file=sys.stderr)
                raise
    finally:
        shutil.rmtree(base)
    for name, what in grown.items():
        print(f"{name} grew: {', '.join(what)}")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
