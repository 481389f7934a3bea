# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sqlite3

import pytest

from lustack.sync.errors import StateError
from lustack.sync.state import Cursor, Job, Scope, State


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "deep" / "state.sqlite")


@pytest.fixture
def state(path):
    found = State(path)
    yield found
    found.close()


def test_a_job_goes_on_where_it_was(path):
    scope = Scope("a", "c", "p")
    state = State(path)
    assert state.begin(scope) == Cursor()
    state.advance(scope, Cursor(1, "a", "c", "\0name"))
    state.close()
    state = State(path)
    assert state.begin(scope) == Cursor(1, "a", "c", "\0name")
    state.finish(scope)
    assert state.begin(scope) == Cursor()
    state.close()


def test_jobs_of_other_scopes_and_owners_are_other_jobs(state):
    scopes = [Scope(), Scope("a"), Scope("a", "c"), Scope("a", "c", "p"), Scope(owner="daemon")]
    for number, scope in enumerate(scopes):
        state.begin(scope)
        state.advance(scope, Cursor(number))
    assert [state.begin(scope).policy for scope in scopes] == list(range(5))


def test_accounts_are_remembered_by_policy(state):
    state.add_accounts(0, {"a", "b"})
    state.add_accounts(0, {"b", "c"})
    state.add_accounts(1, {"d"})
    assert state.accounts(0) == {"a", "b", "c"}
    assert state.accounts(2) == set()


def test_a_device_is_remembered(state):
    assert state.device(0) is None
    state.set_device(0, 7)
    state.set_device(0, 8)
    assert (state.device(0), state.device(1)) == (8, None)


def test_the_latest_timestamp_never_goes_back(state):
    assert state.latest_ns() == 0
    state.raise_latest(5)
    state.raise_latest(3)
    assert state.latest_ns() == 5


def test_a_database_of_another_version_is_refused(path, state):
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StateError, match="version 99"):
        State(path)


def test_what_is_no_database_is_refused(tmp_path):
    path = tmp_path / "state.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StateError, match="cannot be used: file is not a database"):
        State(str(path))


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"File exists|Not a directory"):
        State(str(tmp_path / "file" / "state.sqlite"))


def test_a_failed_change_leaves_the_database_usable(state):
    with pytest.raises(StateError):
        state.set_device(0, None)
    state.set_device(0, 1)
    assert state.device(0) == 1


EVENTS = [Scope("a", "c", "p/", "events"), Scope("a", "c", "q/", "events"), Scope("a", "d", "", "events")]


def test_what_was_asked_for_survives_and_is_done_in_order(path):
    state = State(path)
    state.enqueue([Job(EVENTS[0], "moved"), Job(EVENTS[1], "changed")])
    state.enqueue([Job(EVENTS[2], "overload")])
    state.begin(EVENTS[0])
    state.advance(EVENTS[0], Cursor(0, "a", "c", "p/x"))
    state.forget([EVENTS[1]])
    state.close()
    state = State(path)
    assert state.jobs("events") == [
        Job(EVENTS[0], "moved", Cursor(0, "a", "c", "p/x")),
        Job(EVENTS[2], "overload"),
    ]
    assert state.jobs("daemon") == []
    state.close()


def test_what_is_asked_for_again_while_it_is_done_is_done_again_from_the_beginning(state):
    scope = EVENTS[0]
    state.enqueue([Job(scope, "moved")])
    state.begin(scope)
    state.enqueue([Job(scope, "changed")])
    state.advance(scope, Cursor(0, "a", "c", "p/z"))
    state.finish(scope)
    assert state.jobs("events") == [Job(scope, "changed")]
    assert state.begin(scope) == Cursor()
    state.finish(scope)
    assert state.jobs("events") == []


def test_a_job_that_nobody_began_here_can_be_given_up(state):
    state.enqueue([Job(EVENTS[0]), Job(EVENTS[0])])
    state.finish(EVENTS[0])
    assert state.jobs("events") == []


def test_a_source_goes_on_where_it_was(state):
    assert state.position("mdt0") is None
    state.set_position("mdt0", "5")
    state.set_position("mdt0", "7")
    state.set_position("mdt1", "1")
    assert (state.position("mdt0"), state.position("mdt1")) == ("7", "1")


def test_the_last_comparison_is_remembered(state):
    assert state.compared_ns() == 0
    state.set_compared(5)
    state.set_compared(9)
    assert state.compared_ns() == 9


def test_a_database_of_version_1_is_carried_on(path, state):
    state.begin(Scope("a", "c", "p"))
    state.advance(Scope("a", "c", "p"), Cursor(1, "a", "c", "n"))
    database = sqlite3.connect(path)
    database.executescript(
        "ALTER TABLE job DROP COLUMN generation; ALTER TABLE job DROP COLUMN why; DROP TABLE source;"
        "DROP TABLE compared; PRAGMA user_version = 1;"
    )
    database.close()
    again = State(path)
    assert again.begin(Scope("a", "c", "p")) == Cursor(1, "a", "c", "n")
    assert again.position("x") is None
    again.close()
