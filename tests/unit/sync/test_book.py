# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.sync import book as module
from lustack.sync.book import CONTAINER, LOST, OVERLOAD, TREE, Book
from lustack.sync.state import Cursor, Job, Scope


@pytest.fixture
def book(playground):
    return Book(playground.state)


def scope(container="c", prefix="", account="a"):
    return Scope(account, container, prefix, "events")


def stored(playground):
    return [job.scope for job in (*playground.state.jobs("daemon"), *playground.state.jobs("events"))]


def test_jobs_are_done_in_order_and_each_once(book, playground):
    book.ask([Job(scope(prefix="x/"), "moved"), Job(scope(prefix="y/"), "moved"), Job(scope(prefix="x/"), "moved")])
    assert stored(playground) == [scope(prefix="x/"), scope(prefix="y/")]
    assert book.oldest() == 1
    first = book.take(0.0)
    second = book.take(0.0)
    assert (first.scope.prefix, second.scope.prefix, book.take(0.0)) == ("x/", "y/", None)
    book.done(second)
    book.done(first)
    assert (len(book), book.oldest()) == (0, None)


def test_what_is_asked_for_while_it_runs_is_done_again(book, playground):
    book.ask([Job(scope(), "moved")])
    entry = book.take(0.0)
    playground.state.begin(scope())
    book.ask([Job(scope(), "changed")])
    assert book.oldest() == 1
    playground.state.finish(scope())
    book.done(entry)
    assert stored(playground) == [scope()]
    assert book.oldest() == 2
    assert book.take(0.0) is entry


def test_what_could_not_be_done_is_tried_again_later_and_later(book, playground):
    book.ask([Job(scope(), "moved")])
    waits = []
    now_s = 0.0
    for _ in range(8):
        entry = book.take(now_s)
        book.retry(entry, now_s)
        assert book.take(now_s) is None
        waits.append(entry.wait_s)
        now_s += entry.wait_s
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    playground.state.begin(scope())
    playground.state.advance(scope(), Cursor(0, "a", "c", "x"))
    book.ask([Job(scope(), "changed")])
    assert playground.state.jobs("events") == [Job(scope(), "changed")]


def test_nobody_waits_for_what_waits_for_its_container(book):
    book.ask([Job(scope(), CONTAINER)])
    book.retry(book.take(0.0), 0.0, is_waiting=True)
    assert book.oldest() is None
    book.ask([Job(scope(prefix="x/"), "moved"), Job(scope("d"), "moved")])
    assert [entry.scope for entry in book.entries()] == [scope(), scope("d")]


def test_what_a_job_will_do_anyway_is_not_asked_for(book, playground):
    for broader in (scope(), scope(""), Scope()):
        book.ask([Job(broader, LOST)])
        book.ask([Job(scope(prefix="x/"), "moved")])
    assert stored(playground) == [TREE, scope(), scope("")]
    assert book.wants_tree()


def test_the_jobs_of_the_run_before_are_taken_over(book, playground):
    book.ask([Job(scope(prefix="x/"), "moved"), Job(scope("d"), "moved"), Job(Scope(), LOST)])
    playground.state.begin(scope("d"))
    playground.state.advance(scope("d"), Cursor(0, "a", "d", "n"))
    again = Book(playground.state)
    again.load()
    assert [(entry.scope, entry.is_begun) for entry in again.entries()] == [
        (TREE, False),
        (scope(prefix="x/"), False),
        (scope("d"), True),
    ]
    assert again.oldest() == 0


def test_many_jobs_become_few(book, playground, monkeypatch):
    monkeypatch.setattr(module, "_MOST_OF_CONTAINER", 3)
    monkeypatch.setattr(module, "_MOST", 5)
    book.ask([Job(scope(prefix="run/"), "moved")])
    running = book.take(0.0)
    book.ask([Job(scope(prefix=f"{number}/"), "moved") for number in range(3)])
    assert [entry.scope for entry in book.entries()] == [running.scope, scope()]
    assert book.precision() == "containers"
    book.ask([Job(scope(f"c{number}"), "moved") for number in range(5)])
    assert [entry.scope for entry in book.entries()] == [running.scope, TREE]
    assert sorted(stored(playground), key=str) == sorted([running.scope, TREE], key=str)
    assert book.precision() == "tree"


def test_the_precision_is_that_of_the_least_precise(book):
    assert book.precision() == "names"
    book.ask([Job(scope(prefix="x/"), "moved")])
    assert book.precision() == "names"
    book.ask([Job(scope(prefix="y/"), OVERLOAD)])
    assert book.precision() == "directories"
    book.ask([Job(scope(), OVERLOAD), Job(scope("d", "z/"), OVERLOAD)])
    assert book.precision() == "containers"


def test_everything_is_compared_by_its_own_thread(book):
    book.ask([Job(Scope(), LOST)])
    assert book.take(0.0) is None
    entry = book.take_tree()
    book.ask([Job(Scope(), LOST)])
    book.done(entry)
    assert book.wants_tree()
    book.done(book.take_tree())
    assert not book.wants_tree()
    book.done(book.take_tree())
