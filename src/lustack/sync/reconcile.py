# SPDX-License-Identifier: Apache-2.0
"""Makes the listing of one container true: a merge join of the sorted walk and the sorted listing.

    listing page -> look at the file -> plan -> batch -> one UPDATE in flight, the next batch is collected meanwhile

Rule 1: a file is looked at after the page that its row is on was fetched, and a name that the walk did not meet is
looked up on its own before its row is deleted. So a difference is never one between an old look and a new row.
Rule 2: the job's cursor passes a name when its row is acknowledged, not before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Protocol

from lustack.mapping import layout
from lustack.sync import plan
from lustack.sync.clock import Clock
from lustack.sync.device import Device
from lustack.sync.errors import StoppedError
from lustack.sync.locate import Locator
from lustack.sync.observe import Directory, Observer, Place, list_attributes
from lustack.sync.plan import Action, ListedRow, Seen, SentRow, Wanted
from lustack.sync.sinks.protocol import ContainerKey, Sink
from lustack.sync.walk import Findings, Walk

_LINGER_S = 1.0
"""A row waits at most so long for others to be sent with."""

_PULSE = 256
"""Names between two looks at the clock and at who wants us to stop."""

Pair = tuple[str, tuple[Place, ...], ListedRow | None]


@dataclass
class Tally:
    """How many names met which fate.

    Attributes:
        files: objects that are there.
        rows: rows of the listing.
        same: nothing to do.
        put: rows written.
        deleted: rows deleted.
        left: rows that were left because the file could not be looked at, or because a newer row is there.
        withheld: rows that should go (or come), but may not.
        unhashed: files whose MD5 nobody knows yet.
    """

    files: int = 0
    rows: int = 0
    same: int = 0
    put: int = 0
    deleted: int = 0
    left: int = 0
    withheld: int = 0
    unhashed: int = 0

    def add(self, other: Tally) -> None:
        """Adds the counts of another one."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


class Watcher(Protocol):
    """Is told what happens. Called from the thread that compares."""

    def on_pulse(self, key: ContainerKey, name: str, tally: Tally) -> None:
        """Some names were compared; everything up to `name` is done and acknowledged."""
        ...

    def on_difference(self, key: ContainerKey, row: SentRow) -> None:
        """A row is about to be written, or would be without `dry_run`."""
        ...

    def on_unhashed(self, key: ContainerKey, name: str) -> None:
        """A file has no known MD5."""
        ...

    def is_stopped(self) -> bool:
        """Whether to stop now."""
        ...


@dataclass(frozen=True)
class Limits:
    """What a comparison may do.

    Attributes:
        batch_rows: rows of one request.
        may_put: whether rows may be added and changed.
        may_delete: whether rows may be deleted.
        dry_run: whether nothing at all is written.
    """

    batch_rows: int = 10_000
    may_put: bool = True
    may_delete: bool = True
    dry_run: bool = False


@dataclass(frozen=True)
class Tools:
    """What a comparison works with.

    Attributes:
        sink: holds the listing.
        clock: stamps rows.
        executor: sends batches.
        watcher: is told.
        monotonic_s: a clock that never goes back.
        inspect: puts something that looks closer in the place of a device.
        findings: makes what is told what is met besides objects.
    """

    sink: Sink
    clock: Clock
    executor: Executor
    watcher: Watcher
    monotonic_s: Callable[[], float] = time.monotonic
    inspect: Callable[[Device], Device] = lambda device: device
    findings: Callable[[ContainerKey], Findings] = lambda _key: Findings()


