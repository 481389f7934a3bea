# SPDX-License-Identifier: Apache-2.0
"""Keeps programs running: starts them, starts again what ends, stops everything.

Rule 1: every program is a session of its own, and is stopped with everything it started.
Rule 2: what ends is started again after a wait that doubles with each quick end.
Rule 3: nothing here waits or reads a clock by itself but `stop`: the owner calls `tick` as often as it likes.
Rule 4: programs die with the thread that started them (`lustack.server.launch`): call from the main thread.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from lustack.server.topology import Program

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
# Who ran as long as this was well; the next end counts as the first one.
WELL_AFTER_S = 30.0
# A server of Swift ends at once; the daemon finishes the batch that is under way.
GRACE_S = 10.0
_PAUSE_S = 0.02

# A log that is longer is set aside; one older log is kept.
LOG_LIMIT_BYTES = 16 * 1024**2


def delay_s(quick_ends: int) -> float:
    """How long to wait before starting again what ended quickly for the n-th time, counted from 1."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(quick_ends - 1, 16)))


class Process(Protocol):
    """A program that was started, and all that it started."""

    pid: int

    def poll(self) -> int | None:
        """Its exit code, None while it runs. When it ended, what it started is killed. Does not block."""
        ...

    def signal(self, number: int) -> None:
        """Send a signal to it and to all that it started; nothing happens if there is nobody left."""
        ...


@dataclass(frozen=True)
class Ended:
    """A program ended without being asked.

    Attributes:
        name: of the program.
        code: its exit code, negative: the signal that ended it.
        again_in_s: when it will be started again.
    """

    name: str
    code: int
    again_in_s: float


class _Slot:
    """A program, its process if it runs, and what is remembered about its ends."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: Process | None = None
        self.started_s = 0.0
        self.due_s = 0.0
        self.quick_ends = 0


class Supervisor:
    """Runs programs until it is stopped. Not thread-safe."""

    def __init__(
        self,
        spawn: Callable[[Program], Process],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """Start with nothing.

        Args:
            spawn: starts a program.
            clock: seconds since some moment.
            pause: waits for a number of seconds.
        """
        self._spawn = spawn
        self._clock = clock
        self._pause = pause
        self._slots: dict[str, _Slot] = {}

    def start(self, programs: Iterable[Program]) -> None:
        """Start programs, and keep them running from now on."""
        for program in programs:
            slot = self._slots[program.name] = _Slot(program)
            self._launch(slot)

    def pids(self) -> dict[str, int]:
        """The process of each program that runs now, by name."""
        return {name: slot.process.pid for name, slot in self._slots.items() if slot.process is not None}

    def tick(self) -> list[Ended]:
        """Look once: note what ended, start again what is due.

        Returns:
            What ended since the last look.
        """
        ended = [end for slot in self._slots.values() if (end := self._check(slot)) is not None]
        for slot in self._slots.values():
            if slot.process is None and slot.due_s <= self._clock():
                self._launch(slot)
        return ended

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop everything and wait until nothing is left: ask first, kill who does not go in time."""
        running = [slot.process for slot in self._slots.values() if slot.process is not None]
        self._slots.clear()
        _signal_all(running, signal.SIGTERM)
        give_up_s = self._clock() + grace_s
        while running := [process for process in running if process.poll() is None]:
            if self._clock() >= give_up_s:
                _signal_all(running, signal.SIGKILL)
            self._pause(_PAUSE_S)

    def _launch(self, slot: _Slot) -> None:
        slot.process = self._spawn(slot.program)
        slot.started_s = self._clock()

    def _check(self, slot: _Slot) -> Ended | None:
        code = None if slot.process is None else slot.process.poll()
        if code is None:
            return None
        now = self._clock()
        was_well = now - slot.started_s >= WELL_AFTER_S
        slot.quick_ends = 1 if was_well else slot.quick_ends + 1
        slot.process = None
        wait = delay_s(slot.quick_ends)
        slot.due_s = now + wait
        return Ended(slot.program.name, code, wait)


def _signal_all(processes: Iterable[Process], number: int) -> None:
    for process in processes:
        process.signal(number)


class SessionProcess:
    """A `Process` of the kernel: the leader of a session, and whoever is in its group."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid

    def poll(self) -> int | None:
        """See `Process`; the leader is reaped after its group was killed, so its number is nobody else's."""
        if self._popen.returncode is None:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            os.killpg(self.pid, signal.SIGKILL)
            self._popen.wait()
        return self._popen.returncode

    def signal(self, number: int) -> None:
        """See `Process`."""
        if self._popen.returncode is None:
            os.killpg(self.pid, number)


@dataclass(frozen=True)
class Launcher:
    """Starts programs as processes that die with this one.

    Attributes:
        swift_conf: path of the swift.conf that Swift's programs read.
        logs: directory of the logs, one file for each program: what it writes to stdout and stderr.
        python: the interpreter.
    """

    swift_conf: str
    logs: str
    python: str = sys.executable

    def __call__(self, program: Program) -> SessionProcess:
        """Start a program in a session of its own."""
        # -P: what lies in the directory where somebody typed the command is not a module of ours.
        ours = (self.python, "-P", "-m", "lustack.server.launch")
        options = ("--parent", str(os.getpid()), "--swift-conf", self.swift_conf)
        with open(self.log_of(program.name), "ab") as log:
            popen = subprocess.Popen(
                (*ours, *options, *program.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return SessionProcess(popen)

    def log_of(self, name: str) -> str:
        """Path of the log of a program."""
        return os.path.join(self.logs, f"{name}.log")

    def trim_logs(self) -> None:
        """Set aside what is in logs that grew too long; the programs go on writing to the emptied files."""
        for name in os.listdir(self.logs):
            path = os.path.join(self.logs, name)
            if name.endswith(".log") and _size_of(path) > LOG_LIMIT_BYTES:
                # Where there is no room to set it aside, it makes room.
                with suppress(OSError):
                    shutil.copyfile(path, f"{path}.1")
                os.truncate(path, 0)


def _size_of(path: str) -> int:
    """How long a file is; 0 if somebody has removed it."""
    with suppress(FileNotFoundError):
        return os.path.getsize(path)
    return 0
