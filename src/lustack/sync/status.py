# SPDX-License-Identifier: Apache-2.0
"""What the daemon says of itself: one file, `status.json` in its state directory, whole at every moment.

The daemon writes it once a second, and a last time when it stops. A reader must look at `written_ns`: a file that is
older than a few seconds and does not say `stopped` is from a daemon that was killed.

Rule 1: a new field has a default, and a reader ignores fields that it does not know: either side may be older.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Any

from lustack.posix.errors import explain
from lustack.sync.errors import StateError

FILE = "status.json"
_NOT_ONE = "it is no status: remove it, the daemon writes another one"


@dataclass(frozen=True)
class SourceStatus:
    """One source of events.

    Attributes:
        name: of the source.
        device: path of the device that it watches.
        is_complete: whether it reports also what happens while no daemon runs.
        is_across_hosts: whether it reports also what other hosts do.
        latency_s: how late its events may come.
        position: up to where everything is done (acknowledged); empty at the beginning.
        lag_s: seconds since the oldest event came that is not acknowledged; 0 if there is none.
        lag_records: events that were read and are not acknowledged, and those that the source knows to wait.
        losses: how often it lost events, each time followed by a comparison of everything.
        why_down: why it is not read at the moment, empty if it is.
    """

    name: str
    device: str
    is_complete: bool = False
    is_across_hosts: bool = False
    latency_s: float = 0.0
    position: str = ""
    lag_s: float = 0.0
    lag_records: int = 0
    losses: int = 0
    why_down: str = ""


@dataclass(frozen=True)
class JobStatus:
    """A durable job: a part of the tree that will be compared with its listing.

    Attributes:
        account: empty: all.
        container: empty: all.
        prefix: of the names; empty: all.
        why: `moved`, `changed`, `overload`, `lost`, `container`, `retry`: what made it necessary.
        is_running: whether it is being done.
        at_container: how far it is.
        at_name: how far it is.
    """

    account: str = ""
    container: str = ""
    prefix: str = ""
    why: str = ""
    is_running: bool = False
    at_container: str = ""
    at_name: str = ""


@dataclass(frozen=True)
class Status:
    """The daemon at one moment. Counts are since it started.

    Attributes:
        version: of this format.
        state: `starting`, `standby` (another daemon works), `running`, `stopped`.
        written_ns: when this was written, nanoseconds since 1970.
        started_ns: when the daemon started.
        pid: process id.
        host: name of the machine.
        mode: `events` or `scan`.
        precision: the least precise thing that is remembered: `names`, `directories`, `containers`, `tree`.
        sources: of events.
        jobs: some of the durable jobs.
        job_count: how many there are.
        lag_s: the worst of the sources.
        lag_records: of all sources.
        dirty_names: names that are to be looked at.
        held_names: names that wait for their writer to close them.
        memory_bytes: what all of them take, about.
        memory_limit_bytes: what they may take.
        events: that came.
        events_per_s: in the last seconds.
        rows: that were sent, for events, by comparisons, with the MD5 of a file.
        rows_per_s: in the last seconds.
        batches: requests that carried them.
        self_events: rows that only repeated what Swift had said itself.
        short_lived: names that came and went before anybody looked.
        losses: of all sources.
        hash_backlog: files that wait for their MD5.
        is_hashing_paused: whether they wait because events come first.
        unhashed: files without an MD5, as of the last comparison.
        unlistable: entries that cannot be objects, as of the last comparison.
        unreadable: directories that could not be read, as of the last comparison.
        is_comparing: whether everything is being compared just now.
        compared_ns: when everything was last compared (its end); 0: not yet.
        comparison_s: how long that took.
        comparisons: how many were finished.
        clock_ahead_s: how far timestamps are ahead of this machine's clock.
        trouble: the last sentence that was logged as a warning, empty if there was none.
        trouble_ns: when.
    """

    version: int = 1
    state: str = "starting"
    written_ns: int = 0
    started_ns: int = 0
    pid: int = 0
    host: str = ""
    mode: str = "scan"
    precision: str = "names"
    sources: tuple[SourceStatus, ...] = ()
    jobs: tuple[JobStatus, ...] = ()
    job_count: int = 0
    lag_s: float = 0.0
    lag_records: int = 0
    dirty_names: int = 0
    held_names: int = 0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    events: int = 0
    events_per_s: float = 0.0
    rows: int = 0
    rows_per_s: float = 0.0
    batches: int = 0
    self_events: int = 0
    short_lived: int = 0
    losses: int = 0
    hash_backlog: int = 0
    is_hashing_paused: bool = False
    unhashed: int = 0
    unlistable: int = 0
    unreadable: int = 0
    is_comparing: bool = False
    compared_ns: int = 0
    comparison_s: float = 0.0
    comparisons: int = 0
    clock_ahead_s: float = 0.0
    trouble: str = ""
    trouble_ns: int = 0


def write(state_dir: str, status: Status) -> None:
    """Puts a status in place of the one before. Not durably: after a crash of the machine it says nothing anyway.

    Raises:
        StateError: the directory cannot be written to.
    """
    path = os.path.join(state_dir, FILE)
    try:
        with open(path + ".new", "w", encoding="ascii") as file:
            json.dump(dataclasses.asdict(status), file)
        os.replace(path + ".new", path)
    except OSError as error:
        raise StateError(path, explain(error)) from error


def read(state_dir: str) -> Status | None:
    """The last status, None if there never was one.

    Raises:
        StateError: it cannot be read, or is none.
    """
    path = os.path.join(state_dir, FILE)
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(path, explain(error)) from error
    except ValueError as error:
        raise StateError(path, f"{error}: {_NOT_ONE}") from error
    if not isinstance(found, dict):
        raise StateError(path, _NOT_ONE)
    known = _known(Status, found)
    known["sources"] = tuple(SourceStatus(**_known(SourceStatus, each)) for each in known.get("sources", ()))
    known["jobs"] = tuple(JobStatus(**_known(JobStatus, each)) for each in known.get("jobs", ()))
    return Status(**known)


def _known(kind: type[Status | SourceStatus | JobStatus], found: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in found.items() if name in names}
