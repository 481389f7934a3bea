# SPDX-License-Identifier: Apache-2.0
"""A directory with very many files is renamed: how long until the listing is right, and who else waits meanwhile.

    python bench/sync_rename.py [--files 1000000] [--directories 10000] [--at DIR]

Makes the tree below one directory of a container, with `lustack serve` watching; waits until it is listed; renames
the top. Until the listing is right again, a file is written every second, in the same container and in another one, and
it is noted when Swift lists it. Prints a table in Markdown; fails if the daemon took more than 500 MB, or lost a name.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench_serving import Client, cpu_s, load, pids, read_status

from lustack.server import instance, topology

MOST_RSS_BYTES = 500 * 10**6
LIMIT_S = 3600.0
PAUSE_S = 0.05


@dataclass
class Probes:
    """Files that are written meanwhile.

    Attributes:
        account: directory of the account.
        client: asks for listings.
        latencies: by container.
    """

    account: Path
    client: Client
    latencies: dict[str, list[float]] = field(default_factory=dict)
    _count: int = 0

    def take(self) -> None:
        """Writes one file in each container, and waits until both are listed."""
        self._count += 1
        since_s = time.monotonic()
        waiting = {"c0", "c1"}
        for container in waiting:
            (self.account / container / f"probe-{self._count}").write_bytes(b"x")
        while waiting:
            for container in tuple(waiting):
                if self.client.has(container, f"probe-{self._count}"):
                    self.latencies.setdefault(container, []).append(time.monotonic() - since_s)
                    waiting.remove(container)
            time.sleep(PAUSE_S)
        time.sleep(max(0.0, since_s + 1.0 - time.monotonic()))


def make_tree(top: Path, files: int, directories: int) -> None:
    """Empty files, spread over directories."""
    for number in range(directories):
        directory = top / f"{number:06d}"
        directory.mkdir(parents=True)
        for each in range(files // directories):
            os.close(os.open(directory / f"{each:06d}", os.O_WRONLY | os.O_CREAT))


def rss_bytes(pid: int) -> int:
    """The peak of the memory of a process. Source: proc(5), VmHWM."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024


def wait_until_listed(served: instance.Instance, client: Client, container: str, first: str, last: str) -> None:
    """Until the daemon has nothing to do, and two names are there."""
    limit_s = time.monotonic() + LIMIT_S
    while time.monotonic() < limit_s:
        status = read_status(served)
        is_idle = not (status.job_count or status.lag_records or status.dirty_names or status.is_comparing)
        if is_idle and client.has(container, first) and client.has(container, last):
            return
        time.sleep(1.0)
    message = "it takes too long"
    raise TimeoutError(message)


def measure(served: instance.Instance, client: Client, account: Path, wanted: argparse.Namespace) -> str:
    """The whole of it: a line of the table."""
    for name in ("c0", "c1"):
        (account / name).mkdir(parents=True, exist_ok=True)
    files = wanted.files // wanted.directories * wanted.directories
    last = f"{wanted.directories - 1:06d}/{wanted.files // wanted.directories - 1:06d}"
    began_s = time.monotonic()
    make_tree(account / "c0" / "old", files, wanted.directories)
    wait_until_listed(served, client, "c0", "old/000000/000000", f"old/{last}")
    listed_s = time.monotonic() - began_s
    probes = Probes(account, client)
    daemon, server = pids(served)
    before = cpu_s(daemon), cpu_s(server)
    began_s = time.monotonic()
    os.rename(account / "c0" / "old", account / "c0" / "new")
    probes.take()
    while read_status(served).job_count:
        probes.take()
    wait_until_listed(served, client, "c0", "new/000000/000000", f"new/{last}")
    moved_s = time.monotonic() - began_s
    assert not client.has("c0", "old/"), "the old names are still listed"
    assert client.count("c0") == files + len(probes.latencies["c0"])
    rss = rss_bytes(daemon)
    assert rss < MOST_RSS_BYTES, rss
    same, other = (sorted(probes.latencies[name]) for name in ("c0", "c1"))
    return (
        f"| {files} | {wanted.directories} | {listed_s:.0f} | {moved_s:.0f} | {cpu_s(daemon) - before[0]:.0f} "
        f"| {cpu_s(server) - before[1]:.0f} | {same[len(same) // 2]:.2f} / {same[-1]:.2f} "
        f"| {other[len(other) // 2]:.2f} / {other[-1]:.2f} | {rss / 1e6:.0f} | {load()} |"
    )


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--directories", type=int, default=10_000)
    parser.add_argument("--at", type=Path, default=None, help="a directory on the file system to measure")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.at) as base:
        host = topology.Host(Path(base) / "data", Path(base) / "state", port=0)
        with instance.running(host) as served:
            client = Client(served)
            client.put_containers(2)
            line = measure(served, client, Path(host.directory) / "AUTH_test", wanted)
            print("| files | directories | first listed s | moved s | daemon CPU s | server CPU s ", end="")
            print("| probe same container p50 / max s | other p50 / max s | daemon MB | load |")
            print("|---|---|---|---|---|---|---|---|---|---|")
            print(line)


if __name__ == "__main__":
    main()
