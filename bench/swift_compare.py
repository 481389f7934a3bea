# SPDX-License-Identifier: Apache-2.0
"""Our storage policy beside Swift's own: same machine, same file system, same moment.

    python bench/swift_compare.py [--quick] [--seconds 300] [--requests 100] [--clients 2] [--at DIR] [--json FILE]

Starts two Swifts, one with a stock proxy and both policies, one with the short path, and sends small slices of requests
to them in turn, so that whatever else the machine does hits all. Each ratio, of one of our ways to stock, is the median
over the rounds, with its quartiles; below 1 is less time, less CPU. CPU is what the servers used, from the kernel's
clock of each process. nginx, if there is one, serves the same file for the largest GET. As root the objects are on an
XFS file system in a file. Everything is removed in the end.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import shutil
import socket
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

STOCK, SOCKET, SHORT, NGINX = "stock", "ours, socket", "ours, short path", "nginx"
LANES = (STOCK, SOCKET, SHORT)
SERVERS = ("proxy-server", "object-server", "container-server", "account-server")
METHODS = {"PUT": 201, "GET": 200, "HEAD": 200, "DELETE": 204}
SIZES = {"1 KiB": 1024, "4 MiB": 4 << 20, "256 MiB": 256 << 20}
HUGE_BYTES = 64 << 20
"""Objects from this size on are one in a slice."""

READ_BYTES = 1 << 20
LARGE_BYTES = 1 << 20
FEWER = 8
"""Large objects are so many times fewer in a slice."""
LEAST_ROUNDS = 3
FILE_SYSTEM_GIB = 4
DAEMON_INTERVAL_S = 86400
"""Swift's daemons would otherwise look for work in the middle of a slice."""


@dataclass(frozen=True)
class Slice:
    """Some requests of one kind by one way.

    Attributes:
        requests: how many.
        wall_s: from the first request to the last answer.
        latencies_s: of each request.
        cpu_s: what all servers used.
    """

    requests: int
    wall_s: float
    latencies_s: list[float]
    cpu_s: float

    @property
    def rate(self) -> float:
        """Requests each second."""
        return self.requests / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """CPU of all servers for one request."""
        return self.cpu_s / self.requests * 1e3

    @property
    def p50_ms(self) -> float:
        """Half of the requests took longer."""
        return percentile(self.latencies_s, 0.50) * 1e3


FIGURES: Mapping[str, Callable[[Slice], float]] = {
    "requests/s": lambda part: part.rate,
    "p50 ms": lambda part: part.p50_ms,
    "CPU ms": lambda part: part.cpu_ms,
}


