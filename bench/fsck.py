# SPDX-License-Identifier: Apache-2.0
"""What a check costs: `lustack fsck` of one container, against a real Swift on this machine.

    python bench/fsck.py [--files 100000] [--drift 1000] [--at DIR]

Makes a tree of files as a job would and lists it. Then a clean check; one after files were removed and others made
behind everybody's back; one that mends that; and a clean one again. CPU is that of the command. Prints a table in
Markdown; fails if a check finds anything else than what is there to be found, or needed more than 200 MiB.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from reconcile import MOST_RSS_BYTES, make_container, make_tree, reconcile, run, served


@dataclass(frozen=True)
class Checked:
    """One check.

    Attributes:
        name: what it was for.
        counts: what was found, by kind, and how many of that are mended.
        names: how many names were compared.
        wall_s: duration.
        command_s: CPU of the command.
        server_s: CPU of the container server.
        rss_bytes: the command's peak.
    """

    name: str
    counts: dict[str, tuple[int, int]]
    names: int
    wall_s: float
    command_s: float
    server_s: float
    rss_bytes: int

    def row(self, start_s: float) -> str:
        """A line of the table; what the command takes to start is not counted per name."""
        found = sum(count for count, _ in self.counts.values())
        mended = sum(repaired for _, repaired in self.counts.values())
        return (
            f"| {self.name} | {self.names} | {found} | {mended} | {self.names / self.wall_s:.0f} "
            f"| {(self.command_s - start_s) / self.names * 1e6:.1f} | {self.server_s / self.names * 1e6:.1f} "
            f"| {self.rss_bytes / 2**20:.0f} |"
        )


def check(name: str, conf: Path, server: int, *options: str) -> Checked:
    """Runs the command."""
    done = run(("fsck", "--rate", "0", "--settle", "1", *options), conf, server, "AUTH_test")
    report = done.report
    assert done.code == (1 if report["problems"] else 0), done.code
    counts = {kind: (each["count"], each["repaired"]) for kind, each in report["kinds"].items()}
    return Checked(name, counts, report["names"], done.wall_s, done.command_s, done.server_s, done.rss_bytes)


def drift(container: Path, count: int) -> None:
    """Removes files, and makes as many others."""
    for number, path in enumerate(sorted(container.rglob("*.dat"))[:count]):
        path.unlink()
        (path.parent / f"new-{number:07d}.dat").touch()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--drift", type=int, default=1000)
    parser.add_argument("--at", metavar="DIR", help="directory for the tree and the databases")
    wanted = parser.parse_args()
    with served(wanted.at) as (running, conf):
        make_container(running.access, "bench")
        container = Path(str(running.host.directory), "AUTH_test", "bench")
        server = running.supervisor.pids()["container-server"]
        start_s = check("empty", conf, server).command_s
        make_tree(container, wanted.files, 1000)
        reconcile("all new", conf, server, "AUTH_test/bench")
        runs = [check("clean", conf, server)]
        assert runs[-1].counts == {}, runs[-1].counts
        drift(container, wanted.drift)
        runs.append(check("drift", conf, server))
        assert runs[-1].counts == dict.fromkeys(("extra-row", "missing-row"), (wanted.drift, 0)), runs[-1].counts
        runs.append(check("repair", conf, server, "--repair"))
        assert runs[-1].counts == dict.fromkeys(("extra-row", "missing-row"), (wanted.drift,) * 2), runs[-1].counts
        runs.append(check("clean again", conf, server))
        assert runs[-1].counts == {}, runs[-1].counts
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores; start of the command: {start_s:.2f} s\n")
    print("| check | names | found | mended | names/s | command µs/name | server µs/name | peak RSS MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for each in runs:
        print(each.row(start_s))
    if max(each.rss_bytes for each in runs) > MOST_RSS_BYTES:
        sys.exit(f"the command used more than {MOST_RSS_BYTES // 2**20} MiB")


if __name__ == "__main__":
    main()
