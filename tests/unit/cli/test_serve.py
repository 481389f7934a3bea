# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import signal
import types

import pytest
from tests.waiting import LIMIT_S

from lustack.cli import serve
from lustack.errors import ConfigurationError
from lustack.server import topology
from lustack.server.errors import StoppedError
from lustack.server.topology import Assigned, Host, Ports, User

STOPPED_EARLY = 1


def parse(*arguments):
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    return parser.parse_args(["serve", *arguments])


def choose(*arguments, environ=None):
    return serve.choose_host(parse(*arguments), environ or {"PATH": "/nowhere"})


@pytest.fixture
def served():
    host = Host("/data with blank", "/data.state")
    assigned = Assigned(Ports(8080, 1, 2, 3, 4, 5), "x", "y")
    return types.SimpleNamespace(host=host, access=topology.access(host, assigned))


@pytest.fixture
def running(monkeypatch, served):
    """What serves when the command runs: nothing; the hosts that were asked for, and how often each was kept."""
    hosts = []

    @contextlib.contextmanager
    def run(host, report, stop):
        assert not stop.is_set()
        if host.port == STOPPED_EARLY:
            raise StoppedError
        hosts.append(host)
        yield served

    served.keep = lambda stop: hosts.append(stop.is_set())
    monkeypatch.setattr(serve.instance, "running", run)
    return hosts


@pytest.mark.parametrize("option", ["--json", "--socket"])
def test_it_says_how_to_reach_it_and_serves_until_somebody_stops_it(running, served, capsys, tmp_path, option):
    assert serve.run(parse(str(tmp_path / "d"), option)) == 0
    assert [running[0].directory, running[1:]] == [str(tmp_path / "d"), [False]]
    out, err = capsys.readouterr()
    expected = serve.render_json(served) if option == "--json" else serve.render_text(served)
    assert (out, err) == (expected + "\n", "lustack: stopping\n")


def test_stopped_before_it_is_ready_it_says_so(running, capsys, tmp_path):
    assert serve.run(parse(str(tmp_path / "d"), "--port", str(STOPPED_EARLY))) == 0
    assert running == []
    assert capsys.readouterr() == ("", f"lustack: {StoppedError()}\n")


def test_the_state_lies_beside_the_directory_whatever_that_is_called(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for name in ("real", "./real/", "alias", str(tmp_path / "alias")):
        host = choose(name)
        assert (host.directory, host.state) == (str(tmp_path / "real"), str(tmp_path / "real.state"))


def test_the_state_can_be_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert choose("d", "--state", "s").state == str(tmp_path / "s")


def test_the_port_is_the_one_of_the_tutorials_unless_told():
    assert choose("d").port == 8080
    assert choose("d", "--port", "0").port == 0


def test_files_are_reached_without_a_socket_unless_told():
    assert choose("d").short_path
    assert not choose("d", "--socket").short_path


@pytest.mark.parametrize("port", ["-1", "65536", "http", ""])
def test_what_is_no_port_is_refused(port, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse("d", f"--port={port}")
    assert "is no port" in capsys.readouterr().err


def test_more_users_join_the_one_of_the_tutorials():
    users = choose("d", "--user", "a:b:c", "--user", "a:d:e:.admin,x").users
    assert users == (
        User("test", "tester", "testing"),
        User("a", "b", "c", (".admin",)),
        User("a", "d", "e", (".admin", "x")),
    )


def test_who_is_named_again_gets_another_key():
    assert choose("d", "--user", "test:tester:better").users == (User("test", "tester", "better"),)


@pytest.mark.parametrize("user", ["", "a", "a:b", "a::c", "a:b:c:d:e", "a:b:c d"])
def test_what_is_no_user_is_refused(user, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse("d", f"--user={user}")
    assert "is not ACCOUNT:USER:KEY" in capsys.readouterr().err


def test_memcached_is_used_where_it_is(tmp_path):
    program = tmp_path / "memcached"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    host = choose("d", environ={"PATH": str(tmp_path)})
    assert host.memcached == str(program)
    assert choose("d").memcached in {None, "/usr/bin/memcached", "/usr/sbin/memcached"}
    assert serve.choose_host(parse("d"), {}).port == 8080


def test_a_user_id_without_a_name_is_explained():
    assert serve.name_of(0) == "root"
    with pytest.raises(ConfigurationError, match="passwd"):
        serve.name_of(2**31 - 7)


def test_a_missing_swift_is_explained():
    serve.require_swift(True)
    with pytest.raises(ConfigurationError, match="pip install"):
        serve.require_swift(False)


def test_programs_get_one_line(served):
    line = serve.render_json(served)
    assert "\n" not in line
    assert json.loads(line) == dataclasses.asdict(served.access)
    assert list(json.loads(line)) == [
        "auth_url", "storage_url", "user", "key", "s3_endpoint", "s3_access_key", "s3_secret_key",
    ]  # fmt: skip


def test_people_get_what_they_need_and_three_commands(served):
    text = serve.render_text(served)
    for fact in dataclasses.astuple(served.access):
        assert fact in text
    assert "cat '/data with blank/AUTH_test/demo'/hosts" in text
    assert "swift -A http://127.0.0.1:8080/auth/v1.0 -U test:tester -K testing upload" in text
    assert "cp /etc/os-release '/data with blank/AUTH_test/demo'/ && " in text
    assert "lustack sync wait '/data with blank' && " in text


def test_programs_beside_the_interpreter_are_named_by_their_path(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "swift"
    program.parent.mkdir()
    program.touch(0o755)
    python = str(tmp_path / "bin" / "python")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert serve.find_program("swift", python) == str(program)
    assert serve.find_program("lustack", python) == "lustack"
    monkeypatch.setenv("PATH", str(program.parent))
    assert serve.find_program("swift", python) == "swift"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_asks_to_stop_and_means_what_it_meant_afterwards(number):
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with serve.stop_on_signals() as stop:
            assert not stop.is_set()
            os.kill(os.getpid(), number)
            assert stop.wait(LIMIT_S)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_signal_may_come_at_any_moment():
    with serve.stop_on_signals() as stop, stop._cond:
        # As in the middle of Event.wait: a handler that took the lock itself would wait for ever.
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.wait(LIMIT_S)


def test_who_ignores_the_end_of_the_terminal_keeps_ignoring_it():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with serve.stop_on_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_is_told_less_loudly():
    terminal = Terminal()
    serve.choose_report(terminal)("starting [x]")
    assert "lustack: starting [x]" in terminal.getvalue()


def test_a_file_is_told_plainly(capsys):
    serve.choose_report(io.StringIO())("starting")
    assert capsys.readouterr().err == "lustack: starting\n"