class Lane:
    """One way to objects: where requests go, and whose CPU it takes."""

    def __init__(self, port: int, prefix: str, pids: Callable[[], list[int]], headers: Mapping[str, str]) -> None:
        self.port = port
        self.prefix = prefix
        self.pids = pids
        self.headers = dict(headers)

    @classmethod
    def of(cls, served: instance.Instance, policy: str) -> Lane:
        """A container of a policy in a Swift."""
        port = served.assigned.ports.proxy
        connection = http.client.HTTPConnection("127.0.0.1", port)
        login = {"X-Auth-User": served.access.user, "X-Auth-Key": served.access.key}
        connection.request("GET", "/auth/v1.0", headers=login)
        token = {"X-Auth-Token": connection.getresponse().headers["X-Auth-Token"]}
        connection.close()
        prefix = f"{urllib.parse.urlsplit(served.access.storage_url).path}/bench-{policy}"
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("PUT", prefix, b"", {**token, "X-Storage-Policy": policy})
        assert connection.getresponse().status == METHODS["PUT"]
        connection.close()
        return cls(port, prefix, lambda: [served.supervisor.pids()[name] for name in SERVERS], token)

    def cpu_s(self) -> float:
        """The CPU clocks of the servers. Source of the number: clock_getcpuclockid(3), linux/posix-timers.h."""
        return sum(time.clock_gettime(~pid << 3 | 2) for pid in self.pids())

    def slice(self, method: str, body: bytes, count: int, clients: int) -> Slice:
        """Sends `count` requests with a few connections at the same time."""
        names = [f"{self.prefix}/{len(body)}/{number}" for number in range(count)]
        latencies: list[float] = []
        failures: list[BaseException] = []

        def work(first: int) -> None:
            try:
                self._send(method, names[first::clients], body, latencies)
            except BaseException as error:  # noqa: BLE001 - raised again where the thread is awaited
                failures.append(error)

        threads = [threading.Thread(target=work, args=(first,)) for first in range(min(clients, count))]
        before, started = self.cpu_s(), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall_s, after = time.perf_counter() - started, self.cpu_s()
        if failures:
            raise failures[0]
        return Slice(count, wall_s, latencies, after - before)

    def _send(self, method: str, paths: list[str], body: bytes, latencies: list[float]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        for path in paths:
            started = time.perf_counter()
            connection.request(method, path, body if method == "PUT" else None, self.headers)
            response = connection.getresponse()
            length = drain(response)
            latencies.append(time.perf_counter() - started)
            assert response.status == METHODS[method], (method, path, response.status)
            assert length == (len(body) if method == "GET" else length), path
        connection.close()


def drain(response: http.client.HTTPResponse) -> int:
    """Reads a body and forgets it; returns its length."""
    buffer, length = bytearray(READ_BYTES), 0
    while read := response.readinto(buffer):
        length += read
    return length


def percentile(values: list[float], part: float) -> float:
    """The value that so large a part of the values does not exceed."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def measure(
    lanes: Mapping[str, Lane], wanted: argparse.Namespace, seconds: float
) -> dict[tuple[str, str], list[dict[str, Slice]]]:
    """Rounds until the time is over: (method, size) -> for each round the slice of each lane."""
    bodies = {size: os.urandom(length) for size, length in SIZES.items()}
    found: dict[tuple[str, str], list[dict[str, Slice]]] = {}
    started, rounds = time.monotonic(), 0
    while rounds <= LEAST_ROUNDS or time.monotonic() - started < seconds:
        for size, body in bodies.items():
            count = how_many(len(body), wanted)
            for method in METHODS:
                is_nginx = method == "GET" and len(body) >= HUGE_BYTES
                names = [name for name in lanes if name != NGINX or is_nginx]
                order = names if rounds % 2 else names[::-1]
                slices = {name: lanes[name].slice(method, body, count, wanted.clients) for name in order}
                if rounds:  # the first one fills caches
                    found.setdefault((method, size), []).append(slices)
        rounds += 1
        tell(f"round {rounds}, {time.monotonic() - started:.0f} s, load {os.getloadavg()[0]:.1f}")
    return found


def how_many(size_bytes: int, wanted: argparse.Namespace) -> int:
    """Requests in a slice."""
    if size_bytes >= HUGE_BYTES:
        return 1
    return max(wanted.requests // FEWER, wanted.clients) if size_bytes > LARGE_BYTES else int(wanted.requests)


def summarise(rounds: list[dict[str, Slice]]) -> dict[str, dict[str, dict[str, float]]]:
    """Figure -> lane -> its median, and median and quartiles of its ratio to stock."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for figure, of in FIGURES.items():
        stock = [of(each[STOCK]) for each in rounds]
        for name in rounds[0]:
            values = [of(each[name]) for each in rounds]
            ratios = [value / base for value, base in zip(values, stock, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
            lane = {"median": statistics.median(values), "ratio": middle, "ratio_low": low, "ratio_high": high}
            summary.setdefault(figure, {})[name] = lane
    return summary


def render(summaries: Mapping[tuple[str, str], Mapping[str, Mapping[str, Mapping[str, float]]]]) -> Iterator[str]:
    """A table in Markdown for each figure."""
    lanes = (*LANES[1:], NGINX)
    for figure in FIGURES:
        yield f"| {figure} | stock | " + " | ".join(f"{name}: ratio" for name in lanes) + " |"
        yield "| --- | ---: |" + " ---: |" * len(lanes)
        for (method, size), summary in summaries.items():
            of = summary[figure]
            cells = [
                f"**{of[name]['ratio']:.2f}** ({of[name]['ratio_low']:.2f}-{of[name]['ratio_high']:.2f})"
                if name in of
                else ""
                for name in lanes
            ]
            yield f"| {method} {size} | {of[STOCK]['median']:.2f} | " + " | ".join(cells) + " |"
        yield ""


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
def running(base: Path, objects: Path, name: str, *, short_path: bool) -> Iterator[instance.Instance]:
    """A Swift with both policies."""
    roots = {policy: objects / f"{name}-{policy}" for policy in ("ours", "stock")}
    for root in roots.values():
        root.mkdir()
    policies = (
        Policy(0, "ours", device="ours", root=str(roots["ours"])),
        Policy(1, "stock", "egg:swift#replication.fs", "stock", str(roots["stock"]), default=False),
    )
    host = Host(
        directory=str(base / f"{name}-data"),
        state=str(base / f"{name}-state"),
        port=0,
        policies=policies,
        memcached=shutil.which("memcached"),
        short_path=short_path,
        sync=False,
        updater_interval_s=DAEMON_INTERVAL_S,
    )
    os.makedirs(host.directory)
    with instance.running(host, tell) as served:
        yield served


NGINX_CONF = """\
daemon off; master_process off; pid {base}/nginx.pid; error_log {base}/nginx.log; worker_processes 1; user root;
events {{ worker_connections 64; }}
http {{
    access_log off; sendfile on; tcp_nopush on;
    client_body_temp_path {base}/nginx; proxy_temp_path {base}/nginx; fastcgi_temp_path {base}/nginx;
    uwsgi_temp_path {base}/nginx; scgi_temp_path {base}/nginx;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@contextlib.contextmanager
def nginx(base: Path, root: Path) -> Iterator[Lane | None]:
    """Nginx over a directory, None if it is not installed."""
    program = shutil.which("nginx")
    if program is None:
        tell("no nginx: its column is empty")
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    conf = base / "nginx.conf"
    conf.write_text(NGINX_CONF.format(base=base, port=port, root=root))
    with subprocess.Popen([program, "-c", conf], stderr=subprocess.DEVNULL) as process:
        try:
            yield Lane(port, "", lambda: [process.pid], {})
        finally:
            process.terminate()


@contextlib.contextmanager
def all_lanes(at: str | None, *, mount: bool) -> Iterator[dict[str, Lane]]:
    """Every way; what serves them and all files are gone in the end."""
    base = Path(tempfile.mkdtemp(prefix="lustack-bench-", dir=at))
    try:
        with contextlib.ExitStack() as stack:
            objects = stack.enter_context(file_system(base)) if mount else base
            stock = stack.enter_context(running(base, objects, "socket", short_path=False))
            short = stack.enter_context(running(base, objects, "short", short_path=True))
            lanes = {STOCK: Lane.of(stock, "stock"), SOCKET: Lane.of(stock, "ours"), SHORT: Lane.of(short, "ours")}
            container = lanes[SHORT].prefix.removeprefix("/v1/")
            beside = stack.enter_context(nginx(base, objects / "short-ours" / container))
            yield lanes if beside is None else {**lanes, NGINX: beside}
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
    with all_lanes(wanted.at, mount=not wanted.no_mount) as lanes:
        found = measure(lanes, wanted, 60 if wanted.quick else wanted.seconds)
    summaries = {case: summarise(rounds) for case, rounds in found.items()}
    rounds = len(next(iter(found.values())))
    print(
        f"{rounds} rounds of {wanted.requests} small, {wanted.requests // FEWER} large and 1 huge requests, "
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
