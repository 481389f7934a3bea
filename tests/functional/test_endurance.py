# SPDX-License-Identifier: Apache-2.0
"""What a proxy must stand: a file system that stops answering for a while, and five hundred clients at once.

Both measure servers, so they are in one file: its tests run one after the other. How quick is quick enough is measured,
too: a request that asks nothing of any file system says how busy this machine is.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.functional import stand
from tests.functional.client import Answer, Client

from lustack.server.instance import Instance

SOAK = Path(__file__).parents[1] / "soak" / "run.py"
DEADLINE_S = 3
GRACE_S = 2
"""What an answer may take besides."""

BUSY = 20
"""What an answer takes at most, as a multiple of one of the proxy alone before the file system stops."""

ENOUGH = 4
"""Answers of each kind without which the file system does not stop, and does not go on."""

STALL_S = 400
"""A machine that gives so few in so long is broken."""

AGAIN_S = 0.2
PATIENCE_S = 120
LONG = bytes(range(256)) * 1024


@dataclass
class Disk:
    """A file system in user space, which can be stopped."""

    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def mounted(below: Path, mount_point: Path) -> Iterator[Disk]:
    """Shows `below` at `mount_point` through a process."""
    for path in (below, mount_point):
        path.mkdir()
    disk = Disk(subprocess.Popen(["bindfs", "-f", "--multithreaded", below, mount_point]))
    try:
        wait_until(lambda: os.path.ismount(mount_point))
        yield disk
    finally:
        disk.go_on()
        subprocess.run(["umount", "--lazy", mount_point], check=True)
        disk.process.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    limit_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < limit_s
        time.sleep(0.05)


@dataclass(frozen=True)
class Stage:
    served: Instance
    disk: Disk
    root: Path


@pytest.fixture(scope="module")
def stage(file_system: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    base = file_system / "stall"
    base.mkdir()
    with mounted(base / "below", base / "mount") as disk:
        root = base / "mount" / "root"
        host = stand.plan(root, tmp_path_factory.mktemp("stall") / "state", stand.ours_and_stock(root))
        ours, stock = host.policies
        host = replace(
            host,
            policies=(ours, replace(stock, root=str(base / "stock"))),
            object_options={"lustre_deadline_s": str(DEADLINE_S)},
        )
        with stand.running(host) as served:
            yield Stage(served, disk, root / "ours")
    shutil.rmtree(base)


@dataclass(frozen=True)
class Told:
    """An answer, and what it took."""

    number: int
    answer: Answer
    seconds: float


@dataclass
class Asked:
    """What was asked, again and again, while the file system stood still."""

    told: list[Told] = field(default_factory=list)

    def slow_s(self, part: float) -> float:
        """What so large a part of the answers did not take."""
        ordered = sorted(each.seconds for each in self.told)
        return ordered[min(int(len(ordered) * part), len(ordered) - 1)]

    def statuses(self) -> set[int]:
        return {each.answer.status for each in self.told}


@contextlib.contextmanager
def asking(stage: Stage, stop: threading.Event, ask: Callable[[Client, int], Answer]) -> Iterator[Asked]:
    """Asks until the end of the block, which begins when `stop` is set."""
    asked = Asked()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with Client(stage.served.access) as client:
                for number in range(10**6):
                    began_s = time.monotonic()
                    answer = ask(client, number)
                    asked.told.append(Told(number, answer, time.monotonic() - began_s))
                    if stop.wait(AGAIN_S):
                        return
        except BaseException as error:  # noqa: BLE001 - raised again where the thread is awaited
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield asked
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


def ask_health(client: Client, _number: int) -> Answer:
    url = urllib.parse.urlsplit(client.access.storage_url)
    connection = http.client.HTTPConnection(url.netloc, timeout=PATIENCE_S)
    connection.request("GET", "/healthcheck")
    response = connection.getresponse()
    answer = Answer(response.status, {}, response.read())
    connection.close()
    return answer


OTHERS = {
    "healthcheck": ask_health,
    "container": lambda client, _: client.send("HEAD", "/c"),
    "listing": lambda client, _: client.send("GET", "/c"),
    "other policy, GET": lambda client, _: client.send("GET", "/s/o"),
    "other policy, PUT": lambda client, number: client.send("PUT", f"/s/{number}", body=b"x"),
}
STALLED = {
    "GET": lambda client, _: client.send("GET", "/c/small"),
    "HEAD": lambda client, _: client.send("HEAD", "/c/small"),
    "GET of a long one": lambda client, _: client.send("GET", "/c/long"),
    "PUT": lambda client, number: client.send("PUT", f"/c/put-{number}", body=b"small"),
    "PUT of a long one": lambda client, number: client.send("PUT", f"/c/long-{number}", body=LONG),
    "POST": lambda client, _: client.send("POST", "/c/small", {"X-Object-Meta-A": "b"}),
    "DELETE": lambda client, number: client.send("DELETE", f"/c/gone-{number}"),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [20, pytest.param(60, marks=pytest.mark.long)])
def test_who_does_not_need_it_does_not_notice_and_who_does_is_told_in_time(stage: Stage, seconds: int) -> None:
    with Client(stage.served.access) as client:
        assert client.send("PUT", "/c").status in (201, 202)
        assert client.send("PUT", "/s", {"X-Storage-Policy": "silver"}).status in (201, 202)
        for path, body in (("/c/small", b"small"), ("/c/long", LONG), ("/s/o", b"other")):
            assert client.send("PUT", path, body=body).status == 201
    with contextlib.ExitStack() as stack:
        stop = threading.Event()
        others = {what: stack.enter_context(asking(stage, stop, ask)) for what, ask in OTHERS.items()}
        stalled = {what: stack.enter_context(asking(stage, stop, ask)) for what, ask in STALLED.items()}
        everything = (*others.values(), *stalled.values())
        wait_until(lambda: min(len(asked.told) for asked in everything) >= ENOUGH)
        busy_s = BUSY * others["healthcheck"].slow_s(0.5)
        stage.disk.stop()
        for asked in everything:
            asked.told.clear()
        began_s = time.monotonic()
        # What is answered now did not wait for the file system.
        while time.monotonic() < began_s + seconds or min(len(asked.told) for asked in everything) < ENOUGH:
            assert time.monotonic() < began_s + STALL_S, {each: len(others[each].told) for each in others}
            time.sleep(AGAIN_S)
        seen = {what: list(asked.told) for what, asked in stalled.items()}
        stage.disk.go_on()
        time.sleep(1)
    for what, asked in others.items():
        assert asked.statuses() <= {200, 201, 204}, what
        # Some may wait for this machine; a server that waited for the file system would make all of them wait.
        assert asked.slow_s(0.5) < max(DEADLINE_S, busy_s), what
    for what, told in seen.items():
        # The first of each was perhaps answered just before.
        refused = [each for each in told if each.answer.status == 503]
        assert len(refused) >= len(told) - 1 > 0, (what, [each.answer.status for each in told])
        took_s = sorted(each.seconds for each in refused)
        assert took_s[len(took_s) // 2] < DEADLINE_S + GRACE_S + busy_s, what
        assert all(each.answer.headers["retry-after"] for each in refused), what
    check_that_nothing_is_lost(stage, stalled)


def check_that_nothing_is_lost(stage: Stage, asked: dict[str, Asked]) -> None:
    with Client(stage.served.access) as client:
        wait_until(lambda: client.send("GET", "/c/small").status == 200)
        wait_until(lambda: not list(stage.root.rglob(".lustack.tmp.*")))
        for what, body in (("PUT", b"small"), ("PUT of a long one", LONG)):
            prefix = "put" if what == "PUT" else "long"
            for each in asked[what].told:
                if each.answer.status == 201:
                    assert client.send("GET", f"/c/{prefix}-{each.number}").body == body


@pytest.mark.timeout(900)
def test_five_hundred_clients_make_no_server_grow() -> None:
    # Other tests beside this one come first: they measure how long something takes, and this one does not.
    command = ["nice", "-n", "5", sys.executable, str(SOAK), "--clients", "500", "--seconds", "120"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
