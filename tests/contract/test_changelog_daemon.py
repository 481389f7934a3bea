# SPDX-License-Identifier: Apache-2.0
"""The whole daemon, with its threads, on the changelogs of a fake Lustre."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from tests.listings import KEY, POLICY, playground
from tests.lustres import QUICK

from lustack.lustre.fake import FakeLustre
from lustack.sync.metrics import Metrics
from lustack.sync.service import Daemon
from lustack.sync.sources.changelogs import ChangelogSources
from lustack.sync.sources.choose import Choice
from lustack.sync.world import World

__all__ = ("playground",)

MD5_OF_X = hashlib.md5(b"x", usedforsecurity=False).hexdigest()


class Site:
    """A device on Lustre, and daemons that come and go."""

    def __init__(self, playground):
        self.playground = playground
        self.lustre = FakeLustre(os.fsencode(playground.base / "node"), mdts=2)
        self.users = {mdt: log.register() for mdt, log in self.lustre.logs.items()}
        self.top = os.fsencode(os.path.relpath(playground.container, playground.base / "node")) + b"/"
        self.settings = replace(playground.settings, settle_s=0.0, interval_s=3600.0, quiet_s=0.2)

    def choose(self, wanted, device, roots):
        source = ChangelogSources(f"changelog:{device}", self.lustre, self.users, roots, QUICK)
        return Choice("changelog", source, "for tests")

    def start(self):
        ground = self.playground
        executor = ThreadPoolExecutor(1)
        world = World(self.settings, (POLICY,), ground.sink, ground.state, ground.clock, executor)
        daemon = Daemon(world, threading.Event(), Metrics(), self.choose)
        thread = threading.Thread(target=daemon.run)
        thread.start()
        return daemon, thread, executor

    def stop(self, daemon, thread, executor):
        daemon.stop.set()
        thread.join()
        executor.shutdown()


@pytest.fixture
def site(playground):
    return Site(playground)


def wait_for(condition, most_s=20.0):
    started_s = time.monotonic()
    while not condition():
        assert time.monotonic() - started_s < most_s, "it never happened"
        time.sleep(0.01)
    return time.monotonic() - started_s


def all_acknowledged(site):
    return all(not log.records for log in site.lustre.logs.values())


def test_what_jobs_do_on_any_mdt_is_listed_and_the_logs_are_cleared(site):
    running = site.start()
    lustre, top, listed = site.lustre, site.top, site.playground.listed
    wait_for(lambda: running[0].cycles >= 1)
    lustre.mkdir(top + b"far", 1)
    lustre.write(top + b"far/f", b"x")
    lustre.write(top + b"g", b"x")
    wait_for(lambda: listed() == ["far/f", "g"])
    lustre.rename(top + b"far", top + b"near")
    lustre.unlink(top + b"g")
    wait_for(lambda: listed() == ["near/f"])
    lustre.write(top + b"near/f", b"longer")
    wait_for(lambda: site.playground.sink.containers[KEY].shown()["near/f"].size_bytes == 6)
    wait_for(lambda: all_acknowledged(site))
    site.stop(*running)


def test_who_comes_after_a_daemon_goes_on_where_it_was(site):
    running = site.start()
    wait_for(lambda: running[0].cycles >= 1)
    site.lustre.mkdir(site.top + b"far", 1)
    site.lustre.write(site.top + b"f", b"x")
    wait_for(lambda: site.playground.listed() == ["f"])
    wait_for(lambda: all_acknowledged(site))
    site.stop(*running)
    site.lustre.write(site.top + b"far/g", b"x")
    site.lustre.unlink(site.top + b"f")
    running = site.start()
    took_s = wait_for(lambda: site.playground.listed() == ["far/g"])
    assert took_s < 5.0
    assert running[0].cycles == 0, "nothing had to be compared"
    site.stop(*running)


@pytest.mark.expects_log("has lost events")
def test_when_an_mdt_loses_our_user_everything_is_compared(site):
    running = site.start()
    wait_for(lambda: running[0].cycles >= 1)
    (mdt, other) = site.lustre.mdts()
    log = site.lustre.logs[mdt]
    site.lustre.write(site.top + b"f", b"x")
    wait_for(lambda: site.playground.listed() == ["f"])
    wait_for(lambda: all_acknowledged(site))
    log.deregister(site.users[mdt])
    site.lustre.write(site.top + b"unseen", b"x")
    # The administrator registers again, under the name that is configured.
    site.users[mdt] = log.register()
    running[0].engine.readers[0].source._users.update(site.users)
    running[0].engine.readers[0].source._sources[mdt]._beat_s = 0.0
    running[0].engine.readers[0].source._sources[mdt]._is_clear_due = True
    wait_for(lambda: site.playground.listed() == ["f", "unseen"])
    assert running[0].engine.readers[0].losses == 1
    assert other in site.users
    site.stop(*running)


def test_what_no_record_tells_is_found_by_the_next_comparison(site):
    site.settings = replace(site.settings, check_interval_s=0.5)
    running = site.start()
    wait_for(lambda: running[0].cycles >= 1)
    # The MDT crashed before the close of an old file was on its disk; a nodemap without audit records nothing at all.
    site.lustre.write(site.top + b"f", b"x")
    wait_for(lambda: site.playground.listed() == ["f"])
    site.lustre.write(site.top + b"f", b"longer", is_close_lost=True)
    (site.playground.container / "unrecorded").write_bytes(b"x")
    wait_for(lambda: site.playground.listed() == ["f", "unrecorded"])
    wait_for(lambda: site.playground.sink.containers[KEY].shown()["f"].size_bytes == 6)
    site.stop(*running)


@pytest.mark.expects_log("has lost events")
def test_when_an_mdt_gives_indices_again_everything_is_compared(site):
    running = site.start()
    wait_for(lambda: running[0].cycles >= 1)
    mdt = site.lustre.mdts()[0]
    log, reader = site.lustre.logs[mdt], running[0].engine.readers[0]
    # Another user keeps the records, as a second consumer of the changelog does.
    log.register()
    for number in range(5):
        site.lustre.write(site.top + b"f%d" % number, b"x")
    wait_for(lambda: len(site.playground.listed()) == 5)
    log.users[site.users[mdt]] = 0
    log.restart(lost=3)
    site.lustre.unlink(site.top + b"f0")
    for number in range(5, 9):
        site.lustre.write(site.top + b"f%d" % number, b"x")
    wait_for(lambda: reader.losses == 1)
    wait_for(lambda: site.playground.listed() == [f"f{number}" for number in range(1, 9)])
    site.stop(*running)


def test_a_release_by_hsm_reads_no_data(site):
    hashed = []
    running = site.start()
    wait_for(lambda: running[0].cycles >= 1)
    site.lustre.write(site.top + b"f", b"x")
    # Listed, and its MD5 is known.
    wait_for(lambda: site.playground.sink.containers[KEY].shown().get("f") is not None)
    wait_for(lambda: site.playground.sink.containers[KEY].shown()["f"].etag == MD5_OF_X)
    wait_for(lambda: all_acknowledged(site))
    running[0].backlog.add = lambda item, *_: hashed.append(item)
    site.lustre.release(site.top + b"f")
    wait_for(lambda: all_acknowledged(site))
    site.stop(*running)
    assert site.playground.sink.containers[KEY].shown()["f"].etag == MD5_OF_X
    assert hashed == []
