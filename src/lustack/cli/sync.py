# SPDX-License-Identifier: Apache-2.0
"""`lustack sync run` and `lustack sync reconcile`: the arguments, the signals, and what people are told."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from lustack.cli import arguments, exits, register
from lustack.cli.stopping import stopped_by
from lustack.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.status import Status

    from lustack.sync.plan import SentRow
    from lustack.sync.reconcile import Tally
    from lustack.sync.sinks.protocol import ContainerKey
    from lustack.sync.state import Scope
    from lustack.sync.survey import Report

_LINE_S = 10.0

_RUN = """\
Compares the files of every container with its listing again and again, and makes the listings true. Beside it, learns
the MD5 of files that jobs wrote, and removes what crashes leave behind. Stop it with SIGTERM or Ctrl-C."""

_RECONCILE = """\
Compares files with listings once, and makes the listings true. Interrupted, the same command continues."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the command line."""
    parser = subparsers.add_parser("sync", help="make Swift's listings follow the files")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    common = arguments.configured()
    verb = verbs.add_parser("run", parents=[common], help="the daemon", description=_RUN)
    verb.set_defaults(run=run)
    verb = verbs.add_parser("reconcile", parents=[common], help="compare once", description=_RECONCILE)
    verb.add_argument(
        "scope",
        metavar="ACCOUNT[/CONTAINER[/PREFIX]]",
        type=arguments.text,
        nargs="?",
        default="",
        help="default: everything",
    )
    verb.add_argument("--dry-run", action="store_true", help="write nothing, print the differences")
    verb.add_argument("--verbose", action="store_true", help="print the differences")
    verb.add_argument(
        "--json", action="store_true", help="print lines of JSON: differences, if asked for, and the report"
    )
    verb.add_argument("--force", action="store_true", help="delete rows also where a whole file system seems lost")
    verb.add_argument("--restart", action="store_true", help="do not continue a comparison that was interrupted")
    verb.set_defaults(run=reconcile)
    # They use what is below.
    from lustack.cli import status, wait

    register.add_verb(verbs)
    status.add_verb(verbs, common)
    wait.add_verb(verbs, common)


def run(wanted: argparse.Namespace) -> int:
    """Run the daemon until somebody asks to stop.

    Returns:
        The exit code.

    Raises:
        LustackError: see `lustack.sync.service.run`.
    """
    from oslo_log import log

    from lustack.sync import opts, service

    conf = opts.configure(wanted.config_file or [arguments.DEFAULT_FILE])
    log.setup(conf, "lustack")
    with stop_on_signals() as stop:
        service.run(opts.read(conf), stop)
    return exits.DONE


def reconcile(wanted: argparse.Namespace) -> int:
    """Compare once.

    Returns:
        The exit code.

    Raises:
        LustackError: see `lustack.sync.survey.Survey.run`.
    """
    from lustack.sync.survey import Options
    from lustack.sync.world import locked, opened

    settings = arguments.read(wanted.config_file)
    options = Options(dry_run=wanted.dry_run, force=wanted.force, resume=not wanted.restart)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        stack.enter_context(locked(settings.state_dir, "command"))
        world = stack.enter_context(opened(settings))
        printer = stack.enter_context(show_progress(sys.stderr))
        follower = Follower(stop, printer, sys.stdout, wanted.dry_run or wanted.verbose, wanted.json)
        report = world.survey(follower).run(parse_scope(wanted.scope), options)
    print(render_json(report) if wanted.json else render_text(report, dry_run=wanted.dry_run), flush=True)
    for error in report.errors:
        exits.say(str(error))
    return max((exits.code_of(error) for error in report.errors), default=exits.DONE)


def parse_scope(text: str, command: str = "lustack sync reconcile") -> Scope:
    """`ACCOUNT[/CONTAINER[/PREFIX]]`; a slash at its beginning is allowed.

    Args:
        text: that somebody wrote.
        command: behind which.

    Raises:
        ConfigurationError: a part is missing.
    """
    from lustack.sync.state import Scope

    account, *rest = text.removeprefix("/").split("/", 2)
    if rest == [""]:
        rest = []
    if (rest and not account) or rest[:1] == [""]:
        raise ConfigurationError(command, "scope", text, "ACCOUNT[/CONTAINER[/PREFIX]]")
    return Scope(account, *rest)


