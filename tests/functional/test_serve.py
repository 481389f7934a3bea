# SPDX-License-Identifier: Apache-2.0
"""`lustack serve`, as somebody runs it: the command, its one line of JSON, real clients, real kills."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
import swiftclient

SERVE = (sys.executable, "-P", "-m", "lustack.cli.main", "serve")
READY_LIMIT_S = 240
STOP_LIMIT_S = 120
KEYS = ["auth_url", "storage_url", "user", "key", "s3_endpoint", "s3_access_key", "s3_secret_key"]


def processes_of(state: Path) -> dict[int, str]:
    """Every process whose arguments name the state directory: all but memcached have their configuration there."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if entry.name.isdecimal() and f"{state}/" in line:
                found[int(entry.name)] = line
    return found


def children_of(pid: int) -> set[int]:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return {int(word) for word in done.stdout.split()}


def wait_for(condition, limit_s: float = READY_LIMIT_S):
    deadline = time.monotonic() + limit_s
    while not (result := condition()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)
    return result


class Served:
    """A running command."""

    def __init__(self, directory: Path, *options: str, prefix: Sequence[str] = (), **popen: object) -> None:
        self.directory = directory
        self.state = Path(f"{directory}.state")
        self.process = subprocess.Popen(
            [*prefix, *SERVE, str(directory), "--json", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **popen,
        )

    def wait_ready(self) -> dict[str, str]:
        """Return what the line of JSON says."""
        ready, _, _ = select.select([self.process.stdout], [], [], READY_LIMIT_S)
        line = self.process.stdout.readline() if ready else ""
        assert line, self.process.communicate(timeout=STOP_LIMIT_S)[1] if ready else "not ready in time"
        self.access = json.loads(line)
        return self.access

    def connection(self) -> swiftclient.Connection:
        access = self.access
        return swiftclient.Connection(access["auth_url"], access["user"], access["key"], retries=8)

    def pid_of(self, name: str) -> int:
        """The process whose arguments hold `name`, as long as it takes to be there."""
        return wait_for(lambda: next((pid for pid, line in processes_of(self.state).items() if name in line), 0))

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; return the exit code and what was said since it was ready."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=STOP_LIMIT_S)
        return self.process.returncode, out, err


@contextlib.contextmanager
def serving(directory: Path, *options: str, **how: Any) -> Iterator[Served]:
    """Serve a directory for the time of a block; what the block left running is killed."""
    served = Served(directory, *options, **how)
    try:
        served.wait_ready()
        yield served
    finally:
        if served.process.poll() is None:
            served.process.kill()
        served.process.communicate(timeout=STOP_LIMIT_S)
        wait_for(lambda: not processes_of(served.state), STOP_LIMIT_S)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data with blank"


def put(served: Served, name: str, body: bytes) -> None:
    with contextlib.closing(served.connection()) as connection:
        connection.put_container("demo")
        connection.put_object("demo", name, body)


def get(served: Served, name: str) -> bytes:
    with contextlib.closing(served.connection()) as connection:
        return connection.get_object("demo", name)[1]


def test_an_object_is_a_file_for_swift_and_for_s3_and_a_second_start_goes_on(data):
    with serving(data) as served:
        assert list(served.access) == KEYS
        assert (served.access["user"], served.access["key"]) == ("test:tester", "testing")
        put(served, "a/o", b"by swift")
        assert (data / "AUTH_test" / "demo" / "a" / "o").read_bytes() == b"by swift"
        s3 = boto3.client(
            "s3",
            endpoint_url=served.access["s3_endpoint"],
            aws_access_key_id=served.access["s3_access_key"],
            aws_secret_access_key=served.access["s3_secret_key"],
            region_name="us-east-1",
        )
        s3.put_object(Bucket="demo", Key="p", Body=b"by s3")
        assert (data / "AUTH_test" / "demo" / "p").read_bytes() == b"by s3"
        assert s3.get_object(Bucket="demo", Key="a/o")["Body"].read() == b"by swift"
        s3.close()
        url = served.access["auth_url"]
        assert served.stop() == (0, "", served_said(served, "stopping"))
    with serving(data) as served:
        assert served.access["auth_url"] == url
        assert get(served, "p") == b"by s3"
        assert served.stop(signal.SIGINT)[0] == 0
    assert sorted(os.listdir(data)) == [".lustack", "AUTH_test"]


def served_said(served: Served, *more: str) -> str:
    """What is told on standard error in a run where nothing special happens."""
    first = "memcached, " if shutil.which("memcached") else ""
    lines = (f"starting {first}proxy-server, object-server, container-server, account-server", *more)
    return "".join(f"lustack: {line}\n" for line in lines)


def test_the_three_commands_that_it_prints_work_as_they_are(data):
    # Where nothing of ours is on the path, as for who has just typed `make run`.
    bare = {**os.environ, "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen([*SERVE, str(data), "--port", "0"], stdout=subprocess.PIPE, text=True, env=bare)
    try:
        said = list(iter(process.stdout.readline, "Ctrl-C stops everything; the same command continues.\n"))
        _, _, shown = "".join(said).partition("Try, in another terminal:\n")
        commands = shown.strip().splitlines()
        # Nobody types that fast: the daemon comes up last.
        wait_for((data / ".lustack" / "fence").exists)
        options = {"shell": True, "capture_output": True, "text": True, "env": bare}
        told = [subprocess.run(each, check=False, **options) for each in commands]
        assert [done.returncode for done in told] == [0, 0, 0], told
        assert told[1].stdout == Path("/etc/hosts").read_text()
        assert told[2].stdout == "hosts\nos-release\n"
    finally:
        process.terminate()
        process.communicate(timeout=STOP_LIMIT_S)
        wait_for(lambda: not processes_of(Path(f"{data}.state")), STOP_LIMIT_S)


def test_a_file_that_a_job_made_is_listed(data):
    with serving(data) as served:
        put(served, "o", b"1")
        (data / "AUTH_test" / "demo" / "from a job").write_bytes(b"by cp")
        with contextlib.closing(served.connection()) as connection:
            wait_for(lambda: "from a job" in [row["name"] for row in connection.get_container("demo")[1]])
        assert get(served, "from a job") == b"by cp"


def test_what_is_killed_is_started_again(data):
    with serving(data) as served:
        put(served, "o", b"before")
        for name in ("swift-object-server", "swift-proxy-server", "swift-object-expirer", "sync run"):
            pid = served.pid_of(name)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid, name=name: served.pid_of(name) != pid)
        put(served, "p", b"after")
        assert (get(served, "o"), get(served, "p")) == (b"before", b"after")
        code, _, err = served.stop()
        assert code == 0
        assert err.count("object-server ended (-9); starting it again in 0.5 s") == 1


def test_nothing_outlives_a_command_that_was_killed(data):
    with serving(data) as served:
        put(served, "o", b"kept")
        served.pid_of("swift-object-expirer")
        wait_for(lambda: len(children_of(served.process.pid)) >= 8)
        children = children_of(served.process.pid)
        served.process.kill()
        wait_for(lambda: not processes_of(served.state), STOP_LIMIT_S)
        wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children), STOP_LIMIT_S)
    with serving(data) as served:
        assert get(served, "o") == b"kept"


