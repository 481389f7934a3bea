# SPDX-License-Identifier: Apache-2.0
"""Which containers there are on either side, and what may be done to each; then compares them one after the other.

| in Swift  | directory | what happens                                                                         |
|-----------|-----------|--------------------------------------------------------------------------------------|
| exists    | yes       | compared                                                                             |
| exists    | gone      | its rows are deleted; not if they are many, until a human insists                    |
| deleted   | yes       | left alone and reported: a deleted container never comes back by itself              |
| doomed    | any       | rows that came too late are deleted, none is added                                   |
| unknown   | yes       | becomes a container if its account exists (`adopt_containers`), else reported        |
| other policy | yes    | left alone and reported                                                              |
| exists    | was an export | its rows are deleted, however many: an administrator let it go                   |

Rule 1: an account that Swift does not know is none of ours.
Rule 2: without the identity of the file system (`device`) nothing is deleted; where it was seen before and is not
there, nothing is compared, adopted or written: what is found lies below an empty mount point, or elsewhere.
Rule 3: one container's trouble does not stop the others; one server's does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace

from lustack.errors import LustackError
from lustack.exports import table
from lustack.exports.binding import first_entry
from lustack.exports.errors import ExportMissingError
from lustack.mapping import names
from lustack.mapping.exports import Export, Stage
from lustack.posix.errors import explain
from lustack.sync.device import Device, open_device
from lustack.sync.errors import (
    FORCE,
    ContainerGoneError,
    DeviceMissingError,
    MassDeletionError,
    SwiftRefusedError,
    UnreadableError,
)
from lustack.sync.exclusion import compile_globs
from lustack.sync.observe import Directory
from lustack.sync.reconcile import Comparison, Limits, Tally, Tools, Watcher
from lustack.sync.settings import Settings
from lustack.sync.sinks.protocol import ContainerKey, ContainerState, Presence
from lustack.sync.sinks.rings import Policy
from lustack.sync.state import Cursor, Jobs, Scope, State

_SAVE_S = 2.0
"""Seconds of work that a crash may cost."""

_MAX_CONTAINER_BYTES = 256
"""Source: swift/common/constraints.py MAX_CONTAINER_NAME_LENGTH."""

_SAMPLE = 100


@dataclass(frozen=True)
class Options:
    """How to compare.

    Attributes:
        dry_run: whether nothing is written.
        force: whether rows are deleted however suspicious it looks.
        resume: whether a comparison that was not finished goes on where it ended.
        jobs: remembers how far it is; None: the state, and a dry run is forgotten.
    """

    dry_run: bool = False
    force: bool = False
    resume: bool = True
    jobs: Jobs | None = None


@dataclass
class Report:
    """What a comparison of many containers did.

    Attributes:
        tally: all names together.
        containers: how many were compared.
        adopted: how many became containers.
        unlistable: entries that cannot be objects.
        unreadable: directories that could not be read.
        samples: some of both: path, reason.
        notes: what was left alone: `account/container`, reason.
        errors: what failed, or was refused.
    """

    tally: Tally = field(default_factory=Tally)
    containers: int = 0
    adopted: int = 0
    unlistable: int = 0
    unreadable: int = 0
    samples: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    errors: list[LustackError] = field(default_factory=list)

    def add(self, key: ContainerKey, comparison: Comparison) -> None:
        """Adds what one comparison did."""
        self.containers += 1
        self.tally.add(comparison.tally)
        self.unlistable += comparison.findings.unlistable
        self.unreadable += comparison.findings.unreadable
        room = _SAMPLE - len(self.samples)
        self.samples += [(f"{key}/{os.fsdecode(path)}", why) for path, why in comparison.findings.samples[:room]]


@dataclass(frozen=True)
class _Turn:
    """A container and what both sides say about it."""

    device: Device
    policy: Policy
    key: ContainerKey
    state: ContainerState
    has_directory: bool
    unsettled: Export | None


class _Progress:
    """Stands between the watcher of a comparison and the job in the database."""

    def __init__(self, watcher: Watcher, save: Callable[[Cursor], None], monotonic_s: Callable[[], float]) -> None:
        self._watcher = watcher
        self._save = save
        self._monotonic_s = monotonic_s
        self._saved_s = monotonic_s()
        self.policy = -1
        self.on_difference = watcher.on_difference
        self.on_unhashed = watcher.on_unhashed
        self.is_stopped = watcher.is_stopped

    def on_pulse(self, key: ContainerKey, name: str, tally: Tally) -> None:
        self._watcher.on_pulse(key, name, tally)
        now_s = self._monotonic_s()
        if now_s - self._saved_s >= _SAVE_S or self._watcher.is_stopped():
            self._saved_s = now_s
            self._save(Cursor(self.policy, key.account, key.container, name))


class Survey:
    """Compares a scope. Not thread-safe."""

    def __init__(self, settings: Settings, policies: Sequence[Policy], state: State, tools: Tools) -> None:
        """Remembers what to work with.

        Args:
            settings: of the daemon.
            policies: whose devices to look at.
            state: the daemon's memory.
            tools: what comparisons work with.
        """
        self._settings = settings
        self._policies = sorted(policies, key=lambda policy: policy.index)
        self._state = state
        self._tools = tools
        self._options = Options()
        self._report = Report()
        self._jobs: Jobs | None = None
        self._remembered: set[str] = set()

    def run(self, scope: Scope, options: Options) -> Report:
        """Compares everything in a scope.

        Args:
            scope: what to compare.
            options: how.

        Raises:
            SwiftUnavailableError: too few servers answer; the next run continues.
            StoppedError: the watcher wanted it; the next run continues.
            StateError: the memory fails.
        """
        self._options, self._report = options, Report()
        self._jobs = options.jobs or (None if options.dry_run else self._state)
        cursor = self._begin(scope)
        progress = _Progress(self._tools.watcher, lambda at: self._save(scope, at), self._tools.monotonic_s)
        tools = replace(self._tools, watcher=progress)
        for policy in self._policies:
            if policy.index >= cursor.policy:
                progress.policy = policy.index
                at = cursor if policy.index == cursor.policy else Cursor()
                self._survey_device(policy, scope, at, tools)
        if self._jobs is not None:
            self._jobs.finish(scope)
        return self._report

    @property
    def report(self) -> Report:
        """What was done so far."""
        return self._report

    def _begin(self, scope: Scope) -> Cursor:
        if self._jobs is None:
            return Cursor()
        if not self._options.resume:
            self._jobs.finish(scope)
        return self._jobs.begin(scope)

    def _save(self, scope: Scope, cursor: Cursor) -> None:
        if self._jobs is not None:
            self._jobs.advance(scope, cursor)

    def _survey_device(self, policy: Policy, scope: Scope, cursor: Cursor, tools: Tools) -> None:
        path = os.path.join(self._settings.devices, policy.device)
        try:
            with open_device(path, compile_globs(self._settings.exclude)) as opened:
                device = self._tools.inspect(opened)
                self._check_identity(policy, device)
                self._report.errors += device.strangers()
                limits = self._limits(may_delete=device.mark is not None or self._options.force)
                for turn in self._turns(device, policy, scope, cursor):
                    after = cursor.name if turn.key == (cursor.account, cursor.container) else ""
                    self._take_turn(turn, limits, tools, (after, scope.prefix))
        except (DeviceMissingError, OSError) as error:
            missing = error if isinstance(error, DeviceMissingError) else DeviceMissingError(path, explain(error))
            self._report.errors.append(missing)

    def _check_identity(self, policy: Policy, device: Device) -> None:
        """Whether this is the file system that was here before; one that is seen for the first time is.

        Raises:
            DeviceMissingError: it is not.
        """
        known = self._state.device(policy.index)
        if device.mark is None:
            if known is not None and not self._options.force:
                raise DeviceMissingError(device.path, f"its .lustack is not there; is the file system mounted? {FORCE}")
        elif known is None or self._options.force:
            if not self._options.dry_run:
                self._state.set_device(policy.index, device.mark)
        elif known != device.mark:
            raise DeviceMissingError(device.path, f"another file system is mounted there. {FORCE}")

    def _limits(self, *, may_delete: bool) -> Limits:
        return Limits(
            self._settings.batch_rows,
            may_delete=may_delete,
            dry_run=self._options.dry_run,
        )

    def _turns(self, device: Device, policy: Policy, scope: Scope, cursor: Cursor) -> Iterator[_Turn]:
        for account in self._accounts(device, policy, scope):
            if account < cursor.account or not self._is_known(policy, account, scope):
                continue
            try:
                directories = {found.name for found in device.containers(account)}
            except OSError as error:
                self._fail(account, error)
                continue
            for container in self._containers(account, directories, scope):
                key = ContainerKey(account, container)
                if key >= (cursor.account, cursor.container):
                    state = self._tools.sink.get_state(key)
                    yield _Turn(device, policy, key, state, container in directories, device.exports.unsettled(*key))

    def _accounts(self, device: Device, policy: Policy, scope: Scope) -> list[str]:
        """Accounts with a directory now or once. Those that begin with a dot are Swift's own, and hold no objects."""
        if scope.account:
            return [scope.account]
        present = {found.name for found in device.accounts() if not found.name.startswith(".")}
        self._remembered = self._state.accounts(policy.index)
        return sorted(present | self._remembered)

    def _is_known(self, policy: Policy, account: str, scope: Scope) -> bool:
        """Whether Swift knows an account; if so it is remembered: its listings must follow if all of it is removed."""
        is_known = self._tools.sink.has_account(account)
        is_remembered = not scope.account and account in self._remembered
        if is_known and not is_remembered and not self._options.dry_run:
            self._state.add_accounts(policy.index, {account})
        if not is_known and not is_remembered:
            self._note(account, "Swift has no such account")
        return is_known

    def _containers(self, account: str, directories: set[str], scope: Scope) -> list[str]:
        if scope.container:
            return [scope.container]
        found = set(directories)
        marker = ""
        while page := self._tools.sink.list_containers(account, marker):
            found.update(page)
            marker = page[-1]
        return sorted(found)

    def _take_turn(self, turn: _Turn, limits: Limits, tools: Tools, where: tuple[str, str]) -> None:
        turn = self._adopt(turn) or turn
        if not self._may_compare(turn):
            self._forget_left(turn)
            return
        try:
            directory = turn.device.open_container(*turn.key)
        except OSError as error:
            self._fail(turn.key, error)
            return
        if directory is None:
            limits = self._limits_without_directory(turn, limits)
            self._compare(turn, None, tools, limits, where)
            return
        with closing(directory):
            self._note_hidden(turn)
            if turn.state.presence is Presence.DOOMED:
                self._note(turn.key, "deleted in Swift, but its directory holds files")
                limits = replace(limits, may_put=False)
            self._compare(turn, directory, tools, limits, where)

    def _may_compare(self, turn: _Turn) -> bool:
        presence = turn.state.presence
        if presence in (Presence.DELETED, Presence.UNKNOWN):
            if turn.has_directory:
                self._note(turn.key, f"{presence.value} in Swift, but there is a directory")
            return False
        if turn.state.policy_index != turn.policy.index:
            if turn.has_directory:
                self._note(turn.key, f"belongs to storage policy {turn.state.policy_index}, but there is a directory")
            return False
        return True

    def _limits_without_directory(self, turn: _Turn, limits: Limits) -> Limits:
        is_leaving = turn.unsettled is not None and turn.unsettled.stage is Stage.LEAVING
        if is_leaving or turn.state.object_count <= self._settings.missing_rows or self._options.force:
            return limits
        return replace(limits, may_delete=False)

    def _compare(
        self, turn: _Turn, directory: Directory | None, tools: Tools, limits: Limits, where: tuple[str, str]
    ) -> None:
        findings = tools.findings(turn.key)
        try:
            observer = turn.device.observer_of(*turn.key)
        except OSError as error:
            self._fail(turn.key, error)
            return
        comparison = Comparison(turn.key, directory, observer, tools, limits, findings=findings)
        try:
            comparison.run(*where)
            self._settle(turn, comparison, where[1])
        except ContainerGoneError as error:
            self._note(comparison.key, str(error))
        except OSError as error:
            self._fail(comparison.key, error)
        finally:
            self._report.add(comparison.key, comparison)
        if comparison.tally.withheld and not comparison.limits.may_delete:
            why = "its directory is missing" if comparison.directory is None else "the device has no .lustack"
            gone = comparison.tally.withheld
            self._report.errors.append(MassDeletionError(str(comparison.key), gone, why))

    def _note_hidden(self, turn: _Turn) -> None:
        """A job has put something where the export of the container hides it."""
        if turn.device.exports.get(*turn.key) is not None:
            with suppress(OSError):
                hidden = first_entry(turn.device.root.fd, names.container_path(*turn.key))
                if hidden is not None:
                    self._note(turn.key, f"it is an export, so {os.fsdecode(hidden)!r} below the device is no object")

    def _forget_left(self, turn: _Turn) -> None:
        """An export has left, and so has its container: there is no listing to empty."""
        is_gone = turn.state.presence in (Presence.DELETED, Presence.UNKNOWN)
        if is_gone and turn.unsettled and turn.unsettled.stage is Stage.LEAVING and not self._options.dry_run:
            table.finish(turn.device.root.fd, turn.unsettled)

    def _settle(self, turn: _Turn, comparison: Comparison, prefix: str) -> None:
        """The listing has caught up with an export that came or left."""
        if turn.unsettled and not (prefix or self._options.dry_run or comparison.tally.withheld):
            table.finish(turn.device.root.fd, turn.unsettled)

    def _adopt(self, turn: _Turn) -> _Turn | None:
        """The turn of a directory that has become a container, None if it has not."""
        container = turn.key.container
        is_export = turn.device.exports.get(*turn.key) is not None
        may = is_export or (self._settings.adopt_containers and not container.startswith("\0"))
        is_name = len(container.encode()) <= _MAX_CONTAINER_BYTES
        if turn.state.presence is not Presence.UNKNOWN or not (may and is_name and turn.has_directory):
            return None
        if self._options.dry_run:
            self._report.adopted += 1
            return None
        try:
            self._tools.sink.create(turn.key, turn.policy.index)
        except SwiftRefusedError as error:
            self._note(turn.key, str(error))
            return None
        self._report.adopted += 1
        return replace(turn, state=self._tools.sink.get_state(turn.key))

    def _fail(self, key: ContainerKey | str, error: OSError) -> None:
        if isinstance(error, ExportMissingError):
            self._report.errors.append(error)
        else:
            self._report.errors.append(UnreadableError(str(key), explain(error)))

    def _note(self, key: ContainerKey | str, why: str) -> None:
        if len(self._report.notes) < _SAMPLE:
            self._report.notes.append((str(key), why))
