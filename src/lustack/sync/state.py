# SPDX-License-Identifier: Apache-2.0
"""What the daemon remembers: SQLite in write-ahead mode, one file.

There is no row for each object: the listing is the index. Everything here can be lost at the cost of work done twice,
but for `device`, which guards against a lost mount, and `clock`, which guards against a clock that was set back.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from lustack.posix.errors import explain
from lustack.sync.errors import StateError

FILE = "sync.sqlite"
SQLITE_REMEDY = "ask as root, or as the user of the daemon, and see that the disk is neither full nor broken"
"""In the directory of the state."""

VERSION = 2

_SCHEMA = """
-- A comparison that was begun and is not finished. At most one for each scope; who finishes it removes it.
CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,         -- who does it: the daemon or the command
    account TEXT NOT NULL,       -- scope: '' stands for all
    container TEXT NOT NULL,     -- scope: '' stands for all
    prefix TEXT NOT NULL,        -- scope: '' stands for all
    -- Everything up to and with this place was compared, and what was sent was acknowledged. '' at the beginning.
    at_policy INTEGER NOT NULL DEFAULT -1,
    at_account TEXT NOT NULL DEFAULT '',
    at_container TEXT NOT NULL DEFAULT '',
    at_name TEXT NOT NULL DEFAULT '',
    UNIQUE (owner, account, container, prefix)
);
-- Accounts that had a directory once: their listings must be cleared when all of it is removed.
CREATE TABLE account (
    policy INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (policy, name)
) WITHOUT ROWID;
-- The inode of `.lustack` on the device of a policy, as it was first seen: another one is another file system.
CREATE TABLE device (policy INTEGER PRIMARY KEY, inode INTEGER NOT NULL);
-- Nanoseconds since 1970: no row that was sent has a later timestamp. Exactly one row.
CREATE TABLE clock (latest_ns INTEGER NOT NULL);
INSERT INTO clock VALUES (0);
"""

_TO_2 = """
-- How often this job was asked for. Who has begun it at one number may finish and advance it at that number only: what
-- was asked for later must be done again from the beginning.
ALTER TABLE job ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
-- What made it necessary: moved, changed, overload, lost, container, retry; '' for a comparison that somebody began.
ALTER TABLE job ADD COLUMN why TEXT NOT NULL DEFAULT '';
-- Up to where a source of events is done: what came before is in the listings or in a job above.
CREATE TABLE source (name TEXT PRIMARY KEY, position TEXT NOT NULL) WITHOUT ROWID;
-- When a comparison of everything last ended. Nanoseconds since 1970. At most one row.
CREATE TABLE compared (at_ns INTEGER NOT NULL);
"""
"""What version 2 has more than version 1."""


@dataclass(frozen=True)
class Scope:
    """What to compare.

    Attributes:
        account: empty: all.
        container: empty: all.
        prefix: of the objects' names; empty: all.
        owner: who does it, `daemon`, `events` (a part of the daemon) or `command`: they do not share their jobs.
    """

    account: str = ""
    container: str = ""
    prefix: str = ""
    owner: str = "command"

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes its job unique."""
        return (self.owner, self.account, self.container, self.prefix)


_SCOPE = "owner = ? AND account = ? AND container = ? AND prefix = ?"
_BEGIN = "INSERT OR IGNORE INTO job (owner, account, container, prefix) VALUES (?, ?, ?, ?)"
_FIND = f"SELECT at_policy, at_account, at_container, at_name, generation FROM job WHERE {_SCOPE}"  # noqa: S608 (ours)
_ADVANCE = f"""
UPDATE job SET at_policy = ?, at_account = ?, at_container = ?, at_name = ? WHERE {_SCOPE} AND generation = ?
"""  # noqa: S608 (ours)
_FINISH = f"DELETE FROM job WHERE {_SCOPE} AND generation = ifnull(?, generation)"  # noqa: S608 (ours)
_FORGET = f"DELETE FROM job WHERE {_SCOPE}"  # noqa: S608 (ours)
_ENQUEUE = """
INSERT INTO job (owner, account, container, prefix, why) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET at_policy = -1, at_account = '', at_container = '', at_name = '',
    generation = generation + 1, why = excluded.why
"""
_JOBS = """
SELECT account, container, prefix, why, at_policy, at_account, at_container, at_name FROM job
WHERE owner = ? ORDER BY id
"""


@dataclass(frozen=True)
class Cursor:
    """How far a job is; what lies before is done.

    Attributes:
        policy: index of the storage policy.
        account: account name.
        container: container name.
        name: object name.
    """

    policy: int = -1
    account: str = ""
    container: str = ""
    name: str = ""


@dataclass(frozen=True)
class Job:
    """A part of the tree that is to be compared.

    Attributes:
        scope: what.
        why: what made it necessary.
        cursor: how far it is.
    """

    scope: Scope
    why: str = ""
    cursor: Cursor = Cursor()


class Jobs(Protocol):
    """Remembers how far comparisons are. Every method is durable when it returns, and may raise `StateError`."""

    def begin(self, scope: Scope) -> Cursor:
        """Begins a job, or continues the one of this scope that was not finished."""
        ...

    def advance(self, scope: Scope, cursor: Cursor) -> None:
        """Notes how far a job is."""
        ...

    def finish(self, scope: Scope) -> None:
        """Forgets a job."""
        ...


