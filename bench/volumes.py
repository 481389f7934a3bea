# SPDX-License-Identifier: Apache-2.0
"""Our driver of volumes beside Cinder's NFS driver: same Cinder, same file system, in turn.

    .tox/volumes/bin/python bench/volumes.py [--rounds 5] [--size 10] [--data 1024] [--json FILE]

As root, with what `make volumes` installs. Times are what a user waits for, from the request to the state in the API,
which is asked every 0.02 s, from 1 s on after every fiftieth of what was waited; each is the median over the rounds,
which alternate between the drivers. What is quick is done more than once in a round. The file system is an ext4 in a
file, written to past the page cache of the file (`losetup --direct-io=on`): a disk has no second one. Before each step
everything is written to the disk. Ours makes copies durable before it says that they are there. The NFS driver leaves
them in memory here (on NFS the client writes them when they are closed), so the second table has the time until the
file system is synced, too. `linked` is ours with `lustre:copies=linked`.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from cinderclient.v3.volumes import Volume

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.cinder import stand
from tests.cinder.api import Cinder

KINDS = ("raw", "linked", "nfs")
BACKENDS = {"raw": "raw", "linked": "raw", "nfs": "nfs"}
SYNCED = ", and synced"
Thing = TypeVar("Thing")
Times = dict[str, dict[str, list[float]]]


def run_round(cinder: Cinder, kind: str, size_gib: int, data_mib: int, times: Times) -> None:
    """One life of a volume with one driver.

    Args:
        cinder: a client.
        kind: the volume type, which is the name of its back end.
        size_gib: of the volume.
        data_mib: how much of it is written.
        times: receives the seconds of each step.
    """

    def timed(step: str, call: Callable[[], Thing]) -> Thing:
        # No step pays for what an earlier one left to be written.
        sync = ["sync", "-f", str(cinder.stand.files)]
        subprocess.run(sync, check=True)
        begin_s = time.monotonic()
        found = call()
        times[step][kind].append(time.monotonic() - begin_s)
        subprocess.run(sync, check=True)
        times[step + SYNCED][kind].append(time.monotonic() - begin_s)
        return found

    volume = timed("create", lambda: cinder.create(size_gib, kind))
    with (cinder.stand.share(BACKENDS[kind]) / f"volume-{volume.id}").open("r+b") as file:
        for _ in range(data_mib):
            file.write(b"\xa5" * (1 << 20))
    clone = timed("clone", lambda: cinder.create(size_gib, kind, source_volid=volume.id))
    snapshot = timed("snapshot", lambda: cinder.snapshot(volume))
    copy = timed("volume from snapshot", lambda: cinder.create(size_gib, kind, snapshot_id=snapshot.id))
    timed("delete snapshot", lambda: cinder.gone(snapshot))
    for more_gib in range(1, 6):
        timed("extend", partial(extend, cinder, volume, size_gib + more_gib))
    for each in (volume, clone, copy):
        timed("delete", partial(cinder.gone, each))


def extend(cinder: Cinder, volume: Volume, size_gib: int) -> None:
    """Make a volume larger, and wait until it is."""
    cinder.api.volumes.extend(volume, size_gib)
    cinder.volume(volume)


def write_past_second_cache(mount_point: Path) -> None:
    """Have the loop device of a file system write to its file directly."""
    find = ["findmnt", "--noheadings", "--output", "SOURCE", "--mountpoint", mount_point]
    device = subprocess.run(find, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["losetup", "--direct-io=on", device], check=True)


def measure(rounds: int, size_gib: int, data_mib: int) -> Times:
    """Seconds of every step, for each driver."""
    times: Times = defaultdict(lambda: defaultdict(list))
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root,
        stand.running(Path(root), {"raw": ""}) as running,
    ):
        write_past_second_cache(running.files)
        stand.PAUSE_S = 0.02
        cinder = Cinder(running)
        cinder.wait_for_services(*set(BACKENDS.values()), others=2)
        for kind, backend in BACKENDS.items():
            specs = {"lustre:copies": "linked"} if kind == "linked" else {}
            cinder.make_type(kind, volume_backend_name=backend, **specs)
        for number in range(rounds):
            for kind in KINDS if number % 2 else reversed(KINDS):
                run_round(cinder, kind, size_gib, data_mib, times)
    return times


def render_table(times: Times, *, is_synced: bool = False) -> str:
    """The medians of the steps, until they are done or until everything is synced, and how they compare."""
    ours, linked, stock = KINDS
    lines = ["| step | ours | linked | NFS driver | ours : NFS | linked : NFS |", "| --- " + "| ---: " * 5 + "|"]
    for step, kinds in times.items():
        if step.endswith(SYNCED) == is_synced:
            median = {kind: statistics.median(kinds[kind]) for kind in KINDS}
            seconds = [f"{median[kind]:.2f}" for kind in KINDS]
            ratios = [f"{median[kind] / median[stock]:.2f}" for kind in (ours, linked)]
            lines.append("| " + " | ".join([step, *seconds, *ratios]) + " |")
    return "\n".join(lines)


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=10, help="GiB of a volume")
    parser.add_argument("--data", type=int, default=1024, help="MiB that are written to it")
    parser.add_argument("--json", type=Path, help="every time; those of earlier runs that are in it count as well")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    times = measure(options.rounds, options.size, options.data)
    if options.json and options.json.exists():
        for step, kinds in json.loads(options.json.read_text()).items():
            for kind, earlier in kinds.items():
                times[step][kind] = earlier + times[step][kind]
    print(render_table(times), render_table(times, is_synced=True), sep="\n\n")
    if options.json:
        options.json.write_text(json.dumps(times, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
