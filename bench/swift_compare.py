# SPDX-License-Identifier: Apache-2.0
"""Our storage policy beside Swift's own: same machine, same servers, same moment.

    python bench/swift_compare.py [--quick] [--seconds 300] [--requests 100] [--clients 2] [--at DIR] [--json FILE]

Starts one Swift with both policies and sends small slices of requests to the one and the other in turn, so that
whatever else the machine does hits both. Each ratio, ours to stock, is the median over the rounds, with its quartiles;
below 1 is less time, less CPU. CPU is what the servers used, from the kernel's clock of each process. As root the
objects are on an XFS file system in a file. Everything is removed in the end.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lustack.server import instance
from lustack.server.topology import Host, Policy

POLICIES = ("ours", "stock")
SERVERS = ("proxy-server", "object-server", "container-server", "account-server")
METHODS = {"PUT": 201, "GET": 200, "HEAD": 200, "DELETE": 204}
SIZES = {"1 KiB": 1024, "4 MiB": 4 << 20}
LARGE_BYTES = 1 << 20
FEWER = 8
"""Large objects are so many times fewer in a slice."""
LEAST_ROUNDS = 3
FILE_SYSTEM_GIB = 4
DAEMON_INTERVAL_S = 86400
"""Swift's daemons would otherwise look for work in the middle of a slice."""


