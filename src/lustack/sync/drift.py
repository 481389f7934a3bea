# SPDX-License-Identifier: Apache-2.0
"""Looks again at names whose row differed, so that a change in flight is no drift.

Rule 1: drift is a difference between a listing and a file that was the same at two looks some seconds apart.
Rule 2: the row is fetched before the file is looked at, as in `reconcile`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NamedTuple

from lustack.sync import plan
from lustack.sync.clock import Clock
from lustack.sync.device import Device
from lustack.sync.locate import Locator
from lustack.sync.plan import Action, ListedRow, Seen, SentRow
from lustack.sync.problems import Kind
from lustack.sync.sinks.protocol import ContainerKey, Page, Sink

_MOST_LOOKS = 5


class Verdict(enum.Enum):
    """What a second look says."""

    TRUE = "the listing is true"
    DRIFT = "it is not, and nobody is about to make it so"
    AGAIN = "the file is another one than at the first look"
    MOVING = "the file was another one at every look"


@dataclass(frozen=True)
class Suspect:
    """A name whose row differed.

    Attributes:
        device: path of the device.
        key: its container.
        row: that it should have had.
        looks: how often it was looked at again.
    """

    device: str
    key: ContainerKey
    row: SentRow
    looks: int = 0


class Judged(NamedTuple):
    """A suspect after a look.

    Attributes:
        verdict: what it is.
        suspect: with the row that it should have now.
        listed: the row that it has.
    """

    verdict: Verdict
    suspect: Suspect
    listed: ListedRow | None


class Rows:
    """Rows of one listing by name, asked for in the order of names."""

    def __init__(self, sink: Sink, key: ContainerKey) -> None:
        """Fetches nothing yet.

        Args:
            sink: holds the listing.
            key: the container.
        """
        self._sink = sink
        self._key = key
        self._page: dict[str, ListedRow] = {}
        self._marker: str | None = None
        self._last: str | None = ""

    def find(self, name: str) -> ListedRow | None:
        """The row of a name, not older than the first call for a name of its page.

        Raises:
            ContainerGoneError: there is no such container.
            SwiftUnavailableError: try again.
        """
        if not self._covers(name):
            self._take(name[:-1], self._sink.list_rows(self._key, name[:-1], ""))
        if not self._covers(name):
            page = self._sink.list_rows(self._key, "", name)
            return next((row for row in page.rows if row.name == name), None)
        return self._page.get(name)

    def _covers(self, name: str) -> bool:
        return self._marker is not None and name > self._marker and (self._last is None or name <= self._last)

    def _take(self, marker: str, page: Page) -> None:
        self._page = {row.name: row for row in page.rows}
        self._marker = marker
        self._last = None if page.is_last or not page.rows else page.rows[-1].name


class Relook:
    """Looks again."""

    def __init__(self, sink: Sink, clock: Clock) -> None:
        """Remembers what to work with.

        Args:
            sink: holds the listings.
            clock: stamps rows.
        """
        self._sink = sink
        self._clock = clock

    def judge(self, device: Device, suspects: Sequence[Suspect]) -> Iterator[Judged]:
        """Looks at some names of one container.

        Args:
            device: where its directory is.
            suspects: all of one container.

        Raises:
            ContainerGoneError: there is no such container any more.
            OSError: the file system fails.
            SwiftUnavailableError: try again.
        """
        key = suspects[0].key
        rows = Rows(self._sink, key)
        directory = device.open_container(*key)
        if directory is None:
            for suspect in sorted(suspects, key=lambda each: each.row.name):
                yield self._judge(device, None, suspect, rows.find(suspect.row.name))
            return
        with closing(directory), closing(Locator(directory)) as locator:
            for suspect in sorted(suspects, key=lambda each: each.row.name):
                yield self._judge(device, locator, suspect, rows.find(suspect.row.name))

    def _judge(self, device: Device, locator: Locator | None, suspect: Suspect, listed: ListedRow | None) -> Judged:
        name, now_ns = suspect.row.name, self._clock.now_ns()
        looked = replace(suspect, looks=suspect.looks + 1)
        again = Verdict.AGAIN if looked.looks < _MOST_LOOKS else Verdict.MOVING
        try:
            wanted = None
            if locator is not None:
                wanted = device.observer_of(*suspect.key).observe(name, locator.places(name), now_ns)
        except OSError:
            # What cannot be looked at is neither right nor wrong.
            return Judged(again, looked, listed)
        action = plan.decide(Seen.ABSENT if wanted is None else Seen.PRESENT, wanted, listed, now_ns)
        row = plan.delete(name, now_ns) if wanted is None else plan.put(name, wanted, now_ns)
        judged = replace(looked, row=row)
        if action is Action.NOTHING:
            return Judged(Verdict.TRUE, judged, listed)
        if action is not Action.LEAVE and is_same_but_for_time(row, suspect.row):
            return Judged(Verdict.DRIFT, judged, listed)
        return Judged(again, judged, listed)


def is_same_but_for_time(one: SentRow, other: SentRow) -> bool:
    """Whether two rows say the same about a file; each look has a timestamp of its own."""
    return one._replace(timestamp="") == other._replace(timestamp="")


def describe(row: SentRow, listed: ListedRow | None) -> tuple[Kind, str]:
    """What is wrong with a listing, and a sentence about it."""
    if row.is_deleted:
        return Kind.EXTRA_ROW, ""
    if listed is None:
        return Kind.MISSING_ROW, ""
    content_type, size_bytes = plan.show(row)
    pairs = (
        ("size", size_bytes, listed.size_bytes),
        ("type", content_type, listed.content_type),
        ("etag", row.etag, listed.etag),
        ("time", row.modified, listed.modified),
    )
    return Kind.WRONG_ROW, ", ".join(f"{what} {shown}, not {true}" for what, true, shown in pairs if true != shown)
