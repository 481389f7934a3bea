# SPDX-License-Identifier: Apache-2.0
"""Events become rows: the threads around the board.

    source -> reader -> board: names -> senders -> Swift
                           |-> jobs  -> runners -> Swift
                           |-> fences -> ticker
    everything: compared by the daemon's main thread, which asks `wants_tree`

Rule 1: whatever ends first, what was read and not done is read again, or found by a comparison: see `reader`.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from lustack.errors import LustackError
from lustack.sync import fence
from lustack.sync.board import Board
from lustack.sync.book import Book, Entry
from lustack.sync.budget import divide
from lustack.sync.clock import Clock
from lustack.sync.device import open_device
from lustack.sync.dirty import Dirty
from lustack.sync.doubts import Doubts
from lustack.sync.errors import StateError
from lustack.sync.reader import Reader
from lustack.sync.recent import RecentSink
from lustack.sync.reconcile import Tools, Watcher
from lustack.sync.runner import Runner, Tell
from lustack.sync.sender import Identities, Sender
from lustack.sync.settings import Settings
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.sinks.rings import Policy
from lustack.sync.sources.protocol import Source
from lustack.sync.state import State

SENDERS = 4
"""Threads that look and send: so many containers at once."""

RUNNERS = 2
"""Threads that compare what events could not say name by name; one of them may be busy for hours."""

GATHER_S = 0.02
"""How long the first name of a batch waits for others, see `dirty.LIVELY_S`; a row alone costs the server 3.5 ms.
Source: measured."""

TICK_S = 0.05


@dataclass(frozen=True)
class Parts:
    """What the engine works with.

    Attributes:
        settings: of the daemon.
        policies: whose devices to look at.
        state: the memory.
        sink: Swift.
        clock: stamps rows.
        watcher: of the comparisons of jobs.
        on_unhashed: is told of objects without a known MD5.
        on_trouble: is told what went wrong.
        on_failure: is called when a thread ended by an error that nobody expected.
    """

    settings: Settings
    policies: Sequence[Policy]
    state: State
    sink: RecentSink
    clock: Clock
    watcher: Watcher
    on_unhashed: Callable[[ContainerKey, Sequence[str]], None]
    on_trouble: Tell
    on_failure: Callable[[], None] = lambda: None


@dataclass
class Engine:
    """Runs from `start` to `stop`.

    Attributes:
        parts: what it works with.
        readers: of the sources.
    """

    parts: Parts
    readers: list[Reader] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = self.parts
        book = Book(parts.state)
        book.load()
        names_bytes = divide(parts.settings.memory_bytes).names
        self.board = Board(book, Dirty(names_bytes, GATHER_S), parts.settings.quiet_s)
        self._sender = Sender(
            self.board,
            parts.settings,
            parts.policies,
            parts.sink,
            parts.clock,
            Identities(parts.state),
            parts.on_unhashed,
            parts.on_trouble,
        )
        self._doubts = Doubts(self.board, {policy.index: self.path(policy) for policy in parts.policies})
        self._runner = Runner(self.board, parts.settings, parts.policies, parts.state, parts.on_trouble)
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._executors = ExitStack()

    def path(self, policy: Policy) -> str:
        """The root of a policy's device."""
        return os.path.join(self.parts.settings.devices, policy.device)

    def start(self) -> None:
        """Starts the threads."""
        for number in range(RUNNERS):
            executor = self._executors.enter_context(ThreadPoolExecutor(1, thread_name_prefix=f"send-job-{number}"))
            tools = Tools(self.parts.sink, self.parts.clock, executor, self.parts.watcher)
            self._start(f"runner-{number}", lambda tools=tools: self._runner.run(tools))  # type: ignore[misc]
        for number in range(SENDERS):
            self._start(f"sender-{number}", self._sender.run)
        self._start("ticker", self._tick)

    def add(self, policy: Policy, source: Source) -> None:
        """Reads one more source.

        Args:
            policy: whose device it watches.
            source: closed.
        """
        parts = self.parts
        reader = Reader(source, policy.index, self.path(policy), self.board, parts.state, parts.on_trouble)
        self.readers.append(reader)
        self._start(f"reader-{source.name}", lambda: reader.run(self._stop))

    def await_sources(self, stop: threading.Event) -> None:
        """Waits until every source is open, or could not be opened: one that comes later wants a comparison of its own.

        Args:
            stop: ends it.
        """
        for reader in self.readers:
            while not (stop.is_set() or reader.was_tried.wait(TICK_S)):
                pass

    def stop(self) -> None:
        """Stops the threads, and waits for them. What was not acknowledged is read again the next time."""
        self._stop.set()
        self.board.stop()
        for thread in self._threads:
            thread.join()
        self._executors.close()

    def _start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._guard, args=(run,), name=name)
        self._threads.append(thread)
        thread.start()

    def _guard(self, run: Callable[[], None]) -> None:
        """Without one of the threads the others would go on as if all were well."""
        try:
            run()
        except BaseException as error:
            self.failure = error
            self.parts.on_failure()
            raise

    def _tick(self) -> None:
        while not self._stop.wait(TICK_S):
            self.tick()

    def tick(self) -> None:
        """What time alone changes."""
        passed: defaultdict[int, list[bytes]] = defaultdict(list)
        for each in self.board.tick():
            passed[each.policy_index].append(each.nonce)
        for policy in self.parts.policies:
            if passed[policy.index]:
                self.let_pass(policy, passed[policy.index])
        self._doubts.ask()
        with suppress(StateError):
            # Whoever sends will meet it, too, and say it.
            self.parts.clock.foresee()

    def let_pass(self, policy: Policy, nonces: Iterable[bytes]) -> None:
        """Who waits may go on."""
        trouble: Exception | None = None
        try:
            with open_device(self.path(policy)) as device:
                fence.remove(device.root.fd, nonces)
        except (LustackError, OSError) as error:
            trouble = error
        if trouble is not None:
            self.parts.on_trouble(trouble)

    def wants_tree(self) -> bool:
        """Whether everything must be compared."""
        with self.board.locked():
            return self.board.book.wants_tree()

    def begin_tree(self) -> Entry:
        """Everything will be compared now; say how it went by `end_tree`."""
        return self.board.begin_tree()

    def end_tree(self, entry: Entry, *, is_done: bool) -> None:
        """Everything was compared, or not to its end."""
        if is_done:
            self.board.finish(entry)
        else:
            self.board.retry(entry)

    def lag_s(self) -> float:
        """How long the oldest event has waited that is not held for its writer."""
        now_s = self.board.monotonic_s()
        with self.board.locked():
            oldest = self.board.dirty.oldest(with_held=False)
            return max((reader.windows.lag_s(now_s, oldest) for reader in self.readers), default=0.0)

    def is_net_enough(self) -> bool:
        """Whether the sources see every change, so that comparisons are only a net below them."""
        watched = {reader.policy_index for reader in self.readers if reader.source.guarantees.across_hosts}
        return watched == {policy.index for policy in self.parts.policies}
