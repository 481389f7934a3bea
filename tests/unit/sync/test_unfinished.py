# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import sqlite3

import pytest

from lustack.sync import unfinished
from lustack.sync.errors import StateError
from lustack.sync.state import FILE, Cursor, Job, Scope, State
from lustack.sync.status import JobStatus


@pytest.fixture
def state(tmp_path):
    found = State(str(tmp_path / FILE))
    yield found
    found.close()


def test_where_no_daemon_ever_worked_there_is_nothing_and_nothing_is_made(tmp_path):
    assert unfinished.read(str(tmp_path)) is None
    assert os.listdir(tmp_path) == []


def test_a_fresh_state_has_nothing_left(tmp_path, state):
    assert unfinished.read(str(tmp_path)) == unfinished.Unfinished({})


def test_jobs_of_the_daemon_are_told_with_how_far_they_are(tmp_path, state):
    state.enqueue([Job(Scope("a", "c", "p/", "events"), "moved")])
    state.begin(Scope(owner="daemon"))
    state.advance(Scope(owner="daemon"), Cursor(0, "a", "d", "name"))
    state.begin(Scope("a", owner="command"))
    state.set_position("changelog", "12")
    state.set_compared(5)
    found = unfinished.read(str(tmp_path))
    assert found.jobs == (JobStatus("a", "c", "p/", "moved"), JobStatus(at_container="d", at_name="name"))
    assert (found.job_count, found.positions, found.compared_ns) == (2, {"changelog": "12"}, 5)


def test_what_a_killed_daemon_had_not_written_back_counts(tmp_path, state):
    """The write-ahead log is still there: nobody closed the database."""
    state.set_position("changelog", "12")
    assert os.path.exists(tmp_path / f"{FILE}-wal")
    assert unfinished.read(str(tmp_path)).positions == {"changelog": "12"}


def test_the_state_of_another_version_is_refused(tmp_path, state):
    database = sqlite3.connect(tmp_path / FILE)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StateError, match="version 99"):
        unfinished.read(str(tmp_path))


def test_what_is_no_database_is_refused(tmp_path):
    (tmp_path / FILE).write_bytes(b"this is no database" * 100)
    with pytest.raises(StateError, match="not a database"):
        unfinished.read(str(tmp_path))
