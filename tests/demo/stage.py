# SPDX-License-Identifier: Apache-2.0
"""Where the demonstration plays: a directory, on a file system of its own if possible, and `lustack serve` on it.

Rule 1: whatever happens, in the end nothing runs, nothing is mounted, and nothing is left on disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from show import UnexpectedError, expect

READY_LIMIT_S = 120
STOP_LIMIT_S = 120
COMMAND_LIMIT_S = 120
# The daemon compares every 5 s; a machine that does something else besides takes longer.
LISTED_LIMIT_S = 120
LOOK_S = 0.2
_FILE_SYSTEM_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Stage:
    """A directory that is being served.

    Attributes:
        directory: what is served.
        scratch: where commands run.
        access: what `lustack serve --json` printed.
        environment: what commands see: `DATA`, the directory of the account, and how to log in.
        s3: boto3's client.
        server: the process.
        log: what it said.
    """

    directory: Path
    scratch: Path
    access: Mapping[str, str]
    environment: dict[str, str]
    s3: Any
    server: subprocess.Popen[str]
    log: Path

    @property
    def data(self) -> Path:
        """The directory of the account: containers are directories in it."""
        return Path(self.environment["DATA"])

    def run(self, command: str) -> str:
        """Run what a person would type, and return what it prints.

        Raises:
            subprocess.SubprocessError: it failed, or took too long.
        """
        bash = ("bash", "-euo", "pipefail", "-c", command)
        done = subprocess.run(
            bash,
            cwd=self.scratch,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=COMMAND_LIMIT_S,
            text=True,
        )
        return done.stdout

    def log_in(self) -> None:
        """What `eval "$(swift auth)"` does: later commands need not log in again."""
        for line in self.run("swift auth").splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            self.environment[name] = shlex.split(value)[0]

    def stat(self, container: str, name: str) -> dict[str, str]:
        """What `swift stat` shows of an object."""
        lines = (line.partition(":") for line in self.run(f"swift stat {container} {name}").splitlines())
        return {key.strip(): value.strip() for key, _, value in lines}

    def list(self, container: str) -> dict[str, int]:
        """The sizes that `swift list` shows, by name; nothing if there is no such container.

        Args:
            container: its name, and more arguments if there are any.
        """
        try:
            printed = self.run(f"swift list --json {container}")
        except subprocess.CalledProcessError as error:
            if "not found" not in error.stderr:
                raise
            return {}
        return {row["name"]: row["bytes"] for row in json.loads(printed)}

    def wait_listed(self, container: str, expected: Mapping[str, int]) -> float:
        """Wait until `swift list` shows these names with these sizes, and no others.

        Returns:
            How long it took, in seconds.

        Raises:
            UnexpectedError: it took too long.
        """
        started_s = time.monotonic()
        while (found := self.list(container)) != expected:
            if time.monotonic() - started_s > LISTED_LIMIT_S:
                missing = {name: size for name, size in expected.items() if found.get(name) != size}
                surplus = sorted(found.keys() - expected.keys())
                raise UnexpectedError(f"the files in swift list within {LISTED_LIMIT_S} s", (missing, surplus))
            time.sleep(LOOK_S)
        return time.monotonic() - started_s

    def stop(self) -> None:
        """Stop the server as Ctrl-C does, and see that everything is gone.

        Raises:
            UnexpectedError: it did not end well, or something still runs.
        """
        self.server.send_signal(signal.SIGINT)
        code = self.server.wait(STOP_LIMIT_S)
        died = [
            (line, read_last_line(line)) for line in self.log.read_text().splitlines() if "starting it again" in line
        ]
        # What was killed is there until it gets its turn to die.
        limit_s = time.monotonic() + STOP_LIMIT_S
        while (left := find_processes(self.directory)) and time.monotonic() < limit_s:
            time.sleep(LOOK_S)
        expect((0, [], []), (code, left, died))


@contextlib.contextmanager
def playing() -> Iterator[Stage]:
    """A stage for the time of a block."""
    with contextlib.ExitStack() as stack:
        with undisturbed():
            # The first one also tries where temporary files may be, with a file that has another name.
            top = Path(tempfile.mkdtemp(prefix="lustack-demo-"))
            stack.callback(shutil.rmtree, top)
        disk = stack.enter_context(file_system(top))
        directory, scratch, log = disk / "data", top / "scratch", top / "serve.log"
        scratch.mkdir()
        server = stack.enter_context(serving(directory, disk / "state", log))
        access = read_access(server, log)
        environment = describe(access, directory)
        s3 = stack.enter_context(contextlib.closing(connect_s3(access)))
        yield Stage(directory, scratch, access, environment, s3, server, log)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that stop the demonstration wait until the end of a block; what is started in it gets them at once."""
    arrived: list[int] = []
    stopping = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda each, _frame: arrived.append(each)) for number in stopping}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


