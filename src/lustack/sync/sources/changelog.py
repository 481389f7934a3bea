# SPDX-License-Identifier: Apache-2.0
"""Events from the changelog of one MDT of Lustre: complete, from all clients, also of the time when nobody read.

    records -> a window: each name once -> paths -> events        acknowledge -> clear

Rule 1: no index is cleared that is lower than one before, and never 0, which would clear everything.
Rule 2: what is missing is noticed: see `changelog_tail`; and the MDT must still know our user. Source: mdd_dir.c:939,
    mdd_internal.h:31-49: it removes users that are idle or far behind; then a clear says ENOENT (measured).
Rule 3: a quiet MDT is told now and then that we are here: the same index is cleared again.
Rule 4: a window whose paths could not be found because Lustre failed is kept and tried again.
Rule 5: who begins without a position reads what was not cleared, as far as that fits into `Room.replayed_bytes`, and
    clears all of it at once: nobody knows up to where our user has cleared already, and less must never be cleared.
Rule 6: names in a directory that is gone and of which nobody knows where it was wait for the record that says it, and
    nothing is acknowledged meanwhile; if it does not come, the whole device is compared.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from lustack.lustre import changelog
from lustack.lustre.errors import (
    ChangelogError,
    ChangelogIndexError,
    ChangelogUserError,
    FidNotFoundError,
    LustreError,
    RecordError,
)
from lustack.lustre.protocol import Lustre
from lustack.mapping.names import RelPath
from lustack.sync.events import Event, TreeChanged
from lustack.sync.sources.changelog_paths import Paths, translate, tree_of
from lustack.sync.sources.changelog_tail import Cursor, LogLostError, Pace, Tail
from lustack.sync.sources.changelog_window import Memory, Window, first_record
from lustack.sync.sources.protocol import (
    OLDEST,
    Batch,
    Guarantees,
    Position,
    SourceLostError,
    SourceUnavailableError,
)
from lustack.sync.sources.roots import Root

LOG = logging.getLogger(__name__)

MASK: Final = ("CREAT", "MKDIR", "HLINK", "UNLNK", "RMDIR", "RENME", "CLOSE", "TRUNC", "MTIME", "MIGRT")
"""What our user asks for. XATTR is not in it: what a POST changes Swift tells its listings itself."""

_MOST_RECORDS: Final = 20_000
_LEAST_RECORDS: Final = 2000
_RECORD_BYTES: Final = 600
"""What a record of a batch takes until its name waits to be looked at. Source: measured, about."""

_LINGER_S: Final = 0.002
"""So long is waited for more when there is something. The kernel fetches records in the background."""

_REPLAYED_BYTES: Final = 16 * 2**20
"""Of the records of one MDT, about 130 000 of them, or less if there is less memory."""

_PIECE_BYTES: Final = 256 * 2**10

_LOSSES: Final = (ChangelogUserError, ChangelogIndexError, LogLostError, RecordError)


@dataclass(frozen=True)
class Room:
    """How much is read at a time from one MDT.

    Attributes:
        records: of one batch; what is more waits in the log.
        replayed_bytes: see rule 5.
    """

    records: int
    replayed_bytes: int

    @staticmethod
    def of(memory: Memory) -> Room:
        """As much as fits beside what is remembered."""
        share = memory.limit_bytes // memory.readers
        records = min(_MOST_RECORDS, max(_LEAST_RECORDS, share // _RECORD_BYTES))
        return Room(records, min(_REPLAYED_BYTES, max(_PIECE_BYTES, share)))


def render_position(cursor: Cursor) -> Position:
    """A record as text."""
    return Position(f"{cursor.index}:{cursor.time}:{cursor.target.hex()}")


def parse_position(text: str) -> Cursor:
    """The inverse of `render_position`.

    Raises:
        ValueError: it is no position of ours.
    """
    index, time_, target = text.split(":")
    return Cursor(int(index), int(time_), bytes.fromhex(target))


class ChangelogSource:
    """See `Source`, and the top of this file; `acknowledge` may be called from another thread than `read`.

    Attributes:
        seen_s: what happened before this time on this MDT was reported by the `read` that returned last, or earlier; by
            the clock `monotonic_s`.
    """

    def __init__(
        self,
        lustre: Lustre,
        mdt: str,
        user: str,
        paths: Paths,
        *,
        pace: Pace | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens nothing yet.

        Args:
            lustre: the file system.
            mdt: whose changelog.
            user: the registered user, as `cl1`; nobody else may clear for it.
            paths: finds paths; its own, though its memory may be shared. That says how much is read at a time.
            pace: times.
            monotonic_s: a clock that never goes back.
        """
        self.seen_s = self._asked_s = self._answered_s = -math.inf
        self._lustre, self._mdt, self._user, self._paths = lustre, mdt, user, paths
        self._pace, self._monotonic_s = pace or Pace(), monotonic_s
        self._room = Room.of(paths.memory)
        self._closed = threading.Event()
        self._closed.set()
        self._tail = Tail(lustre, mdt, self._pace, self._closed, monotonic_s)
        self._lost: str | None = None
        self._window: Window | None = None
        self._started_ns = 0
        self._held: dict[bytes, tuple[Cursor, float]] = {}
        self._before = Cursor()
        self._given = self._floor = Cursor()
        self._clearing = threading.Lock()
        self._cleared = 0
        self._is_clear_due = False
        self._beat_s = 0.0
        self._is_in_trouble = False

    @property
    def name(self) -> str:
        """See `Source`."""
        return f"changelog:{self._mdt}"

    @property
    def guarantees(self) -> Guarantees:
        """See `Source`. Two names of one file may be on two MDTs, so there is no order."""
        return Guarantees(complete=True, across_hosts=True, latency_s=1.0)

    @property
    def position(self) -> Position:
        """What may be acknowledged when everything that was read is done."""
        return render_position(self._given)

    def open(self, position: Position | None) -> None:
        """See `Source`.

        Raises:
            SourceUnavailableError: the MDT does not answer now, or does not know our user.
        """
        self.close()
        self._closed.clear()
        self._lost, self._window, self._is_in_trouble = None, None, False
        self._held.clear()
        self.seen_s = -math.inf
        try:
            if position:
                self._tail.start(parse_position(position))
            else:
                self._tail.start(None, self._room.replayed_bytes if position == OLDEST else 0)
            self._given = self._floor = self._tail.cursor if position else self._tail.end
            self._cleared = self._given.index
            self._clear()
        except (LustreError, OSError) as error:
            if position and isinstance(error, _LOSSES):
                raise self._loss(error) from error
            self.close()
            raise SourceUnavailableError(self.name, str(error)) from error

    def read(self, timeout_s: float) -> Batch | None:
        """See `Source`."""
        if self._lost is not None:
            raise SourceLostError(self.name, self._lost)
        deadline_s = self._monotonic_s() + timeout_s
        while not self._closed.is_set():
            left_s = max(0.0, deadline_s - self._monotonic_s())
            batch = self._try(left_s)
            if batch is not None or left_s == 0.0 or self._is_answered():
                return batch
        return None

    def _is_answered(self) -> bool:
        """Whether the log was read to the end that somebody asked for, and nobody was told yet."""
        is_answered = self._answered_s < self._asked_s <= self.seen_s
        if is_answered:
            self._answered_s = self._asked_s
        return is_answered

    def ask_for_end(self, asked_s: float) -> None:
        """Somebody waits until `seen_s` is at least this; `read` returns then, events or none. From any thread."""
        self._asked_s = asked_s
        self._tail.ask_for_end(asked_s)

    @property
    def is_holding(self) -> bool:
        """Whether something that was read is not reported yet."""
        return bool(self._held)

    def watch(self, roots: Mapping[bytes, Root]) -> None:
        """From now on what happens below these directories is reported, by their FIDs. From any thread."""
        self._paths.watch(roots)

    def acknowledge(self, position: Position) -> None:
        """See `Source`. If the MDT says something against it, the next `read` raises it."""
        index = parse_position(position).index
        if index > self._cleared and self._lost is None:
            self._cleared, self._is_clear_due = index, True
            if not self._closed.is_set():
                self._beat()

    def close(self) -> None:
        """See `Source`."""
        self._closed.set()
        self._tail.close()

    def _try(self, timeout_s: float) -> Batch | None:
        try:
            self._beat()
            batch = self._next(timeout_s)
            self._is_in_trouble = False
            return batch
        except _LOSSES as error:
            raise self._loss(error) from error
        except (LustreError, OSError) as error:
            if not self._is_in_trouble:
                LOG.warning("%s: trying again and again: %s", self.name, error)
            self._is_in_trouble = True
            self._closed.wait(min(timeout_s, self._pace.retry))
            return None

    def _loss(self, error: LustreError) -> SourceLostError:
        self._lost = str(error)
        self._tail.close()
        return SourceLostError(self.name, self._lost)

    def _next(self, timeout_s: float) -> Batch | None:
        if self._window is None:
            self._window = self._fill(timeout_s)
        events: list[Event] = []
        if self._window is not None:
            events, lost = translate(self._window, self._paths)
            until_s = self._monotonic_s() + self._pace.patience
            for key in lost:
                self._held.setdefault(key, (self._before, until_s))
            self._window = None
        events += self._found_again()
        # What is held, and what came after it, must not be acknowledged yet.
        cursor = min((each for each, _ in self._held.values()), default=self._tail.cursor, key=_index_of)
        # What is replayed was cleared before.
        cursor = max(self._floor, cursor, key=_index_of)
        if not self._held:
            self.seen_s = self._tail.seen_s
        if not events and cursor == self._given:
            return None
        self._given = cursor
        return Batch(events, render_position(cursor), self._started_ns)

    def _fill(self, timeout_s: float) -> Window | None:
        """Records, as many as there are but not too many; None if there are none."""
        window, self._before = Window(self._paths.memory), self._tail.cursor
        try:
            while window.count < self._room.records and (
                piece := self._tail.read(_LINGER_S if window.count else timeout_s)
            ):
                if not window.count:
                    self._started_ns = changelog.time_ns(first_record(piece)[1])
                self._tail.advance(window.feed(piece), window.last)
        except ChangelogError:
            # What was read before that is reported; the error comes again.
            if not window.count:
                raise
        return window if window.count else None

    def _found_again(self) -> list[Event]:
        """Directories that were held, and of which a record has said meanwhile where they were."""
        events: list[Event] = []
        for key, (_, until_s) in list(self._held.items()):
            try:
                events += tree_of(self._paths.base_of(key))
            except FidNotFoundError:
                if self._monotonic_s() < until_s:
                    continue
                LOG.warning("%s: nobody knows where a directory was that is gone: everything is compared", self.name)
                events.append(TreeChanged(RelPath(b"")))
            del self._held[key]
        return events

    def _beat(self) -> None:
        """Clears what was acknowledged, and now and then the same again."""
        now_s = self._monotonic_s()
        if not self._is_clear_due and now_s - self._beat_s < self._pace.heartbeat:
            return
        try:
            self._clear()
        except (ChangelogUserError, ChangelogIndexError) as error:
            self._lost = str(error)
        except ChangelogError as error:
            self._is_clear_due = True
            LOG.debug("%s: clearing later: %s", self.name, error)

    def _clear(self) -> None:
        # Two threads at a time could clear a lower index after a higher one.
        with self._clearing:
            self._is_clear_due, self._beat_s = False, self._monotonic_s()
            if self._cleared:
                self._lustre.clear(self._mdt, self._user, self._cleared)


def _index_of(cursor: Cursor) -> int:
    return cursor.index
