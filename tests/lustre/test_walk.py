# SPDX-License-Identifier: Apache-2.0
"""Random work in a tree on Lustre: what is different afterwards was reported."""

from __future__ import annotations

import os
import random
import time

import pytest

from lustack.mapping.names import RelPath
from lustack.sync.events import NameChanged, TreeMoved
from lustack.sync.sources.changelogs import ChangelogSources
from lustack.sync.sources.roots import Root

STEPS = 150


def snapshot(top):
    """What a listing depends on, of every file below a directory."""
    found = {}
    for folder, _, files in os.walk(top):
        for name in files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            found[os.path.relpath(path, top)] = (status.st_ino, status.st_size)
    return found


def is_covered(path, events):
    for event in events:
        if isinstance(event, NameChanged):
            if event.path == path:
                return True
        elif any(path == each or not each or path.startswith(each + b"/") for each in event):
            return True
    return False


def different(before, after):
    return [os.fsencode(path) for path in {**before, **after} if before.get(path) != after.get(path)]


def not_covered(before, after, events):
    return [path for path in different(before, after) if not is_covered(path, events)]


class Worker:
    """Does something to a tree, again and again."""

    def __init__(self, ground, seed):
        self.ground, self.random = ground, random.Random(seed)
        self.count = 0

    def files(self):
        # A directory has its entries in an order of its own, and the same seed is to do the same.
        return sorted(os.fsencode(path) for path in snapshot(os.fsdecode(self.ground.real(self.ground.top))))

    def folders(self):
        top = self.ground.real(self.ground.top)
        return sorted(os.path.relpath(folder, top).removeprefix(b".") for folder, _, _ in os.walk(top))

    def path(self, below):
        return os.path.join(self.ground.top, below)

    def fresh(self):
        self.count += 1
        return self.path(os.path.join(self.random.choice(self.folders()), b"n%d" % self.count))

    def step(self):
        files, folders = self.files(), [each for each in self.folders() if each]
        does = [lambda: self.ground.write(self.fresh(), b"x" * self.random.randrange(9))]
        if len(folders) < 12:
            does.append(lambda: self.ground.mkdir(self.fresh(), self.random.randrange(len(self.ground.mdts))))
        if files:
            one, other = (self.path(self.random.choice(files)) for _ in range(2))
            does += [
                lambda: self.ground.write(one, b"longer" * self.random.randrange(1, 9)),
                lambda: self.ground.truncate(one, self.random.randrange(20)),
                lambda: self.ground.unlink(one),
                lambda: self.ground.rename(one, other),
                lambda: self.ground.rename(one, self.fresh()),
                lambda: self.ground.link(one, self.fresh()),
            ]
        if folders:
            folder = self.random.choice(folders)
            into = [each for each in self.folders() if not (each + b"/").startswith(folder + b"/")]
            self.count += 1
            target = os.path.join(self.random.choice(into), b"d%d" % self.count)
            does.append(lambda: self.ground.rename(self.path(folder), self.path(target)))
            if self.random.randrange(4) == 0:
                does.append(lambda: self.remove(folder))
        self.random.choice(does)()

    def remove(self, folder):
        top = self.ground.real(self.ground.top)
        for each, _, files in os.walk(os.path.join(top, folder), topdown=False):
            below = os.path.relpath(each, top)
            for name in files:
                self.ground.unlink(self.path(os.path.join(below, name)))
            self.ground.rmdir(self.path(below))


class WalkContract:
    """A subclass gives the fixture `ground`."""

    silence_s = 3.0
    late_s = 0.0

    @pytest.mark.parametrize("seed", range(3))
    def test_what_is_different_afterwards_was_reported(self, ground, seed):
        root = Root(os.fsdecode(ground.real(ground.top)))
        source = ChangelogSources("changelog:test", ground.lustre, ground.users, [root])
        worker = Worker(ground, seed)
        for _ in range(20):
            worker.step()
        source.open(None)
        try:
            before, events, changed = snapshot(root.path), [], 0
            for number in range(STEPS):
                worker.step()
                if number % 25 == 24:
                    position, after = self.take(source, events), snapshot(root.path)
                    until_s = time.monotonic() + self.late_s
                    while not_covered(before, after, events) and time.monotonic() < until_s:
                        position = self.take(source, events) or position
                    changed += self.compare(before, after, events)
                    before = after
                    # A restart of the daemon, with and without an acknowledgement.
                    if number % 50 == 49:
                        source.acknowledge(position)
                    source.close()
                    source.open(position)
        finally:
            source.close()
        assert changed > 10

    def compare(self, before, after, events):
        assert not_covered(before, after, events) == []
        events.clear()
        return len(different(before, after))

    def take(self, source, events):
        position = None
        while batch := source.read(self.silence_s):
            events += batch.events
            position = batch.position
        return position


class TestMountedWalk(WalkContract):
    # A file that was opened often is closed later.
    late_s = 75.0

    @pytest.fixture
    def ground(self, whole_ground):
        return whole_ground


def test_a_path_is_covered_by_its_name_or_by_a_tree_above_it():
    assert is_covered(b"a/b", [NameChanged(RelPath(b"a/b"))])
    assert is_covered(b"a/b", [TreeMoved(RelPath(b"x"), RelPath(b"a"))])
    assert not is_covered(b"ab", [TreeMoved(RelPath(b"x"), RelPath(b"a"))])
