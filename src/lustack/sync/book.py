# SPDX-License-Identifier: Apache-2.0
"""The jobs that events made necessary: durable in the state, and here in the order in which they are done.

    ask -> waits -> take -> runs -> done                     (asked again while it runs: waits again)
                     ^        |---> retry: after a while
                     +--------+---> no container yet: after a while, and nobody waits for it

Rule 1: what was asked for is durable when `ask` returns.
Rule 2: a job that waits covers everything below it that is asked for later. One that runs covers nothing.
Rule 3: many jobs of one container become one of the container, many of all become one of everything.
Rule 4: no lock, no clock: whoever calls has the lock and says the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lustack.sync.address import OWNER
from lustack.sync.state import Cursor, Job, Scope, State

DAEMON = "daemon"
TREE = Scope(owner=DAEMON)
"""Everything: the job of the comparisons of everything."""

LOST, OVERLOAD, CONTAINER, GONE, MOVED = "lost", "overload", "container", "gone", "moved"
"""Why: a source has lost events; memory ran short; a container is not known to Swift; its directory may be gone; a
directory has another name."""

_MOST_OF_CONTAINER = 1000
_MOST = 5000
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0


@dataclass(eq=False)
class Entry:
    """A job and its state.

    Attributes:
        scope: what.
        why: what made it necessary.
        number: in the order in which jobs were asked for.
        is_running: whether somebody does it.
        is_begun: whether a part of it is done.
        is_waiting: whether it waits for a container to come to exist.
        again: its number when it was asked for while it ran, 0 if it was not.
        not_before_s: when it may be done.
        wait_s: how long it waited the last time.
    """

    scope: Scope
    why: str
    number: int
    is_running: bool = False
    is_begun: bool = False
    is_waiting: bool = False
    again: int = 0
    not_before_s: float = 0.0
    wait_s: float = 0.0


@dataclass
class Book:
    """All jobs.

    Attributes:
        state: keeps them.
        number: of the last job.
    """

    state: State
    number: int = 0
    _entries: dict[Scope, Entry] = field(default_factory=dict)

    def load(self) -> None:
        """Takes over the jobs of the run before."""
        for job in (*self.state.jobs(DAEMON), *self.state.jobs(OWNER)):
            self._entries[job.scope] = Entry(job.scope, job.why, 0, is_begun=job.cursor != Cursor())

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[Entry]:
        """All of them, in order."""
        return list(self._entries.values())

    def ask(self, jobs: Iterable[Job]) -> None:
        """Asks for jobs, durably when this returns."""
        fresh = [job for job in map(_normal, jobs) if self._add(job)]
        if fresh:
            self.state.enqueue(fresh)
            self._merge(fresh)

    def _add(self, job: Job) -> bool:
        """Whether it must be written down."""
        if any(self._is_waiting(scope) for scope in _broader(job.scope)):
            return False
        entry = self._entries.get(job.scope)
        self.number += 1
        if entry is None:
            self._entries[job.scope] = Entry(job.scope, job.why, self.number)
        elif entry.is_running:
            entry.again = self.number
        elif not entry.is_begun:
            return False
        else:
            entry.is_begun = False
        return True

    def _is_waiting(self, scope: Scope) -> bool:
        entry = self._entries.get(scope)
        return entry is not None and not entry.is_running and not entry.is_begun

    def _merge(self, fresh: list[Job]) -> None:
        """Puts one job in the place of too many."""
        counts: dict[tuple[str, str], int] = {}
        for scope in self._entries:
            counts[scope.account, scope.container] = counts.get((scope.account, scope.container), 0) + 1
        touched = {(job.scope.account, job.scope.container) for job in fresh}
        broader = [Scope(*key, owner=OWNER) for key in touched if counts[key] > _MOST_OF_CONTAINER]
        if len(self._entries) > _MOST:
            broader = [TREE]
        for scope in broader:
            self.ask([Job(scope, OVERLOAD)])
            self._drop_below(scope)

    def _drop_below(self, scope: Scope) -> None:
        below = [entry for entry in self._entries.values() if not entry.is_running and scope in _broader(entry.scope)]
        for entry in below:
            del self._entries[entry.scope]
        self.state.forget([entry.scope for entry in below])

    def take(self, now_s: float) -> Entry | None:
        """The oldest that may be done, but for that of everything."""
        for entry in self._entries.values():
            if not entry.is_running and entry.not_before_s <= now_s and entry.scope != TREE:
                entry.is_running = True
                return entry
        return None

    def take_tree(self) -> Entry:
        """The job of everything, asked for or not."""
        entry = self._entries.setdefault(TREE, Entry(TREE, "", self.number))
        entry.is_running = True
        return entry

    def wants_tree(self) -> bool:
        """Whether everything must be compared."""
        return TREE in self._entries

    def done(self, entry: Entry) -> None:
        """It was done, and the state has forgotten it unless it was asked for again."""
        if entry.again:
            entry.number, entry.again = entry.again, 0
            entry.is_running = entry.is_begun = entry.is_waiting = False
            entry.wait_s = entry.not_before_s = 0.0
        else:
            del self._entries[entry.scope]

    def retry(self, entry: Entry, now_s: float, *, is_waiting: bool = False) -> None:
        """It could not be done, or not to its end."""
        entry.wait_s = min(_LONGEST_WAIT_S, entry.wait_s * 2 or _FIRST_WAIT_S)
        entry.not_before_s = now_s + entry.wait_s
        entry.is_running, entry.is_begun, entry.is_waiting = False, not is_waiting, is_waiting
        entry.again = 0

    def oldest(self) -> int | None:
        """The number of the oldest job that somebody may wait for, None if there is none."""
        return min((entry.number for entry in self._entries.values() if not entry.is_waiting), default=None)

    def precision(self) -> str:
        """The least precise thing that is remembered in place of names."""
        found = "names"
        for entry in self._entries.values():
            if entry.scope == TREE and entry.why in (LOST, OVERLOAD):
                return "tree"
            if entry.why == OVERLOAD and not entry.scope.prefix:
                found = "containers"
            elif entry.why == OVERLOAD and found == "names":
                found = "directories"
        return found


def _normal(job: Job) -> Job:
    """The job of everything has one owner, whoever asks for it."""
    return job if job.scope.account else Job(TREE, job.why)


def _broader(scope: Scope) -> list[Scope]:
    """The scopes that are asked for and hold this one."""
    found = [TREE, Scope(scope.account, owner=OWNER), Scope(scope.account, scope.container, owner=OWNER)]
    return [each for each in found if each != scope and each.account in ("", scope.account)]
