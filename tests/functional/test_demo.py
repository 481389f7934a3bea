# SPDX-License-Identifier: Apache-2.0
"""The demonstration when somebody stops it in the middle. That it holds, `make demo` says itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)

PROGRAM = Path(__file__).parents[1] / "demo" / "run.py"
INTERRUPTED = 130
DEAD_S = 120
"""For the processes that were killed: each is there until it gets its turn to die."""

FIRST_LINE = "lustack serve DIR: a directory as Swift and S3 on this machine; starting it ..."


def find_traces(directory: Path) -> list[str]:
    """What is mounted for the demonstration, or is left of it."""
    mounted = [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"{directory}/" in line]
    return [*mounted, *os.listdir(directory)]


def find_processes(directory: Path) -> list[str]:
    """What still runs for the demonstration."""
    running = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if entry.name.isdecimal() and f"{directory}/" in line:
            running.append(line)
    return running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("last_line", [FIRST_LINE, "export ST_AUTH=", "ok     swift upload docs hello.txt"])
def test_stopped_at_any_moment_it_leaves_nothing(number: int, last_line: str) -> None:
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/tmp") as directory:
        command = [sys.executable, str(PROGRAM)]
        environment = {**os.environ, "TMPDIR": directory}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as demo:
            for line in demo.stdout:
                if line.startswith(last_line):
                    break
            os.killpg(demo.pid, number)  # as a terminal does
            _, errors = demo.communicate()
        assert (demo.returncode, errors, find_traces(Path(directory))) == (INTERRUPTED, "", [])
        limit_s = time.monotonic() + DEAD_S
        while left := find_processes(Path(directory)):
            assert time.monotonic() < limit_s, left
            time.sleep(0.1)
