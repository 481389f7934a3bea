# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.mapping import names
from lustack.sync import intake as module
from lustack.sync.dirty import DIRECTORY, FILE, NEW, SHIFT, Dirty
from lustack.sync.events import NameChanged, TreeChanged, TreeMoved
from lustack.sync.intake import Intake
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.state import Job, Scope

NONCE = b"f" * 32
LONG = "l" * 256


@pytest.fixture
def dirty():
    return Dirty(10**6, 0.0)


@pytest.fixture
def intake(dirty):
    return Intake(0, dirty)


def take(intake, *events, window=1, is_past=False):
    return intake.take(events, window, 0.0, is_past=is_past)


def names_in(dirty, account="a", container="c"):
    return dirty.container(0, ContainerKey(account, container)).names


def test_names_go_to_their_container_and_keep_the_first_window(intake, dirty):
    take(intake, NameChanged(b"a/c/x"), NameChanged(b"a/c/d/y", is_directory=True))
    take(intake, NameChanged(b"a/c/x", is_directory=True, is_new=True), NameChanged(b"a/c2/x"), window=2)
    assert names_in(dirty) == {b"x": (1 << SHIFT) | FILE | DIRECTORY, b"d/y": (1 << SHIFT) | DIRECTORY}
    assert names_in(dirty, "a", "c2") == {b"x": (2 << SHIFT) | FILE}
    assert dirty.oldest() == 1


def test_what_is_new_is_only_believed_of_what_no_earlier_run_has_seen(intake, dirty):
    take(intake, NameChanged(b"a/c/x", is_new=True))
    take(intake, NameChanged(b"a/c/y", is_new=True), is_past=True)
    assert names_in(dirty) == {b"x": (1 << SHIFT) | FILE | NEW, b"y": (1 << SHIFT) | FILE}


@pytest.mark.parametrize(("account", "container"), [(LONG, "c"), ("a", LONG), ("a", "\0hidden")])
def test_containers_with_odd_paths_are_found(intake, dirty, account, container):
    for _ in range(2):
        take(intake, NameChanged(names.container_path(account, container) + b"/x"))
    assert list(names_in(dirty, account, container)) == [b"x"]


def test_what_is_in_no_container_is_dropped(intake, dirty):
    paths = [
        b"",
        b"file",
        b"a/file",
        b"\xff/c/x",
        b"\xff/c/y",
        b".lustack/locks/00/1",
        b"a/c/.lustack.tmp.1",
        b"a/\xff",
    ]
    taken = take(intake, *map(NameChanged, paths))
    assert dirty.oldest() is None
    assert taken.jobs == []


def test_a_container_is_not_taken_for_one_whose_name_is_shorter(intake, dirty):
    take(intake, NameChanged(b"ab/c/x"))
    taken = take(intake, NameChanged(b"ab/cd", is_directory=True, is_new=True))
    assert taken.jobs == [Job(Scope("ab", "cd", owner="events"), "container")]
    assert list(names_in(dirty, "ab", "c")) == [b"x"]


def test_directories_of_accounts_and_containers_make_jobs(intake):
    taken = take(intake, NameChanged(b"a", is_directory=True), NameChanged(b"a/c", is_directory=True))
    assert taken.jobs == [Job(Scope("a", owner="events"), "gone"), Job(Scope("a", "c", owner="events"), "gone")]


def test_trees_make_jobs_and_the_directory_itself_is_looked_at(intake, dirty):
    taken = take(
        intake, TreeMoved(b"a/c/d", b"a/c2/e"), TreeChanged(b""), TreeChanged(b"a/c"), TreeChanged(b".lustack")
    )
    assert taken.jobs == [
        Job(Scope("a", "c", "d/", "events"), "moved"),
        Job(Scope("a", "c2", "e/", "events"), "moved"),
        Job(Scope(owner="events"), "changed"),
        Job(Scope("a", "c", "", "events"), "changed"),
    ]
    assert names_in(dirty) == {b"d": (1 << SHIFT) | DIRECTORY}
    assert names_in(dirty, "a", "c2") == {b"e": (1 << SHIFT) | DIRECTORY}


def test_who_waits_is_noticed(intake):
    assert take(intake, NameChanged(b".lustack/fence/" + NONCE, is_new=True)).nonces == [NONCE]


def test_what_is_remembered_of_paths_is_bounded(dirty, monkeypatch):
    monkeypatch.setattr(module, "_MOST_KNOWN", 2)
    intake = Intake(0, dirty)
    for number in range(5):
        take(intake, NameChanged(b"a/%d/x" % number))
    assert len(intake._known) <= 2


def test_a_container_that_was_forgotten_is_not_used_again(intake, dirty):
    """There would be two of the same name, each with names of its own."""
    dirty.most_idle = 0
    take(intake, NameChanged(b"a/c/x"))
    used = dirty.container(0, ContainerKey("a", "c"))
    used.swap(1)
    used.land(is_done=True)
    dirty.take(1.0)
    dirty.rest(used)
    take(intake, NameChanged(b"a/c/y"), window=2)
    assert names_in(dirty) == {b"y": (2 << SHIFT) | FILE}
    assert used.names == {}
