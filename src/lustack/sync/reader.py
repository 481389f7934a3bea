# SPDX-License-Identifier: Apache-2.0
"""Reads one source of events, and acknowledges what is done.

    open -> read -> board.take -> read ... -> acknowledge -> read ...
     ^                                |
     +---- lost: open at once, then everything is compared
     +---- not there: open after a while, then everything is compared

Rule 1: what was missed while nobody watched is found by a comparison that begins after somebody does: first the source
is opened, then the job is asked for.
Rule 2: a position is stored before it is acknowledged: a source may forget what was acknowledged.
Rule 3: only a source that knows what happened before it was opened (`complete`) is opened with a position. Without one
it begins as early as it can: what another daemon left undone is listed before the comparison comes to it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from lustack.errors import LustackError
from lustack.sync.board import Board
from lustack.sync.book import LOST, TREE
from lustack.sync.intake import Intake
from lustack.sync.runner import Tell
from lustack.sync.sources.protocol import OLDEST, Position, Source, SourceLostError
from lustack.sync.state import Job, State
from lustack.sync.windows import Windows

FIRST = "first"
"""Why everything is compared when a source is opened without knowing what was before."""

_READ_S = 0.1
_STORE_S = 1.0
_ASK_S = 0.05
"""How often it is looked what is done: under load that takes milliseconds."""

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0


@dataclass
class Reader:
    """Reads a source; `run` in a thread of its own.

    Attributes:
        source: of events.
        policy_index: of the storage policy whose device it watches.
        device: path of that.
        board: gets the events.
        state: remembers the position.
        on_trouble: is told what went wrong.
        windows: what is not acknowledged.
        position: what was acknowledged.
        losses: how often events were lost.
        why_down: why it is not read at the moment.
        was_tried: set when it was opened, or could not be.
    """

    source: Source
    policy_index: int
    device: str
    board: Board
    state: State
    on_trouble: Tell
    windows: Windows = field(default_factory=Windows)
    position: str = ""
    losses: int = 0
    why_down: str = "not opened yet"
    was_tried: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._intake = Intake(self.policy_index, self.board.dirty)
        self._is_past = self._was_open = False
        self._acknowledgeable: Position | None = None
        self._stored_s = self._asked_s = 0.0
        self._wait_s = 0.0

    def run(self, stop: threading.Event) -> None:
        """Reads until `stop` is set."""
        self._open_first()
        self.was_tried.set()
        while not stop.is_set():
            trouble: LustackError | None = None
            try:
                self.read_once()
            except SourceLostError as error:
                trouble = error
                self._reopen(LOST)
            except LustackError as error:
                trouble = error
                self.why_down = str(error)
            if trouble is not None:
                # Not above: oslo.log repeats an exception that is being handled.
                self.on_trouble(trouble)
            if self.why_down:
                stop.wait(self._wait_s)
                self._wait_s = min(_LONGEST_WAIT_S, self._wait_s * 2 or _FIRST_WAIT_S)
                self._open_again()
        self.source.close()

    def _open_first(self) -> None:
        """Opens the source where the run before has left it, else as early as it can."""
        is_complete = self.source.guarantees.complete
        stored = self.state.position(self.source.name) if is_complete else None
        if stored is None:
            self._reopen(FIRST, OLDEST if is_complete else None)
            return
        try:
            self.source.open(Position(stored))
        except SourceLostError as error:
            self.on_trouble(error)
            self._reopen(LOST, OLDEST)
        except LustackError as error:
            self.why_down = str(error)
        else:
            self._is_past, self.position = True, stored
            self._note_open()

    def _open_again(self) -> None:
        """Opens the source after it was not there."""
        if self._was_open:
            self._reopen(FIRST)
        else:
            self._open_first()

    def _reopen(self, why: str, position: Position | None = None) -> None:
        """Opens the source without knowing where to go on, and has everything compared."""
        self.losses += why == LOST
        self._is_past = position is not None
        self._acknowledgeable = None
        self.source.close()
        try:
            self.source.open(position)
        except LustackError as error:
            self.why_down = str(error)
            return
        self.board.lost(self.windows, Job(TREE, why))
        self._note_open()

    def _note_open(self) -> None:
        self._was_open = True
        self.why_down, self._wait_s = "", 0.0

    def read_once(self) -> None:
        """Reads, and acknowledges what is done.

        Raises:
            SourceLostError: events were lost.
            LustackError: the source or the state fails.
        """
        batch = self.source.read(_READ_S)
        if batch is None:
            self._is_past = False
        else:
            self.board.take(self._intake, self.windows, batch, self.policy_index, is_past=self._is_past)
        now_s = self.board.monotonic_s()
        if batch is not None and now_s - self._asked_s < _ASK_S:
            return
        self._asked_s = now_s
        self._acknowledgeable = self.board.done(self.windows) or self._acknowledgeable
        if self._acknowledgeable is not None:
            self._acknowledge(self._acknowledgeable)

    def _acknowledge(self, position: Position) -> None:
        now_s = self.board.monotonic_s()
        if self.source.guarantees.complete:
            if now_s - self._stored_s < _STORE_S:
                return
            self._stored_s = now_s
            self.state.set_position(self.source.name, position)
        self.source.acknowledge(position)
        self.position, self._acknowledgeable = position, None
