# SPDX-License-Identifier: Apache-2.0
"""What the threads of the engine share, under one lock: dirty names, windows, jobs, fences, counts.

    reader  (one for each source):  take          -> names, windows, jobs, fences
    sender  (several):              next_batch    -> looks -> looked -> sends -> settle
    runner  (a few):                next_job      -> compares     ->  finish
    reader again:                   done          -> what may be acknowledged

Rule 1: what leaves memory without a row is in a durable job before the lock is given back.
Rule 2: nothing here waits for a file or for Swift; only the state is written to, when jobs are asked for.
Rule 3: senders look one after the other where that is quick, see `TURN_S`, and send at the same time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lustack.sync.address import OWNER, prefix_of
from lustack.sync.book import OVERLOAD, Book, Entry
from lustack.sync.dirty import Batch, Container, Dirty
from lustack.sync.intake import Intake
from lustack.sync.sources.protocol import Batch as Events
from lustack.sync.sources.protocol import Position
from lustack.sync.state import Job, Scope
from lustack.sync.windows import Fence, Window, Windows

MOST_ROWS = 2000
"""Of one request. Source: measured; 2000 rows take a container server 70 ms, and so much the next batch has to wait."""

TURN_S = 0.1
"""Who looks has so much time before the next one looks beside him. Where the file system answers at once, threads that
look at the same time stop each other at every system call: four take up to four times the CPU of one, on idle cores
(measured). Where a look is a question to a server, they do not."""

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 5.0
_NO_TURN_S = float("-inf")


@dataclass
class Counts:
    """What happened since the start.

    Attributes:
        events: that came.
        self_events: rows that repeat what Swift said itself.
        short_lived: names that came and went unseen.
        losses: how often a source lost events.
        given_up: names that were given up for jobs.
        jobs: that were done.
    """

    events: int = 0
    self_events: int = 0
    short_lived: int = 0
    losses: int = 0
    given_up: int = 0
    jobs: int = 0


@dataclass
class Board:
    """See the top of this file. Thread-safe.

    Attributes:
        book: jobs.
        dirty: names.
        quiet_s: how long a name may be held.
        monotonic_s: a clock that never goes back.
        counts: what happened.
    """

    book: Book
    dirty: Dirty
    quiet_s: float
    monotonic_s: Callable[[], float] = time.monotonic
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._names_came = threading.Condition(self._lock)
        self._jobs_came = threading.Condition(self._lock)
        self._window = 0
        self._looking: Container | None = None
        self._turn_s = _NO_TURN_S
        self._fences: list[Fence] = []
        self._is_stopped = False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nothing changes for the time of a block."""
        with self._lock:
            yield

    def stop(self) -> None:
        """Who waits for a batch or a job gets none any more."""
        with self._lock:
            self._is_stopped = True
            self._names_came.notify_all()
            self._jobs_came.notify_all()

    def take(self, intake: Intake, windows: Windows, batch: Events, policy_index: int, *, is_past: bool) -> None:
        """A source gave a batch."""
        now_s = self.monotonic_s()
        with self._lock:
            self._window += 1
            windows.add(Window(self._window, batch.position, now_s, len(batch.events)))
            windows.behind = batch.behind
            self.counts.events += len(batch.events)
            taken = intake.take(batch.events, self._window, now_s, is_past=is_past)
            self._ask(taken.jobs)
            self._relieve()
            if taken.nonces:
                # Who waits wants to see also what is still being written.
                self.dirty.publish(now_s, now_s)
                self._fences += [Fence(policy_index, nonce, self._window, self.book.number) for nonce in taken.nonces]
            self._names_came.notify()

    def ask(self, jobs: Iterable[Job]) -> None:
        """Asks for jobs, durably when this returns."""
        with self._lock:
            self._ask(jobs)

    def _ask(self, jobs: Iterable[Job]) -> None:
        before = self.book.number
        self.book.ask(jobs)
        if self.book.number != before:
            self._jobs_came.notify_all()

    def _relieve(self) -> None:
        before, _ = self.dirty.count() if self.dirty.is_full() else (0, 0)
        relieved = self.dirty.relieve()
        if relieved:
            self._ask([Job(_scope(container, directory), OVERLOAD) for container, directory in relieved])
            self.counts.given_up += before - self.dirty.count()[0]

    def done(self, windows: Windows) -> Position | None:
        """What a source may acknowledge now, None if there is nothing new."""
        with self._lock:
            return windows.finish(self.dirty.oldest())

    def lost(self, windows: Windows, job: Job) -> None:
        """A source has lost events: a job finds them."""
        with self._lock:
            windows.clear()
            self._ask([job])

    def is_busy(self) -> bool:
        """Whether names are to be looked at, or are on their way."""
        with self._lock:
            return self.dirty.is_busy()

    def next_batch(self) -> tuple[Container, Batch] | None:
        """A container and names of it to look at; waits for them. None: it is time to stop."""
        with self._lock:
            while not self._is_stopped:
                now_s = self.monotonic_s()
                container = self.dirty.take(now_s) if now_s >= self._turn_s else None
                if container is not None:
                    self._looking, self._turn_s = container, now_s + TURN_S
                    return container, container.swap(MOST_ROWS)
                ready_s = self.dirty.ready_s()
                self._names_came.wait(None if ready_s is None else max(ready_s, self._turn_s) - now_s)
        return None

    def looked(self, container: Container, *, self_events: int, short_lived: int) -> None:
        """The names of a batch were looked at: the next one may be. And what is counted of them."""
        with self._lock:
            self.counts.self_events += self_events
            self.counts.short_lived += short_lived
            self._pass_turn(container)
            if self.dirty.ready_s() is not None:
                self._names_came.notify()

    def _pass_turn(self, container: Container) -> None:
        if self._looking is container:
            self._looking, self._turn_s = None, _NO_TURN_S

    def settle(self, container: Container, *, is_done: bool) -> None:
        """A batch was sent, or could not be."""
        now_s = self.monotonic_s()
        with self._lock:
            self._pass_turn(container)
            container.land(is_done=is_done)
            container.wait_s = 0.0 if is_done else min(_LONGEST_WAIT_S, container.wait_s * 2 or _FIRST_WAIT_S)
            container.not_before_s = now_s + container.wait_s
            self.dirty.touch(container, now_s)
            self.dirty.rest(container)
            self._names_came.notify()

    def give_up(self, container: Container, why: str) -> None:
        """A container's rows are not taken: it is compared when that may have changed; until then it absorbs events."""
        with self._lock:
            container.give_up()
            self._ask([Job(_scope(container, None), why)])

    def next_job(self) -> Entry | None:
        """A job to do; waits for it. None: it is time to stop."""
        with self._lock:
            while not self._is_stopped:
                entry = self.book.take(self.monotonic_s())
                if entry is not None:
                    self._absorb_no_more(entry.scope)
                    return entry
                self._jobs_came.wait(1.0 if len(self.book) else None)
        return None

    def begin_tree(self) -> Entry:
        """Everything will be compared now."""
        with self._lock:
            entry = self.book.take_tree()
            self._absorb_no_more(entry.scope)
            return entry

    def _absorb_no_more(self, scope: Scope) -> None:
        for container in self._containers(scope):
            if not scope.prefix:
                container.is_whole = False
                container.given_up.clear()
            elif container.given_up:
                container.given_up = {each for each in container.given_up if prefix_of(each) != scope.prefix}

    def _containers(self, scope: Scope) -> list[Container]:
        found = self.dirty.containers(scope.account)
        return [each for each in found if scope.container in ("", each.key.container)]

    def finish(self, entry: Entry) -> None:
        """A job was done."""
        with self._lock:
            self.counts.jobs += 1
            self.book.done(entry)

    def retry(self, entry: Entry, *, is_waiting: bool = False) -> None:
        """A job could not be done. If it waits for its container to come to exist, that absorbs events until then."""
        with self._lock:
            self.book.retry(entry, self.monotonic_s(), is_waiting=is_waiting)
            for container in self._containers(entry.scope) if is_waiting else ():
                container.give_up()

    def held(self, after_s: float, until_s: float, most: int) -> list[tuple[Container, list[bytes]]]:
        """Names that are held since a time between these two, at most so many."""
        with self._lock:
            return self.dirty.held(after_s, until_s, most)

    def release(self, container: Container, names: Iterable[bytes]) -> None:
        """Names need not be held any more."""
        now_s = self.monotonic_s()
        with self._lock:
            container.release(names)
            if container.due:
                self.dirty.touch(container, now_s)
                self._names_came.notify()

    def tick(self) -> list[Fence]:
        """What time alone changes: held names are published. Returns who need not wait any more."""
        now_s = self.monotonic_s()
        with self._lock:
            self.dirty.publish(now_s - self.quiet_s, now_s)
            if self.dirty.ready_s() is not None:
                self._names_came.notify()
            if not self._fences:
                return []
            window, job = self.dirty.oldest(), self.book.oldest()
            passed = [
                fence
                for fence in self._fences
                if (window is None or window > fence.window) and (job is None or job > fence.job)
            ]
            self._fences = [fence for fence in self._fences if fence not in passed]
            return passed


def _scope(container: Container, directory: bytes | None) -> Scope:
    prefix = "" if directory is None else prefix_of(directory)
    return Scope(*container.key, prefix, OWNER)
