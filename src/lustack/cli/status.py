# SPDX-License-Identifier: Apache-2.0
"""`lustack sync status`: what the daemon says of itself, for people and for programs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from lustack.cli import arguments, exits
from lustack.cli.sync import stop_on_signals

if TYPE_CHECKING:
    from lustack.sync.status import JobStatus, SourceStatus, Status
    from lustack.sync.unfinished import Unfinished

_OLD_S = 10.0
"""The daemon writes its status every second; one that is older than this is from a daemon that is gone or hangs."""

_EVERY_S = 1.0
_NS = 1_000_000_000
_UNITS = ((2 * 86_400, 86_400, "days"), (3600, 3600, "h"), (60, 60, "min"))
"""From how many seconds on a unit is used, its seconds, its name."""

_CLEAR = "\x1b[H\x1b[J"

_DESCRIPTION = """\
Says whether the daemon of this machine runs, how far behind it is, and what it is doing; of one that does not run, what
it has left to do."""

_EPILOG = """\
exit codes:
  0  the daemon runs, or stands by for another one
  1  it does not run, or has said nothing for 10 seconds"""


def add_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Add the command to `lustack sync`."""
    verb = arguments.add_command(
        verbs, "status", "what the daemon is doing", description=_DESCRIPTION, epilog=_EPILOG, parents=[common]
    )
    verb.add_argument("--json", action="store_true", help="print one line of JSON")
    verb.add_argument("--watch", action="store_true", help="print it every second, until Ctrl-C")
    verb.set_defaults(run=show)


def show(wanted: argparse.Namespace) -> int:
    """Print the status.

    Returns:
        The exit code.

    Raises:
        LustackError: the configuration or the status cannot be read.
    """
    settings = arguments.read(wanted.config_file)
    if not wanted.watch:
        return print_once(settings.state_dir, sys.stdout, is_json=wanted.json)
    with stop_on_signals() as stop:
        return watch(settings.state_dir, sys.stdout, stop, is_json=wanted.json)


def watch(state_dir: str, stream: TextIO, stop: threading.Event, *, is_json: bool) -> int:
    """Print the status every second until it is time to stop.

    Returns:
        The exit code of the last look.
    """
    while True:
        if stream.isatty() and not is_json:
            stream.write(_CLEAR)
        code = print_once(state_dir, stream, is_json=is_json)
        if stop.wait(_EVERY_S):
            return code


def print_once(state_dir: str, stream: TextIO, *, is_json: bool) -> int:
    """Print the status now.

    Returns:
        The exit code.
    """
    from lustack.sync import status, unfinished

    found = status.read(state_dir)
    now_ns = time.time_ns()
    left = None if is_alive(found, now_ns) else unfinished.read(state_dir)
    text = render_json(found, now_ns, left) if is_json else render_text(found, now_ns, state_dir, left)
    print(text, file=stream, flush=True)
    return exits.DONE if is_alive(found, now_ns) else exits.FAILED


def is_alive(found: Status | None, now_ns: int) -> bool:
    """Whether a status is that of a daemon that runs."""
    return found is not None and found.state != "stopped" and now_ns - found.written_ns < _OLD_S * _NS


def render_json(found: Status | None, now_ns: int, left: Unfinished | None = None) -> str:
    """The status as one line for programs; with what a daemon that does not run has left, as `unfinished`."""
    document = {} if found is None else dataclasses.asdict(found)
    if left is not None:
        document["unfinished"] = dataclasses.asdict(left)
    age_s = None if found is None else (now_ns - found.written_ns) / _NS
    return json.dumps({"is_alive": is_alive(found, now_ns), "age_s": age_s, **document})


def render_text(found: Status | None, now_ns: int, state_dir: str, left: Unfinished | None = None) -> str:
    """The status for people."""
    if found is None or not is_alive(found, now_ns):
        return "\n".join([_absence(found, now_ns, state_dir), *_unfinished(left, now_ns)])
    uptime = duration((now_ns - found.started_ns) / _NS)
    lines = [f"lustack sync: {found.state} for {uptime}, process {found.pid} on {found.host}, mode: {found.mode}"]
    if found.state == "standby":
        return "\n".join([*lines, "another daemon does the work; this one takes over when it ends"])
    lines += _work(found)
    for source in found.sources:
        lines += _source(source)
    lines += _jobs(found.jobs, found.job_count)
    lines += _comparison(found, now_ns)
    return "\n".join(lines)


