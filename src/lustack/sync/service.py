# SPDX-License-Identifier: Apache-2.0
"""The daemon: compares everything again and again, hashes and sweeps beside it, until it is told to stop.

    main thread:       compare -> wait for the rest of the interval -> compare ...     (after trouble: a growing wait)
    background thread: hash what comparisons met; sweep now and then
    exports thread:    list what was exported, empty the listings of what is exported no more

Rule 1: trouble with one container, device or server is logged once and met again later; it never ends the daemon.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from oslo_log import log

from lustack.errors import ConfigurationError, LustackError
from lustack.sync.background import Background
from lustack.sync.backlog import Backlog, Unhashed
from lustack.sync.clock import Clock
from lustack.sync.errors import StateError, StoppedError
from lustack.sync.importing import Importer
from lustack.sync.metrics import Metrics
from lustack.sync.plan import SentRow
from lustack.sync.reconcile import Tally, Tools, Watcher
from lustack.sync.settings import Settings
from lustack.sync.sinks import rings
from lustack.sync.sinks.protocol import ContainerKey, Sink
from lustack.sync.sinks.rings import Policy
from lustack.sync.sinks.swift import SwiftSink
from lustack.sync.state import Scope, State
from lustack.sync.survey import Options, Report, Survey

LOG = log.getLogger(__name__)

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0
_REST = 0.25
"""After a comparison that took long: so much of its time nothing is compared."""

_AHEAD_S = 60.0
"""So much may timestamps be ahead of the clock before a human should know."""

_REPEAT_S = 3600.0
"""The same sentence is logged at most once in so many seconds."""


def choose_policies(settings: Settings, found: Sequence[Policy]) -> tuple[Policy, ...]:
    """The storage policies to look after.

    Raises:
        ConfigurationError: one was named that is not ours.
    """
    known = {policy.name for policy in found}
    for name in settings.policies:
        if name not in known:
            raise ConfigurationError("[sync]", "policies", name, f"one of {', '.join(sorted(known))}")
    return tuple(policy for policy in found if not settings.policies or policy.name in settings.policies)


@dataclass
class World:
    """What the daemon and the commands work with.

    Attributes:
        settings: of the operator.
        policies: ours.
        sink: Swift.
        state: the memory.
        clock: stamps rows.
        executor: sends batches.
    """

    settings: Settings
    policies: tuple[Policy, ...]
    sink: Sink
    state: State
    clock: Clock
    executor: ThreadPoolExecutor

    @property
    def devices(self) -> list[str]:
        """The device roots."""
        return [os.path.join(self.settings.devices, policy.device) for policy in self.policies]

    def survey(self, watcher: Watcher) -> Survey:
        """Compares, and tells the watcher."""
        tools = Tools(self.sink, self.clock, self.executor, watcher)
        return Survey(self.settings, self.policies, self.state, tools)


@contextmanager
def opened(settings: Settings) -> Iterator[World]:
    """Everything ready to work.

    Raises:
        ConfigurationError: a setting is wrong.
        StateError: the memory cannot be used.
    """
    found = rings.load(settings.swift_dir)
    policies = choose_policies(settings, found.policies)
    with ExitStack() as stack:
        state = State(os.path.join(settings.state_dir, "sync.sqlite"))
        stack.callback(state.close)
        sink = SwiftSink(found)
        stack.callback(sink.close)
        executor = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="send"))
        yield World(settings, policies, sink, state, Clock(state), executor)


@contextmanager
def locked(state_dir: str, who: str) -> Iterator[None]:
    """Makes sure that at most one of a kind works with a state.

    Args:
        state_dir: the directory of the state; made if it is not there.
        who: `daemon` or `command`; each has jobs of its own.

    Raises:
        StateError: another one works with it.
    """
    path = os.path.join(state_dir, f"{who}.lock")
    try:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(path, str(error)) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(path, f"another {who} works with it") from None
        yield
    finally:
        os.close(fd)


@dataclass
class Rarely:
    """Logs the same sentence only now and then.

    Attributes:
        monotonic_s: a clock that never goes back.
    """

    monotonic_s: Callable[[], float] = time.monotonic
    _said_s: dict[str, float] = field(default_factory=dict)

    def warn(self, sentence: str) -> None:
        """Logs a warning, unless it was logged lately."""
        now_s = self.monotonic_s()
        self._said_s = {each: at_s for each, at_s in [*self._said_s.items()] if now_s - at_s < _REPEAT_S}
        if sentence not in self._said_s:
            self._said_s[sentence] = now_s
            LOG.warning("%s", sentence)


@dataclass
class Daemon:
    """Runs until it is told to stop.

    Attributes:
        world: what to work with.
        stop: set it to end.
        metrics: count.
        backlog: what is to be hashed.
        rarely: logs.
        cycles: comparisons of everything that were finished.
    """

    world: World
    stop: threading.Event
    metrics: Metrics
    backlog: Backlog = field(default_factory=Backlog)
    rarely: Rarely = field(default_factory=Rarely)
    cycles: int = 0

    def run(self) -> None:
        """Works until `stop` is set."""
        background = Background(self.world.settings, self.world.policies, self.world.sink, self.world.clock)
        importer = Importer(
            self.world.devices, lambda scope: self.world.survey(self).run(scope, Options()), self.rarely.warn
        )
        jobs = (self.backlog, self.metrics, self.rarely.warn, self.stop)
        threads = (
            threading.Thread(target=background.run, args=jobs, name="background"),
            threading.Thread(target=importer.run, args=(self.stop,), name="exports"),
        )
        for thread in threads:
            thread.start()
        try:
            self._compare_forever()
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    def _compare_forever(self) -> None:
        wait_s = _FIRST_WAIT_S
        while not self.stop.is_set():
            started_s = time.monotonic()
            if self._compare_once():
                wait_s = _FIRST_WAIT_S
                took_s = time.monotonic() - started_s
                self.stop.wait(max(self.world.settings.interval_s - took_s, took_s * _REST))
            else:
                self.stop.wait(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 (spreads retries, guards nothing)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _compare_once(self) -> bool:
        """Whether it came to its end."""
        started_s = time.monotonic()
        found = self._survey()
        if isinstance(found, LustackError):
            self.metrics.count_error(found)
            self.rarely.warn(str(found))
        if not isinstance(found, Report):
            return False
        report = found
        duration_s = time.monotonic() - started_s
        self.metrics.count_cycle(report, duration_s, self.world.clock.ahead_s())
        self._log(report, duration_s)
        self.cycles += 1
        return not any(error.retryable for error in report.errors)

    def _survey(self) -> Report | LustackError | None:
        """What came of it: a report, an error, or nothing because we were stopped.

        Errors are returned, not logged at once: oslo.log repeats an exception that is being handled.
        """
        try:
            return self.world.survey(self).run(Scope(owner="daemon"), Options())
        except StoppedError:
            return None
        except LustackError as error:
            return error

    def _log(self, report: Report, duration_s: float) -> None:
        LOG.debug("compared %d containers in %.3f s: %s", report.containers, duration_s, report.tally)
        for error in report.errors:
            self.rarely.warn(str(error))
        if self.world.clock.ahead_s() > _AHEAD_S:
            self.rarely.warn("the clock of this machine was ahead: rows are stamped later than it says")
        for where, why in report.notes:
            self.rarely.warn(f"{where}: left alone: {why}")
        if report.unlistable or report.unreadable:
            self.rarely.warn(
                f"{report.unlistable} entries cannot be objects, {report.unreadable} directories cannot be read; "
                f"`lustack sync reconcile --dry-run` names some"
            )

    def on_pulse(self, key: ContainerKey, name: str, tally: Tally) -> None:
        """See `Watcher`."""

    def on_difference(self, key: ContainerKey, row: SentRow) -> None:
        """See `Watcher`."""

    def on_unhashed(self, key: ContainerKey, name: str) -> None:
        """See `Watcher`."""
        if self.world.settings.hash_bytes_per_s:
            self.backlog.add(Unhashed(key, name))

    def is_stopped(self) -> bool:
        """See `Watcher`."""
        return self.stop.is_set()


def run(settings: Settings, stop: threading.Event) -> None:
    """Runs the daemon until `stop` is set.

    Raises:
        ConfigurationError: a setting is wrong.
        StateError: the memory cannot be used, or another daemon works with it.
    """
    with locked(settings.state_dir, "daemon"), opened(settings) as world:
        metrics = Metrics()
        with metrics.served(settings.metrics_port):
            LOG.info("looking after %s below %s", [policy.name for policy in world.policies], settings.devices)
            notify("READY=1")
            Daemon(world, stop, metrics).run()
            notify("STOPPING=1")
    LOG.info("stopped")


def notify(message: str, address: str | None = None) -> None:
    """Tells systemd, if it wants to know. Source: sd_notify(3).

    Args:
        message: an assignment.
        address: of the socket; None: what the environment says.
    """
    address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, suppress(OSError):
        channel.sendto(message.encode(), address)
