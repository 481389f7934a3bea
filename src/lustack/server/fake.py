# SPDX-License-Identifier: Apache-2.0
"""Processes that run in memory only: what `supervise` is tested with, and can be tried with."""

from __future__ import annotations

import signal

from lustack.server.topology import Program


class FakeProcess:
    """A `supervise.Process` that ends when it is told to.

    Attributes:
        pid: a number.
        code: the exit code once it ended; set it to end the process.
        signals: what it was sent.
        stubborn: whether it ignores everything but SIGKILL.
    """

    def __init__(self, pid: int, *, stubborn: bool = False) -> None:
        self.pid = pid
        self.code: int | None = None
        self.signals: list[int] = []
        self.stubborn = stubborn

    def poll(self) -> int | None:
        """See `supervise.Process`."""
        return self.code

    def signal(self, number: int) -> None:
        """Note a signal and end of it, as processes do by default."""
        self.signals.append(number)
        if not self.stubborn or number == signal.SIGKILL:
            self.code = -number


class FakeLauncher:
    """Starts `FakeProcess`es.

    Attributes:
        started: every process so far, by the name of its program, the oldest first.
    """

    def __init__(self, stubborn: frozenset[str] = frozenset()) -> None:
        """Start with nothing.

        Args:
            stubborn: names of programs whose processes ignore everything but SIGKILL.
        """
        self.started: dict[str, list[FakeProcess]] = {}
        self._stubborn = stubborn

    def __call__(self, program: Program) -> FakeProcess:
        """Start a program."""
        pid = 1 + sum(map(len, self.started.values()))
        process = FakeProcess(pid, stubborn=program.name in self._stubborn)
        self.started.setdefault(program.name, []).append(process)
        return process