@dataclass(frozen=True)
class Slice:
    """Some requests of one kind to one policy.

    Attributes:
        requests: how many.
        wall_s: from the first request to the last answer.
        latencies_s: of each request.
        cpu_s: what each server used.
    """

    requests: int
    wall_s: float
    latencies_s: list[float]
    cpu_s: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Requests each second."""
        return self.requests / self.wall_s

    @property
    def all_cpu_ms(self) -> float:
        """CPU of all servers for one request."""
        return sum(self.cpu_s.values()) / self.requests * 1e3

    @property
    def object_cpu_ms(self) -> float:
        """CPU of the object server for one request."""
        return self.cpu_s["object-server"] / self.requests * 1e3

    @property
    def p50_ms(self) -> float:
        """Half of the requests took longer."""
        return percentile(self.latencies_s, 0.50) * 1e3

    @property
    def p99_ms(self) -> float:
        """One of a hundred took longer."""
        return percentile(self.latencies_s, 0.99) * 1e3


FIGURES: Mapping[str, Callable[[Slice], float]] = {
    "requests/s": lambda part: part.rate,
    "p50 ms": lambda part: part.p50_ms,
    "p99 ms": lambda part: part.p99_ms,
    "CPU ms, all": lambda part: part.all_cpu_ms,
    "CPU ms, object": lambda part: part.object_cpu_ms,
}


class Bench:
    """One container of each policy, and the requests to it."""

    def __init__(self, served: instance.Instance, clients: int) -> None:
        self.served = served
        self.clients = clients
        self.port = served.assigned.ports.proxy
        self.storage = urllib.parse.urlsplit(served.access.storage_url).path
        headers = {"X-Auth-User": served.access.user, "X-Auth-Key": served.access.key}
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/auth/v1.0", headers=headers)
        self.token = {"X-Auth-Token": connection.getresponse().headers["X-Auth-Token"]}
        connection.close()
        for policy in POLICIES:
            self._ask(policy, "PUT", f"bench-{policy}", b"", 201)

    def _ask(self, policy: str, method: str, path: str, body: bytes, wanted: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        headers = {**self.token, "X-Storage-Policy": policy}
        connection.request(method, f"{self.storage}/{path}", body, headers)
        status = connection.getresponse().status
        connection.close()
        assert status == wanted, (method, path, status)

    def cpu_s(self) -> dict[str, float]:
        """The CPU clock of each server. Source of the clock's number: clock_getcpuclockid(3), linux/posix-timers.h."""
        pids = self.served.supervisor.pids()
        return {name: time.clock_gettime(~pids[name] << 3 | 2) for name in SERVERS}

    def slice(self, policy: str, method: str, body: bytes, count: int) -> Slice:
        """Sends `count` requests with a few connections at the same time."""
        names = [f"{self.storage}/bench-{policy}/{len(body)}/{number}" for number in range(count)]
        latencies: list[float] = []
        failures: list[BaseException] = []

        def work(first: int) -> None:
            try:
                self._send(method, names[first :: self.clients], body, latencies)
            except BaseException as error:  # noqa: BLE001 - raised again where the thread is awaited
                failures.append(error)

        threads = [threading.Thread(target=work, args=(first,)) for first in range(self.clients)]
        before, started = self.cpu_s(), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall_s, after = time.perf_counter() - started, self.cpu_s()
        if failures:
            raise failures[0]
        return Slice(count, wall_s, latencies, {name: after[name] - before[name] for name in SERVERS})

    def _send(self, method: str, paths: list[str], body: bytes, latencies: list[float]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        for path in paths:
            started = time.perf_counter()
            connection.request(method, path, body if method == "PUT" else None, self.token)
            response = connection.getresponse()
            content = response.read()
            latencies.append(time.perf_counter() - started)
            assert response.status == METHODS[method], (method, path, response.status)
            assert method != "GET" or content == body, path
        connection.close()


def percentile(values: list[float], part: float) -> float:
    """The value that so large a part of the values does not exceed."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def measure(bench: Bench, seconds: float, requests: int) -> dict[tuple[str, str], list[dict[str, Slice]]]:
    """Rounds until the time is over: (method, size) -> for each round the slice of each policy."""
    bodies = {size: random.randbytes(length) for size, length in SIZES.items()}
    found: dict[tuple[str, str], list[dict[str, Slice]]] = {}
    started, rounds = time.monotonic(), 0
    while rounds <= LEAST_ROUNDS or time.monotonic() - started < seconds:
        for size, body in bodies.items():
            count = max(requests // FEWER, bench.clients) if len(body) > LARGE_BYTES else requests
            for method in METHODS:
                order = POLICIES if rounds % 2 else POLICIES[::-1]
                slices = {policy: bench.slice(policy, method, body, count) for policy in order}
                if rounds:  # the first one fills caches
                    found.setdefault((method, size), []).append(slices)
        rounds += 1
        tell(f"round {rounds}, {time.monotonic() - started:.0f} s, load {os.getloadavg()[0]:.1f}")
    return found


def summarise(rounds: list[dict[str, Slice]]) -> dict[str, dict[str, float]]:
    """Figure -> the medians of both policies, and median and quartiles of their ratio."""
    summary = {}
    for figure, of in FIGURES.items():
        values = {policy: [of(each[policy]) for each in rounds] for policy in POLICIES}
        ratios = [ours / stock for ours, stock in zip(values["ours"], values["stock"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        medians = {policy: statistics.median(values[policy]) for policy in POLICIES}
        summary[figure] = {**medians, "ratio": middle, "ratio_low": low, "ratio_high": high}
    return summary


def render(summaries: Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    """A table in Markdown."""
    yield "| request | " + " | ".join(f"{figure} | ratio" for figure in FIGURES) + " |"
    yield "| --- |" + " ---: |" * 2 * len(FIGURES)
    for (method, size), summary in summaries.items():
        cells = []
        for figure in FIGURES:
            of = summary[figure]
            digits = 0 if figure == "requests/s" and of["ours"] >= LEAST_ROUNDS * 10 else 2
            cells.append(f"{of['ours']:.{digits}f} : {of['stock']:.{digits}f}")
            cells.append(f"**{of['ratio']:.2f}** ({of['ratio_low']:.2f}-{of['ratio_high']:.2f})")
        yield f"| {method} {size} | " + " | ".join(cells) + " |"


def tell(text: str) -> None:
    """Says how far it is, beside the result."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def file_system(base: Path) -> Iterator[Path]:
    """A directory for the objects: XFS in a file if that can be had, else below `base`."""
    image, mount_point = base / "xfs.img", base / "objects"
    mount_point.mkdir()
    with image.open("wb") as file:
        file.truncate(FILE_SYSTEM_GIB << 30)
    is_mounted = False
    try:
        if os.geteuid() == 0 and shutil.which("mkfs.xfs"):
            subprocess.run(["mkfs.xfs", "-q", image], check=True)
            subprocess.run(["mount", "-o", "loop,noatime", image, mount_point], check=True)
            is_mounted = True
        else:
            tell("not root, or no mkfs.xfs: the objects are on the file system of --at")
        yield mount_point
    finally:
        if is_mounted:
            subprocess.run(["umount", mount_point], check=True)


@contextlib.contextmanager
def running(at: str | None, *, mount: bool) -> Iterator[instance.Instance]:
    """A Swift with both policies; it and all its files are gone in the end."""
    base = Path(tempfile.mkdtemp(prefix="lustack-bench-", dir=at))
    try:
        with file_system(base) if mount else contextlib.nullcontext(base) as objects:
            roots = {policy: objects / f"root-{policy}" for policy in POLICIES}
            for root in roots.values():
                root.mkdir()
            policies = (
                Policy(0, "ours", device="ours", root=str(roots["ours"])),
                Policy(1, "stock", "egg:swift#replication.fs", "stock", str(roots["stock"]), default=False),
            )
            host = Host(
                directory=str(base / "data"),
                state=str(base / "state"),
                port=0,
                policies=policies,
                memcached=shutil.which("memcached"),
                sync=False,
                updater_interval_s=DAEMON_INTERVAL_S,
            )
            os.makedirs(host.directory)
            with instance.running(host, tell) as served:
                yield served
    finally:
        shutil.rmtree(base)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one minute")
    parser.add_argument("--seconds", type=float, default=300, help="how long (%(default)s)")
    parser.add_argument("--requests", type=int, default=100, help="small requests in a slice (%(default)s)")
    parser.add_argument("--clients", type=int, default=2, help="connections at the same time (%(default)s)")
    parser.add_argument("--at", metavar="DIR", help="where the file of the file system and the databases lie")
    parser.add_argument("--no-mount", action="store_true", help="objects below --at itself, a Lustre for example")
    parser.add_argument("--json", metavar="FILE", type=Path, help="all slices and the summary as well")
    wanted = parser.parse_args()
    load = os.getloadavg()
    with running(wanted.at, mount=not wanted.no_mount) as served:
        bench = Bench(served, wanted.clients)
        found = measure(bench, 60 if wanted.quick else wanted.seconds, wanted.requests)
    summaries = {case: summarise(rounds) for case, rounds in found.items()}
    rounds = len(next(iter(found.values())))
    print(
        f"ours : stock, {rounds} rounds of {wanted.requests} small and {wanted.requests // FEWER} large requests, "
        f"{wanted.clients} clients, {os.cpu_count()} cores, load {load[0]:.1f} before, {os.getloadavg()[0]:.1f} after\n"
    )
    print("\n".join(render(summaries)))
    if wanted.json:
        document = [
            {
                "method": case[0],
                "size": case[1],
                "summary": summaries[case],
                "rounds": [{name: dataclasses.asdict(part) for name, part in each.items()} for each in slices],
            }
            for case, slices in found.items()
        ]
        wanted.json.write_text(json.dumps(document))


if __name__ == "__main__":
    main()
