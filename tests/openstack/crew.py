# SPDX-License-Identifier: Apache-2.0
"""The processes of a stand, by name: started in sessions of their own, stopped in the reverse order.

Rule 1: what is started here is stopped here, with everything that it has started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = Path(sys.executable).parent
STOP_LIMIT_S = 120.0

# Each request has a connection of its own: one that is kept may be closed just when it is used again.
GUNICORN = """
wsgi_app = "{application}"
bind = "127.0.0.1:{port}"
workers = 1
threads = 8
timeout = 300
keepalive = 0
errorlog = "-"
pidfile = None
control_socket_disable = True
"""


@dataclass
class Crew:
    """Processes that run.

    Attributes:
        directory: for their output, `NAME.out`.
        environment: of all of them.
        processes: by name, in the order of their start.
    """

    directory: Path
    environment: Mapping[str, str]
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)

    def start(self, name: str, *command: str | Path, **environment: str) -> None:
        """Start a program in a directory of its own, so that it finds only the configuration that is meant."""
        place = self.directory / name
        place.mkdir(exist_ok=True)
        with (self.directory / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=place,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def serve(self, name: str, application: str, port: int, **environment: str) -> None:
        """Start a WSGI application.

        Its server gets no arguments, since some applications read those of their process as their own.
        """
        place = self.directory / name
        place.mkdir(exist_ok=True)
        (place / "gunicorn.conf.py").write_text(GUNICORN.format(application=application, port=port))
        self.start(name, PROGRAMS / "gunicorn", **environment)

    def run(self, name: str, *command: str | Path, **environment: str) -> None:
        """Run a program to its end.

        Raises:
            AssertionError: it failed.
        """
        self.start(name, *command, **environment)
        self.wait(name)

    def wait(self, name: str) -> None:
        """Wait for a program to end by itself.

        Raises:
            AssertionError: it failed.
        """
        status = self.processes.pop(name).wait()
        assert status == 0, f"{name}: status {status}\n{self.output(name)[-3000:]}"

    def output(self, name: str) -> str:
        return (self.directory / f"{name}.out").read_text(errors="replace")

    def check(self) -> None:
        """Fail when a process has ended by itself."""
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} has ended\n{self.output(name)[-3000:]}"

    def stop(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.processes[name].pid, signal.SIGTERM)
        for name in names:
            process = self.processes.pop(name)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_LIMIT_S)
            # Whatever is left of it; it is a session of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def stop_all(self) -> None:
        self.stop(*reversed(self.processes))
