# SPDX-License-Identifier: Apache-2.0
"""A fake Lustre of two MDTs that jobs of a test work in, and daemons on it that are processes to be killed.

jobs -> FakeLustre -> files -> `lustack sync run` (tests.filed_daemon) -> listings
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

from tests.filed_lustre import FiledLustre, Publisher, read_violations
from tests.lustre.test_walk import Worker

from lustack.lustre.fake import FakeLustre
from lustack.sync import status

ACCOUNT = "AUTH_test"
LIMIT_S = 180.0


class FiledSite:
    """A subclass says what Swift is. It is a `Ground` for workers too: see tests/lustre/test_walk.py.

    Attributes:
        base: of everything.
        top: the container that workers work in, from the root of the file system.
        options: of the daemons' configuration.
    """

    top = f"{ACCOUNT}/c".encode()

    def __init__(self, base, device, options):
        self.base, self.options, self.files = base, options, base / "lustre"
        self.account = device / ACCOUNT
        self.account.mkdir(parents=True, exist_ok=True)
        # What any PUT makes; without it nothing is ever deleted.
        (device / ".lustack").mkdir(mode=0o700, exist_ok=True)
        self.lustre = FakeLustre(os.fsencode(os.path.realpath(device)), mdts=2)
        self.mdts = self.lustre.mdts()
        self.publisher = Publisher(self.lustre, self.files)
        self.filed = FiledLustre(self.files)
        self.write, self.mkdir, self.rmdir = self.lustre.write, self.lustre.mkdir, self.lustre.rmdir
        self.link, self.unlink, self.rename = self.lustre.link, self.lustre.unlink, self.lustre.rename
        self.truncate = self.lustre.truncate

    def put_container(self, container):
        """Swift makes it; its directory is there."""
        raise NotImplementedError

    def rows(self, container):
        """The sizes in a listing by name."""
        raise NotImplementedError

    def text(self, name):
        """The configuration of a daemon with a state of its own, as on a machine of its own."""
        raise NotImplementedError

    def database(self, container):
        """Where a listing is kept: it has a table `object` with `name` and `deleted`."""
        raise NotImplementedError

    def environment(self):
        """What the daemons need to know besides."""
        return {}

    def real(self, path):
        return os.path.join(self.lustre.root, path)

    def make(self, container, *mdts):
        """Makes a container whose directory lives on these MDTs."""
        self.lustre.mkdir(f"{ACCOUNT}/{container}".encode(), *mdts)
        self.publisher.publish()
        self.put_container(container)

    def add(self, container, name):
        """A job makes a file."""
        self.write(f"{ACCOUNT}/{container}/{name}".encode(), b"now")
        self.publisher.publish()

    def add_and_wait(self, container, name):
        """A job makes a file, which is listed then."""
        self.add(container, name)
        wait_for(lambda: name in self.rows(container))

    def conf(self, name):
        path = self.base / f"{name}.conf"
        if not path.exists():
            users = ",".join(f"{mdt}:cl1" for mdt in self.mdts)
            path.write_text(f"{self.text(name)}source = changelog\nchangelog_users = {users}\n{self.options}")
        return path

    @contextmanager
    def daemon(self, name, **environment):
        """`lustack sync run`; killed in the end, if it is still there."""
        command = (sys.executable, "-m", "tests.filed_daemon", "sync", "run", "--config-file", str(self.conf(name)))
        wanted = {**os.environ, "FILED_LUSTRE": str(self.files), **self.environment(), **environment}
        with (self.base / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, env=wanted, stderr=log)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def look(self, name):
        """What a daemon says of itself."""
        return status.read(str(self.base / name)) or status.Status()

    def is_running(self, name, pid):
        """Whether a daemon reads the logs, and has compared what it wants to compare."""
        found = self.look(name)
        is_open = bool(found.sources) and not any(source.why_down for source in found.sources)
        return found.state == "running" and found.pid == pid and is_open and not found.is_comparing

    def is_settled(self, name):
        """Whether a daemon has nothing left to do, and has written down where it is."""
        found = self.look(name)
        is_idle = not found.job_count and not found.is_comparing and found.comparisons > 0
        return is_idle and self.is_clear() and all(source.position for source in found.sources)

    def cleared(self):
        """Up to where the logs are cleared."""
        return {mdt: self.filed.cleared(mdt) for mdt in self.mdts}

    def is_clear(self):
        """Whether nothing is left in any log."""
        return self.cleared() == self.publisher.last

    def differences(self, container):
        """What a listing says that is not there, and the other way round; no job may work meanwhile."""
        top = self.real(f"{ACCOUNT}/{container}".encode())
        there = {}
        for folder, _, files in os.walk(top):
            for path in (os.path.join(folder, name) for name in files):
                there[os.fsdecode(os.path.relpath(path, top))] = os.path.getsize(path)
        return sorted(self.rows(container).items() ^ there.items())

    def wait_until_true(self):
        """Waits until nothing is left in the logs, and the listings say what is there."""
        wait_for(self.is_clear)
        until_s = time.monotonic() + LIMIT_S / 3
        while wrong := self.differences("c") + self.differences("w"):
            assert time.monotonic() < until_s, wrong
            time.sleep(0.05)

    def proof(self, name, container):
        """Has a daemon prove, whenever it clears, that files of a container were dealt with."""
        path = f"{ACCOUNT}/{container}".encode()
        found = {
            "state": str(self.base / name / "sync.sqlite"),
            "database": str(self.database(container)),
            "directory": os.fsdecode(self.real(path)),
            "key": self.lustre.key_at(path).hex(),
            "account": ACCOUNT,
            "container": container,
        }
        return json.dumps(found)

    def violations(self):
        """What was cleared too early."""
        return read_violations(str(self.files))

    def close(self):
        self.publisher.close()


class Jobs:
    """What jobs do to the tree while daemons come and go: a random walk in `c`, files that come and go in `w`."""

    def __init__(self, site, seed):
        self.site, self.random = site, random.Random(seed)
        self.worker = Worker(site, seed)
        # Names in a directory that is gone, after a kill, are a reason to compare everything, which would hide losses.
        self.worker.remove = lambda folder: None
        self.steps = 0
        self._stop = threading.Event()

    @contextmanager
    def working(self):
        """Works until the end of the block."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self):
        while not self._stop.wait(0.02):
            self.step()

    def step(self):
        """One thing, and what it says in the logs."""
        self.worker.step()
        if self.steps >= 10 and self.random.random() < 0.5:
            self.site.unlink(f"{ACCOUNT}/w/{self.steps - 10:06}".encode())
        self.site.write(f"{ACCOUNT}/w/{self.steps:06}".encode(), b"w" * (self.steps % 9))
        self.site.publisher.publish()
        self.steps += 1