@dataclass
class Comparison:
    """One container. Run it once.

    Attributes:
        key: the container.
        directory: its directory, None if that is gone.
        observer: looks at its objects.
        tools: does the rest.
        limits: what is allowed.
        tally: what happened so far.
        findings: what the walk met besides objects.
    """

    key: ContainerKey
    directory: Directory | None
    observer: Observer
    tools: Tools
    limits: Limits = Limits()
    tally: Tally = field(default_factory=Tally)
    findings: Findings = field(default_factory=Findings)

    def run(self, after: str = "", prefix: str = "") -> Tally:
        """Compares everything.

        Args:
            after: only names after this one.
            prefix: only names that begin so.

        Raises:
            ContainerGoneError: the container was deleted meanwhile.
            SwiftUnavailableError: try again, with the last acknowledged name as `after`.
            StoppedError: the watcher wanted it.
        """
        self._is_noted = is_done = False
        self._outbox = _Outbox(self.key, self.tools, after)
        self._batch: list[SentRow] = []
        self._since_s = self.tools.monotonic_s()
        walk = Walk(self.directory, after=after, prefix=prefix, findings=self.findings) if self.directory else None
        self._locator = Locator(self.directory) if self.directory else None
        try:
            rows = self._rows(after, prefix)
            name = self._compare_all(walk, rows, after)
            self._flush(name)
            self._outbox.wait()
            is_done = True
        finally:
            self._outbox.settle()
            if walk and self._locator:
                walk.close()
                self._locator.close()
            self._end(is_done=is_done)
        return self.tally

    def _end(self, *, is_done: bool) -> None:
        """Says how far it came. A dry run that fails tells again what it has told since the last pulse."""
        if is_done or not self.limits.dry_run:
            self.tools.watcher.on_pulse(self.key, self._outbox.acknowledged, self.tally)

    def _compare_all(self, walk: Walk | None, rows: Iterator[ListedRow], after: str) -> str:
        """Compares every name, and returns the last one."""
        name = after
        countdown = _PULSE
        for name, places, listed in _join(walk, rows):
            self._compare(name, places, listed)
            countdown -= 1
            if not countdown or len(self._batch) >= self.limits.batch_rows:
                countdown = _PULSE
                self._pulse(name)
        return name

    def _compare(self, name: str, places: tuple[Place, ...], listed: ListedRow | None) -> None:
        now_ns = self.tools.clock.now_ns()
        seen, wanted = self._look(name, places, now_ns)
        if listed is not None:
            self.tally.rows += 1
            if seen is Seen.ABSENT and self._locator is not None:
                now_ns = self.tools.clock.now_ns()
                seen, wanted = self._look_up(name, self._locator, now_ns)
        if wanted is not None:
            self.tally.files += 1
            if not wanted.is_hashed:
                self.tally.unhashed += 1
                self.tools.watcher.on_unhashed(self.key, name)
        action = plan.decide(seen, wanted, listed, now_ns)
        if action is Action.NOTHING:
            self.tally.same += 1
        elif action is Action.LEAVE:
            self.tally.left += 1
        elif wanted is not None:
            self._write(plan.put(name, wanted, now_ns), may=self.limits.may_put)
        else:
            self._write(plan.delete(name, now_ns), may=self.limits.may_delete)

    def _look(self, name: str, places: tuple[Place, ...], now_ns: int) -> tuple[Seen, Wanted | None]:
        try:
            wanted = self.observer.observe(name, places, now_ns)
        except OSError:
            return Seen.UNKNOWN, None
        return (Seen.ABSENT if wanted is None else Seen.PRESENT), wanted

    def _look_up(self, name: str, locator: Locator, now_ns: int) -> tuple[Seen, Wanted | None]:
        try:
            places = locator.places(name)
        except OSError:
            return Seen.UNKNOWN, None
        return self._look(name, tuple(places), now_ns)

    def _write(self, row: SentRow, *, may: bool) -> None:
        if not may:
            self.tally.withheld += 1
            return
        if row.is_deleted:
            self.tally.deleted += 1
        else:
            self.tally.put += 1
        self.tools.watcher.on_difference(self.key, row)
        if not self.limits.dry_run:
            self._batch.append(row)

    def _pulse(self, name: str) -> None:
        if self.limits.dry_run:
            self._flush(name)
            self.tools.watcher.on_pulse(self.key, self._outbox.acknowledged, self.tally)
        if self.tools.watcher.is_stopped():
            raise StoppedError
        if self.limits.dry_run:
            return
        is_due = self.tools.monotonic_s() - self._since_s >= _LINGER_S
        if is_due or len(self._batch) >= self.limits.batch_rows:
            self._flush(name)
        self.tools.watcher.on_pulse(self.key, self._outbox.acknowledged, self.tally)

    def _note_twins(self) -> None:
        """Tells the object servers to look for twins here: a job may have copied some from elsewhere."""
        if self.findings.has_twins and self.directory and not (self._is_noted or self.limits.dry_run):
            self._is_noted = True
            # Where attributes cannot be written, PUT cannot write them either, and there are no twins of its own.
            with suppress(OSError):
                if layout.ATTRIBUTE_TWINS not in list_attributes(self.directory.proc):
                    os.setxattr(self.directory.fd, layout.ATTRIBUTE_TWINS, b"1")

    def _flush(self, name: str) -> None:
        self._note_twins()
        self._outbox.send(self._batch, name)
        self._batch = []
        self._since_s = self.tools.monotonic_s()

    def _rows(self, after: str, prefix: str) -> Iterator[ListedRow]:
        while True:
            rows, is_last = self.tools.sink.list_rows(self.key, after, prefix)
            yield from rows
            if is_last or not rows:
                return
            after = rows[-1].name


class _Outbox:
    """Sends batches, one at a time."""

    def __init__(self, key: ContainerKey, tools: Tools, acknowledged: str) -> None:
        self._key = key
        self._tools = tools
        self._sending: Future[None] | None = None
        self._up_to = acknowledged
        self.acknowledged = acknowledged

    def send(self, rows: list[SentRow], name: str) -> None:
        """Waits for the batch before, then sends this one; everything up to `name` is in one of them."""
        self.wait()
        self._up_to = name
        if not rows:
            self.acknowledged = name
            return
        self._tools.clock.remember()
        self._sending = self._tools.executor.submit(self._tools.sink.send, self._key, rows)

    def wait(self) -> None:
        """Waits until what was sent is acknowledged."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.result()
            self.acknowledged = self._up_to

    def settle(self) -> None:
        """Waits for what is in flight whatever comes of it: another error is already on its way."""
        sending, self._sending = self._sending, None
        if sending is not None and sending.exception() is None:
            self.acknowledged = self._up_to


def _join(walk: Walk | None, rows: Iterator[ListedRow]) -> Iterator[Pair]:
    """Every name of either side, in order."""
    row = next(rows, None)
    for name, places in walk or ():
        while row is not None and row.name < name:
            yield row.name, (), row
            row = next(rows, None)
        if row is not None and row.name == name:
            yield name, places, row
            row = next(rows, None)
        else:
            yield name, places, None
    while row is not None:
        yield row.name, (), row
        row = next(rows, None)
