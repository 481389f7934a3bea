# SPDX-License-Identifier: Apache-2.0
"""How fast an existing tree becomes a container while jobs go on changing it, with the importer killed on the way.

    python bench/export.py [--files 300000] [--directory-files 1000] [--kills 3] [--changes-per-s 200] [--at DIR]

Exports the tree, kills `lustack export add` with SIGKILL as often as asked for and starts it again; a client reads and
replaces objects all the time, jobs create, append, rename and unlink. At the end the jobs rest, one comparison takes
what they did behind the importer's back, and the listing must equal the tree, name by name and size by size. Prints a
table in Markdown.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench_serving import log_in

from lustack.server import instance, topology

ACCOUNT, CONTAINER = "AUTH_test", "results"


@dataclass(frozen=True)
class Wanted:
    """What to measure.

    Attributes:
        files: in the tree.
        directory_files: files in each directory.
        kills: how often the importer is killed.
        changes_per_s: by jobs.
    """

    files: int
    directory_files: int
    kills: int
    changes_per_s: float


class Client:
    """One connection to the proxy."""

    def __init__(self, access: topology.Access) -> None:
        """Logs in."""
        self._headers = log_in(access)
        url = urllib.parse.urlsplit(access.storage_url)
        self._path = url.path
        self._connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=120)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request: status and body."""
        self._connection.request(method, f"{self._path}{path}", body, self._headers)
        with self._connection.getresponse() as answer:
            return answer.status, answer.read()

    def listing(self) -> dict[str, int]:
        """Names and sizes."""
        found: dict[str, int] = {}
        marker = ""
        while True:
            _, body = self.ask("GET", f"/{CONTAINER}?format=json&marker={urllib.parse.quote(marker)}")
            rows = json.loads(body or b"[]")
            if not rows:
                return found
            found.update((row["name"], row["bytes"]) for row in rows)
            marker = rows[-1]["name"]

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


