# SPDX-License-Identifier: Apache-2.0
"""How fast files become rows: `lustack sync reconcile` of one container, against a real Swift on this machine.

    python bench/reconcile.py [--files 200000] [--directory-files 1000] [--at DIR]

Makes a tree of files as a job would, then measures three runs: all are new, nothing changed, all are gone. CPU is that
of the command itself, and that of the container server while it ran. Prints a table in Markdown; fails if the command
needed more than 200 MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_serving import log_in

from lustack.server import instance, topology

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MOST_RSS_BYTES = 200 * 2**20


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        name: what it did.
        report: what the command said.
        wall_s: duration.
        daemon_s: CPU of the command.
        server_s: CPU of the container server.
        rss_bytes: the command's peak.
    """

    name: str
    report: dict[str, int]
    wall_s: float
    daemon_s: float
    server_s: float
    rss_bytes: int

    def row(self, start_s: float) -> str:
        """A line of the table; what the command takes to start is not counted per file."""
        names = max(self.report["files"], self.report["rows"])
        return (
            f"| {self.name} | {names} | {self.report['put']} | {self.report['deleted']} | {names / self.wall_s:.0f} "
            f"| {(self.daemon_s - start_s) / names * 1e6:.1f} | {self.server_s / names * 1e6:.1f} "
            f"| {self.rss_bytes / 2**20:.0f} |"
        )


def make_tree(container: Path, files: int, directory_files: int) -> None:
    """Small files of a job, `directory_files` in each directory."""
    for number in range(files):
        directory = container / f"run{number // directory_files:05d}"
        if number % directory_files == 0:
            directory.mkdir(parents=True)
        fd = os.open(directory / f"result-{number:07d}.dat", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"0123456789"[: number % 10])
        os.close(fd)


def cpu_s(pid: int) -> float:
    """CPU that a process has used, with all of its threads."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS_PER_S


@dataclass(frozen=True)
class Run:
    """A command that has ended.

    Attributes:
        report: its last line; every difference is one before it.
        code: its exit code.
        wall_s: duration.
        command_s: CPU of the command.
        server_s: CPU of a server meanwhile.
        rss_bytes: the command's peak.
    """

    report: dict[str, Any]
    code: int
    wall_s: float
    command_s: float
    server_s: float
    rss_bytes: int


def run(words: Sequence[str], conf: Path, server: int, *more: str) -> Run:
    """Runs a command of lustack that prints lines of JSON."""
    command = [sys.executable, "-m", "lustack.cli.main", *words, "--json", "--restart"]
    before_s, started_s = cpu_s(server), time.monotonic()
    process = subprocess.Popen([*command, "--config-file", str(conf), *more], stdout=subprocess.PIPE)
    assert process.stdout is not None
    last = b""
    for line in process.stdout:
        last = line
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    wall_s, used_s = time.monotonic() - started_s, usage.ru_utime + usage.ru_stime
    report = json.loads(last)["report"]
    return Run(report, process.returncode, wall_s, used_s, cpu_s(server) - before_s, usage.ru_maxrss * 1024)


def reconcile(name: str, conf: Path, server: int, scope: str) -> Measured:
    """Compares."""
    done = run(("sync", "reconcile"), conf, server, scope)
    assert done.code == 0, done.code
    return Measured(name, done.report, done.wall_s, done.command_s, done.server_s, done.rss_bytes)


def make_container(access: topology.Access, container: str) -> None:
    """Makes a container as a client does."""
    url = f"{access.storage_url}/{container}"
    urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=log_in(access))).close()  # noqa: S310


@contextmanager
def served(at: str | None) -> Iterator[tuple[instance.Instance, Path]]:
    """A Swift without the daemon, and the configuration for one."""
    base = Path(tempfile.mkdtemp(prefix="lustack-bench-", dir=at))
    host = topology.Host(directory=base / "data", state=base / "state", port=0, sync=False)
    try:
        with instance.running(host) as running:
            conf = base / "sync.conf"
            conf.write_text(
                f"[sync]\nswift_dir = {host.etc}\ndevices = {host.node}\nstate_dir = {base}/sync\n"
                "missing_rows = 100000000\nhash_bytes_per_s = 0\n"
            )
            stop = threading.Event()
            yield running, conf
            stop.set()
    finally:
        shutil.rmtree(base)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--directory-files", type=int, default=1000)
    parser.add_argument("--at", metavar="DIR", help="directory for the tree and the databases")
    wanted = parser.parse_args()
    with served(wanted.at) as (running, conf):
        make_container(running.access, "bench")
        container = Path(str(running.host.directory), "AUTH_test", "bench")
        server = running.supervisor.pids()["container-server"]
        idle = reconcile("empty", conf, server, "AUTH_test/bench")
        make_tree(container, wanted.files, wanted.directory_files)
        runs = [reconcile("all new", conf, server, "AUTH_test/bench")]
        runs.append(reconcile("nothing to do", conf, server, "AUTH_test/bench"))
        shutil.rmtree(container)
        container.mkdir()
        runs.append(reconcile("all gone", conf, server, "AUTH_test/bench"))
    print(
        f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores; start of the command: {idle.daemon_s:.2f} s\n"
    )
    print("| run | names | written | deleted | names/s | daemon µs/name | server µs/name | peak RSS MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for each in runs:
        print(each.row(idle.daemon_s))
    if max(each.rss_bytes for each in runs) > MOST_RSS_BYTES:
        sys.exit(f"the command used more than {MOST_RSS_BYTES // 2**20} MiB")


if __name__ == "__main__":
    main()
