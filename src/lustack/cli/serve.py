# SPDX-License-Identifier: Apache-2.0
"""`lustack serve DIR`: the arguments, the signals, and what people are told."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from typing import TextIO

from lustack.cli import arguments, exits
from lustack.cli.stopping import stopped_by
from lustack.errors import ConfigurationError
from lustack.server import instance
from lustack.server.errors import StoppedError
from lustack.server.topology import DEFAULT_PORT, Host, User

DESCRIPTION = """\
Serves a directory as Swift and S3 on this machine: the object o of the container c of the account AUTH_test
is the file DIR/AUTH_test/c/o, and a file that is put there becomes an object. Starts a real Swift on the
loopback interface and the daemon that keeps its listings true; Ctrl-C stops everything; the same command
continues. For trying out: everybody on this machine can reach it."""

_USER = re.compile(r"([^:\s]+):([^:\s]+):([^:\s]+)(?::([^:\s]+))?")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = arguments.add_command(subparsers, "serve", "serve a directory as Swift and S3", description=DESCRIPTION)
    parser.add_argument("directory", metavar="DIR", help="what to serve; made if it is not there")
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="where clients connect; 0: any (default: %(default)s)"
    )
    parser.add_argument("--state", metavar="DIR2", help="rings, databases and logs (default: DIR.state)")
    parser.add_argument(
        "--user",
        metavar="ACCOUNT:USER:KEY[:GROUPS]",
        type=_user,
        action="append",
        default=[],
        help="somebody else who may log in, besides test:tester with the key testing; GROUPS are Swift's roles "
        "with commas between them (default: .admin); may be repeated",
    )
    parser.add_argument(
        "--socket",
        action="store_true",
        help="reach the files through the object server's socket, as a stock proxy does, not from within the proxy",
    )
    parser.add_argument("--json", action="store_true", help="when ready, print one line of JSON, nothing else")
    parser.set_defaults(run=run)


def run(wanted: argparse.Namespace) -> int:
    """Serve until somebody asks to stop.

    Returns:
        The exit code.

    Raises:
        LustackError: see `lustack.server.instance.running`.
    """
    require_swift(find_spec("swift") is not None)
    host = choose_host(wanted, os.environ)
    report = choose_report(sys.stderr)
    with stop_on_signals() as stop:
        try:
            with instance.running(host, report, stop) as served:
                print(render_json(served) if wanted.json else render_text(served), flush=True)
                served.keep(stop)
                report("stopping")
        except StoppedError as stopped:
            report(str(stopped))
    return exits.DONE


def require_swift(installed: bool) -> None:  # noqa: FBT001 (the one fact it is about)
    """Say what is missing before anything is made.

    Raises:
        ConfigurationError: there is no Swift.
    """
    if not installed:
        allowed = "installed: pip install 'lustack[server]'"
        raise ConfigurationError("lustack serve", "swift", "not installed", allowed)


def choose_host(wanted: argparse.Namespace, environ: Mapping[str, str]) -> Host:
    """What the arguments ask for, on this machine.

    Args:
        wanted: the parsed arguments.
        environ: the environment.
    """
    directory = os.path.realpath(wanted.directory)
    memcached = shutil.which("memcached", path=f"{environ.get('PATH', os.defpath)}:/usr/sbin:/usr/bin")
    # Who is named again gets another key.
    users = {user.login: user for user in (*Host.users, *wanted.user)}
    return Host(
        directory=directory,
        state=os.path.realpath(wanted.state) if wanted.state else f"{directory}.state",
        port=wanted.port,
        users=tuple(users.values()),
        memcached=memcached,
        user=name_of(os.geteuid()),
        short_path=not wanted.socket,
    )


def name_of(uid: int) -> str:
    """The name of a user.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError as err:
        allowed = "one with a name in /etc/passwd: Swift's daemons ask for it"
        raise ConfigurationError("lustack serve", "user id", uid, allowed) from err


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:  # noqa: PLR2004 (TCP, RFC 9293 section 3.1)
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535")
    return int(text)


def _user(text: str) -> User:
    match = _USER.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not ACCOUNT:USER:KEY[:GROUPS], without blanks")
    account, name, key, groups = match.groups()
    return User(account, name, key, tuple(groups.split(","))) if groups else User(account, name, key)


def render_json(served: instance.Instance) -> str:
    """How to reach it, in one line for programs."""
    return json.dumps(asdict(served.access))


def render_text(served: instance.Instance) -> str:
    """How to reach it, and three commands to try, for people."""
    host, access = served.host, served.access
    swift = f"{find_program('swift')} -A {access.auth_url} -U {shlex.quote(access.user)} -K {shlex.quote(access.key)}"
    container = shlex.quote(f"{host.directory}/{os.path.basename(access.storage_url)}/demo")
    wait = f"{find_program('lustack')} sync wait {shlex.quote(host.directory)}"
    return f"""
Serving {host.directory}
  Swift  {access.auth_url}  user {access.user}  key {access.key}
         {access.storage_url}
  S3     {access.s3_endpoint}  access key {access.s3_access_key}  secret key {access.s3_secret_key}
  State  {host.state}  (logs in log/)

An object is a file, a file is an object. Try, in another terminal:
  {swift} upload --object-name hosts demo /etc/hosts
  cat {container}/hosts
  cp /etc/os-release {container}/ && {wait} && {swift} list demo

Ctrl-C stops everything; the same command continues."""


def find_program(name: str, python: str = sys.executable) -> str:
    """What to type for a program: its path, where it is beside our interpreter and the shell would not find it.

    Args:
        name: of the program.
        python: the interpreter.
    """
    beside = os.path.join(os.path.dirname(python), name)
    return shlex.quote(beside) if shutil.which(name) is None and os.path.exists(beside) else name


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that the usual signals set; who ignores the end of the terminal (nohup) keeps ignoring it."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    with stopped_by(numbers) as stop:
        yield stop


def choose_report(stream: TextIO) -> Callable[[str], None]:
    """Where progress goes: standard error; less loud than the rest if that is a terminal.

    Args:
        stream: standard error.
    """
    if not stream.isatty() or find_spec("rich") is None:
        return exits.say
    from rich.console import Console

    console = Console(file=stream, highlight=False)
    return lambda sentence: console.print(f"lustack: {sentence}", style="dim", markup=False)
