# SPDX-License-Identifier: Apache-2.0
"""The changelog of one MDT in memory, which behaves as the recorded ones, and fails when it is told to.

Rule 1: what a device does that is easy to get wrong is done here too: a reader that came to the end stays there; a
    record goes away only when every user has cleared it; without users nothing is recorded.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from lustack.lustre.changelog import Record, render_record
from lustack.lustre.errors import ChangelogError, ChangelogIndexError, ChangelogUserError

_CHUNK_BYTES = 43_000
"""A read gives about so many bytes at most. Source: measured, 34 104 to 72 571."""


@dataclass
class FakeLog:
    """The log of one MDT. Thread-safe.

    Attributes:
        mdt: its name.
        records: what is retained, by index.
        users: index up to which each has cleared.
        masks: types that each wants; all if it is not here.
        last_index: of the last record that was ever written.
        faults: errors that the next calls raise, first come, first served.
        is_stalled: whether reads get nothing, as from a device whose file system was unmounted.
        starts: how often the MDT was started; readers of an earlier start get an error.
        delay_s: what is new is not seen by waiting readers for so long.
        purges: how often records went away.
    """

    mdt: str
    records: dict[int, bytes] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)
    masks: dict[str, Collection[int]] = field(default_factory=dict)
    last_index: int = 0
    faults: deque[ChangelogError] = field(default_factory=deque)
    is_stalled: bool = False
    starts: int = 1
    delay_s: float = 0.0
    purges: int = 0
    _last_user: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def register(self, mask: Collection[int] | None = None) -> str:
        """A new user, who gets what happens from now on; its name is never given again."""
        with self._changed:
            self._last_user += 1
            user = f"cl{self._last_user}"
            self.users[user] = self.last_index
            if mask is not None:
                self.masks[user] = frozenset(mask)
            return user

    def deregister(self, user: str) -> None:
        """A user goes, by itself or because it was idle for too long; with the last one all records go."""
        with self._changed:
            del self.users[user]
            self.masks.pop(user, None)
            self._purge()

    def append(self, record: Record) -> int | None:
        """Writes a record, if a user wants it.

        Returns:
            its index.
        """
        with self._changed:
            if not any(record.kind in self.masks.get(user, (record.kind,)) for user in self.users):
                return None
            self.last_index += 1
            self.records[self.last_index] = render_record(replace(record, index=self.last_index))
            self._changed.notify_all()
            return self.last_index

    def clear(self, user: str, index: int) -> None:
        """See `Lustre.clear`; 0 clears everything, as on the real one."""
        with self._changed:
            self._fail()
            if index > self.last_index:
                raise ChangelogIndexError(self.mdt, index)
            if user not in self.users or 0 < index < self.users[user]:
                raise ChangelogUserError(self.mdt, user, index)
            self.users[user] = index or self.last_index
            self._purge()

    def restart(self, lost: int = 0) -> None:
        """The MDT crashes and comes back.

        Args:
            lost: so many of the last records were not on its disk; their indices are given again.
        """
        with self._changed:
            for index in list(self.records)[max(0, len(self.records) - lost) :]:
                del self.records[index]
            self.last_index = max([*self.records, *self.users.values()], default=self.last_index)
            self.starts += 1
            self._changed.notify_all()

    def drop(self, index: int) -> None:
        """Loses one record, as a full disk does."""
        with self._changed:
            del self.records[index]

    def open(self, index: int, *, follow: bool) -> FakeChangelog:
        """See `Lustre.open_changelog`."""
        with self._changed:
            self._fail()
            return FakeChangelog(self, index, follow=follow)

    def find(self, index: int) -> list[tuple[int, bytes]]:
        """What is retained from an index on."""
        with self._changed:
            if index > self.last_index:
                return []
            return [(each, raw) for each, raw in self.records.items() if each >= index]

    def wait(self, index: int, timeout_s: float) -> None:
        """Returns when there is a record with this index or a later one, when the MDT restarts, or too late."""
        with self._changed:
            starts = self.starts
            self._changed.wait_for(lambda: self.last_index >= index or self.starts != starts, timeout_s)

    def check(self, starts: int) -> None:
        """Raises what a reader that was opened in an earlier start gets, and faults.

        Raises:
            ChangelogError: read it again.
        """
        with self._changed:
            self._fail()
            if starts != self.starts:
                raise ChangelogError(self.mdt, "Input/output error")

    def _fail(self) -> None:
        if self.faults:
            raise self.faults.popleft()

    def _purge(self) -> None:
        done = min(self.users.values(), default=self.last_index)
        purged = list(itertools.takewhile(lambda index: index <= done, self.records))
        for index in purged:
            del self.records[index]
        self.purges += bool(purged)


class FakeChangelog:
    """See `lustack.lustre.protocol.Changelog`."""

    def __init__(self, log: FakeLog, index: int, *, follow: bool) -> None:
        """Begins at an index."""
        self._log = log
        self._starts = log.starts
        self._next = index
        self._follow = follow
        self._fetched: deque[tuple[int, bytes]] | None = None
        self._is_open = True

    def read(self, timeout_s: float) -> bytes | None:
        """See `Changelog`."""
        self._log.check(self._starts)
        if self._log.is_stalled:
            time.sleep(min(timeout_s, 0.01))
            return None
        if self._fetched is None or (self._follow and not self._fetched):
            self._fetch(timeout_s)
        chunk = b"".join(self._take())
        return chunk if chunk or not self._follow else None

    def close(self) -> None:
        """See `Changelog`."""
        self._is_open = False

    def _fetch(self, timeout_s: float) -> None:
        """What is in the log now; the reader keeps it, also when it is cleared meanwhile."""
        if self._follow:
            self._log.wait(self._next, timeout_s)
            time.sleep(min(self._log.delay_s, timeout_s))
            self._log.check(self._starts)
        self._fetched = deque(self._log.find(self._next))

    def _take(self) -> Iterator[bytes]:
        size = 0
        while self._fetched and size < _CHUNK_BYTES:
            index, raw = self._fetched.popleft()
            self._next = index + 1
            size += len(raw)
            yield raw
