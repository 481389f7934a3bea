# SPDX-License-Identifier: Apache-2.0
"""Says once a second how the daemon is: to `status.json`, to the metrics, and to the hasher, which waits under load."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from lustack.sync import status
from lustack.sync.backlog import Backlog
from lustack.sync.engine import Engine
from lustack.sync.errors import StateError
from lustack.sync.reader import Reader
from lustack.sync.status import JobStatus, SourceStatus, Status

_PERIOD_S = 1.0
_BUSY_LAG_S = 2.0
"""Events that wait longer than this are more urgent than hashes."""

_MOST_JOBS = 100


@dataclass
class Compared:
    """What is known about comparisons of everything.

    Attributes:
        is_comparing: whether one goes on.
        comparisons: how many were finished.
        compared_ns: when the last one ended.
        comparison_s: how long it took.
        unhashed: see `Status`.
        unlistable: see `Status`.
        unreadable: see `Status`.
        trouble: the last warning.
        trouble_ns: when.
    """

    is_comparing: bool = False
    comparisons: int = 0
    compared_ns: int = 0
    comparison_s: float = 0.0
    unhashed: int = 0
    unlistable: int = 0
    unreadable: int = 0
    trouble: str = ""
    trouble_ns: int = 0


@dataclass
class Reporter:
    """Writes the status of a daemon; `run` in a thread of its own.

    Attributes:
        state_dir: where to.
        engine: is asked.
        backlog: is paused under load.
        compared: is asked.
        ahead_s: how far timestamps are ahead of the clock.
        show: gets each status.
        now_ns: the time.
    """

    state_dir: str
    engine: Engine
    backlog: Backlog
    compared: Compared
    ahead_s: Callable[[], float]
    show: Callable[[Status], None]
    now_ns: Callable[[], int] = time.time_ns
    _before: Status = field(default_factory=Status)

    def __post_init__(self) -> None:
        self._base = Status(started_ns=self.now_ns(), pid=os.getpid(), host=socket.gethostname())

    def run(self, stop: threading.Event) -> None:
        """Reports until `stop` is set."""
        while not stop.wait(_PERIOD_S):
            self.report("running")

    def report(self, state: str) -> Status:
        """Reports once; what cannot be written is written the next time."""
        found = self.look(state)
        self.backlog.pause(is_paused=found.lag_s > _BUSY_LAG_S)
        try:
            status.write(self.state_dir, found)
        except StateError:
            # The state directory is watched over by whoever writes the state; this file is only for people.
            return found
        finally:
            self.show(found)
            self._before = found
        return found

    def look(self, state: str) -> Status:
        """How the daemon is."""
        engine, board, compared, sink = self.engine, self.engine.board, self.compared, self.engine.parts.sink
        with board.locked():
            counts = replace(board.counts)
            dirty, held = board.dirty.count()
            sources = tuple(self._source(reader) for reader in engine.readers)
            # Not before the lock is had: whoever reads adds the age of the status to the lag.
            now_ns = self.now_ns()
            return replace(
                self._base,
                state=state,
                written_ns=now_ns,
                mode="events" if engine.readers else "scan",
                precision=board.book.precision(),
                sources=sources,
                jobs=self._jobs(),
                job_count=len(board.book),
                lag_s=max((each.lag_s for each in sources), default=0.0),
                lag_records=sum(each.lag_records for each in sources),
                dirty_names=dirty,
                held_names=held,
                memory_bytes=board.dirty.size_bytes(),
                memory_limit_bytes=board.dirty.limit_bytes,
                events=counts.events,
                events_per_s=self._rate(counts.events, self._before.events, now_ns),
                rows=sink.rows,
                rows_per_s=self._rate(sink.rows, self._before.rows, now_ns),
                batches=sink.batches,
                self_events=counts.self_events,
                short_lived=counts.short_lived,
                losses=sum(each.losses for each in sources),
                hash_backlog=len(self.backlog),
                is_hashing_paused=self.backlog.is_paused,
                clock_ahead_s=self.ahead_s(),
                **vars(compared),
            )

    def _rate(self, now: int, before: int, now_ns: int) -> float:
        took_s = (now_ns - (self._before.written_ns or self._base.started_ns)) / 1e9
        return (now - before) / took_s if took_s > 0 else 0.0

    def _source(self, reader: Reader) -> SourceStatus:
        guarantees = reader.source.guarantees
        oldest = self.engine.board.dirty.oldest(with_held=False)
        return SourceStatus(
            reader.source.name,
            reader.device,
            guarantees.complete,
            guarantees.across_hosts,
            guarantees.latency_s,
            reader.position,
            reader.windows.lag_s(self.engine.board.monotonic_s(), oldest),
            reader.windows.count(),
            reader.losses,
            reader.why_down,
        )

    def _jobs(self) -> tuple[JobStatus, ...]:
        entries = self.engine.board.book.entries()[:_MOST_JOBS]
        return tuple(
            JobStatus(
                entry.scope.account, entry.scope.container, entry.scope.prefix, entry.why, is_running=entry.is_running
            )
            for entry in entries
        )
