# SPDX-License-Identifier: Apache-2.0
"""A fake Lustre with what watches it."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tests.waiting import LIMIT_S

from lustack.lustre.fake import FakeLustre
from lustack.mapping.names import RelPath
from lustack.sync.sources.changelog import ChangelogSource
from lustack.sync.sources.changelog_paths import Paths
from lustack.sync.sources.changelog_tail import Pace
from lustack.sync.sources.changelog_window import Memory
from lustack.sync.sources.roots import Root

QUICK = Pace(shortest=0.001, longest=0.002, silence=LIMIT_S / 2, patience=LIMIT_S / 2, retry=0.01)
"""Looks often; waits for what will come as long as a busy machine needs, but gives up before who waits for it does."""

FORGETFUL = replace(QUICK, patience=0.2)
"""For who is killed and does not know any more where a directory was: the record that would say it was cleared."""


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


class Ends:
    """The logs of a source; whether all of them were read to the end that they had at some moment.

    A log that is stalled has no end, and what is held back waits for a record: those are not waited for.
    """

    def __init__(self, source):
        self._sources = getattr(source, "_sources", {"": source}).values()
        # What a thread has read it hands over before it reads again: so twice.
        self._turns_left = 2 if hasattr(source, "_sources") else 1
        self._ask()

    def _ask(self):
        self._asked = {source: source._monotonic_s() for source in self._sources}
        for source, asked_s in self._asked.items():
            source.ask_for_end(asked_s)

    def are_reached(self):
        if not all(self._is_reached(source, asked_s) for source, asked_s in self._asked.items()):
            return False
        self._turns_left -= 1
        if self._turns_left:
            self._ask()
        return not self._turns_left

    def _is_reached(self, source, asked_s):
        log = source._lustre.logs[source._mdt]
        return log.is_stalled or source.is_holding or source.seen_s >= asked_s


def read_all(source, timeout_s=0.02):
    """All events, and the last batch: until the ends of the logs, and then for a time nothing comes."""
    events, last, ends, is_end = [], None, Ends(source), False
    until_s = time.monotonic() + LIMIT_S
    while not is_end:
        assert time.monotonic() < until_s, "the logs are never read to their ends"
        is_end = ends.are_reached()
        while batch := source.read(timeout_s):
            events += batch.events
            last = batch
            is_end = False
    return events, last