class Progress(Protocol):
    """Shows how far a comparison is."""

    def show(self, where: str, tally: Tally) -> None:
        """Some names of a container were compared."""
        ...


class LineProgress(Progress):
    """Prints a line now and then."""

    def __init__(self, stream: TextIO, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Prints nothing yet.

        Args:
            stream: where to.
            monotonic_s: a clock that never goes back.
        """
        self._stream = stream
        self._monotonic_s = monotonic_s
        self._said_s = monotonic_s()

    def show(self, where: str, tally: Tally) -> None:
        """See `Progress`."""
        now_s = self._monotonic_s()
        if now_s - self._said_s >= _LINE_S:
            self._said_s = now_s
            print(f"{exits.printable(where)}: {_counts(tally)}", file=self._stream, flush=True)


class TerminalProgress(Progress):
    """Shows a line that changes."""

    def __init__(self, status: Status) -> None:
        """Writes to a status of rich.

        Args:
            status: is running.
        """
        self._status = status

    def show(self, where: str, tally: Tally) -> None:
        """See `Progress`."""
        from rich.markup import escape

        self._status.update(escape(f"{where}: {_counts(tally)}"))


@contextmanager
def show_progress(stream: TextIO) -> Iterator[Progress]:
    """A display on standard error: a line that changes if that is a terminal, else one now and then."""
    if not stream.isatty():
        yield LineProgress(stream)
        return
    from rich.console import Console

    with Console(file=stream).status("looking at the containers") as status:
        yield TerminalProgress(status)


@dataclass
class Follower:
    """Prints differences and progress.

    Attributes:
        stop: ends the comparison.
        progress: is shown how far it is.
        stream: where differences go.
        is_telling: whether differences are printed.
        is_json: how.
    """

    stop: threading.Event
    progress: Progress
    stream: TextIO
    is_telling: bool
    is_json: bool

    def on_pulse(self, key: ContainerKey, _name: str, tally: Tally) -> None:
        """See `Watcher`."""
        self.progress.show(str(key), tally)

    def on_difference(self, key: ContainerKey, row: SentRow) -> None:
        """See `Watcher`."""
        if not self.is_telling:
            return
        if self.is_json:
            line = json.dumps({"container": str(key), **row._asdict(), "deleted": row.is_deleted})
        else:
            line = f"{'-' if row.is_deleted else '+'} {key}/{exits.printable(row.name)}"
        print(line, file=self.stream)

    def on_unhashed(self, key: ContainerKey, name: str) -> None:
        """See `Watcher`."""

    def is_stopped(self) -> bool:
        """See `Watcher`."""
        return self.stop.is_set()


def render_json(report: Report) -> str:
    """A report as one line for programs."""
    document = {
        **asdict(report.tally),
        "containers": report.containers,
        "adopted": report.adopted,
        "unlistable": report.unlistable,
        "unreadable": report.unreadable,
        "samples": report.samples,
        "left_alone": report.notes,
        "errors": [str(error) for error in report.errors],
    }
    return json.dumps({"report": document})


def render_text(report: Report, *, dry_run: bool) -> str:
    """A report for people."""
    lines = [f"{report.containers} containers, {_counts(report.tally)}" + (" (nothing was written)" if dry_run else "")]
    if report.adopted:
        lines.append(f"{report.adopted} directories became containers")
    if report.tally.left or report.tally.withheld:
        lines.append(f"{report.tally.left + report.tally.withheld} rows were left as they are")
    if report.unlistable or report.unreadable:
        lines.append(f"{report.unlistable} entries cannot be objects, {report.unreadable} directories cannot be read:")
        lines += [f"  {exits.printable(path)}: {exits.printable(why)}" for path, why in report.samples]
    lines += [f"left alone: {exits.printable(where)}: {exits.printable(why)}" for where, why in report.notes]
    return "\n".join(lines)


def _counts(tally: Tally) -> str:
    return f"{tally.files} objects, {tally.rows} rows: {tally.put} written, {tally.deleted} deleted"


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set."""
    # What tells a holder of a lease that somebody wants to write; it would end the process (fcntl(2)).
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        with stopped_by((signal.SIGINT, signal.SIGTERM)) as stop:
            yield stop
    finally:
        signal.signal(signal.SIGIO, before)
