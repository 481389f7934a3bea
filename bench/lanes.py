# SPDX-License-Identifier: Apache-2.0
"""The ways to objects that `swift_compare.py` compares: two Swifts and nginx on one file system; and a client."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench_serving import log_in

from lustack.server import instance
from lustack.server.topology import Host, Policy

STOCK, SOCKET, SHORT, NGINX = "stock", "ours, socket", "ours, short path", "nginx"
SERVERS = ("proxy-server", "object-server", "container-server", "account-server")
METHODS = {"PUT": 201, "GET": 200, "HEAD": 200, "DELETE": 204}
READ_BYTES = 1 << 20
_HEAD_BYTES = 65536
_FILE_SYSTEM_GIB = 4
_DAEMON_INTERVAL_S = 86400
"""Swift's daemons would otherwise look for work in the middle of a slice."""


@dataclass(frozen=True)
class Setting:
    """What everything is measured on.

    Attributes:
        at: where the file of the file system and the databases lie; None: where temporary files do.
        is_mounted: whether the objects are on a file system of their own, in a file.
        workers: processes of each server; 0: one that serves by itself.
    """

    at: str | None = None
    is_mounted: bool = True
    workers: int = 0


class Client:
    """One connection, which costs as little as it can: the servers run on the same cores."""

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        self._buffer = memoryview(bytearray(READ_BYTES))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, method: str, path: str, body: bytes) -> None:
        """One request, whose answer must be the right one, and as long as `body` when it is a GET."""
        length = f"Content-Length: {len(body)}\r\n" if method == "PUT" else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\n{self._headers}{length}\r\n".encode()
        if method == "PUT":
            # Small ones at once, as every client does.
            self._socket.sendall(head + body if len(body) <= _HEAD_BYTES else head)
            if len(body) > _HEAD_BYTES:
                self._socket.sendall(body)
        else:
            self._socket.sendall(head)
        status, wanted, have = self._head()
        assert status == METHODS[method], (method, path, status)
        assert method != "GET" or wanted == len(body), (path, wanted)
        left = 0 if method == "HEAD" else wanted - have
        while left > 0:
            read = self._socket.recv_into(self._buffer, min(left, READ_BYTES))
            assert read, "the server closed the connection"
            left -= read

    def _head(self) -> tuple[int, int, int]:
        """The status, the length of the body, and how much of it has come."""
        got = b""
        while (end := got.find(b"\r\n\r\n")) < 0:
            piece = self._socket.recv(_HEAD_BYTES)
            assert piece, "the server closed the connection"
            got += piece
        lines = got[:end].lower().split(b"\r\n")
        lengths = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
        return int(lines[0].split(b" ")[1]), lengths[0] if lengths else 0, len(got) - end - 4


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


class Lane:
    """One way to objects: where requests go, and whose CPU it takes."""

    def __init__(self, port: int, prefix: str, pids: list[int], headers: Mapping[str, str]) -> None:
        self.port = port
        self.prefix = prefix
        self.pids = pids
        self.headers = dict(headers)

    @classmethod
    def of(cls, served: instance.Instance, policy: str) -> Lane:
        """A container of a policy in a Swift."""
        port = served.assigned.ports.proxy
        token = log_in(served.access)
        prefix = f"{urllib.parse.urlsplit(served.access.storage_url).path}/bench-{policy}"
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("PUT", prefix, b"", {**token, "X-Storage-Policy": policy})
        assert connection.getresponse().status == METHODS["PUT"]
        connection.close()
        return cls(port, prefix, with_children([served.supervisor.pids()[name] for name in SERVERS]), token)

    def cpu_s(self) -> float:
        """The CPU clocks of the servers. Source of the number: clock_getcpuclockid(3), linux/posix-timers.h."""
        return sum(time.clock_gettime(~pid << 3 | 2) for pid in self.pids)

    def slice(self, method: str, body: bytes, names: list[str], clients: int) -> Slice:
        """Sends requests for some objects with a few connections at the same time.

        Each connection takes the next object when it is ready. A server with several processes gets as many connections
        into each as chance will have it; were the objects dealt out before, it would end with one of them at work.
        """
        paths = iter([f"{self.prefix}/{len(body)}/{name}" for name in names])
        latencies: list[float] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self._send(method, paths, body, latencies)
            except BaseException as error:  # noqa: BLE001 - raised again where the thread is awaited
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(min(clients, len(names)))]
        before, started = self.cpu_s(), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall_s, after = time.perf_counter() - started, self.cpu_s()
        if failures:
            raise failures[0]
        return Slice(len(names), wall_s, latencies, after - before)

    def _send(self, method: str, paths: Iterator[str], body: bytes, latencies: list[float]) -> None:
        with Client(self.port, self.headers) as client:
            for path in paths:
                started = time.perf_counter()
                client.ask(method, path, body)
                latencies.append(time.perf_counter() - started)


