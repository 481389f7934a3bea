# SPDX-License-Identifier: Apache-2.0
"""Kill processes at random under load, again and again; then nothing is lost and listings are true.

    python tests/torture/run.py [--minutes 30] [--seed N] [--directory DIR]

Needs root and XFS. Prints the seed first and, for each broken rule, what was done to the name that broke it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.functional import filesystem
from tests.torture.actors import FIXED, Fixed, Strict, Worker, World
from tests.torture.check import Checker
from tests.torture.disk import Disk
from tests.torture.served import Client, Served

STRICT, WILD = ("s0", "s1", "s2", "s3"), ("w0", "w1")
WORKERS = 5
SELDOM = ("memcached", "swift-proxy-server")
MEMORY = Path("/dev/shm")
ROUND_S = 60.0
# A supervisor starts what ended after half a second, and waits longer for what ends again and again.
SHORTEST_PAUSE_S = 0.2
LATE_UPDATES_S = 12.0


@dataclass(frozen=True)
class Plan:
    """How long and how.

    Attributes:
        seed: of all dice.
        rounds: how often everything is started, tortured, started again and checked.
        round_s: how long each torture takes.
        longest_pause_s: between two kills.
    """

    seed: int
    rounds: int
    round_s: float
    longest_pause_s: float = 4.0


class Torture:
    """One instance and its rounds."""

    def __init__(self, directory: Path, state: Path, plan: Plan) -> None:
        """Start nothing yet.

        Args:
            directory: what is served.
            state: everything else.
            plan: how long and how.
        """
        self._plan = plan
        self._dice = random.Random(plan.seed)
        self._fixed = Fixed(self._dice)
        self.world = World(Served(directory, state))
        self._strict: list[Strict] = []
        self._wild: list[Path] = []

    def run(self) -> None:
        """All rounds, until one of them breaks a rule."""
        try:
            for number in range(self._plan.rounds):
                self._torture(number)
                self._start_again()
                self._check()
                print(f"\nround {number + 1} of {self._plan.rounds}: {self.world.tally}", flush=True)
                if self.world.failures.sentences:
                    return
        finally:
            self.world.stop.set()
            self.world.served.stop()

    def _torture(self, number: int) -> None:
        if number == 0:
            self.world.served.start()
            self._prepare()
        self.world.stop.clear()
        threads = [
            threading.Thread(target=self._work, args=(self._plan.seed * 1000 + number * WORKERS + each,))
            for each in range(WORKERS)
        ]
        for thread in threads:
            thread.start()
        try:
            self._kill_for(self._plan.round_s)
        finally:
            self.world.stop.set()
            for thread in threads:
                thread.join()

    def _work(self, seed: int) -> None:
        try:
            Worker(self.world, self._fixed, seed).work(self._strict, self._wild)
        except BaseException as error:  # a worker that ends silently would be no torture
            self.world.failures.add(f"a worker ended: {error!r}")
            self.world.stop.set()
            raise

    def _prepare(self) -> None:
        client = Client(self.world.served)
        for name in (FIXED, *STRICT, *WILD):
            assert client.send("PUT", f"/{name}").status == 201
        self._fixed.upload(client)
        account = self.world.served.account
        self._strict = [Strict(name, Disk(account / name)) for name in STRICT]
        self._wild = [account / name for name in WILD]

    def _kill_for(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            if self.world.stop.wait(self._dice.uniform(SHORTEST_PAUSE_S, self._plan.longest_pause_s)):
                return
            self._kill()

    def _kill(self) -> None:
        served = self.world.served
        programs = served.programs()
        self.world.last_kill_s = time.monotonic()
        if self._dice.random() < 0.06 or not programs:
            served.kill()
            self.world.tally.count("killed everything")
            served.start()
        else:
            for name in self._choose(programs):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(programs[name], signal.SIGKILL)
                self.world.tally.count(f"killed {name}")
        self.world.last_kill_s = time.monotonic()

    def _choose(self, programs: Iterable[str]) -> set[str]:
        """One victim, sometimes two. Without the proxy nobody works for a while, so it is rarely chosen."""
        often = [name for name in sorted(programs) for _ in range(1 if name in SELDOM else 3)]
        return set(self._dice.choices(often, k=self._dice.choice((1, 1, 1, 2))))

    def _start_again(self) -> None:
        self._dice.choice((self.world.served.kill, self.world.served.stop))()
        self.world.last_kill_s = time.monotonic()
        self.world.served.start()

    def _check(self) -> None:
        if self.world.failures.sentences:
            return
        self.world.served.drain()
        report = self.world.served.reconcile("--verbose")
        checker = Checker(self.world)
        checker.check(self._strict, self._wild)
        time.sleep(LATE_UPDATES_S)
        checker.check_listings([self.world.served.account / name for name in (*STRICT, *WILD)])
        for problem in self.world.served.fsck():
            self.world.failures.add(f"fsck: {problem}")
        if self.world.failures.sentences:
            self.world.failures.add(f"the comparison before the check said:\n{report}")


@contextlib.contextmanager
def file_system(parent: Path) -> Iterator[Path]:
    """An XFS."""
    with (
        tempfile.TemporaryDirectory(dir=parent) as place,
        filesystem.xfs_in_a_file(Path(place), size_gib=8) as mount_point,
    ):
        yield mount_point


def main() -> int:
    """Torture; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--directory", type=Path, default=MEMORY if os.access(MEMORY, os.W_OK) else None)
    wanted = parser.parse_args()
    print(f"seed {wanted.seed}", flush=True)
    plan = Plan(wanted.seed, max(1, round(wanted.minutes * 60 / (ROUND_S + 30))), ROUND_S)
    with file_system(wanted.directory) as place:
        torture = Torture(place / "served", place / "state", plan)
        torture.run()
    for sentence in torture.world.failures.sentences:
        print(f"\nBROKEN: {sentence}", flush=True)
    return 1 if torture.world.failures.sentences else 0


if __name__ == "__main__":
    sys.exit(main())
