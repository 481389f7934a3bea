# SPDX-License-Identifier: Apache-2.0
"""How fast records of a changelog become rows of listings: the whole daemon, a fake device, real container servers.

    python bench/changelog_listing.py [--files 100000] [--containers 4] [--at DIR]

Jobs make files in some containers; the records of it (two for each file) are put into the log of a fake MDT all at
once, as after an outage. Measures until the last row is acknowledged and the log is cleared. CPU is that of the daemon
and of the container server; the daemon's memory is what it grew by at most.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from reconcile import cpu_s, make_container, served

from lustack.lustre.changelog import Record, Type, render_record
from lustack.lustre.fake import FakeLustre
from lustack.lustre.fid import NO_FID, Fid
from lustack.sync import opts
from lustack.sync.garbage import collect_seldom
from lustack.sync.metrics import Metrics
from lustack.sync.service import Daemon
from lustack.sync.sources.changelogs import ChangelogSources
from lustack.sync.sources.choose import Choice
from lustack.sync.sources.roots import Root
from lustack.sync.world import opened

FILES_OF_A_FOLDER = 1000


def make_files(lustre: FakeLustre, account: Path, containers: Sequence[str], count: int) -> dict[int, bytes]:
    """Real files, and the records that a real MDT would have written, by index."""
    (log,) = lustre.logs.values()
    records: dict[int, bytes] = {}
    index = log.last_index
    for number in range(count):
        container = containers[number % len(containers)]
        folder = f"{account.name}/{container}/run{number // len(containers) // FILES_OF_A_FOLDER:05d}".encode()
        if not os.path.isdir(os.path.join(lustre.root, folder)):
            lustre.mkdir(folder)
            # Its own record; those of the files follow.
            index = log.last_index = index + 1
            records[index] = render_record(
                Record(index, Type.MKDIR, 0x1000, time.time_ns(), *_named(lustre, folder), nid=bytes(24))
            )
        name = b"result-%07d.dat" % number
        fd = os.open(os.path.join(lustre.root, folder, name), os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"0123456789"[: number % 10])
        key, parent = Fid(0x200000400 + (number >> 16), number & 0xFFFF, 0).key, lustre.key_at(folder)
        os.close(fd)
        for kind, flags, where, what in ((Type.CREAT, 0x1000, parent, name), (Type.CLOSE, 0x1242, NO_FID, b"")):
            index += 1
            records[index] = render_record(
                Record(index, kind, flags, time.time_ns(), key, where, what, uid=0, gid=0, nid=bytes(24))
            )
        log.last_index = index
    return records


def _named(lustre: FakeLustre, path: bytes) -> tuple[bytes, bytes, bytes]:
    folder, _, name = path.rpartition(b"/")
    return lustre.key_at(path), lustre.key_at(folder), name


def wait_for(condition: Callable[[], bool]) -> float:
    """Seconds until it is so."""
    started_s = time.monotonic()
    while not condition():
        time.sleep(0.02)
    return time.monotonic() - started_s


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--containers", type=int, default=4)
    parser.add_argument("--at", metavar="DIR", help="directory for the tree and the databases")
    wanted = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with served(wanted.at) as (running, conf):
        containers = [f"bench{number}" for number in range(wanted.containers)]
        for container in containers:
            make_container(running.access, container)
            (Path(str(running.host.directory)) / "AUTH_test" / container).mkdir(parents=True, exist_ok=True)
        server = running.supervisor.pids()["container-server"]
        measure(wanted.files, containers, Path(str(running.host.directory)) / "AUTH_test", conf, server)


def measure(files: int, containers: Sequence[str], account: Path, conf: Path, server: int) -> None:
    """Runs the daemon over the records."""
    lustre = FakeLustre(os.fsencode(account.parent))
    (log,) = lustre.logs.values()
    user = log.register()

    def choose(_wanted: str, device: str, roots: Sequence[Root]) -> Choice:
        source = ChangelogSources(f"changelog:{device}", lustre, {log.mdt: user}, roots)
        return Choice("changelog", source, "for the benchmark")

    settings = opts.read(opts.configure([str(conf)]))
    collect_seldom()
    with opened(settings) as world:
        daemon = Daemon(world, threading.Event(), Metrics(), choose)
        thread = threading.Thread(target=daemon.run)
        thread.start()
        try:
            wait_for(lambda: daemon.cycles > 0 and not daemon.engine.wants_tree() and not log.records)
            # While files are made, nothing is read.
            log.is_stalled = True
            records = make_files(lustre, account, containers, files)
            rss, used_s, server_s = rss_bytes(), time.process_time(), cpu_s(server)
            log.records, log.is_stalled = dict(records), False
            wall_s = wait_for(lambda: not log.records)
            used_s, server_s = time.process_time() - used_s, cpu_s(server) - server_s
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - rss
        finally:
            daemon.stop.set()
            thread.join()
    count = len(records)
    print(json.dumps({"load": os.getloadavg()[0], "rows_sent": files, "losses": daemon.engine.readers[0].losses}))
    print("| records | containers | records/s | daemon µs/record | container server µs/row | grown by MiB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    print(
        f"| {count} | {len(containers)} | {count / wall_s:.0f} | {used_s / count * 1e6:.1f} "
        f"| {server_s / files * 1e6:.1f} | {max(0, grown) / 2**20:.0f} |"
    )


def rss_bytes() -> int:
    """The peak until now, which memory of records that are made later does not hide: it is reset."""
    Path("/proc/self/clear_refs").write_text("5")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