def percentile(values: list[float], part: float) -> float:
    """The value that so large a part of the values does not exceed."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def with_children(pids: list[int]) -> list[int]:
    """Some processes and what they forked: the workers of a server."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    return pids + [pid for pid, parent in parents.items() if parent in pids]


def tell(text: str) -> None:
    """Says how far it is, beside the result."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def file_system(base: Path) -> Iterator[Path]:
    """A directory for the objects: XFS in a file if that can be had, else below `base`."""
    mount_point = base / "objects"
    mount_point.mkdir()
    if os.geteuid() or not shutil.which("mkfs.xfs"):
        tell("not root, or no mkfs.xfs: the objects are on the file system of --at")
        yield mount_point
        return
    image = base / "xfs.img"
    with image.open("wb") as file:
        file.truncate(_FILE_SYSTEM_GIB << 30)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    with loop_device(image) as device:
        subprocess.run(["mount", "-o", "noatime", device, mount_point], check=True)
        try:
            yield mount_point
        finally:
            subprocess.run(["umount", mount_point], check=True)


@contextlib.contextmanager
def loop_device(image: Path) -> Iterator[str]:
    """A disk that is a file.

    Past the page cache: else each byte lies there twice, and goes to the disk at the sync in the end at the earliest,
    however early the file system above writes it.
    """
    attach = ["losetup", "--find", "--show", "--direct-io=on", image]
    device = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextlib.contextmanager
def running(base: Path, objects: Path, name: str, *, short_path: bool, workers: int = 0) -> Iterator[instance.Instance]:
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
        updater_interval_s=_DAEMON_INTERVAL_S,
        workers=workers,
    )
    os.makedirs(host.directory)
    with instance.running(host, tell) as served:
        yield served


_NGINX_CONF = """\
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
    conf.write_text(_NGINX_CONF.format(base=base, port=port, root=root))
    with subprocess.Popen([program, "-c", conf], stderr=subprocess.DEVNULL) as process:
        try:
            yield Lane(port, "", [process.pid], {})
        finally:
            process.terminate()


@contextlib.contextmanager
def all_lanes(setting: Setting) -> Iterator[dict[str, Lane]]:
    """Every way; what serves them and all files are gone in the end."""
    base = Path(tempfile.mkdtemp(prefix="lustack-bench-", dir=setting.at))
    workers = setting.workers
    try:
        with contextlib.ExitStack() as stack:
            objects = stack.enter_context(file_system(base)) if setting.is_mounted else base
            stock = stack.enter_context(running(base, objects, "socket", short_path=False, workers=workers))
            short = stack.enter_context(running(base, objects, "short", short_path=True, workers=workers))
            lanes = {STOCK: Lane.of(stock, "stock"), SOCKET: Lane.of(stock, "ours"), SHORT: Lane.of(short, "ours")}
            container = lanes[SHORT].prefix.removeprefix("/v1/")
            beside = stack.enter_context(nginx(base, objects / "short-ours" / container))
            yield lanes if beside is None else {**lanes, NGINX: beside}
    finally:
        shutil.rmtree(base)
