# SPDX-License-Identifier: Apache-2.0
"""Where the demonstration happens: a directory on its own file system, served by `lustack serve`, gone afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SIZE_BYTES = 2 * 1024**3
START_S = 120


@dataclass(frozen=True)
class Served:
    """A directory that is served.

    Attributes:
        files: the directory; the object `o` of container `c` is `AUTH_test/c/o` below it.
        scratch: room for the demonstration's own files.
        access: what `lustack serve --json` said.
    """

    files: Path
    scratch: Path
    access: dict[str, str]

    @property
    def account(self) -> Path:
        return self.files / "AUTH_test"

    def environment(self) -> dict[str, str]:
        """What the `swift` command and boto3 want to know."""
        return os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
            "ST_AUTH": self.access["auth_url"],
            "ST_USER": self.access["user"],
            "ST_KEY": self.access["key"],
        }


@contextlib.contextmanager
def serving() -> Iterator[Served]:
    """Serves a new directory for the time of a block."""
    with contextlib.ExitStack() as stack:
        top = Path(tempfile.mkdtemp(prefix="lustack-demo-"))
        stack.callback(shutil.rmtree, top, ignore_errors=True)
        store = top / "store"
        store.mkdir()
        if os.geteuid() == 0 and shutil.which("mkfs.xfs"):
            stack.enter_context(_mounted(top / "disk.img", store))
        files, state, scratch = store / "files", store / "state", top / "scratch"
        scratch.mkdir()
        access = stack.enter_context(_server(files, state, scratch / "serve.log"))
        yield Served(files, scratch, access)


@contextlib.contextmanager
def _mounted(image: Path, where: Path) -> Iterator[None]:
    """XFS in a file: attributes of any size, and nothing else on it."""
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    subprocess.run(["mkfs.xfs", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop,noatime", str(image), str(where)], check=True)
    try:
        yield
    finally:
        if subprocess.run(["umount", str(where)], check=False).returncode:
            subprocess.run(["umount", "--lazy", str(where)], check=False)


@contextlib.contextmanager
def _server(files: Path, state: Path, log: Path) -> Iterator[dict[str, str]]:
    # -P: the modules of the working directory are not ours.
    command = [sys.executable, "-P", "-m", "lustack.cli.main", "serve", str(files)]
    command += ["--state", str(state), "--port", "0", "--json"]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
    try:
        line = process.stdout.readline()
        if not line:
            sys.exit(f"lustack serve did not start:\n{log.read_text(errors='replace')}")
        yield json.loads(line)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_S)
        process.stdout.close()
