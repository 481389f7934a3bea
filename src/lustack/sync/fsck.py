# SPDX-License-Identifier: Apache-2.0
"""Checks tree against listing against metadata, while everything goes on, and mends what can be mended without loss.

    survey (a dry run, looked at closer) -> suspects are looked at again -> containers are asked again -> litter

Rule 1: nothing is reported on one look that a change in flight could explain.
Rule 2: a repair does what the daemon would do: rows by the sink, litter by the sweeper, containers by the survey. What
cannot be parsed is never erased.
Rule 3: killed at any moment, the next run of the same scope goes on, and counts nothing twice.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from lustack.mapping import names
from lustack.sync import drift, plan
from lustack.sync.device import Device, open_device
from lustack.sync.drift import Judged, Relook, Suspect, Verdict
from lustack.sync.errors import ContainerGoneError, DeviceMissingError, StoppedError, UnreadableError
from lustack.sync.exclusion import compile_globs
from lustack.sync.hasher import Pace
from lustack.sync.housekeeping import Litter, Sweeper
from lustack.sync.inspector import ToldFindings, inspected
from lustack.sync.journal import Journal, Progress
from lustack.sync.observe import Directory
from lustack.sync.plan import SentRow
from lustack.sync.problems import Kind, Problem
from lustack.sync.reconcile import Tally, Tools
from lustack.sync.sinks.protocol import ContainerKey, Presence
from lustack.sync.state import Cursor, Scope
from lustack.sync.survey import Options as SurveyOptions
from lustack.sync.survey import Survey
from lustack.sync.twins import restore
from lustack.sync.world import World

_MOST_SUSPECTS = 10_000
"""More wait until they are due before the comparison goes on."""

_LITTER = {"temporaries": Kind.TEMPORARY, "tombstones": Kind.TOMBSTONE, "sidecars": Kind.SIDECAR}


@dataclass(frozen=True)
class Options:
    """How to check.

    Attributes:
        repair: whether what can be mended is mended.
        names_per_s: how many names are compared in a second, 0: as many as possible.
        settle_s: a difference that lasts so long is drift.
        resume: whether a check that was interrupted goes on where it was.
    """

    repair: bool = False
    names_per_s: int = 0
    settle_s: float = 5.0
    resume: bool = True


class Listener(Protocol):
    """Is told how it goes, from the thread that checks."""

    def on_problem(self, problem: Problem) -> None:
        """Something was found."""
        ...

    def on_progress(self, where: str, names: int) -> None:
        """So many names were compared."""
        ...


class Fsck:
    """One check. It is its own `Watcher` and `Jobs`. Not thread-safe."""

    def __init__(
        self,
        world: World,
        options: Options,
        listener: Listener,
        stop: threading.Event,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Touches nothing yet.

        Args:
            world: what to work with.
            options: how.
            listener: is told.
            stop: ends it.
            monotonic_s: a clock that never goes back.
        """
        self._world = world
        self._options = options
        self._listener = listener
        self._stop = stop
        self._monotonic_s = monotonic_s
        self._progress = Progress()
        self._excluded = compile_globs(world.settings.exclude)
        self._relook = Relook(world.sink, world.clock)
        self._pace = Pace(options.names_per_s, stop.wait, monotonic_s) if options.names_per_s else None
        self._due_s: dict[Suspect, float] = {}
        self._tally = Tally()
        self._counted = 0
        self._device = ""

    def run(self, scope: Scope) -> Progress:
        """Checks a scope.

        Args:
            scope: what to check.

        Returns:
            What was found.

        Raises:
            StoppedError: the same call continues.
            SwiftUnavailableError: likewise.
            StateError: it cannot be written down how far it is.
        """
        self._journal = Journal(self._world.settings.state_dir, scope)
        if self._options.resume:
            self._progress = self._journal.load()
        self._due_s = dict.fromkeys(self._progress.suspects, self._monotonic_s() + self._options.settle_s)
        if not self._progress.is_compared:
            self._compare(scope)
        self._compare_again()
        while self._due_s:
            self._wait_for_suspects()
        for where, _ in self._progress.notes:
            with self._reported(UnreadableError, where):
                self._check_note(where)
        if not scope.account:
            self._sweep()
        self._journal.forget()
        return self._progress

    def _compare(self, scope: Scope) -> None:
        world = self._world
        self._prefix = scope.prefix
        self._survey = Survey(world.settings, world.policies, world.state, self._tools())
        self._survey.run(scope, SurveyOptions(dry_run=True, jobs=self))

    def _compare_again(self) -> None:
        tools = self._tools()
        for account, container, prefix in self._progress.again:
            self._prefix = prefix
            scope = Scope(account, container, prefix)
            survey = Survey(self._world.settings, self._world.policies, self._world.state, tools)
            survey.run(scope, SurveyOptions(dry_run=True))

    def _tools(self) -> Tools:
        world = self._world
        return Tools(world.sink, world.clock, world.executor, self, inspect=self._inspect, findings=self._findings)

    def begin(self, scope: Scope) -> Cursor:
        """See `Jobs`."""
        del scope
        self._notes, self._failures = list(self._progress.notes), list(self._progress.failures)
        return self._progress.cursor

    def advance(self, scope: Scope, cursor: Cursor) -> None:
        """See `Jobs`."""
        del scope
        report = self._survey.report
        self._progress.cursor = cursor
        self._progress.suspects = list(self._due_s)
        self._progress.notes = list(dict.fromkeys([*self._notes, *report.notes]))
        failures = [(str(error), error.retryable) for error in report.errors]
        self._progress.failures = list(dict.fromkeys([*self._failures, *failures]))
        self._journal.save(self._progress)

    def finish(self, scope: Scope) -> None:
        """See `Jobs`."""
        self._progress.is_compared = True
        self.advance(scope, Cursor())

    def on_pulse(self, key: ContainerKey, name: str, tally: Tally) -> None:
        """See `Watcher`."""
        del name
        if tally is not self._tally:
            self._tally, self._counted = tally, 0
            self._progress.containers += 1
        compared = tally.same + tally.put + tally.deleted + tally.left + tally.withheld
        news, self._counted = compared - self._counted, compared
        self._progress.names += news
        self._listener.on_progress(str(key), self._progress.names)
        if self._pace is not None:
            self._pace.spend(news)
        self._judge_due()

    def on_difference(self, key: ContainerKey, row: SentRow) -> None:
        """See `Watcher`."""
        self._suspect(Suspect(self._device, key, row))
        if len(self._due_s) >= _MOST_SUSPECTS:
            self._wait_for_suspects()

    def on_unhashed(self, key: ContainerKey, name: str) -> None:
        """See `Watcher`."""

    def is_stopped(self) -> bool:
        """See `Watcher`."""
        return self._stop.is_set()

    def _inspect(self, device: Device) -> Device:
        self._device = device.path
        self._opened = device
        return inspected(device, self._found)

    def _findings(self, key: ContainerKey) -> ToldFindings:
        restore_or_not = self._restore if self._options.repair else None
        return ToldFindings(key=key, tell=self._found, restore=restore_or_not, prefix=os.fsencode(self._prefix))

    def _restore(self, key: ContainerKey, directory: Directory, entry: bytes, name: str) -> bool:
        """Mends a twin. The walk has read its old name, and misses it under the new one: it is looked at later."""
        is_restored = restore(self._opened, key, directory, entry, name)
        if is_restored and entry.endswith(names.Kind.FILE.value):
            self._suspect(Suspect(self._device, key, plan.delete(name, 0)))
        elif is_restored:
            self._progress.again.append((*key, f"{name}/"))
        return is_restored

    def _found(self, problem: Problem) -> None:
        self._progress.summary.add(problem)
        self._listener.on_problem(problem)

    def _suspect(self, suspect: Suspect) -> None:
        self._due_s[suspect] = self._monotonic_s() + self._options.settle_s

    def _wait_for_suspects(self) -> None:
        if self._stop.wait(max(0.0, min(self._due_s.values()) - self._monotonic_s())):
            raise StoppedError
        self._judge_due()

    def _judge_due(self) -> None:
        now_s = self._monotonic_s()
        due = [suspect for suspect, due_s in self._due_s.items() if due_s <= now_s]
        due.sort(key=lambda each: (each.device, each.key))
        for (path, _), group in groupby(due, key=lambda each: (each.device, each.key)):
            suspects = list(group)
            # Nothing is drift that cannot be looked at; the survey says what could not be read.
            with suppress(ContainerGoneError, DeviceMissingError, OSError):
                self._judge(path, suspects)
            for suspect in suspects:
                del self._due_s[suspect]

    def _judge(self, path: str, suspects: list[Suspect]) -> None:
        with open_device(path, self._excluded) as device:
            trusted = self._trusted(device, suspects)
            if trusted:
                self._conclude(list(self._relook.judge(device, trusted)))

    def _trusted(self, device: Device, suspects: list[Suspect]) -> list[Suspect]:
        """Those whose file may be believed to be gone if it is: a lost mount or directory is no drift of its files."""
        settings = self._world.settings
        paths = {os.path.join(settings.devices, policy.device): policy.index for policy in self._world.policies}
        known = self._world.state.device(paths[device.path])
        if device.mark is None or known not in (None, device.mark):
            return []
        directory = device.open_container(*suspects[0].key)
        if directory is None:
            # The survey has let these pass: their directory was missing then, or the file alone.
            return [suspect for suspect in suspects if suspect.row.is_deleted]
        directory.close()
        return suspects

    def _conclude(self, judged: list[Judged]) -> None:
        for each in judged:
            if each.verdict is Verdict.AGAIN:
                self._suspect(each.suspect)
        drifted = [each for each in judged if each.verdict is Verdict.DRIFT]
        is_repaired = bool(drifted) and self._options.repair and self._send(drifted)
        for verdict, suspect, listed in judged:
            path = f"{suspect.key}/{suspect.row.name}"
            if verdict is Verdict.DRIFT:
                kind, why = drift.describe(suspect.row, listed)
                self._found(Problem(kind, path, why, is_repaired))
            elif verdict is Verdict.MOVING:
                self._found(Problem(Kind.MOVING, path))

    def _send(self, drifted: list[Judged]) -> bool:
        self._world.clock.remember()
        self._world.sink.send(drifted[0].suspect.key, [each.suspect.row for each in drifted])
        return True

    def _check_note(self, where: str) -> None:
        account, _, container = where.partition("/")
        if not container:
            self._found(Problem(Kind.NO_ACCOUNT, account))
            return
        key = ContainerKey(account, container)
        for index in self._directories(key):
            state = self._world.sink.get_state(key)
            if state.presence is Presence.UNKNOWN and self._options.repair:
                options = SurveyOptions(resume=False)
                self._world.survey(_Quiet(self._stop)).run(Scope(account, container, owner="fsck"), options)
                is_adopted = self._world.sink.get_state(key).presence is Presence.EXISTS
                self._found(Problem(Kind.NO_CONTAINER, where, state.presence.value, is_adopted))
            elif state.presence is not Presence.EXISTS:
                self._found(Problem(Kind.NO_CONTAINER, where, f"{state.presence.value} in Swift"))
            elif state.policy_index != index:
                self._found(Problem(Kind.NO_CONTAINER, where, f"it belongs to storage policy {state.policy_index}"))

    def _directories(self, key: ContainerKey) -> Iterator[int]:
        """The policies that have a directory for a container."""
        for policy, device in self._devices():
            directory = device.open_container(*key)
            if directory is not None:
                directory.close()
                yield policy

    def _devices(self) -> Iterator[tuple[int, Device]]:
        for policy in self._world.policies:
            path = os.path.join(self._world.settings.devices, policy.device)
            # The survey has said that a device is missing.
            with suppress(DeviceMissingError), open_device(path, self._excluded) as device:
                yield policy.index, device

    @contextmanager
    def _reported(self, kind: type[UnreadableError | DeviceMissingError], where: str) -> Iterator[None]:
        """What cannot be read is said at the end; the rest is checked."""
        try:
            yield
        except OSError as error:
            failure = kind(where, error.strerror or str(error))
            self._progress.failures.append((str(failure), failure.retryable))

    def _sweep(self) -> None:
        settings = self._world.settings
        for _, device in self._devices():
            sweeper = Sweeper(
                settings.sweep_age_s,
                settings.tombstone_age_s,
                self._stop.wait,
                tell=self._litter,
                dry_run=not self._options.repair,
            )
            with self._reported(DeviceMissingError, device.path):
                sweeper.sweep(device)

    def _litter(self, litter: Litter) -> None:
        self._found(Problem(_LITTER[litter.kind], litter.path, "", self._options.repair))


@dataclass
class _Quiet:
    """A watcher that says nothing."""

    stop: threading.Event

    def on_pulse(self, key: ContainerKey, name: str, tally: Tally) -> None:
        """See `Watcher`."""

    def on_difference(self, key: ContainerKey, row: SentRow) -> None:
        """See `Watcher`."""

    def on_unhashed(self, key: ContainerKey, name: str) -> None:
        """See `Watcher`."""

    def is_stopped(self) -> bool:
        """See `Watcher`."""
        return self.stop.is_set()
