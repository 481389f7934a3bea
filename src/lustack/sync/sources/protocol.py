# SPDX-License-Identifier: Apache-2.0
"""What a source of events can do.

Rule 1: store, then acknowledge. An event belongs to the source until its effect is durable; whoever dies before that
gets it again.
Rule 2: a source that cannot keep up, or has lost something, says so with a less precise event, never by silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NewType, Protocol, runtime_checkable

from lustack.sync.errors import SyncError
from lustack.sync.events import Event
from lustack.sync.sources.roots import Root

Position = NewType("Position", str)
"""Where a source is; opaque for everybody else. Stored as text."""

OLDEST: Final = Position("")
"""Where a source that is `complete` can begin if nobody knows better: another daemon may have died before it had done
what the source told it. As much as the source still has is reported, and everything must be compared beside it."""


class SourceLostError(SyncError):
    """A source cannot say what happened since the position that was acknowledged: everything must be compared.

    Attributes:
        source: its name.
        why: what happened to it.
    """

    def __init__(self, source: str, why: str) -> None:
        super().__init__(source, why)
        self.source = source
        self.why = why

    def __str__(self) -> str:
        return f"{self.source} has lost events: {self.why}"


class SourceUnavailableError(SyncError):
    """A source cannot be opened here.

    Attributes:
        source: its name.
        why: what the system says.
    """

    retryable = True

    def __init__(self, source: str, why: str) -> None:
        super().__init__(source, why)
        self.source = source
        self.why = why

    def __str__(self) -> str:
        return f"{self.source} cannot be used: {self.why}"


@dataclass(frozen=True)
class Guarantees:
    """What a source promises; asked for at the start, not found out in production.

    Attributes:
        complete: whether every change is reported, also those while nobody reads.
        across_hosts: whether changes by other hosts are reported; also true where no other host can make any, as on a
            local disk. If not, everything is compared often (`interval_s`), else rarely (`check_interval_s`).
        latency_s: how late an event may come when the reader waits for it.
    """

    complete: bool
    across_hosts: bool
    latency_s: float


@dataclass(frozen=True)
class Batch:
    """Events that were read together.

    Attributes:
        events: in order, if the source has one.
        position: to be acknowledged when the effect of all of them is durable.
        happened_ns: when the first of them happened, nanoseconds since 1970; 0 where the source does not know.
        behind: how many events (or records) the source knows to wait behind these.
    """

    events: Sequence[Event]
    position: Position
    happened_ns: int = 0
    behind: int = 0


class Source(Protocol):
    """Reports changes of one device. For one thread, but `close` may be called from any.

    Paths are below the root of the device. What is below `.lustack/` is reported only if it is below
    `layout.FENCE`; temporary files of ours (`layout.TEMPORARY_PREFIX`) need not be reported.
    """

    @property
    def name(self) -> str:
        """Of the source, the same in every run: its position is stored under it."""
        ...

    @property
    def guarantees(self) -> Guarantees:
        """What it promises."""
        ...

    def open(self, position: Position | None) -> None:
        """Starts to report what happened after a position; None: from now on; see also `OLDEST`.

        Raises:
            SourceLostError: that is too long ago; open it again with None, and compare everything.
        """
        ...

    def read(self, timeout_s: float) -> Batch | None:
        """The next events; blocks until there are some, but not longer than told. What is read is not acknowledged.

        Returns:
            None if nothing happened.

        Raises:
            SourceLostError: something was lost, now or before.
        """
        ...

    def acknowledge(self, position: Position) -> None:
        """The effect of everything up to this position is durable. Idempotent; an earlier position changes nothing."""
        ...

    def close(self) -> None:
        """Stops reporting; a `read` that blocks returns None. What was not acknowledged is reported again."""
        ...


@runtime_checkable
class Rooted(Protocol):
    """A source whose roots can change while it is open."""

    def watch(self, roots: Sequence[Root]) -> None:
        """From now on it reports what happens in these directories, and in no others.

        Returns when that is so, if it is being read, and at once if it is closed. May be called from any thread but the
        one that reads.

        Args:
            roots: the root of the device first. One that is not there is left out.
        """
        ...
