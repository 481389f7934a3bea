# SPDX-License-Identifier: Apache-2.0
"""A host that is being served: state, processes and readiness joined.

    with instance.running(host) as served:      # ready: everything answers
        print(served.access.auth_url, served.supervisor.pids())
        served.keep(stop)                       # start again what ends, until somebody sets the event

Everything is stopped when the block is left, and dies if this process is killed.
Rule: call it from a thread that lives as long as the block, best the main one (`supervise`, rule 4).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lustack.server import readiness, statedir, topology
from lustack.server.errors import NotReadyError, StartError, StoppedError
from lustack.server.supervise import Launcher, Supervisor
from lustack.server.topology import Access, Assigned, Host, Program

# A cold start on a busy machine of two cores took 20 s at most; there are busier ones.
LIMIT_S = 180.0
_LOOK_S = 0.1
_LOOKS_FOR_EACH_TRIM = 600
_TAIL_BYTES = 4000
_TAIL_LINES = 20

Report = Callable[[str], None]


def _say_nothing(_sentence: str) -> None:
    """The report of who does not want to hear anything."""


@dataclass(frozen=True)
class Instance:
    """A host that is being served.

    Attributes:
        host: what was wanted.
        assigned: its ports and salts.
        supervisor: keeps its programs.
        launcher: starts them.
        report: is told a sentence about what happens.
        find_missing: says what does not answer yet, see `lustack.server.readiness`.
    """

    host: Host
    assigned: Assigned
    supervisor: Supervisor
    launcher: Launcher
    report: Report = _say_nothing
    find_missing: Callable[[Iterable[Program], Access], str | None] = readiness.find_missing

    @property
    def access(self) -> Access:
        """How the first user reaches it."""
        return topology.access(self.host, self.assigned)

    def start(self, stop: threading.Event, limit_s: float = LIMIT_S) -> None:
        """Start everything and return when it serves: first the servers, then, when they answer, the daemons.

        Args:
            stop: gives up when it is set.
            limit_s: how long the servers may take.

        Raises:
            StartError: a server ended.
            NotReadyError: it took too long.
            StoppedError: `stop` was set.
        """
        programs = topology.programs(self.host, self.assigned, self.launcher.python)
        servers = [program for program in programs if program.first]
        self.report(f"starting {', '.join(program.name for program in servers)}")
        self.supervisor.start(servers)
        self._wait(servers, stop, limit_s)
        self.supervisor.start(program for program in programs if not program.first)

    def keep(self, stop: threading.Event) -> None:
        """Start again what ends, and keep the logs short, until `stop` is set."""
        looks = 0
        while not stop.wait(_LOOK_S):
            if looks % _LOOKS_FOR_EACH_TRIM == 0:
                self.launcher.trim_logs()
            looks += 1
            for ended in self.supervisor.tick():
                self.report(
                    f"{ended.name} ended ({ended.code}); starting it again in {ended.again_in_s:g} s "
                    f"(log: {self.launcher.log_of(ended.name)})"
                )

    def _wait(self, servers: list[Program], stop: threading.Event, limit_s: float) -> None:
        started_s = time.monotonic()
        while (missing := self.find_missing(servers, self.access)) is not None:
            for ended in self.supervisor.tick():
                log = self.launcher.log_of(ended.name)
                raise StartError(ended.name, ended.code, log, read_tail(log))
            if time.monotonic() - started_s > limit_s:
                raise NotReadyError(limit_s, missing, self.launcher.logs)
            if stop.wait(_LOOK_S):
                raise StoppedError


@contextmanager
def running(
    host: Host, report: Report = _say_nothing, stop: threading.Event | None = None, limit_s: float = LIMIT_S
) -> Iterator[Instance]:
    """Serve a host for the time of a block.

    Args:
        host: what to serve; its paths absolute.
        report: is told a sentence about what happens.
        stop: set it to give up the start.
        limit_s: how long the servers may take to answer.

    Raises:
        ConfigurationError: something must be changed first.
        StartError: a server ended.
        NotReadyError: it took too long.
        StoppedError: `stop` was set.
    """
    with statedir.open_state(host) as assigned:
        launcher = Launcher(f"{host.etc}/swift.conf", host.logs)
        supervisor = Supervisor(launcher)
        served = Instance(host, assigned, supervisor, launcher, report)
        try:
            served.start(threading.Event() if stop is None else stop, limit_s)
            yield served
        finally:
            supervisor.stop()


def read_tail(path: str) -> str:
    """The last lines of a log."""
    with open(path, "rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])
