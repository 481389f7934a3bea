# SPDX-License-Identifier: Apache-2.0
"""`lustack export add`, `remove` and `list`: existing directories become containers where they are."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lustack.cli import arguments, exits
from lustack.cli.sync import Follower, Progress, show_progress, stop_on_signals

if TYPE_CHECKING:
    from lustack.sync.exporting import Bound, Exporting, Shown
    from lustack.sync.settings import Settings
    from lustack.sync.survey import Report
    from lustack.sync.world import World

_LOOK_S = 0.5
_ALIVE_NS = 10 * 10**9
"""A status that is older is of a daemon that was killed. Source: lustack.sync.status, it is written once a second."""

_ADD = """\
Makes an existing directory a container, where it is: nothing is moved, nothing is read. Its objects can be read and
written through Swift at once; its files are listed by the daemon, or, where none runs here, by this command, which
shows how far it is. Interrupted, the same command continues."""

_REMOVE = """\
Ends an export: its files stay as they are, its container becomes an ordinary, empty one. Interrupted, the same command
continues."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the command line."""
    parser = subparsers.add_parser("export", help="make existing directories containers")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    common = arguments.configured()
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument(
        "account", metavar="ACCOUNT", type=arguments.text, help="name of the account in Swift, e.g. AUTH_project"
    )
    place.add_argument("container", metavar="CONTAINER", type=arguments.text, help="name of the container")
    waiting = argparse.ArgumentParser(add_help=False)
    waiting.add_argument("--no-wait", action="store_true", help="leave the listing to the daemon")
    verb = verbs.add_parser("add", parents=[place, common, waiting], help="begin an export", description=_ADD)
    verb.add_argument("path", metavar="PATH", help="absolute path of the directory, the same on every node")
    verb.add_argument(
        "--policy",
        type=arguments.text,
        default="",
        help="storage policy of the container (default: Swift's default)",
    )
    verb.set_defaults(run=add)
    verb = verbs.add_parser("remove", parents=[place, common, waiting], help="end an export", description=_REMOVE)
    verb.set_defaults(run=remove)
    verb = verbs.add_parser("list", parents=[common], help="show the exports")
    verb.add_argument("--json", action="store_true", help="print one line of JSON for each")
    verb.set_defaults(run=show)


def add(wanted: argparse.Namespace) -> int:
    """Begin an export.

    Returns:
        The exit code.

    Raises:
        LustackError: see `lustack.sync.exporting.Exporting.add`.
    """
    from lustack.exports.binding import Wish

    with ExitStack() as stack:
        job = _opened(stack, wanted)
        bound = job.exporting.add(Wish(wanted.account, wanted.container, os.fsencode(wanted.path)), wanted.policy)
        where = f"{bound.export.account}/{bound.export.container}"
        exits.say(f"{where} is {exits.printable(wanted.path)}: its objects can be used now")
        return exits.DONE if wanted.no_wait else job.catch_up(bound)


def remove(wanted: argparse.Namespace) -> int:
    """End an export.

    Returns:
        The exit code.

    Raises:
        LustackError: see `lustack.sync.exporting.Exporting.remove`.
    """
    with ExitStack() as stack:
        job = _opened(stack, wanted)
        bound = job.exporting.remove(wanted.account, wanted.container)
        exits.say(f"{exits.printable(os.fsdecode(bound.export.path))} is exported no more; its files stay as they are")
        return exits.DONE if wanted.no_wait else job.catch_up(bound)


def show(wanted: argparse.Namespace) -> int:
    """Show the exports.

    Returns:
        The exit code.

    Raises:
        LustackError: see `lustack.sync.exporting.Exporting.list`.
    """
    with ExitStack() as stack:
        exporting = _opened(stack, wanted).exporting
        for bound in exporting.list():
            found = exporting.show(bound)
            print(render_json(found) if wanted.json else render_text(found))
    return exits.DONE


@dataclass(frozen=True)
class Job:
    """A command at work.

    Attributes:
        settings: of the operator.
        world: what comparisons work with.
        exporting: does what is asked for.
        stop: ends it.
    """

    settings: Settings
    world: World
    exporting: Exporting
    stop: threading.Event

    def catch_up(self, bound: Bound) -> int:
        """Wait until the listing has caught up with an export that came or left; where no daemon runs, do it.

        Returns:
            The exit code.

        Raises:
            LustackError: see `lustack.sync.survey.Survey.run`.
        """
        from lustack.sync.errors import StoppedError
        from lustack.sync.reconcile import Tally

        with show_progress(sys.stderr) as progress:
            while not self.exporting.is_settled(bound):
                if not is_daemon_alive(self.settings.state_dir):
                    return self._compare(bound, progress)
                if self.stop.wait(_LOOK_S):
                    raise StoppedError
                objects = self.exporting.show(bound).objects
                progress.show("/".join(bound.export.key), Tally(files=objects, rows=objects))
        return exits.DONE

    def _compare(self, bound: Bound, progress: Progress) -> int:
        from lustack.sync import importing, world
        from lustack.sync.survey import Options

        follower = Follower(self.stop, progress, sys.stdout, is_telling=False, is_json=False)
        with world.locked(self.settings.state_dir, importing.OWNER):
            report = self.world.survey(follower).run(importing.scope_of(bound.export), Options())
        return _say(report)


def is_daemon_alive(state_dir: str) -> bool:
    """Whether a daemon works with this state, so that it makes the listings of exports."""
    from lustack.sync import status
    from lustack.sync.errors import StateError

    try:
        found = status.read(state_dir)
    except StateError:
        return False
    return found is not None and found.state == "running" and time.time_ns() - found.written_ns < _ALIVE_NS


def render_json(found: Shown) -> str:
    """An export as one line for programs."""
    export = found.bound.export
    document = {
        "account": export.account,
        "container": export.container,
        "path": os.fsdecode(export.path),
        "policy": found.bound.policy.name,
        "stage": export.stage.value,
        "problem": found.problem,
        "objects": found.objects,
    }
    return json.dumps(document)


def render_text(found: Shown) -> str:
    """An export as a line for people."""
    export = found.bound.export
    path = exits.printable(os.fsdecode(export.path))
    line = f"{export.account}/{export.container}  {path}  {export.stage.value}, {found.objects} objects"
    return f"{line}: {found.problem}" if found.problem else line


def _opened(stack: ExitStack, wanted: argparse.Namespace) -> Job:
    from lustack.sync import world as worlds
    from lustack.sync.exporting import Exporting

    settings = arguments.read(wanted.config_file)
    stop = stack.enter_context(stop_on_signals())
    world = stack.enter_context(worlds.opened(settings))
    return Job(settings, world, Exporting(settings.devices, world.policies, world.sink), stop)


def _say(report: Report) -> int:
    for error in report.errors:
        exits.say(str(error))
    exits.say(
        f"{report.tally.files} objects, {report.tally.put} listed, {report.tally.deleted} removed from the listing"
    )
    return max((exits.code_of(error) for error in report.errors), default=exits.DONE)
