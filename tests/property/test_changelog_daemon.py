# SPDX-License-Identifier: Apache-2.0
"""On a fake Lustre with two MDTs jobs work, the daemon is killed, MDTs crash: at rest the listing is what is there."""

from __future__ import annotations

import os
import random
import time

import pytest
from tests.engines import Steps
from tests.listings import KEY
from tests.lustre.test_walk import Worker, snapshot
from tests.lustres import QUICK

from lustack.lustre.errors import ChangelogError
from lustack.lustre.fake import FakeLustre
from lustack.sync.book import LOST
from lustack.sync.reader import FIRST
from lustack.sync.sources.changelog import parse_position
from lustack.sync.sources.changelogs import ChangelogSources
from lustack.sync.sources.protocol import SourceLostError
from lustack.sync.sources.roots import Root

SEEDS = 200 if os.environ.get("HYPOTHESIS_PROFILE") == "search" else 3
STEPS = 120
READ_S = 300.0
"""When whoever reads the logs to their end gives up: however slow the machine is."""


class Ground:
    """A container on a fake Lustre, for the worker of the random walk."""

    def __init__(self, playground):
        top = playground.base / "node"
        self.lustre = FakeLustre(os.fsencode(top), mdts=2)
        self.users = {mdt: log.register() for mdt, log in self.lustre.logs.items()}
        self.mdts = self.lustre.mdts()
        self.top = os.fsencode(os.path.relpath(playground.container, top))
        self.write, self.mkdir, self.rmdir = self.lustre.write, self.lustre.mkdir, self.lustre.rmdir
        self.link, self.unlink, self.rename = self.lustre.link, self.lustre.unlink, self.lustre.rename
        self.truncate = self.lustre.truncate

    def real(self, path):
        return os.path.join(self.lustre.root, path)


class Life:
    """The daemon, with what can happen to it."""

    def __init__(self, playground, ground):
        self.source = None
        self.playground, self.ground = playground, ground
        self.kills = self.losses = 0
        self.begin()

    def begin(self):
        ground = self.ground
        root = Root(str(self.playground.root))
        self.source = ChangelogSources("changelog:d1", ground.lustre, ground.users, [root], QUICK)
        self.steps = Steps(self.playground, self.source, quiet_s=5.0)
        self.steps.begin()

    def kill(self):
        """Nothing that is only in memory survives."""
        self.source.close()
        self.kills += 1
        self.begin()

    def read(self):
        """Everything that is in the logs."""
        until_s = time.monotonic() + READ_S
        while time.monotonic() < until_s:
            try:
                self.steps.read()
            except SourceLostError:
                self.losses += 1
                self.steps.reader._reopen(LOST)
            if self.steps.reader.why_down:
                # As the reader's thread does it after a while.
                self.steps.reader._reopen(FIRST)
            if self.has_all():
                return
        raise AssertionError("the logs are never read to their end")

    def given(self):
        return {mdt: parse_position(each).index for mdt, each in self.source._given.items()}

    def has_all(self):
        given = self.given()
        logs = self.ground.lustre.logs.items()
        return not self.steps.reader.why_down and all(
            given.get(mdt, 0) >= max(log.records, default=0) for mdt, log in logs
        )

    def rest(self):
        for _ in range(2):
            self.read()
            self.steps.rest()

    def shown(self):
        rows = self.playground.sink.containers[KEY].shown()
        return {name: row.size_bytes for name, row in rows.items()}


def disturb(life, chance):
    """Something happens to the daemon or to an MDT."""
    log = chance.choice(list(life.ground.lustre.logs.values()))
    happens = chance.randrange(12)
    if happens == 0:
        life.kill()
    elif happens == 1:
        log.faults.append(ChangelogError(log.mdt, "busy"))
    elif happens < 4:
        # What an MDT loses with its records, operations and all, is in tests/contract/test_changelog_daemon.py.
        log.restart()
    elif happens < 8:
        life.steps.send()
    elif happens < 10:
        life.steps.do_job()
        life.steps.compare()
    else:
        life.read()


def fail_once(log):
    """So that it happens at least once in each run while the source reads."""
    log.faults.append(ChangelogError(log.mdt, "busy"))
    until_s = time.monotonic() + READ_S
    while log.faults:
        assert time.monotonic() < until_s, "nobody reads"
        time.sleep(0.01)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.expects_log("trying again and again")
def test_at_rest_the_listing_says_what_is_there(playground, seed):
    ground = Ground(playground)
    chance = random.Random(seed)
    worker = Worker(ground, seed)
    life = Life(playground, ground)
    try:
        for _ in range(STEPS):
            worker.step()
            disturb(life, chance)
        life.kill()
        life.rest()
        fail_once(ground.lustre.logs[ground.mdts[0]])
        life.rest()
        there = {path: size for path, (_, size) in snapshot(str(playground.container)).items()}
        assert life.shown() == there
    finally:
        life.source.close()
