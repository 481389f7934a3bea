# SPDX-License-Identifier: Apache-2.0
"""A Swift in files, for daemons that are processes of their own: a database for each container, as Swift has them."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from urllib.parse import quote, unquote

from lustack.sync.errors import ContainerGoneError
from lustack.sync.plan import ListedRow, SentRow, show
from lustack.sync.sinks.fake import FakeContainer
from lustack.sync.sinks.protocol import ContainerKey, ContainerState, Page, Presence

_SCHEMA = """
CREATE TABLE object (name TEXT PRIMARY KEY, timestamp TEXT, size INTEGER, content_type TEXT, etag TEXT, modified TEXT,
    deleted INTEGER)
"""
_PAGE_ROWS = 10_000
_PUT = "INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?, ?, ?)"
_FIND = "SELECT name, timestamp, size, content_type, etag, modified FROM object WHERE name = ?"
_LIST = """
SELECT name, timestamp, size, content_type, etag, modified FROM object
WHERE deleted = 0 AND name > ? AND substr(name, 1, ?) = ? ORDER BY name LIMIT ?
"""


class FiledSink:
    """See `lustack.sync.sinks.protocol.Sink`.

    Attributes:
        directory: of the databases.
    """

    def __init__(self, directory):
        os.makedirs(directory, exist_ok=True)
        self.directory = str(directory)

    def path(self, account, container):
        return os.path.join(self.directory, f"{quote(account, '')},{quote(container, '')}.db")

    def close(self):
        pass

    def has_account(self, account):
        return any(name.startswith(quote(account, "") + ",") for name in os.listdir(self.directory))

    def list_containers(self, account, marker):
        keys = [unquote(name).removesuffix(".db").partition(",") for name in os.listdir(self.directory)]
        found = sorted(container for each, _, container in keys if each == account)
        return [name for name in found if name > marker and not name.endswith("-journal")]

    def get_state(self, key):
        if not os.path.exists(self.path(*key)):
            return ContainerState(Presence.UNKNOWN)
        return ContainerState(Presence.EXISTS, 0, len(self.list_rows(key, "", "").rows))

    def create(self, key, policy_index):
        with self._opened(key, must_exist=False) as database:
            database.execute(_SCHEMA)

    def list_rows(self, key, marker, prefix):
        with self._opened(key) as database:
            found = database.execute(_LIST, (marker, len(prefix), prefix, _PAGE_ROWS)).fetchall()
        rows = []
        for sent in map(SentRow._make, found):
            content_type, size_bytes = show(sent)
            rows.append(ListedRow(sent.name, size_bytes, content_type, sent.etag, sent.modified))
        return Page(rows, len(rows) < _PAGE_ROWS)

    def send(self, key, rows):
        with self._opened(key) as database:
            merged = FakeContainer()
            for row in rows:
                before = database.execute(_FIND, (row.name,)).fetchone()
                if before is not None and row.name not in merged.rows:
                    merged.rows[row.name] = SentRow._make(before)
                merged.merge(row)
            database.executemany(_PUT, [(*row, row.is_deleted) for row in merged.rows.values()])

    @contextmanager
    def _opened(self, key, *, must_exist=True):
        path = self.path(*ContainerKey(*key))
        if must_exist and not os.path.exists(path):
            raise ContainerGoneError(str(key))
        database = sqlite3.connect(path, timeout=60)
        try:
            # A container server asks for it to be on the disk, which no kill of a process can show.
            database.execute("PRAGMA synchronous = OFF")
            with database:
                database.execute("BEGIN IMMEDIATE")
                yield database
        finally:
            database.close()
