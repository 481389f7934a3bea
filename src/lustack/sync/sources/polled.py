# SPDX-License-Identifier: Apache-2.0
"""What the sources have in common that read a descriptor of this kernel: waiting, gathering, losing, closing.

Rule 1: such a source knows only what happens while it is open. So its positions are good for nothing but to be
acknowledged: whoever opens it with one is told that everything must be compared.
Rule 2: it reads late on purpose, because the kernel merges what nobody has read.
Rule 3: a loss stays one until the source is opened again.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from lustack.sync.errors import DeviceMissingError
from lustack.sync.events import Event
from lustack.sync.sources.protocol import Batch, Guarantees, Position, SourceLostError, SourceUnavailableError

# How long `close` in another thread may have to wait, and how often it is looked whether the roots are still the same.
_SLICE_S: Final = 0.1
_CHECK_S: Final = 1.0


class Reading(NamedTuple):
    """What one read gave.

    Attributes:
        events: in the order of the kernel.
        is_behind: more is waiting already.
        lost: why events were lost, if some were.
    """

    events: list[Event]
    is_behind: bool = False
    lost: str | None = None


class Watching(Protocol):
    """What is open."""

    @property
    def fd(self) -> int:
        """Readable when something happened."""
        ...

    def read(self) -> Reading:
        """What happened, when `fd` is readable."""
        ...

    def overdue(self) -> list[Event]:
        """Events that need no reading: time has passed. Asked often."""
        ...

    def why_lost(self) -> str | None:
        """Why it does not report any more what it was opened for; None if it does. Asked once a second."""
        ...

    def close(self) -> None:
        """Lets go."""
        ...


class PolledSource:
    """See `Source`, and the top of this file."""

    def __init__(self, name: str, guarantees: Guarantees, gather_s: float, start: Callable[[], Watching]) -> None:
        """Opens nothing yet.

        Args:
            name: of the source.
            guarantees: what it promises.
            gather_s: how long to wait for more when something happened.
            start: begins to watch; may raise OSError.
        """
        self._name = name
        self._guarantees = guarantees
        self._gather_s = gather_s
        self._start = start
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._watching: Watching | None = None
        self._poll = select.poll()
        self._lost: str | None = None
        self._is_behind = False
        self._count = 0
        self._checked_s = 0.0

    @property
    def name(self) -> str:
        """See `Source`."""
        return self._name

    @property
    def guarantees(self) -> Guarantees:
        """See `Source`."""
        return self._guarantees

    def open(self, position: Position | None) -> None:
        """See `Source`.

        Raises:
            SourceLostError: with any position.
            DeviceMissingError: a root is not there.
            SourceUnavailableError: the kernel does not let us.
        """
        self.close()
        if position is not None:
            raise SourceLostError(self._name, "what happened before it was opened is not known")
        with self._lock:
            self._closing.clear()
            try:
                self._watching = self._start()
            except (FileNotFoundError, NotADirectoryError) as error:
                raise DeviceMissingError(str(error.filename), str(error.strerror)) from error
            except OSError as error:
                raise SourceUnavailableError(self._name, str(error)) from error
            self._poll.register(self._watching.fd, select.POLLIN)
            self._lost, self._is_behind = None, False
            self._checked_s = time.monotonic()

    def read(self, timeout_s: float) -> Batch | None:
        """See `Source`."""
        end_s = time.monotonic() + timeout_s
        with self._lock:
            while self._watching is not None and not self._closing.is_set():
                now_s = time.monotonic()
                self._check(self._watching, now_s)
                events = self._next(self._watching, max(0.0, end_s - now_s))
                if events:
                    self._count += 1
                    return Batch(events, Position(str(self._count)))
                if now_s >= end_s:
                    break
        return None

    def acknowledge(self, position: Position) -> None:
        """See `Source`. The kernel has forgotten it already."""

    def close(self) -> None:
        """See `Source`."""
        self._closing.set()
        with self._lock:
            if self._watching is not None:
                self._poll.unregister(self._watching.fd)
                self._watching.close()
                self._watching = None

    def _next(self, watching: Watching, left_s: float) -> list[Event]:
        """What happened, or became due, within a short time."""
        if not self._poll.poll(min(left_s, _SLICE_S) * 1000):
            return watching.overdue()
        if not self._is_behind:
            self._closing.wait(self._gather_s)
        reading = watching.read()
        if reading.lost is not None:
            self._lose(reading.lost)
        self._is_behind = reading.is_behind
        return reading.events

    def _check(self, watching: Watching, now_s: float) -> None:
        if self._lost is None and now_s - self._checked_s < _CHECK_S:
            return
        self._checked_s = now_s
        why = self._lost or watching.why_lost()
        if why is not None:
            self._lose(why)

    def _lose(self, why: str) -> None:
        self._lost = why
        raise SourceLostError(self._name, why)
