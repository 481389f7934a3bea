# SPDX-License-Identifier: Apache-2.0
"""The records of one changelog in order and without a gap, or an error that says what is missing.

    read until the log ends -> reopen after the record that was read last -> ...
    where reopening is dear: wait in the log instead, which is up to a second late

Rule 1: records follow each other without a gap, and the one that was read last is the same when it is met again.
    Source: mdd_device.c:213,273: after a crash an MDT may have lost records that it gave; it gives their indices again.
Rule 2: after an error, and after a silence, it is looked whether the log still goes on from where we are.
Rule 3: a log that was opened and read to its end has shown everything that was in it when it was opened. Source: a
    record is in the log before the operation that it is about returns: it is part of its transaction (mdd_dir.c).
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lustack.lustre.changelog import record_size, scan
from lustack.lustre.errors import ChangelogError, LustreError
from lustack.lustre.fid import NO_FID
from lustack.lustre.protocol import Changelog, Lustre
from lustack.sync.sources.changelog_window import first_record

_LOOK_BACK: Final = 100_000
"""Records: so many before the last are read again to see whether the log still goes on from there."""

_INERTIA: Final = 0.8
"""Of the mean of what reopening costs."""


class LogLostError(LustreError):
    """Records are missing.

    Attributes:
        mdt: as `lustre-MDT0000`.
        why: what is seen.
    """

    def __init__(self, mdt: str, why: str) -> None:
        super().__init__(mdt, why)
        self.mdt = mdt
        self.why = why

    def __str__(self) -> str:
        return f"records of {self.mdt} are missing: {self.why}"


@dataclass(frozen=True)
class Pace:
    """Times, in seconds.

    Attributes:
        shortest: between two looks at a log where something happens.
        longest: between two looks at a log where nothing happens.
        dear: reopening takes longer than that: wait in the log instead.
        silence: a log that said nothing for so long is looked at from further back.
        heartbeat: a quiet MDT is told that we are here. Source: its limit is 30 days, changelog_max_idle_time.
        patience: for the record that says where a directory was that is gone.
        retry: after an error.
    """

    shortest: float = 0.05
    longest: float = 0.25
    dear: float = 0.05
    silence: float = 30.0
    heartbeat: float = 3600.0
    patience: float = 30.0
    retry: float = 0.5


@dataclass(frozen=True)
class Cursor:
    """A record that was read.

    Attributes:
        index: 0: the beginning of the log.
        time: as the record has it.
        target: of the record.
    """

    index: int = 0
    time: int = 0
    target: bytes = NO_FID


class Tail:
    """Reads a log. For one thread.

    Attributes:
        cursor: the record that was read last.
        seen_s: everything that was in the log at this time was read; by the clock `monotonic_s`.
    """

    def __init__(
        self,
        lustre: Lustre,
        mdt: str,
        pace: Pace,
        closed: threading.Event,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens nothing yet.

        Args:
            lustre: the file system.
            mdt: whose changelog.
            pace: times.
            closed: somebody wants no more.
            monotonic_s: a clock that never goes back.
        """
        self.cursor = Cursor()
        self._lustre, self._mdt, self._pace, self._closed = lustre, mdt, pace, closed
        self._monotonic_s = monotonic_s
        self._log: Changelog | None = None
        self._is_following = False
        self._opened_s = self.seen_s = self._asked_s = -math.inf
        self._rest: deque[bytes] = deque()
        self._first = 0
        self._is_doubtful = False
        self._heard_s = monotonic_s()
        self._wait_s = pace.shortest
        self._cost_s = 0.0

    def start(self, cursor: Cursor | None, replayed_bytes: int = 0) -> None:
        """Goes on after a record; None: after the last there is.

        Args:
            cursor: the record.
            replayed_bytes: of None: the last records are read all the same, as many as have no gap between them and no
                more than so many bytes. They are in memory when this returns.

        Raises:
            LogLostError: the log does not go on from there.
            ChangelogError: not now.
        """
        self.close()
        self.seen_s = -math.inf
        self.cursor = Cursor() if cursor is None else cursor
        if cursor is None:
            self._skip(replayed_bytes)
        else:
            self._verify()

    @property
    def end(self) -> Cursor:
        """The last record that was got from the log, read or not."""
        if not self._rest:
            return self.cursor
        *_, last = scan(self._rest[-1])
        return Cursor(*last[2:5])

    def ask_for_end(self, asked_s: float) -> None:
        """Somebody waits until `seen_s` is at least this: do not wait in the log before. From any thread."""
        self._asked_s = asked_s

    def read(self, timeout_s: float) -> bytes:
        """Whole records that follow the cursor; empty if there are none within that time. `advance` must follow.

        Raises:
            LogLostError: something is missing before them.
            ChangelogError: not now.
        """
        try:
            piece = self._read(timeout_s)
        except ChangelogError:
            self.doubt()
            raise
        if not piece:
            self._watch_silence()
            return b""
        self._heard_s, self._wait_s = self._monotonic_s(), self._pace.shortest
        self._first = self._follows(piece)
        return piece

    def advance(self, count: int, last: tuple[int, int, bytes]) -> None:
        """What was in the piece that was read last.

        Args:
            count: how many records.
            last: index, time and target of the last.

        Raises:
            LogLostError: some were missing in between.
        """
        if last[0] != self._first + count - 1:
            raise LogLostError(self._mdt, f"from {self._first} to {last[0]} there are only {count}")
        self.cursor = Cursor(*last)

    def doubt(self) -> None:
        """Looks from further back the next time."""
        self._is_doubtful = True
        self.close()

    def close(self) -> None:
        """Ends it; `read` begins again after the cursor."""
        self._rest.clear()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _read(self, timeout_s: float) -> bytes:
        if self._is_doubtful:
            self._verify()
        if self._rest:
            return self._rest.popleft()
        if self._is_following and self._asked_s > self.seen_s:
            self.close()
        if self._log is None:
            self._log = self._open()
        found = self._log.read(min(timeout_s, self._pace.longest))
        if found == b"":
            self.seen_s = self._opened_s
            self.close()
            self._closed.wait(min(timeout_s, self._wait_s))
            self._wait_s = min(2 * self._wait_s, self._pace.longest)
        return self._unknown(found) if found else b""

    def _open(self) -> Changelog:
        """Opens the log at the record that was read last: if it is still there, it must be the same."""
        self._opened_s = self._monotonic_s()
        self._is_following = self._cost_s > self._pace.dear and self._asked_s <= self.seen_s
        log = self._lustre.open_changelog(self._mdt, max(1, self.cursor.index), follow=self._is_following)
        cost_s = self._monotonic_s() - self._opened_s
        self._cost_s = _INERTIA * self._cost_s + (1 - _INERTIA) * cost_s
        return log

    def _open_whole(self, index: int) -> Changelog:
        """Opens the log further back, to be read to its end."""
        self.close()
        self._opened_s, self._is_following = self._monotonic_s(), False
        self._log = self._lustre.open_changelog(self._mdt, max(1, index), follow=False)
        return self._log

    def _skip(self, replayed_bytes: int) -> None:
        """Goes to the end of the log, or not quite so far."""
        log, kept, size, last = self._open_whole(1), deque[tuple[bytes, Cursor]](), 0, 0
        while piece := self._wait_for_piece(log):
            records = [Cursor(*record[2:5]) for record in scan(piece)]
            if records[0].index != last + 1:
                kept.clear()
                size, self.cursor = 0, Cursor(records[0].index - 1)
            last = records[-1].index
            kept.append((piece, records[-1]))
            size += len(piece)
            while kept and (size > replayed_bytes or last - records[0].index != len(records) - 1):
                dropped, self.cursor = kept.popleft()
                size -= len(dropped)
        self.close()
        self._rest.extend(piece for piece, _ in kept)

    def _verify(self) -> None:
        """Opens the log well before the cursor, and sees whether it goes on from there.

        Raises:
            LogLostError: it does not.
            ChangelogError: not now.
        """
        log, last, rest = self._open_whole(self.cursor.index - _LOOK_BACK), 0, b""
        while not rest and (piece := self._wait_for_piece(log)):
            rest = self._unknown(piece)
            last = max(record[2] for record in scan(piece))
        if rest:
            self._follows(rest)
            self._rest.append(rest)
        else:
            self.close()
        if 0 < last < self.cursor.index:
            raise LogLostError(self._mdt, f"{self.cursor.index} was read, and now the log ends with {last}")
        self._is_doubtful = False
        self._heard_s = self._monotonic_s()

    def _wait_for_piece(self, log: Changelog) -> bytes:
        """The next piece of a log, empty at its end.

        Raises:
            ChangelogError: it says nothing, not even that it ends.
        """
        until_s = self._monotonic_s() + self._pace.silence
        while (piece := log.read(self._pace.longest)) is None:
            if self._monotonic_s() > until_s or self._closed.is_set():
                raise ChangelogError(self._mdt, "it says nothing")
        return piece

    def _unknown(self, piece: bytes) -> bytes:
        """The records of a piece after the cursor.

        Raises:
            LogLostError: that of the cursor is another one.
        """
        if first_record(piece)[0] > self.cursor.index:
            return piece
        at = 0
        for _, _, index, time_, target, *_ in scan(piece):
            if index > self.cursor.index:
                break
            if index == self.cursor.index and (time_, target) != (self.cursor.time, self.cursor.target):
                raise LogLostError(self._mdt, f"{index} is another one now, so the MDT has lost those before a crash")
            at += record_size(piece, at) or 0
        return piece[at:]

    def _follows(self, piece: bytes) -> int:
        """The index of the first record of a piece.

        Raises:
            LogLostError: it is not the one after the cursor.
        """
        first, _, _ = first_record(piece)
        if self.cursor.index and first != self.cursor.index + 1:
            raise LogLostError(self._mdt, f"after {self.cursor.index} comes {first}")
        return first

    def _watch_silence(self) -> None:
        if self._monotonic_s() - self._heard_s > self._pace.silence:
            self.doubt()