@dataclass
class Load:
    """Jobs that change the tree, and a client that reads and replaces objects.

    Attributes:
        tree: the exported directory.
        access: how the client reaches Swift.
        wanted: how much.
        changes: by jobs.
        reads: of the client.
        replaced: by the client.
        refused: answers that were none of 200, 201 and, for a file that a job removed, 404.
        first_read_s: until the client had read its first object.
    """

    tree: Path
    access: topology.Access
    wanted: Wanted
    changes: int = 0
    reads: int = 0
    replaced: int = 0
    refused: list[int] = field(default_factory=list)
    first_read_s: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)

    def _name(self, dice: random.Random) -> str:
        number = dice.randrange(self.wanted.files)
        return name_of(number, self.wanted)

    def run_jobs(self) -> None:
        """Changes files until told to stop."""
        dice = random.Random(1)
        while not self.stop.wait(1 / self.wanted.changes_per_s):
            path = self.tree / self._name(dice)
            what = dice.randrange(4)
            if what == 0:
                path.with_name(f"{path.name}.new").write_bytes(b"n" * dice.randrange(100))
            elif path.exists():
                self._change(path, what)
            self.changes += 1

    @staticmethod
    def _change(path: Path, what: int) -> None:
        if what == 1:
            with path.open("ab") as file:
                file.write(b"more")
        elif what == 2:  # noqa: PLR2004 - the second of three
            path.unlink()
        else:
            path.rename(path.with_name(f"{path.name}.moved"))

    def run_client(self) -> None:
        """Reads and replaces objects until told to stop."""
        dice = random.Random(2)
        client = Client(self.access)
        started_s = time.monotonic()
        while not self.stop.wait(0.02):
            path = f"/{CONTAINER}/{self._name(dice)}"
            status, _ = client.ask("GET", path)
            self.reads += 1
            if status == http.HTTPStatus.OK and not self.first_read_s:
                self.first_read_s = time.monotonic() - started_s
            answers = [status]
            if status == http.HTTPStatus.OK and not self.reads % 5:
                answers.append(client.ask("PUT", path, b"of a client")[0])
                self.replaced += 1
            self.refused += [each for each in answers if each not in (200, 201, 404)]
        client.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Both at work."""
        threads = [threading.Thread(target=run) for run in (self.run_jobs, self.run_client)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()


def name_of(number: int, wanted: Wanted) -> str:
    """The file with this number, below the tree."""
    return f"run{number // wanted.directory_files:05d}/result-{number:07d}.dat"


def make_tree(tree: Path, wanted: Wanted) -> None:
    """Small files, as jobs left them."""
    for number in range(wanted.files):
        path = tree / name_of(number, wanted)
        if number % wanted.directory_files == 0:
            path.parent.mkdir(parents=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"0123456789"[: number % 10])
        os.close(fd)


def sizes(tree: Path) -> dict[str, int]:
    """What the listing must say."""
    found = {}
    for folder in os.scandir(tree):
        if folder.is_dir():
            found.update((f"{folder.name}/{entry.name}", entry.stat().st_size) for entry in os.scandir(folder.path))
    return found


def export(conf: Path, tree: Path, client: Client, wanted: Wanted) -> list[float]:
    """Imports, and kills the importer on the way; seconds that each run took."""
    command = [sys.executable, "-P", "-m", "lustack.cli.main", "export", "add", ACCOUNT, CONTAINER, str(tree)]
    took = []
    for kill in range(wanted.kills + 1):
        started_s = time.monotonic()
        process = subprocess.Popen([*command, "--config-file", str(conf)])
        goal = wanted.files * (kill + 1) // (wanted.kills + 1)
        while kill < wanted.kills and process.poll() is None and count(client) < goal:
            time.sleep(0.1)
        if kill < wanted.kills:
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        took.append(time.monotonic() - started_s)
        assert code == (0 if kill == wanted.kills else -signal.SIGKILL), code
    return took


def count(client: Client) -> int:
    """Rows of the listing, as its database has counted."""
    client._connection.request("HEAD", f"{client._path}/{CONTAINER}", headers=client._headers)  # noqa: SLF001
    with client._connection.getresponse() as answer:  # noqa: SLF001
        answer.read()
        return int(answer.headers.get("X-Container-Object-Count", "0"))


@contextmanager
def served(at: str | None) -> Iterator[tuple[instance.Instance, Path, Path]]:
    """A Swift without the daemon, the configuration for a command, and a place for the tree."""
    base = Path(tempfile.mkdtemp(prefix="lustack-bench-", dir=at))
    host = topology.Host(directory=str(base / "data"), state=str(base / "state"), port=0, sync=False)
    try:
        with instance.running(host) as running:
            conf = base / "sync.conf"
            conf.write_text(
                f"[sync]\nswift_dir = {host.etc}\ndevices = {host.node}\nstate_dir = {base}/sync\nbatch_rows = 2000\n"
            )
            yield running, conf, base / "projects" / "results"
    finally:
        shutil.rmtree(base)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300_000)
    parser.add_argument("--directory-files", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--changes-per-s", type=float, default=200.0)
    parser.add_argument("--at", metavar="DIR", help="directory for the tree and the databases")
    given = parser.parse_args()
    wanted = Wanted(given.files, given.directory_files, given.kills, given.changes_per_s)
    with served(given.at) as (running, conf, tree):
        make_tree(tree, wanted)
        client = Client(running.access)
        client.ask("PUT", "/other")
        load = Load(tree, running.access, wanted)
        with load.running():
            took_s = export(conf, tree, client, wanted)
        command = [sys.executable, "-P", "-m", "lustack.cli.main", "sync", "reconcile", f"{ACCOUNT}/{CONTAINER}"]
        started_s = time.monotonic()
        subprocess.run([*command, "--config-file", str(conf)], check=True)
        last_s = time.monotonic() - started_s
        listing, files = client.listing(), sizes(tree)
        client.close()
    report(load, took_s, last_s, len(files), is_equal=listing == files)


def report(load: Load, took_s: list[float], last_s: float, files: int, *, is_equal: bool) -> None:
    """Prints what was measured, and fails if the listing is not the tree."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print("| what | measured |\n| --- | --- |")
    runs = ", ".join(f"{each:.1f}" for each in took_s)
    print(f"| runs of `lustack export add`, all but the last one killed | {runs} s |")
    print(f"| files at the end, thereof listed per second of all runs | {files}, {files / sum(took_s):.0f} |")
    print(f"| changes by jobs meanwhile | {load.changes} |")
    print(f"| reads, replacements by a client meanwhile; refused | {load.reads}, {load.replaced}; {load.refused} |")
    print(f"| first object read after | {load.first_read_s:.2f} s |")
    print(f"| comparison after the jobs rested | {last_s:.1f} s |")
    print(f"| peak memory of the largest process | {usage.ru_maxrss / 1024:.0f} MiB |")
    print(f"| the listing equals the tree | {'yes' if is_equal else 'NO'} |")
    assert is_equal
    assert not load.refused


if __name__ == "__main__":
    main()
