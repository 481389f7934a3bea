# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from tests.listings import KEY

from lustack.sync.drift import Suspect
from lustack.sync.errors import StateError
from lustack.sync.journal import Journal, Progress
from lustack.sync.plan import delete
from lustack.sync.problems import Kind, Problem
from lustack.sync.state import Cursor, Scope


def test_what_was_written_is_read_again(tmp_path):
    progress = Progress(
        Cursor(0, "a", "c", "n\udcff"),
        is_compared=True,
        names=7,
        containers=2,
        suspects=[Suspect("/d", KEY, delete("n", 0))],
        notes=[("a/c", "why")],
        failures=[("no", True)],
        again=[("a", "c", "p/")],
    )
    progress.summary.add(Problem(Kind.MOVING, "a/c/o"))
    journal = Journal(str(tmp_path), Scope("a"))
    journal.save(progress)
    assert Journal(str(tmp_path), Scope("a")).load() == progress
    assert Journal(str(tmp_path), Scope("a", "c")).load() == Progress()
    journal.forget()
    journal.forget()
    assert journal.load() == Progress()


@pytest.mark.parametrize("content", ["", "[]", '{"version": 2}', '{"version": 1}', "{}", "\x00"])
def test_what_nobody_can_read_is_a_new_beginning(tmp_path, content):
    journal = Journal(str(tmp_path), Scope())
    with open(journal.path, "w", encoding="ascii") as file:
        file.write(content)
    assert journal.load() == Progress()


def test_a_directory_that_is_missing_is_named(tmp_path):
    with pytest.raises(StateError, match="fsck-"):
        Journal(str(tmp_path / "gone"), Scope()).save(Progress())
