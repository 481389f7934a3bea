# SPDX-License-Identifier: Apache-2.0
"""The work beside the comparisons: hashing what they met, and sweeping now and then. One thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Protocol

from lustack.errors import LustackError
from lustack.sync import plan
from lustack.sync.backlog import Backlog, Unhashed
from lustack.sync.clock import Clock
from lustack.sync.device import Device, open_device
from lustack.sync.errors import StoppedError
from lustack.sync.exclusion import compile_globs
from lustack.sync.hasher import Hasher, Outcome, Pace
from lustack.sync.housekeeping import Sweeper, Swept
from lustack.sync.locate import Locator
from lustack.sync.plan import SentRow
from lustack.sync.settings import Settings
from lustack.sync.sinks.protocol import ContainerKey, Sink
from lustack.sync.sinks.rings import Policy

_LOOK_S = 0.5
_MOST_ROWS = 1000
_BUSY_S = 10.0
"""A file that is being written to is looked at again after so long."""

_LINGER_S = 1.0
"""A row waits at most so long for others of its container; one alone costs the server 3.5 ms. Source: measured."""


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

    def __init__(self, settings: Settings, policies: Sequence[Policy], sink: Sink, clock: Clock) -> None:
        """Remembers what to work with.

        Args:
            settings: of the operator.
            policies: whose devices to look after.
            sink: gets the rows of hashed files.
            clock: stamps them.
        """
        self._settings = settings
        self._paths = {policy.index: os.path.join(settings.devices, policy.device) for policy in policies}
        self._sink = sink
        self._clock = clock

    def run(self, backlog: Backlog, counts: Counts, warn: Callable[[str], None], stop: threading.Event) -> None:
        """Works until `stop` is set.

        Args:
            backlog: what is to be hashed.
            counts: is told.
            warn: takes a sentence about trouble.
            stop: ends it.
        """
        sweeper = Sweeper(self._settings.sweep_age_s, self._settings.tombstone_age_s, stop.wait)
        hasher = Hasher(self._settings.settle_s, Pace(max(1, self._settings.hash_bytes_per_s), stop.wait))
        sweep_at_s = time.monotonic()
        while not stop.is_set():
            trouble = ""
            try:
                if time.monotonic() >= sweep_at_s:
                    sweep_at_s = time.monotonic() + self._settings.sweep_interval_s
                    self.sweep(sweeper, counts)
                item = backlog.take(_LOOK_S)
                if item is not None:
                    self.hash(hasher, item, backlog, counts)
            except StoppedError:
                return
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
        """Hashes objects of one container, as long as the next one that waits is in it, and sends their rows."""
        path = self._paths.get(self._sink.get_state(first.key).policy_index)
        if path is None:
            return
        with open_device(path, compile_globs(self._settings.exclude)) as device:
            names: list[str] = []
            item: Unhashed | None = first
            began_s = time.monotonic()
            while item is not None and item.key == first.key:
                outcome = hasher.hash(device, item.key, item.name)
                counts.count_hash(outcome)
                if outcome in (Outcome.HASHED, Outcome.KNOWN):
                    # Known by another name of the file (a hard link): the row of this one does not say it yet.
                    names.append(item.name)
                elif outcome in (Outcome.BUSY, Outcome.CHANGED):
                    backlog.add(item, _BUSY_S)
                if len(names) >= _MOST_ROWS or time.monotonic() - began_s >= _LINGER_S:
                    item = None
                else:
                    item = backlog.take(0.0)
            self._send(device, first.key, names)
            if item is not None:
                backlog.add(item)

    def _send(self, device: Device, key: ContainerKey, names: list[str]) -> None:
        directory = device.open_container(*key) if names else None
        if directory is None:
            return
        rows: list[SentRow] = []
        with closing(directory), closing(Locator(directory)) as locator:
            observer = device.observer_of(*key)
            for name in names:
                now_ns = self._clock.now_ns()
                wanted = observer.observe(name, locator.places(name), now_ns)
                if wanted is not None:
                    rows.append(plan.put(name, wanted, now_ns))
        self._clock.remember()
        self._sink.send(key, rows)
