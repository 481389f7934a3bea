# SPDX-License-Identifier: Apache-2.0
"""`lustack serve` as a user runs it, its processes by name, and a client that outlives their ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

READY_S, GONE_S, ANSWER_S, COMMAND_S = 180.0, 120.0, 90.0, 300.0
PAUSE_S = 0.05
LUSTACK = (sys.executable, "-P", "-m", "lustack.cli.main")
# What jobs may leave for good, and litter of kills, which the sweeper is asked about. Anything else is a defect.
BY_JOBS = ("shadowed-file", "stale-twin", "unlistable-name", "special-file", "stale-stamp", "copied-metadata")
LITTER = ("old-temporary", "old-tombstone", "orphan-sidecar")
NO_HEADERS: Mapping[str, str] = {}


@dataclass
class Served:
    """A served directory.

    Attributes:
        directory: what is served.
        state: its databases, configuration and logs.
        environment: what its processes get beside the environment of this one.
    """

    directory: Path
    state: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _access: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def storage_url(self) -> str:
        """Where the account is; another after another start."""
        return self._access["storage_url"]

    @property
    def account(self) -> Path:
        """The directory of the account."""
        return self.directory / self.storage_url.rpartition("/")[2]

    @property
    def login(self) -> dict[str, str]:
        """The headers to log in with."""
        return {"X-Auth-User": self._access["user"], "X-Auth-Key": self._access["key"]}

    @property
    def auth_url(self) -> str:
        """Where to log in."""
        return self._access["auth_url"]

    def start(self) -> None:
        """Start, and wait until everything answers."""
        command = (*LUSTACK, "serve", str(self.directory), "--state", str(self.state), "--port", "0", "--json")
        log = self.state.parent / "serve.log"
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **self.environment},
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"lustack serve ended: {log.read_text()[-3000:]}")
        self._access = json.loads(line)

    def stop(self) -> None:
        """Ask everything to end; what hangs is killed."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the supervisor; the others follow by themselves."""
        self._end(signal.SIGKILL)

    @property
    def pid(self) -> int:
        """The supervisor."""
        assert self._process is not None
        return self._process.pid

    def programs(self) -> dict[str, int]:
        """The processes that run, by name."""
        return {_name_of(pid): pid for pid in _children(self.pid)}

    def reconcile(self, *options: str) -> str:
        """`lustack sync reconcile`; returns what it says."""
        conf = str(self.state / "etc" / "lustack.conf")
        command = (*LUSTACK, "sync", "reconcile", "--config-file", conf, *options)
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def fsck(self) -> list[str]:
        """What `lustack fsck` finds and no job can have done."""
        conf = str(self.state / "etc" / "lustack.conf")
        command = (*LUSTACK, "fsck", "--json", "--rate", "0", "--restart", "--config-file", conf)
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines, f"{done.returncode}: {done.stderr}"
        found = [each["problem"] for each in lines if "problem" in each]
        return [str(each) for each in found if each["kind"] not in (*BY_JOBS, *LITTER)]

    def drain(self) -> None:
        """Wait until updates of listings that could not be sent in time are sent: they tell of files that may be gone.

        They are sent at any time, and what they leave behind is found by the next comparison.
        """
        limit_s = time.monotonic() + READY_S
        while pending := [
            files for folder, _, files in os.walk(self.state / "spool") if "async_pending" in folder and files
        ]:
            assert time.monotonic() < limit_s, f"updates are never sent: {pending}"
            time.sleep(PAUSE_S)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        below = set(_descendants(process.pid))
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GONE_S)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        limit_s = time.monotonic() + GONE_S
        while any(_is_alive(pid) for pid in below):
            assert time.monotonic() < limit_s, "processes outlived the supervisor"
            time.sleep(PAUSE_S)


def _children(parent: int) -> list[int]:
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())
    return [pid for pid in pids if _fields(pid)[1:2] == [str(parent)]]


def _descendants(parent: int) -> list[int]:
    return [each for child in _children(parent) for each in (child, *_descendants(child))]


def _fields(pid: int) -> list[str]:
    """State, parent, and so on of a process; nothing if there is none. Source: proc(5), /proc/[pid]/stat."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _is_alive(pid: int) -> bool:
    return _fields(pid)[:1] not in ([], ["Z"])


def _name_of(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return f"process {pid}"
    for word in words:
        if word.startswith("swift-") or word == "sync":
            return word
    return os.path.basename(words[-2] if "memcached" in words[-2:] else words[0])


@dataclass(frozen=True)
class Answer:
    """What the server said; header names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotSentError(Exception):
    """Nobody was there: the request did not happen."""


class NoAnswerError(Exception):
    """The connection broke: nobody knows whether the request happened."""


class Reachable(Protocol):
    """A Swift that serves."""

    @property
    def storage_url(self) -> str:
        """Where the account is."""
        ...

    @property
    def auth_url(self) -> str:
        """Where to log in."""
        ...

    @property
    def login(self) -> Mapping[str, str]:
        """The headers to log in with."""
        ...


class Client:
    """One worker's connection. Not thread-safe."""

    def __init__(self, served: Reachable) -> None:
        self._served = served
        self._token = ""

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | Iterable[bytes] | None = None,
        query: str = "",
    ) -> Answer:
        """One request on a path below the account, not yet quoted; logged in again where the token was forgotten.

        Raises:
            NotSentError: nobody listens, or nobody can log in.
            NoAnswerError: no answer came.
        """
        for _ in range(3):
            if not self._token:
                self._log_in()
            url = self._served.storage_url + urllib.parse.quote(path, errors="surrogateescape")
            url += f"?{query}" if query else ""
            answer = self._send(url, method, {"X-Auth-Token": self._token, **headers}, body)
            if answer.status != http.client.UNAUTHORIZED:
                return answer
            self._token = ""
        raise NotSentError

    def _log_in(self) -> None:
        try:
            answer = self._send(self._served.auth_url, "GET", self._served.login, None)
        except NoAnswerError as error:
            raise NotSentError from error
        if answer.status != http.client.OK:
            raise NotSentError
        self._token = answer.headers["x-auth-token"]

    def _send(self, url: str, method: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None) -> Answer:
        _, _, host, path = url.split("/", 3)
        connection = http.client.HTTPConnection(host, timeout=ANSWER_S)
        try:
            _connect(connection)
            is_chunked = body is not None and not isinstance(body, bytes)
            connection.request(method, "/" + path, body, dict(headers), encode_chunked=is_chunked)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError from error
        finally:
            connection.close()
        return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, content)


def _connect(connection: http.client.HTTPConnection) -> None:
    try:
        connection.connect()
    except OSError as error:
        raise NotSentError from error


class Tally:
    """Counts what was done, from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def count(self, what: str) -> None:
        """One more."""
        with self._lock:
            self._counts[what] = self._counts.get(what, 0) + 1

    def __getitem__(self, what: str) -> int:
        return self._counts.get(what, 0)

    def __str__(self) -> str:
        return ", ".join(f"{what} {count}" for what, count in sorted(self._counts.items()))
