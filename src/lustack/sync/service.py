# SPDX-License-Identifier: Apache-2.0
"""The daemon: follows events, compares everything now and then, hashes and sweeps beside it, until it is told to stop.

    engine's threads:  events -> rows, within a second; see `engine`
    main thread:       compare -> wait for the rest of the interval -> compare ...     (after trouble: a growing wait)
    background thread: hash what events and comparisons met; sweep now and then
    exports thread:    list what was exported, empty the listings of what is exported no more
    reporter thread:   says how all that goes

Without events the interval is `interval_s`, and somebody who waits at a fence is worth a comparison at once. Where
events say everything it is `check_interval_s`; a loss is worth a comparison at once.

Rule 1: trouble with one container, device or server is logged once and met again later; it never ends the daemon.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from oslo_log import log

from lustack.errors import LustackError
from lustack.sync.background import Background
from lustack.sync.backlog import Backlog, Unhashed
from lustack.sync.budget import divide
from lustack.sync.engine import Engine, Parts
from lustack.sync.errors import DeviceMissingError, EngineFailedError, StoppedError
from lustack.sync.fences import Fences
from lustack.sync.garbage import collect_seldom
from lustack.sync.importing import Importer
from lustack.sync.leadership import FileLease, Leadership, Lease, ToozLease
from lustack.sync.metrics import Metrics
from lustack.sync.plan import SentRow
from lustack.sync.recent import RecentSink
from lustack.sync.reconcile import Tally
from lustack.sync.reporter import Compared, Reporter
from lustack.sync.rewatch import rewatch, roots_of
from lustack.sync.runner import KeptJobs
from lustack.sync.settings import Settings
from lustack.sync.sinks import rings
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.sources import choose
from lustack.sync.sources.changelog_window import Memory, Own
from lustack.sync.sources.choose import Choice
from lustack.sync.sources.roots import Root
from lustack.sync.standby import Standby
from lustack.sync.state import Scope
from lustack.sync.survey import Options, Report
from lustack.sync.world import World, choose_policies, opened

LOG = log.getLogger(__name__)

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0
_REST = 0.25
"""After a comparison that took long: so much of its time nothing is compared."""

_LOOK_S = 1.0
"""How often it is looked for reasons not to wait for the end of the interval."""

_MARGIN_S = 0.1

_AHEAD_S = 60.0
"""So much may timestamps be ahead of the clock before a human should know."""

_REPEAT_S = 3600.0
"""The same sentence is logged at most once in so many seconds."""


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


Choose = Callable[[str, str, Sequence[Root]], Choice]
"""See `choose.choose`."""


@dataclass
class Daemon:
    """Runs until it is told to stop.

    Attributes:
        world: what to work with.
        stop: set it to end.
        metrics: count.
        choose: chooses the source of events for a device.
        backlog: what is to be hashed.
        rarely: logs.
        compared: what comparisons found.
    """

    world: World
    stop: threading.Event
    metrics: Metrics
    choose: Choose = choose.choose
    backlog: Backlog = field(default_factory=Backlog)
    rarely: Rarely = field(default_factory=Rarely)
    compared: Compared = field(default_factory=Compared)

    def __post_init__(self) -> None:
        world = self.world
        sink = RecentSink(world.sink, world.clock.now_ns(), divide(world.settings.memory_bytes).rows)
        self.world = replace(world, sink=sink)
        self.engine = Engine(
            Parts(
                world.settings,
                world.policies,
                world.state,
                sink,
                world.clock,
                self,
                self.on_closed,
                self.on_trouble,
                self.stop.set,
            )
        )
        self.fences = Fences(world.settings, world.policies)
        self._unwatched = list(world.policies)
        self._is_short = False
        self._is_outdated = False
        self.compared.compared_ns = world.state.compared_ns()

    @property
    def cycles(self) -> int:
        """Comparisons of everything that were finished."""
        return self.compared.comparisons

    def run(self) -> None:
        """Works until `stop` is set.

        Raises:
            EngineFailedError: a part of it failed.
        """
        world = self.world
        sink, board = self.engine.parts.sink, self.engine.board
        background = Background(world.settings, world.policies, sink, world.clock, board.is_busy)
        reporter = Reporter(
            world.settings.state_dir,
            self.engine,
            self.backlog,
            self.compared,
            world.clock.ahead_s,
            self.metrics.show,
        )
        importer = Importer(
            world.devices, lambda scope: world.survey(self).run(scope, Options()), self.warn, self._rewatch
        )
        jobs = (self.backlog, self.metrics, self.warn, self.stop)
        threads = (
            threading.Thread(target=background.run, args=jobs, name="background"),
            threading.Thread(target=reporter.run, args=(self.stop,), name="reporter"),
            threading.Thread(target=importer.run, args=(self.stop,), name="exports"),
        )
        self.engine.start()
        for thread in threads:
            thread.start()
        try:
            self._compare_forever()
        finally:
            self.stop.set()
            self.engine.stop()
            for thread in threads:
                thread.join()
            reporter.report("stopped")
        if self.engine.failure is not None:
            raise EngineFailedError(self.engine.failure)

    def _compare_forever(self) -> None:
        wait_s = _FIRST_WAIT_S
        self._watch()
        if self._is_fresh():
            self._rest(time.monotonic(), 0.0)
        while not self.stop.is_set():
            self._watch()
            started_s = time.monotonic()
            if self._compare_once():
                wait_s = _FIRST_WAIT_S
                self._rest(started_s, (time.monotonic() - started_s) * (1 + _REST))
            else:
                self.stop.wait(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 (spreads retries, guards nothing)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _watch(self) -> None:
        """Chooses sources for the devices that have none yet."""
        settings = self.world.settings
        if self._is_outdated:
            self._rewatch()
        for policy in tuple(self._unwatched):
            path = os.path.join(settings.devices, policy.device)
            try:
                choice = self.choose(settings.source, policy.device, roots_of(path))
                self.fences.prepare(policy)
            except (DeviceMissingError, OSError):
                # The comparison that follows says so.
                continue
            self._unwatched.remove(policy)
            if choice.source is not None:
                self.engine.add(policy, choice.source)
        self.engine.await_sources(self.stop)

    def _rewatch(self) -> None:
        """Other directories are exported than before."""
        self._is_outdated = not rewatch(tuple(self.engine.readers))

    def _is_fresh(self) -> bool:
        """Whether sources that know what happened before make a comparison at the start unnecessary."""
        is_known = self.engine.is_net_enough() and all(
            reader.source.guarantees.complete and self.world.state.position(reader.source.name) is not None
            for reader in self.engine.readers
        )
        age_s = time.time() - self.compared.compared_ns / 1e9
        return is_known and not self.engine.wants_tree() and 0 <= age_s < self.world.settings.check_interval_s

    def _rest(self, started_s: float, least_s: float) -> None:
        """Waits until it is time to compare everything.

        Args:
            started_s: when the last comparison began.
            least_s: from its begin to that of the next, at least.
        """
        settings = self.world.settings
        while not self.stop.is_set():
            interval_s = settings.check_interval_s if self.engine.is_net_enough() else settings.interval_s
            left_s = started_s + max(interval_s, least_s) - time.monotonic()
            if left_s <= 0 or self.engine.wants_tree() or (not self.engine.readers and self.fences.pending()):
                return
            self.stop.wait(min(_LOOK_S, left_s))

    def _compare_once(self) -> bool:
        """Whether it came to its end."""
        started_s = time.monotonic()
        waiting = self.fences.pending()
        entry = self.engine.begin_tree()
        self.compared.is_comparing = True
        found = self._survey()
        self.compared.is_comparing = False
        if isinstance(found, LustackError):
            self.on_trouble(found)
        is_done = isinstance(found, Report) and not any(error.retryable for error in found.errors)
        if isinstance(found, Report):
            self._note(found, time.monotonic() - started_s)
        if is_done:
            self.world.state.finish(Scope(owner="daemon"))
            self.world.state.set_compared(self.compared.compared_ns)
            self.fences.let_pass(waiting)
        self.engine.end_tree(entry, is_done=is_done)
        return is_done

    def _note(self, report: Report, duration_s: float) -> None:
        self.metrics.count_cycle(report, duration_s, self.world.clock.ahead_s())
        self._log(report, duration_s)
        self.compared.comparisons += 1
        self.compared.compared_ns, self.compared.comparison_s = time.time_ns(), duration_s
        self.compared.unhashed = report.tally.unhashed
        self.compared.unlistable, self.compared.unreadable = report.unlistable, report.unreadable

    def _survey(self) -> Report | LustackError | None:
        """What came of it: a report, an error, or nothing because we were stopped.

        Errors are returned, not logged at once: oslo.log repeats an exception that is being handled.
        """
        try:
            return self.world.survey(self).run(Scope(owner="daemon"), Options(jobs=KeptJobs(self.world.state)))
        except StoppedError:
            return None
        except LustackError as error:
            return error

    def warn(self, sentence: str) -> None:
        """Says that something is wrong."""
        self.compared.trouble, self.compared.trouble_ns = sentence, time.time_ns()
        self.rarely.warn(sentence)

    def on_trouble(self, error: Exception) -> None:
        """Something failed."""
        self.metrics.count_error(error)
        self.warn(str(error))

    def _log(self, report: Report, duration_s: float) -> None:
        LOG.debug("compared %d containers in %.3f s: %s", report.containers, duration_s, report.tally)
        for error in report.errors:
            self.warn(str(error))
        if self.world.clock.ahead_s() > _AHEAD_S:
            self.warn("the clock of this machine was ahead: rows are stamped later than it says")
        for where, why in report.notes:
            self.warn(f"{where}: left alone: {why}")
        if report.unlistable or report.unreadable:
            self.warn(
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

    def on_closed(self, key: ContainerKey, names: Sequence[str]) -> None:
        """Files without an MD5 were written: they are hashed when they have been quiet for a while."""
        if self.world.settings.hash_bytes_per_s:
            self.backlog.add_all(key, names, self.world.settings.settle_s + _MARGIN_S)

    def is_stopped(self) -> bool:
        """See `Watcher`."""
        return self.stop.is_set()


def run(settings: Settings, stop: threading.Event) -> None:
    """Runs the daemon until `stop` is set; stands by while another one works with this state or these devices.

    Raises:
        ConfigurationError: a setting is wrong.
        StateError: the memory cannot be used.
    """
    policies = choose_policies(settings, rings.load(settings.swift_dir).policies)
    leases: list[Lease] = [FileLease(settings.state_dir)]
    if settings.coordination_url:
        names = [f"lustack-sync-{policy.index}-{policy.device}" for policy in policies]
        leases.append(ToozLease(settings.coordination_url, names))
    leadership = Leadership(leases, stop, Rarely().warn, pulse)
    leadership.lead(lambda until: _work(settings, until), Standby(settings.state_dir, notify))
    notify("STOPPING=1")
    LOG.info("stopped")


def _work(settings: Settings, stop: threading.Event) -> None:
    with opened(settings) as world:
        metrics = Metrics()
        with metrics.served(settings.metrics_port):
            LOG.info("looking after %s below %s", [policy.name for policy in world.policies], settings.devices)
            collect_seldom()
            notify("READY=1\nSTATUS=at work")
            budget = divide(settings.memory_bytes, len(world.policies))
            own = Own(frozenset(settings.own_jobs), frozenset(settings.own_nids))
            kinds = choose.all_kinds(settings.changelog_users, partial(Memory, budget.identities, own=own))
            Daemon(world, stop, metrics, partial(choose.choose, kinds=kinds), Backlog(budget.hashing)).run()


def pulse() -> None:
    """Tells systemd that the process is well, if it watches it. Source: sd_watchdog_enabled(3)."""
    if os.environ.get("WATCHDOG_USEC"):
        notify("WATCHDOG=1")


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
    # Without a descriptor for it, too: who keeps the leases must not end for this.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(message.encode(), address)
