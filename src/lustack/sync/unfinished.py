# SPDX-License-Identifier: Apache-2.0
"""What a daemon that does not run has left to do, read from its state without changing it.

Rule 1: nothing is written, made or repaired here: whoever looks may not be whoever works.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

from lustack.sync.errors import StateError
from lustack.sync.state import FILE, SQLITE_REMEDY, VERSION
from lustack.sync.status import JobStatus

_MOST_JOBS = 20
_JOBS = """
SELECT account, container, prefix, why, at_container, at_name, count(*) OVER () FROM job
WHERE owner != 'command' ORDER BY id LIMIT ?
"""


@dataclass(frozen=True)
class Unfinished:
    """What the next daemon begins with.

    Attributes:
        positions: of each source of events, up to where everything is done.
        jobs: some of the durable jobs, the oldest first.
        job_count: how many there are.
        compared_ns: when everything was last compared; 0: never.
    """

    positions: dict[str, str]
    jobs: tuple[JobStatus, ...] = ()
    job_count: int = 0
    compared_ns: int = 0


def read(state_dir: str) -> Unfinished | None:
    """Reads it; None if no daemon has ever worked with this directory.

    Raises:
        StateError: it cannot be read, or another lustack wrote it.
    """
    path = os.path.join(state_dir, FILE)
    if not os.path.exists(path):
        return None
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                raise StateError(path, f"it has version {version}, this lustack knows {VERSION}: use the newer one")
            return _read(database)
    except sqlite3.Error as error:
        raise StateError(path, f"{error}: {SQLITE_REMEDY}") from error


def _read(database: sqlite3.Connection) -> Unfinished:
    positions = dict(database.execute("SELECT name, position FROM source ORDER BY name"))
    rows = database.execute(_JOBS, (_MOST_JOBS,)).fetchall()
    jobs = tuple(_job(*row[:-1]) for row in rows)
    (compared_ns,) = database.execute("SELECT max(at_ns) FROM compared").fetchone()
    return Unfinished(positions, jobs, rows[0][-1] if rows else 0, int(compared_ns or 0))


def _job(account: str, container: str, prefix: str, why: str, *place: str) -> JobStatus:
    at_container, at_name = place
    return JobStatus(account, container, prefix, why, at_container=at_container, at_name=at_name)
