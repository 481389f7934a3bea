# SPDX-License-Identifier: Apache-2.0
"""The work beside the comparisons: hashing what they met, and sweeping now and then. One thread.

    backlog -> hash: the attribute is written -> wait for a while -> send: those rows that were not sent meanwhile

Rule 1: the new attribute of a hashed file is an event, too, and the row of that carries the MD5. Where it was taken, it
is not sent once more. Not every source reports it, and what was reported may have failed: the rest is sent here.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from lustack.errors import LustackError
from lustack.mapping.metadata import timestamp_text
from lustack.sync import plan
from lustack.sync.backlog import Backlog, Unhashed
from lustack.sync.clock import Clock
from lustack.sync.device import open_device
from lustack.sync.errors import StoppedError
from lustack.sync.exclusion import compile_globs
from lustack.sync.hasher import Hasher, Outcome, Pace, Site
from lustack.sync.housekeeping import Sweeper, Swept
from lustack.sync.locate import Locator
from lustack.sync.observe import Observer
from lustack.sync.plan import SentRow
from lustack.sync.recent import RecentSink
from lustack.sync.settings import Settings
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.sinks.rings import Policy

_LOOK_S = 0.5
_MOST_ROWS = 1000
_BUSY_S = 10.0
"""A file that is being written to is looked at again after so long."""

_LINGER_S = 1.0
"""A row waits at most so long for others of its container; one alone costs the server 3.5 ms. Source: measured."""

GRACE_S = 2.0
"""So long may it take until the event of a new attribute has become a row."""


@dataclass
class Hashed:
    """Names of one container whose MD5 became known.

    Attributes:
        path: of the device.
        key: the container.
        due_s: when rows are sent for those that nobody else has sent rows for.
        since: each name, and the time after its attribute was written, in internal form.
    """

    path: str
    key: ContainerKey
    due_s: float = 0.0
    since: dict[str, str] = field(default_factory=dict)


class Counts(Protocol):
    """Is told what was done."""

    def count_hash(self, outcome: Outcome) -> None:
        """The hasher took a file."""
        ...

    def count_swept(self, swept: Swept) -> None:
        """Litter was removed."""
        ...


class Background:
    """Hashes and sweeps. Run it in one thread."""

    def __init__(
        self,
        settings: Settings,
        policies: Sequence[Policy],
        sink: RecentSink,
        clock: Clock,
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """Remembers what to work with.

        Args:
            settings: of the operator.
            policies: whose devices to look after.
            sink: gets the rows of hashed files.
            clock: stamps them.
            is_busy: whether there is more urgent work.
        """
        self._settings = settings
        self._paths = {policy.index: os.path.join(settings.devices, policy.device) for policy in policies}
        self._sink = sink
        self._clock = clock
        self._is_busy = is_busy
        self._hashed: deque[Hashed] = deque()

    def run(self, backlog: Backlog, counts: Counts, warn: Callable[[str], None], stop: threading.Event) -> None:
        """Works until `stop` is set.

        Args:
            backlog: what is to be hashed.
            counts: is told.
            warn: takes a sentence about trouble.
            stop: ends it.
        """
        pace = Pace(max(1, self._settings.hash_bytes_per_s), stop.wait, is_busy=self._is_busy)
        sweeper = Sweeper(self._settings.sweep_age_s, self._settings.tombstone_age_s, stop.wait)
        hasher = Hasher(self._settings.settle_s, pace)
        sweep_at_s = time.monotonic()
        is_last = False
        while not is_last:
            is_last = stop.is_set()
            trouble = ""
            try:
                self.send(float("inf") if is_last else time.monotonic())
                if time.monotonic() >= sweep_at_s and not is_last:
                    sweep_at_s = time.monotonic() + self._settings.sweep_interval_s
                    self.sweep(sweeper, counts)
                item = None if is_last else backlog.take(_LOOK_S)
                if item is not None:
                    self.hash(hasher, item, backlog, counts)
            except StoppedError:
                continue
            except (LustackError, OSError) as error:
                # What was not hashed or sent is met again by the next comparison.
                trouble = str(error)
            if trouble:
                # Not above: oslo.log repeats an exception that is being handled.
                warn(trouble)

    def sweep(self, sweeper: Sweeper, counts: Counts) -> None:
        """Removes litter from every device."""
        for path in self._paths.values():
            with open_device(path) as device:
                counts.count_swept(sweeper.sweep(device))

    def hash(self, hasher: Hasher, first: Unhashed, backlog: Backlog, counts: Counts) -> None:
        """Hashes objects of one container, as long as the next one that waits is in it."""
        path = self._paths.get(self._sink.get_state(first.key).policy_index)
        if path is None:
            return
        hashed = Hashed(path, first.key)
        self._hashed.append(hashed)
        try:
            self._hash_all(hasher, hashed, first, backlog, counts)
        finally:
            hashed.due_s = time.monotonic() + GRACE_S

    def _hash_all(self, hasher: Hasher, hashed: Hashed, first: Unhashed, backlog: Backlog, counts: Counts) -> None:
        began_s = time.monotonic()
        item: Unhashed | None = first
        globs = compile_globs(self._settings.exclude)
        with open_device(hashed.path, globs) as device, closing(Site(device, hashed.key)) as site:
            while item is not None and item.key == hashed.key:
                outcome = hasher.hash(site, item.name)
                counts.count_hash(outcome)
                if outcome in (Outcome.HASHED, Outcome.KNOWN):
                    # Known by another name of the file (a hard link): the row of this one does not say it yet.
                    hashed.since[item.name] = timestamp_text(self._clock.now_ns())
                elif outcome in (Outcome.BUSY, Outcome.CHANGED):
                    backlog.add(item, _BUSY_S)
                is_enough = len(hashed.since) >= _MOST_ROWS or time.monotonic() - began_s >= _LINGER_S
                item = None if is_enough else backlog.take(0.0)
        if item is not None:
            backlog.add(item)

    def send(self, now_s: float) -> None:
        """Sends the rows of hashed objects whose events brought none.

        Args:
            now_s: what is due until then is sent.

        Raises:
            LustackError: they could not be sent; the next comparison meets them again.
            OSError: likewise.
        """
        while self._hashed and self._hashed[0].due_s <= now_s:
            hashed = self._hashed.popleft()
            was_taken = self._sink.was_taken
            names = [name for name, since in hashed.since.items() if not was_taken(hashed.key, name, since)]
            if names:
                self._send(hashed, names)

    def _send(self, hashed: Hashed, names: Sequence[str]) -> None:
        with open_device(hashed.path, compile_globs(self._settings.exclude)) as device:
            directory = device.open_container(*hashed.key)
            if directory is None:
                return
            with closing(directory), closing(Locator(directory)) as locator:
                rows = self._look(device.observer_of(*hashed.key), locator, names)
        self._clock.remember()
        self._sink.send(hashed.key, rows)

    def _look(self, observer: Observer, locator: Locator, names: Sequence[str]) -> list[SentRow]:
        rows: list[SentRow] = []
        for name in names:
            now_ns = self._clock.now_ns()
            wanted = observer.observe(name, locator.places(name), now_ns)
            if wanted is not None:
                rows.append(plan.put(name, wanted, now_ns))
        return rows