def _absence(found: Status | None, now_ns: int, state_dir: str) -> str:
    if found is None:
        return f"lustack sync does not run: no daemon has ever written its status to {state_dir}"
    age_s = (now_ns - found.written_ns) / _NS
    who = f"process {found.pid} on {found.host}"
    if found.state == "stopped":
        return f"lustack sync does not run: it was stopped {duration(age_s)} ago ({who})"
    return f"lustack sync does not run, or hangs: {who} has said nothing for {duration(age_s)}"


def _unfinished(left: Unfinished | None, now_ns: int) -> list[str]:
    """What the next daemon begins with."""
    if left is None:
        return []
    lines = [_line("source", f"{name}: done up to {position}") for name, position in left.positions.items()]
    lines += _jobs(left.jobs, left.job_count) or [_line("jobs", "none is left")]
    ago = f"{duration((now_ns - left.compared_ns) / _NS)} ago" if left.compared_ns else "none was ever finished"
    return [*lines, _line("comparison", ago)]


def _work(found: Status) -> list[str]:
    memory = f"{found.memory_bytes / 2**20:.1f} of {found.memory_limit_bytes / 2**20:.0f} MiB"
    paused = ", paused: events come first" if found.is_hashing_paused else ""
    return [
        _line("lag", f"{found.lag_s:.2f} s, {found.lag_records} records"),
        _line("precision", f"{found.precision} ({found.dirty_names} waiting, {found.held_names} held, {memory})"),
        _line("events", f"{found.events} ({found.events_per_s:.0f}/s), {found.losses} losses"),
        _line("rows", f"{found.rows} ({found.rows_per_s:.0f}/s) in {found.batches} batches"),
        _line("left out", f"{found.self_events} of Swift's own, {found.short_lived} short-lived"),
        _line("to be hashed", f"{found.hash_backlog} files{paused}"),
    ]


def _source(source: SourceStatus) -> list[str]:
    promises = [
        "changes by all hosts" if source.is_across_hosts else "changes on this host only",
        "also while no daemon runs" if source.is_complete else "only while the daemon runs",
        f"late by {source.latency_s:g} s at most",
    ]
    lines = [_line("source", f"{source.name} of {source.device}: {', '.join(promises)}")]
    state = f"position {source.position or 'at its beginning'}, lag {source.lag_s:.2f} s, {source.lag_records} records"
    lines.append(_line("", f"{state}, {source.losses} losses"))
    if source.why_down:
        lines.append(_line("", f"IT IS DOWN: {source.why_down}"))
    return lines


def _jobs(jobs: Sequence[JobStatus], count: int) -> list[str]:
    running = sum(job.is_running for job in jobs)
    lines = [_line("jobs", f"{count}, {running} running")] if count else []
    lines += [_line("", _job(job)) for job in jobs]
    if count > len(jobs):
        lines.append(_line("", f"and {count - len(jobs)} more"))
    return lines


def _job(job: JobStatus) -> str:
    where = "/".join(part for part in (job.account, job.container, job.prefix) if part) or "everything"
    at = f", at {job.at_container}/{job.at_name}" if job.at_container else ""
    return exits.printable(f"{where}: {job.why}{at if job.is_running else ', waits'}")


def _comparison(found: Status, now_ns: int) -> list[str]:
    if found.compared_ns:
        ago = duration((now_ns - found.compared_ns) / _NS)
        text = f"{ago} ago, took {duration(found.comparison_s)}, {found.comparisons} since the start"
    else:
        text = "not finished yet"
    lines = [_line("comparison", text + (", running now" if found.is_comparing else ""))]
    lines.append(
        _line(
            "",
            f"{found.unhashed} files without MD5, {found.unlistable} names cannot be objects, "
            f"{found.unreadable} directories cannot be read",
        )
    )
    if found.clock_ahead_s > 1:
        lines.append(_line("clock", f"timestamps are {duration(found.clock_ahead_s)} ahead of this machine's clock"))
    if found.trouble:
        ago = duration((now_ns - found.trouble_ns) / _NS)
        lines.append(_line("last trouble", f"{ago} ago: {exits.printable(found.trouble)}"))
    return lines


def _line(word: str, text: str) -> str:
    return f"{word:<14}{text}"


def duration(seconds: float) -> str:
    """A duration in the unit that matters."""
    for least_s, unit_s, name in _UNITS:
        if seconds >= least_s:
            return f"{seconds / unit_s:.0f} {name}"
    return f"{max(0.0, seconds):.1f} s"
