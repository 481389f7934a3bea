# SPDX-License-Identifier: Apache-2.0
"""An engine on a playground, whose steps tests take one by one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.listings import POLICY, InlineExecutor, Playground

from lustack.sync.board import Board
from lustack.sync.book import Book
from lustack.sync.dirty import Dirty
from lustack.sync.events import Event
from lustack.sync.reader import Reader
from lustack.sync.recent import RecentSink
from lustack.sync.reconcile import Tools
from lustack.sync.runner import Runner
from lustack.sync.sender import Identities, Sender
from lustack.sync.sources.fake import FakeSource
from lustack.sync.state import Scope
from lustack.sync.survey import Options, Survey

EXCLUDE = ("*.tmp",)


@dataclass
class Now:
    """A clock that moves when it is told to."""

    s: float = 1000.0

    def __call__(self) -> float:
        return self.s


@dataclass
class Steps:
    """The parts of an engine, without threads."""

    playground: Playground
    source: FakeSource = field(default_factory=lambda: FakeSource(most=1000))
    memory_bytes: int = 10**6
    quiet_s: float = 30.0
    since_ns: int = 0

    def __post_init__(self) -> None:
        ground = self.playground
        self.trouble: list[Exception] = []
        self.unhashed: list[str] = []
        self.now = Now()
        book = Book(ground.state)
        book.load()
        self.board = Board(book, Dirty(self.memory_bytes, 0.0), self.quiet_s, self.now)
        # For an hour already.
        self.sink = RecentSink(ground.sink, self.since_ns or ground.timer() - 3600 * 10**9)
        ground.settings = settings = replace(ground.settings, exclude=EXCLUDE)
        self.reader = Reader(self.source, POLICY.index, str(ground.root), self.board, ground.state, self.trouble.append)
        self.sender = Sender(
            self.board,
            settings,
            [POLICY],
            self.sink,
            ground.clock,
            Identities(ground.state),
            lambda _key, names: self.unhashed.extend(names),
            self.trouble.append,
        )
        self.runner = Runner(self.board, settings, [POLICY], ground.state, self.trouble.append)

    @property
    def tools(self) -> Tools:
        ground = self.playground
        return Tools(self.sink, ground.clock, InlineExecutor(), ground.notebook, ground.timer.seconds)

    def begin(self) -> None:
        """The daemon starts: the source is opened, and everything is compared once."""
        self.reader._open_first()
        self.compare()

    def compare(self) -> None:
        """Everything is compared if that is wanted, as the daemon's main thread does it."""
        if self.board.book.wants_tree():
            entry = self.board.begin_tree()
            ground = self.playground
            Survey(ground.settings, [POLICY], ground.state, self.tools).run(Scope(owner="daemon"), Options())
            self.board.finish(entry)

    def happen(self, *events: Event) -> None:
        """The source reports something, and it is read."""
        self.source.happen(*events)
        self.read()

    def read(self) -> None:
        """Reads once."""
        self.now.s += 1.0
        self.reader.read_once()

    def send(self) -> bool:
        """Sends one batch, if one is ready."""
        self.board.tick()
        with self.board.locked():
            container = self.board.dirty.take(self.now.s)
            batch: Any = container and container.swap(1000)
        if container is None:
            return False
        self.sender.work(container, batch)
        return True

    def do_job(self) -> bool:
        """Does one job, if there is one."""
        with self.board.locked():
            entry = self.board.book.take(self.now.s)
            if entry is None:
                return False
            self.board._absorb_no_more(entry.scope)
        self.runner.work(entry, self.tools)
        return True

    def work(self) -> None:
        """Works until nothing is left to do now, and reads what is acknowledged."""
        while self.send() or self.do_job():
            pass
        self.read()

    def rest(self) -> None:
        """Works until nothing is left to do at all."""
        for _ in range(20):
            self.work()
            self.compare()
            self.now.s += 100.0
        self.work()