def wait_for(condition, limit_s=LIMIT_S):
    """Seconds until something is so."""
    started_s = time.monotonic()
    while not condition():
        assert time.monotonic() - started_s < limit_s, "it never happened"
        time.sleep(0.05)
    return time.monotonic() - started_s


TAKE_OVER_S = 60.0
# Comparisons of everything would hide what the changelogs miss.
RARELY = "check_interval_s = 86400\nquiet_s = 1\nadopt_containers = false\n"


class KillContract:
    """Daemons are killed by SIGKILL. A subclass gives the fixture `site`, with a coordinator and the container `c`."""

    kills = 6
    seed = 41

    def test_a_second_daemon_takes_over_within_seconds_and_nothing_is_lost_or_stuck(self, site):
        site.make("w", 1)
        jobs = Jobs(site, self.seed)
        with site.daemon("one") as first, site.daemon("two") as second:
            daemons = {"one": first, "two": second}
            running = []

            def look():
                running.extend(name for name, each in daemons.items() if site.is_running(name, each.pid))
                return running

            # What is found need not be found a moment later.
            wait_for(look)
            [victim] = running
            [heir] = daemons.keys() - {victim}
            with jobs.working():
                wait_for(lambda: jobs.steps > 50 and len(site.rows("w")) > 10)
                wait_for(lambda: site.look(heir).state == "standby")
                daemons[victim].kill()
                killed_s = time.monotonic()
                # Made when nobody works any more, on the MDT of `w`.
                site.add_and_wait("w", "after the kill")
                took_s = time.monotonic() - killed_s
                wait_for(lambda: jobs.steps > 100)
            print(f"taken over after {took_s:.1f} s, {jobs.steps} steps")
            assert took_s < TAKE_OVER_S
            site.wait_until_true()
            assert site.look(heir).losses == 0
        # The first machine comes back after the second one worked.
        with site.daemon(victim) as process:
            wait_for(lambda: site.is_running(victim, process.pid))
            site.add_and_wait("w", "after the return")
            wait_for(site.is_clear)

    def test_a_daemon_that_is_killed_at_any_moment_loses_nothing_and_clears_nothing_too_early(self, site):
        site.make("w", 1)
        jobs, chance = Jobs(site, self.seed + 1), random.Random(self.seed)
        with site.daemon("one") as process:
            wait_for(lambda: site.is_running("one", process.pid))
            site.add_and_wait("w", "first")
            wait_for(lambda: site.is_settled("one"))
        environment = {"FILED_PROOF": site.proof("one", "w"), "FILED_CHUNK": "2000", "FILED_FAULTS": str(self.seed)}
        with jobs.working():
            for _ in range(self.kills):
                cleared = site.cleared()
                with site.daemon("one", **environment):
                    # Some die while they start, the others in the middle of their work.
                    if chance.random() < 0.7:
                        wait_for(lambda cleared=cleared: site.cleared() != cleared)
                    time.sleep(chance.uniform(0.0, 2.0))
        with site.daemon("one", **environment) as process:
            wait_for(lambda: site.look("one").pid == process.pid)
            site.wait_until_true()
            found = site.look("one")
            assert (found.comparisons, found.losses) == (0, 0), "the changelogs said everything"
        print(f"{jobs.steps} steps, {site.publisher.last}")
        assert site.violations() == []