@contextlib.contextmanager
def file_system(top: Path) -> Iterator[Path]:
    """An XFS file system in a file if we are root and the machine has it, else just a directory."""
    image, mount_point = top / "xfs.img", top / "disk"
    mount_point.mkdir()
    with image.open("wb") as file:
        file.truncate(_FILE_SYSTEM_BYTES)
    try:
        with undisturbed():  # or it would be mounted after the end
            if os.geteuid() == 0 and _succeeds("mkfs.xfs", "-q", image):
                _succeeds("mount", "-o", "loop,noatime", image, mount_point)
        yield mount_point
    finally:
        if mount_point.is_mount() and not _succeeds("umount", mount_point):
            subprocess.run(["umount", "--lazy", mount_point], check=True)


def _succeeds(*command: object) -> bool:
    if shutil.which(str(command[0])) is None:
        return False
    return subprocess.run([str(word) for word in command], check=False, capture_output=True).returncode == 0


@contextlib.contextmanager
def serving(directory: Path, state: Path, log: Path) -> Iterator[subprocess.Popen[str]]:
    """`lustack serve` for the time of a block; in a session of its own, so that Ctrl-C reaches us first."""
    # Python's ctypes asks gcc where libraries are, and leaves a temporary file when it is killed meanwhile.
    environment = {**os.environ, "TMPDIR": str(log.parent)}
    command = [sys.executable, "-P", "-m", "lustack.cli.main", "serve", str(directory)]
    options = ["--state", str(state), "--port", "0", "--json"]
    with contextlib.ExitStack() as stack:
        with undisturbed(), log.open("w") as said:
            server = subprocess.Popen(
                [*command, *options],
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=environment,
                start_new_session=True,
            )
            stack.enter_context(server)
            stack.callback(_end, server)
        yield server


def _end(server: subprocess.Popen[str]) -> None:
    server.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(STOP_LIMIT_S)
    server.kill()


def read_access(server: subprocess.Popen[str], log: Path) -> dict[str, str]:
    """Wait until it serves; how to reach it.

    Raises:
        UnexpectedError: it does not come up.
    """
    ready, _, _ = select.select([server.stdout], [], [], READY_LIMIT_S)
    line = server.stdout.readline() if ready and server.stdout else ""
    if not line:
        raise UnexpectedError(f"a server within {READY_LIMIT_S} s", log.read_text())
    access: dict[str, str] = json.loads(line)
    return access


def describe(access: Mapping[str, str], directory: Path) -> dict[str, str]:
    """The environment in which commands need no arguments to log in."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TERM", "PYTHONPATH") if name in os.environ}
    account = access["storage_url"].rpartition("/")[2]
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "LC_ALL": "C.UTF-8",
        "ST_AUTH": access["auth_url"],
        "ST_USER": access["user"],
        "ST_KEY": access["key"],
        "DATA": f"{directory}/{account}",
    }


def connect_s3(access: Mapping[str, str]) -> Any:
    """boto3's client, as it comes: no flag is set."""
    return boto3.client(
        "s3",
        endpoint_url=access["s3_endpoint"],
        aws_access_key_id=access["s3_access_key"],
        aws_secret_access_key=access["s3_secret_key"],
        region_name="us-east-1",
    )


def read_last_line(sentence: str) -> str:
    """The last line of the log that a sentence of `lustack serve` names."""
    path = re.search(r"\(log: (.*)\)", sentence)
    return Path(path[1]).read_text(errors="replace").splitlines()[-1] if path else ""


def find_processes(directory: Path) -> list[str]:
    """The command lines of everything that still runs for a served directory, or its state beside it."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if entry.name.isdecimal() and f"{directory.parent}/" in line and int(entry.name) != os.getpid():
                found.append(line)
    return found
