# SPDX-License-Identifier: Apache-2.0
"""The whole daemon on the changelogs of a mounted Lustre. Swift is one in memory: only the file system counts."""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from lustack.sync.clock import Clock
from lustack.sync.metrics import Metrics
from lustack.sync.service import Daemon
from lustack.sync.settings import Settings
from lustack.sync.sinks.fake import FakeContainer, FakeSink
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.sinks.rings import Policy
from lustack.sync.sources.changelogs import ChangelogSources
from lustack.sync.sources.choose import Choice
from lustack.sync.state import State
from lustack.sync.world import World

KEY = ContainerKey("a", "c")
ROUNDS, FILES = 4, 5

LIMIT_S = 150.0
"""The record of a close may come a minute late. Source: llite opencache_max_ms 60000."""


class Site:
    """A device in the ground of a test, and daemons that come and go. What they remember is on a local disk."""

    def __init__(self, ground, local):
        self.ground, self.local = ground, local
        self.device = ground.top + b"/files"
        for folder in (b"", b"/.lustack", b"/.lustack/fence", b"/a", b"/a/c"):
            ground.mkdir(self.device + folder)
        self.sink = FakeSink(accounts={"a"}, containers={KEY: FakeContainer()})
        self.settings = Settings(
            devices=os.fsdecode(ground.real(ground.top)),
            state_dir=local,
            settle_s=0.0,
            interval_s=3600.0,
            hash_bytes_per_s=0,
        )

    def path(self, name):
        return self.device + b"/a/c/" + name

    def choose(self, wanted, device, roots):
        source = ChangelogSources(f"changelog:{device}", self.ground.lustre, self.ground.users, roots)
        return Choice("changelog", source, "for tests")

    @contextmanager
    def daemon(self):
        state = State(os.path.join(self.local, "sync.sqlite"))
        with ThreadPoolExecutor(1) as executor:
            world = World(self.settings, (Policy(0, "gold", "files"),), self.sink, state, Clock(state), executor)
            daemon = Daemon(world, threading.Event(), Metrics(), self.choose)
            thread = threading.Thread(target=daemon.run)
            thread.start()
            try:
                yield daemon
            finally:
                daemon.stop.set()
                thread.join()
                state.close()

    def listed(self):
        return {name: row.size_bytes for name, row in self.sink.containers[KEY].shown().items()}

    def wait(self, limit_s=LIMIT_S):
        """What `lustack sync wait` does."""
        nonce = self.device + b"/.lustack/fence/" + secrets.token_hex(16).encode()
        self.ground.write(nonce, b"")
        wait_for(lambda: not os.path.lexists(self.ground.real(nonce)), limit_s)


def wait_for(condition, limit_s=LIMIT_S):
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, "it never happened"
        time.sleep(0.02)


def wait_for_start(daemon):
    """Returns the number of comparisons, which stays the same from now on."""
    readers = daemon.engine.readers
    wait_for(lambda: daemon.cycles and readers and not readers[0].why_down and not daemon.engine.wants_tree())
    return daemon.cycles


class DaemonContract:
    """A subclass gives the fixture `ground`."""

    @pytest.fixture
    def site(self, ground):
        with tempfile.TemporaryDirectory(prefix="lustack-state-", dir="/tmp") as local:
            yield Site(ground, local)

    def test_what_jobs_do_is_listed_by_itself(self, site):
        ground = site.ground
        with site.daemon() as daemon:
            cycles = wait_for_start(daemon)
            ground.write(site.path(b"f"), b"x")
            ground.mkdir(site.path(b"d"))
            ground.write(site.path(b"d/g"), b"xy")
            wait_for(lambda: site.listed() == {"f": 1, "d/g": 2})
            ground.rename(site.path(b"d"), site.path(b"e"))
            ground.unlink(site.path(b"f"))
            ground.write(site.path(b"e/g"), b"longer")
            wait_for(lambda: site.listed() == {"e/g": 6})
            assert (daemon.cycles, daemon.engine.readers[0].losses) == (cycles, 0)

    def test_who_comes_later_goes_on_where_the_daemon_before_was(self, site):
        with site.daemon() as daemon:
            wait_for_start(daemon)
            site.ground.write(site.path(b"f"), b"x")
            wait_for(lambda: site.listed() == {"f": 1})
            wait_for(lambda: daemon.engine.readers[0].position)
        site.ground.unlink(site.path(b"f"))
        site.ground.write(site.path(b"g"), b"x")
        with site.daemon() as daemon:
            wait_for(lambda: site.listed() == {"g": 1})
            assert (daemon.cycles, daemon.engine.readers[0].losses) == (0, 0)

    def test_when_wait_returns_everything_before_it_on_every_mdt_is_listed(self, site):
        ground, wanted = site.ground, {}
        with site.daemon() as daemon:
            cycles = wait_for_start(daemon)
            for number in range(len(ground.mdts)):
                ground.mkdir(site.path(b"m%d" % number), number)
            for each in range(ROUNDS):
                for number in range(len(ground.mdts)):
                    for file in range(FILES):
                        name = f"m{number}/{each}.{file}"
                        ground.write(site.path(name.encode()), b"x" * each)
                        wanted[name] = each
                site.wait()
                assert site.listed() == wanted
            assert daemon.cycles == cycles


class TestMountedDaemon(DaemonContract):
    @pytest.fixture
    def ground(self, whole_ground, for_swift):
        return whole_ground