class State:
    """The database. Thread-safe."""

    def __init__(self, path: str) -> None:
        """Opens it, and makes it if it is not there.

        Raises:
            StateError: it is no database of ours, or cannot be written.
        """
        self._path = path
        self._lock = threading.Lock()
        self._begun: dict[tuple[str, str, str, str], int] = {}
        with _errors_named(path):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def close(self) -> None:
        """Closes it."""
        self._database.close()

    def begin(self, scope: Scope) -> Cursor:
        """Begins a job, or continues the one of this scope that was not finished."""
        with self._transaction() as database:
            database.execute(_BEGIN, scope.key)
            *place, generation = database.execute(_FIND, scope.key).fetchone()
            self._begun[scope.key] = generation
            return Cursor(*place)

    def advance(self, scope: Scope, cursor: Cursor) -> None:
        """Notes durably how far a job is; nothing if it was asked for again after it was begun here."""
        with self._transaction() as database:
            place = (cursor.policy, cursor.account, cursor.container, cursor.name)
            database.execute(_ADVANCE, (*place, *scope.key, self._begun.get(scope.key)))

    def finish(self, scope: Scope) -> None:
        """Forgets a job; not if it was asked for again after it was begun here."""
        with self._transaction() as database:
            database.execute(_FINISH, (*scope.key, self._begun.pop(scope.key, None)))

    def enqueue(self, jobs: Iterable[Job]) -> None:
        """Asks for jobs, durably when this returns. One that is being done must be done again."""
        with self._transaction() as database:
            database.executemany(_ENQUEUE, [(*job.scope.key, job.why) for job in jobs])

    def forget(self, scopes: Iterable[Scope]) -> None:
        """Forgets jobs that another one does as well."""
        with self._transaction() as database:
            database.executemany(_FORGET, [scope.key for scope in scopes])

    def jobs(self, owner: str) -> list[Job]:
        """The jobs that somebody has to do, the oldest first."""
        with self._transaction() as database:
            found = database.execute(_JOBS, (owner,)).fetchall()
        return [Job(Scope(row[0], row[1], row[2], owner), row[3], Cursor(*row[4:])) for row in found]

    def position(self, source: str) -> str | None:
        """Up to where a source is done, None before anything was."""
        with self._transaction() as database:
            found = database.execute("SELECT position FROM source WHERE name = ?", (source,)).fetchone()
            return None if found is None else str(found[0])

    def set_position(self, source: str, position: str) -> None:
        """Notes durably up to where a source is done."""
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO source VALUES (?, ?)", (source, position))

    def compared_ns(self) -> int:
        """When a comparison of everything last ended, nanoseconds since 1970; 0: never."""
        with self._transaction() as database:
            found = database.execute("SELECT max(at_ns) FROM compared").fetchone()
            return int(found[0] or 0)

    def set_compared(self, time_ns: int) -> None:
        """Notes when a comparison of everything ended."""
        with self._transaction() as database:
            database.execute("DELETE FROM compared")
            database.execute("INSERT INTO compared VALUES (?)", (time_ns,))

    def accounts(self, policy: int) -> set[str]:
        """The accounts that had a directory once."""
        with self._transaction() as database:
            found = database.execute("SELECT name FROM account WHERE policy = ?", (policy,))
            return {name for (name,) in found}

    def add_accounts(self, policy: int, accounts: set[str]) -> None:
        """Remembers accounts."""
        with self._transaction() as database:
            rows = [(policy, name) for name in accounts]
            database.executemany("INSERT OR IGNORE INTO account VALUES (?, ?)", rows)

    def device(self, policy: int) -> int | None:
        """The inode of the reserved directory as it was first seen, None before."""
        with self._transaction() as database:
            found = database.execute("SELECT inode FROM device WHERE policy = ?", (policy,)).fetchone()
            return None if found is None else int(found[0])

    def set_device(self, policy: int, inode: int) -> None:
        """Remembers the inode of the reserved directory."""
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO device VALUES (?, ?)", (policy, inode))

    def latest_ns(self) -> int:
        """The latest timestamp that was used."""
        with self._transaction() as database:
            return int(database.execute("SELECT latest_ns FROM clock").fetchone()[0])

    def raise_latest(self, time_ns: int) -> None:
        """Notes that timestamps up to this one may be used."""
        with self._transaction() as database:
            database.execute("UPDATE clock SET latest_ns = max(latest_ns, ?)", (time_ns,))

    def _prepare(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._database.executescript(f"BEGIN; {_SCHEMA} {_TO_2} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version == 1:
            self._database.executescript(f"BEGIN; {_TO_2} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise StateError(self._path, f"it has version {version}, this lustack knows {VERSION}: use the newer one")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _errors_named(self._path):
            self._database.execute("BEGIN IMMEDIATE")
            with self._database:
                yield self._database


@contextmanager
def _errors_named(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(path, explain(error)) from error
    except sqlite3.Error as error:
        raise StateError(path, f"{error}: {SQLITE_REMEDY}") from error
