# SPDX-License-Identifier: Apache-2.0
"""Writers do at random what POSIX lets them do. Who looks where the events say knows in the end what is there."""

from __future__ import annotations

import os
import random
import threading

import pytest
from tests.writers import Follower, Writer

from lustack.sync.sources import fanotify, inotify
from lustack.sync.sources.fanotify import FanotifySource
from lustack.sync.sources.inotify import InotifySource
from lustack.sync.sources.roots import Root

WRITERS = 3
STEPS = 120
# Threads meet differently each time, so that every run looks at something new.
SEEDS = 500 if os.environ.get("HYPOTHESIS_PROFILE") == "search" else 12


@pytest.fixture
def top(mount):
    top = mount("-t", "tmpfs", "none")
    for name in ("root", "outside"):
        (top / name).mkdir()
    return top


def follow(source, follower, writers):
    """Follows while they work, until nothing happens any more."""
    threads = [threading.Thread(target=writer.work, args=(STEPS,)) for writer in writers]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        read(source, follower)
    while read(source, follower):
        pass


def read(source, follower):
    """Whether there was something to read."""
    batch = source.read(0.05)
    if batch is not None:
        follower.follow(batch.events)
    return batch is not None


def check(top, seed, source):
    """Writers work, somebody follows by the events of a source, and knows everything in the end."""
    linked: set[int] = set()
    writers = [
        Writer(top / "root", top / "outside", random.Random(f"{seed}.{number}"), linked) for number in range(WRITERS)
    ]
    for writer in writers:
        writer.work(20)
    follower = Follower(top / "root")
    source.open(None)
    try:
        follower.compare()
        follow(source, follower, writers)
        assert follower.differences(linked) == {}
    finally:
        source.close()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_at_rest_everything_is_known_by_fanotify(top, mount, seed, monkeypatch):
    # Half of the time through a mount that does not show where trees come from and go to.
    path = mount("--bind", str(top / "root")) if seed % 2 else top / "root"
    # Small reads: batches end in the middle of what belongs together.
    monkeypatch.setattr(fanotify, "_READ_BYTES", random.Random(seed).choice((4096 + 400, 8192, 262_144)))
    roots = [Root(str(path))]
    check(top, seed, FanotifySource("fanotify", roots, is_local=True, gather_s=0.002 * (seed % 3)))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_at_rest_everything_is_known_by_inotify(top, seed, monkeypatch):
    monkeypatch.setattr(inotify, "_READ_BYTES", random.Random(seed).choice((600, 4096, 65_536)))
    roots = [Root(str(top / "root"))]
    check(top, seed, InotifySource("inotify", roots, is_local=True, gather_s=0.002 * (seed % 3)))
