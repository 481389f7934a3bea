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
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, NoReturn, Protocol, TypeVar

from oslo_log import log

from lustack.posix import filesystems
from lustack.sync.errors import DeviceMissingError
from lustack.sync.events import Event
from lustack.sync.sources.protocol import Batch, Guarantees, Position, SourceLostError, SourceUnavailableError
from lustack.sync.sources.roots import Root

LOG = log.getLogger(__name__)

Result = TypeVar("Result")

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

    @property
    def unseen(self) -> list[str]:
        """Directories that it was started with and cannot see into, as `update` tells."""
        ...

    @property
    def has_gaps(self) -> bool:
        """Whether there are trees about which nothing is reported at all."""
        ...

    def update(self, roots: Sequence[Root]) -> list[str]:
        """Watches these from now on, and no others. One that is not there is left out, unless it is the device's.

        Returns:
            paths of directories that are there and cannot be watched, with the reason.

        Raises:
            OSError: the root of the device cannot be watched.
        """
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

    def __init__(
        self,
        name: str,
        guarantees: Guarantees,
        gather_s: float,
        roots: Sequence[Root],
        start: Callable[[Sequence[Root]], Watching],
    ) -> None:
        """Opens nothing yet.

        Args:
            name: of the source.
            guarantees: what it promises as long as every root can be watched.
            gather_s: how long to wait for more when something happened.
            roots: what to watch, the root of the device first.
            start: begins to watch; may raise OSError.
        """
        self._name = name
        self._guarantees = guarantees
        self._gather_s = gather_s
        self._roots = tuple(roots)
        self._start = start
        self._is_everything_seen = True
        self._updating = threading.Lock()
        self._updated: threading.Event | None = None
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
        """See `Source`. Less is promised while something cannot be watched, or other machines change it."""
        watching = self._watching
        if self._is_everything_seen and not (watching is not None and watching.has_gaps):
            return self._guarantees
        return replace(self._guarantees, across_hosts=False)

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
                self._watching = self._start(self._roots)
                self._note(self._watching.unseen)
            except OSError as error:
                if is_missing(error):
                    raise DeviceMissingError(str(error.filename), str(error.strerror)) from error
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
                self._update(self._watching)
                self._check(self._watching, now_s)
                events = self._next(self._watching, max(0.0, end_s - now_s))
                if events:
                    self._count += 1
                    return Batch(events, Position(str(self._count)))
                if now_s >= end_s:
                    break
        return None

    def watch(self, roots: Sequence[Root]) -> None:
        """See `Rooted`."""
        with self._updating:
            updated = threading.Event()
            self._roots, self._updated = tuple(roots), updated
            while self._watching is not None and not updated.wait(_SLICE_S):
                pass

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
            reading = Reading(self._guarded(watching.overdue))
        else:
            if not self._is_behind:
                self._closing.wait(self._gather_s)
            reading = self._guarded(watching.read)
        if reading.lost is not None:
            self._lose(reading.lost)
        self._is_behind = reading.is_behind
        return reading.events

    def _guarded(self, call: Callable[[], Result]) -> Result:
        """The result of a call; what the system refuses in it is a loss."""
        try:
            return call()
        except OSError as error:
            self._lose(str(error))

    def _update(self, watching: Watching) -> None:
        """Watches other roots, if somebody wants that."""
        updated = self._updated
        if updated is None:
            return
        self._updated = None
        try:
            self._note(watching.update(self._roots))
        except OSError as error:
            self._lose(str(error))
        finally:
            updated.set()

    def _note(self, unseen: Sequence[str]) -> None:
        """Says what is not seen; what other machines change, too."""
        names = [(root.path, _shared_name(root.path)) for root in self._roots if root.prefix]
        unseen = [*unseen, *(f"{path} ({name}: other machines change it)" for path, name in names if name)]
        self._is_everything_seen = not unseen
        if unseen:
            LOG.warning("%s does not see all that happens in %s: comparisons do", self._name, ", ".join(unseen))

    def _check(self, watching: Watching, now_s: float) -> None:
        if self._lost is None and now_s - self._checked_s < _CHECK_S:
            return
        self._checked_s = now_s
        why = self._lost or watching.why_lost()
        if why is not None:
            self._lose(why)

    def _lose(self, why: str) -> NoReturn:
        self._lost = why
        raise SourceLostError(self._name, why)


def is_missing(error: OSError) -> bool:
    """Whether an error says that a directory is not there."""
    return isinstance(error, (FileNotFoundError, NotADirectoryError))


def _shared_name(path: str) -> str | None:
    try:
        return filesystems.shared_name(path)
    except OSError:
        return None
