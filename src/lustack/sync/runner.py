# SPDX-License-Identifier: Apache-2.0
"""Works off the jobs that events made necessary: compares a part of the tree with its listing.

| asked for        | Swift knows the container | directory | what happens                                            |
|------------------|---------------------------|-----------|---------------------------------------------------------|
| it came or went  | yes                       | is there  | nothing: what is in it has its own events               |
| anything         | yes                       | any       | compared                                                |
| anything         | never heard of it         | is there  | compared, so it becomes a container where that may be   |
| anything         | no                        | is there  | waits for the account, or the container, to come        |
| anything         | no                        | gone      | nothing                                                 |

Rule 1: a job is forgotten when it came to its end, not when it was interrupted.
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lustack.errors import LustackError
from lustack.sync.board import MOST_ROWS, Board
from lustack.sync.book import CONTAINER, GONE, MOVED, Entry
from lustack.sync.device import Device, open_device
from lustack.sync.errors import DeviceMissingError, StoppedError
from lustack.sync.reconcile import Tools
from lustack.sync.settings import Settings
from lustack.sync.sinks.protocol import ContainerKey, Presence
from lustack.sync.sinks.rings import Policy
from lustack.sync.state import Cursor, Job, Scope, State
from lustack.sync.survey import Options, Report, Survey

Tell = Callable[[Exception], None]


class Outcome(enum.Enum):
    """What became of a job."""

    DONE = "done"
    AGAIN = "again"
    WAITS = "waits for its container"


@dataclass(frozen=True)
class KeptJobs:
    """Remembers how far a comparison is, but does not forget it at its end: only who knows how it went may do that."""

    state: State

    def begin(self, scope: Scope) -> Cursor:
        """See `Jobs`."""
        return self.state.begin(scope)

    def advance(self, scope: Scope, cursor: Cursor) -> None:
        """See `Jobs`."""
        self.state.advance(scope, cursor)

    def finish(self, scope: Scope) -> None:
        """Does nothing."""


@dataclass
class Runner:
    """Works off the jobs of a board; `run` may run in several threads, each with its own tools.

    Attributes:
        board: has the jobs.
        settings: of the daemon.
        policies: whose devices to look at.
        state: remembers how far jobs are.
        on_trouble: is told what went wrong.
    """

    board: Board
    settings: Settings
    policies: Sequence[Policy]
    state: State
    on_trouble: Tell

    def run(self, tools: Tools) -> None:
        """Works until the board is stopped."""
        while (entry := self.board.next_job()) is not None:
            self.work(entry, tools)

    def work(self, entry: Entry, tools: Tools) -> None:
        """Does one job."""
        trouble: Exception | None = None
        outcome = Outcome.AGAIN
        try:
            outcome = self._do(entry, tools)
            if outcome is Outcome.DONE:
                self.state.finish(entry.scope)
            elif outcome is Outcome.WAITS and entry.why == GONE:
                # When Swift knows it, what is in it must be compared.
                self.state.enqueue([Job(entry.scope, CONTAINER)])
                entry.why = CONTAINER
        except StoppedError:
            pass
        except (LustackError, OSError) as error:
            trouble = error
        if outcome is Outcome.DONE:
            self.board.finish(entry)
        else:
            self.board.retry(entry, is_waiting=outcome is Outcome.WAITS)
        if trouble is not None:
            # Not above: oslo.log repeats an exception that is being handled.
            self.on_trouble(trouble)

    def _do(self, entry: Entry, tools: Tools) -> Outcome:
        # Asked for again from here on, it is done again.
        self.state.begin(entry.scope)
        outcome = self._prepare(entry, tools)
        if outcome is not None:
            return outcome
        settings = replace(self.settings, batch_rows=min(MOST_ROWS, self.settings.batch_rows))
        if entry.why in (GONE, MOVED):
            # Somebody was seen to take the directory away, so that it is missing is no reason to wait for a human.
            settings = replace(settings, missing_rows=sys.maxsize)
        survey = Survey(settings, self.policies, self.state, tools)
        report = survey.run(entry.scope, Options(jobs=KeptJobs(self.state)))
        self._tell(report)
        return Outcome.AGAIN if any(error.retryable for error in report.errors) else Outcome.DONE

    def _tell(self, report: Report) -> None:
        for error in report.errors:
            self.on_trouble(error)

    def _prepare(self, entry: Entry, tools: Tools) -> Outcome | None:
        """What becomes of a job without a comparison; None: it needs one."""
        scope = entry.scope
        if not tools.sink.has_account(scope.account):
            return Outcome.WAITS if self._has_directory(scope) else Outcome.DONE
        if not scope.container:
            return Outcome.DONE if entry.why == GONE and self._has_directory(scope) else None
        presence = tools.sink.get_state(ContainerKey(scope.account, scope.container)).presence
        has_directory = self._has_directory(scope)
        if presence in (Presence.EXISTS, Presence.DOOMED):
            return Outcome.DONE if entry.why == GONE and has_directory else None
        if not has_directory:
            return Outcome.DONE
        if presence is Presence.UNKNOWN and self.settings.adopt_containers and not scope.container.startswith("\0"):
            return None
        return Outcome.WAITS

    def _has_directory(self, scope: Scope) -> bool:
        """Whether an account or a container has a directory on any device."""
        return any(self._has_directory_on(policy, scope) for policy in self.policies)

    def _has_directory_on(self, policy: Policy, scope: Scope) -> bool:
        with _device(os.path.join(self.settings.devices, policy.device)) as device:
            if device is None:
                return False
            if not scope.container:
                return any(found.name == scope.account for found in device.accounts())
            directory = device.open_container(scope.account, scope.container)
            if directory is not None:
                directory.close()
            return directory is not None


@contextmanager
def _device(path: str) -> Iterator[Device | None]:
    try:
        with open_device(path) as device:
            yield device
    except DeviceMissingError:
        yield None