def refused(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*SERVE, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=READY_LIMIT_S,
    )
    return done.returncode, done.stdout, done.stderr


def test_what_cannot_be_served_is_refused_with_a_sentence(data, tmp_path):
    with serving(data) as served:
        alias = tmp_path / "alias"
        alias.symlink_to(data)
        code, out, err = refused(str(alias), "--port", "0")
        assert (code, out) == (2, "")
        assert f"is being served already, by process {served.process.pid}" in err
        port = served.access["s3_endpoint"].rpartition(":")[2]
        code, out, err = refused(str(tmp_path / "other"), "--port", port)
        assert (code, out) == (2, "")
        assert f"--port = {port}" in err
        code, out, err = refused(str(tmp_path / "third"), "--port", "0", "--state", str(tmp_path / "third" / "s"))
        assert (code, out) == (2, "")
        assert "outside the served directory" in err


def test_users_that_were_asked_for_can_log_in(data):
    with serving(data, "--user", "team_a:jo:secret", "--user", "test:guest:pw:somebody") as served:
        url = served.access["auth_url"]
        with contextlib.closing(swiftclient.Connection(url, "team_a:jo", "secret")) as connection:
            connection.put_container("demo")
        assert swiftclient.get_auth(url, "test:guest", "pw")[0] == served.access["storage_url"]


@contextlib.contextmanager
def serving_people(data: Path, said: Path) -> Iterator[subprocess.Popen]:
    """Serve as people do; what they are told goes to the file `said`."""
    with said.open("wb") as out:
        process = subprocess.Popen([*SERVE, str(data), "--port", "0"], stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_LIMIT_S)


def test_people_are_told_how_to_reach_it(data, tmp_path):
    said = tmp_path / "said"
    with serving_people(data, said) as process:
        text = wait_for(lambda: "Ctrl-C" in said.read_text() and said.read_text())
        auth_url = next(word for word in text.split() if word.endswith("/auth/v1.0"))
        with urllib.request.urlopen(auth_url.replace("/auth/v1.0", "/healthcheck"), timeout=90) as answer:
            assert answer.read() == b"OK"
        assert f"cat '{data}/AUTH_test/demo'/hosts" in text
    assert process.returncode == 0


def test_who_stops_it_before_it_is_ready_is_told_so_and_nothing_is_left(data, tmp_path):
    said = tmp_path / "said"
    with serving_people(data, said) as process:
        wait_for(lambda: "starting" in said.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_LIMIT_S) == 0
    assert said.read_text().endswith("lustack: stopped before it was ready\n")
    wait_for(lambda: not processes_of(Path(f"{data}.state")), STOP_LIMIT_S)


NOBODY = ("setpriv", "--reuid=nobody", f"--regid={pwd.getpwnam('nobody').pw_gid}", "--clear-groups")
# Where Python or the source lies in a directory of root, the user may at least read: the only privilege.
READER = (*NOBODY, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


@pytest.fixture
def nobody() -> tuple[str, ...]:
    """What to put before a command so that an ordinary user runs it."""
    reach = "import subprocess, sys, lustack.cli.serve, swift.proxy.server; subprocess.run([sys.executable, '-V'])"
    command = [sys.executable, "-c", reach]
    for prefix in (NOBODY, READER):
        if not subprocess.run([*prefix, *command], cwd="/", check=False, capture_output=True).returncode:
            return prefix
    pytest.skip("an ordinary user cannot reach this Python or this source")


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of that user."""
    entry = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="lustack-nobody-") as name:
        os.chown(name, entry.pw_uid, entry.pw_gid)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_an_ordinary_user_can_serve(nobody, home):
    with serving(home / "data", prefix=nobody, cwd="/") as served:
        put(served, "o", b"mine")
        file = home / "data" / "AUTH_test" / "demo" / "o"
        assert (file.read_bytes(), file.owner()) == (b"mine", "nobody")
        assert served.stop()[0] == 0
