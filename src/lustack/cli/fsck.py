# SPDX-License-Identifier: Apache-2.0
"""`lustack fsck`: the arguments, and what people are told."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

from lustack.cli import arguments, exits
from lustack.cli.sync import parse_scope, stop_on_signals

if TYPE_CHECKING:
    from rich.status import Status

    from lustack.sync.journal import Progress
    from lustack.sync.problems import Problem
    from lustack.sync.settings import Settings

_LINE_S = 10.0
_SETTLE_S = 5.0

_DESCRIPTION = """\
Checks that the files, Swift's listings and the metadata on the files agree, while everything goes on. A difference is
reported only if it lasts (--settle). Interrupted, the same command continues.

--repair writes rows, adopts directories, gives twins their plain place back and removes litter, as the daemon does;
it erases nothing that it cannot read."""

_EPILOG = """\
examples:
  lustack fsck                                  check everything
  lustack fsck AUTH_x/results/2026/             check the objects of one container that begin with 2026/
  lustack fsck --repair --rate 0                mend everything, as fast as it goes
  lustack fsck --textfile /var/lib/prometheus/node-exporter/lustack.prom
                                                for alarms: see lustack_fsck_problems
  lustack fsck --json | jq .report.kinds        for programs: a line for each problem, the report is the last

exit codes:
  0  clean, or all problems were mended
  1  there are problems
  2  yours to fix: a setting or an argument
  3  it was interrupted, or something did not answer: the same command continues
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = arguments.add_command(
        subparsers,
        "fsck",
        "check files against listings and metadata",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        parents=[arguments.configured()],
    )
    parser.add_argument(
        "scope",
        metavar="ACCOUNT[/CONTAINER[/PREFIX]]",
        type=arguments.text,
        nargs="?",
        default="",
        help="default: everything; only then litter is looked for",
    )
    parser.add_argument("--repair", action="store_true", help="mend what can be mended without losing anything")
    parser.add_argument("--json", action="store_true", help="print lines of JSON: each problem, then the report")
    parser.add_argument(
        "--rate", type=_positive_int, default=5000, metavar="N", help="names a second; 0: no limit (default: 5000)"
    )
    parser.add_argument(
        "--settle",
        type=_positive_float,
        default=None,
        metavar="S",
        help="report only differences that last so many seconds (default: 5, or for as long as the daemon needs now)",
    )
    parser.add_argument("--textfile", metavar="FILE", default="", help="write the result for Prometheus' node exporter")
    parser.add_argument("--strict", action="store_true", help="exit with 1 for notes, too")
    parser.add_argument("--restart", action="store_true", help="do not continue a check that was interrupted")
    parser.set_defaults(run=check)


def check(wanted: argparse.Namespace) -> int:
    """Check once.

    Returns:
        The exit code.

    Raises:
        LustackError: see `lustack.sync.fsck.Fsck.run`.
    """
    from lustack.sync.fsck import Fsck, Options
    from lustack.sync.world import locked, opened

    settings = arguments.read(wanted.config_file)
    settle_s = choose_settle_s(settings) if wanted.settle is None else wanted.settle
    options = Options(wanted.repair, wanted.rate, settle_s, resume=not wanted.restart)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        stack.enter_context(locked(settings.state_dir, "fsck"))
        world = stack.enter_context(opened(settings))
        teller = Teller(stack.enter_context(show_progress(sys.stderr)), sys.stdout, is_json=wanted.json)
        progress = Fsck(world, options, teller, stop).run(parse_scope(wanted.scope, "lustack fsck"))
    if wanted.textfile:
        from lustack.sync import textfile

        textfile.write(wanted.textfile, progress, time.time())
    print(render_json(progress) if wanted.json else render_text(progress), flush=True)
    for sentence, _ in progress.failures:
        exits.say(sentence)
    return code_of(progress, strict=wanted.strict)


def choose_settle_s(settings: Settings) -> float:
    """Seconds after which the daemon of this machine, if one runs, has listed what happened before."""
    from lustack.cli.status import is_alive
    from lustack.sync import status

    found = status.read(settings.state_dir)
    if found is None or not is_alive(found, time.time_ns()):
        return _SETTLE_S
    if found.mode == "scan":
        return _SETTLE_S + settings.interval_s + found.comparison_s
    return _SETTLE_S + 2 * found.lag_s


def code_of(progress: Progress, *, strict: bool) -> int:
    """The exit code for what was found."""
    if progress.summary.open_count(strict=strict) or any(not is_retryable for _, is_retryable in progress.failures):
        return exits.FAILED
    return exits.TRY_AGAIN if progress.failures else exits.DONE


class Teller:
    """Prints problems and progress."""

    def __init__(self, show: Callable[[str], None], stream: TextIO, *, is_json: bool) -> None:
        """Prints nothing yet.

        Args:
            show: is shown how far it is.
            stream: where problems go.
            is_json: whether they do; people get them with the report.
        """
        self._show = show
        self._stream = stream
        self._is_json = is_json

    def on_problem(self, problem: Problem) -> None:
        """See `lustack.sync.fsck.Listener`."""
        if self._is_json:
            document = {"kind": problem.kind, "path": problem.path, "why": problem.why, "repaired": problem.is_repaired}
            print(json.dumps({"problem": document}), file=self._stream)

    def on_progress(self, where: str, names: int) -> None:
        """See `lustack.sync.fsck.Listener`."""
        self._show(f"{exits.printable(where)}: {names} names checked")


@contextmanager
def show_progress(stream: TextIO, monotonic_s: Callable[[], float] = time.monotonic) -> Iterator[Callable[[str], None]]:
    """A display: a line that changes if that is a terminal, else one now and then."""
    if stream.isatty():
        from rich.console import Console

        with Console(file=stream).status("looking at the containers") as status:
            yield lambda sentence: _update(status, sentence)
        return
    said_s = [monotonic_s()]
    lock = threading.Lock()

    def show(sentence: str) -> None:
        with lock:
            if monotonic_s() - said_s[0] >= _LINE_S:
                said_s[0] = monotonic_s()
                print(sentence, file=stream, flush=True)

    yield show


def _update(status: Status, sentence: str) -> None:
    from rich.markup import escape

    status.update(escape(sentence))


def render_json(progress: Progress) -> str:
    """A report as one line for programs."""
    document = {
        "names": progress.names,
        "containers": progress.containers,
        "problems": progress.summary.open_count(),
        "kinds": progress.summary.to_document(),
        "errors": [sentence for sentence, _ in progress.failures],
    }
    return json.dumps({"report": document})


def render_text(progress: Progress) -> str:
    """A report for people."""
    from lustack.sync.problems import MEANINGS

    left = progress.summary.open_count()
    lines = [f"{progress.names} names in {progress.containers} containers: {left or 'no'} problems"]
    order = list(MEANINGS)
    for kind, found in sorted(progress.summary.kinds.items(), key=lambda each: order.index(each[0])):
        meaning = MEANINGS[kind]
        word = "" if meaning.is_problem else "note: "
        repaired = f", {found.repaired} mended" if found.repaired else ""
        remedy = f" ({meaning.remedy})" if found.repaired < found.count else ""
        lines.append(f"{word}{kind}: {found.count} {meaning.sentence}{repaired}{remedy}")
        lines += [
            f"    {exits.printable(path)}" + (f": {exits.printable(why)}" if why else "") for path, why in found.samples
        ]
        if found.count > len(found.samples):
            lines.append(f"    and {found.count - len(found.samples)} more")
    return "\n".join(lines)


def _positive_int(text: str) -> int:
    # Half a name a second is not no limit.
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def _positive_float(text: str) -> float:
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number
