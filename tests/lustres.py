# SPDX-License-Identifier: Apache-2.0
"""A fake Lustre with what watches it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from lustack.lustre.fake import FakeLustre
from lustack.mapping.names import RelPath
from lustack.sync.sources.changelog import ChangelogSource
from lustack.sync.sources.changelog_paths import Paths
from lustack.sync.sources.changelog_tail import Pace
from lustack.sync.sources.changelog_window import Memory
from lustack.sync.sources.roots import Root

QUICK = Pace(shortest=0.001, longest=0.002, silence=5.0, patience=0.2, retry=0.01)


class Clock:
    """Says what it is told, and goes on a little each time."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        self.now_s += 0.001
        return self.now_s


class Watched:
    """A directory `device` on a fake Lustre, and sources of its changelogs."""

    def __init__(self, tmp_path, mdts=1, roots=((b"device", b""),)):
        os.makedirs(tmp_path / "lustre" / "device", exist_ok=True)
        self.lustre = FakeLustre(os.fsencode(tmp_path / "lustre"), mdts)
        self.users = {mdt: self.lustre.logs[mdt].register() for mdt in self.lustre.mdts()}
        self.memory = Memory()
        self.roots = {
            self.lustre.key_at(path): Root(os.fsdecode(os.path.join(self.lustre.root, path)), RelPath(prefix))
            for path, prefix in roots
        }
        self.executor = ThreadPoolExecutor(4)
        self.sources = []

    def paths(self, memory=None):
        return Paths(self.lustre, memory or self.memory, self.roots, self.executor)

    def source(self, mdt="lustre-MDT0000", memory=None, **options):
        source = ChangelogSource(self.lustre, mdt, self.users[mdt], self.paths(memory), **{"pace": QUICK} | options)
        self.sources.append(source)
        return source

    def log(self, index=0):
        return self.lustre.logs[f"lustre-MDT{index:04x}"]

    def close(self):
        for source in self.sources:
            source.close()
        self.executor.shutdown()


def read_all(source, timeout_s=0.02):
    """All events, and the last batch."""
    events, last = [], None
    while batch := source.read(timeout_s):
        events += batch.events
        last = batch
    return events, last
