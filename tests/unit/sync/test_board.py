# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from tests.engines import Steps

from lustack.mapping.names import RelPath
from lustack.sync.board import TURN_S
from lustack.sync.book import CONTAINER, LOST, TREE
from lustack.sync.dirty import SHIFT
from lustack.sync.events import NameChanged, TreeMoved
from lustack.sync.state import Job, Scope

NONCE = b"f" * 32


def changed(name, **flags):
    return NameChanged(RelPath(name if isinstance(name, bytes) else name.encode()), **flags)


@pytest.fixture
def steps(playground):
    found = Steps(playground)
    found.begin()
    return found


@pytest.fixture
def board(steps):
    return steps.board


def test_names_wait_for_a_sender(steps, board):
    with ThreadPoolExecutor(1) as executor:
        taken = executor.submit(board.next_batch)
        steps.happen(changed("a/c/x"))
        container, batch = taken.result()
        assert batch == {b"x": 1 << SHIFT | 4}
        board.settle(container, is_done=True)
        assert board.done(steps.reader.windows) == "1"
        waiting = executor.submit(board.next_batch)
        board.stop()
        assert waiting.result() is None
    assert board.next_job() is None


def test_it_is_busy_until_what_came_was_sent_and_not_for_what_is_held(steps, board):
    steps.happen(changed("a/c/held", is_open=True))
    assert not board.is_busy()
    steps.happen(changed("a/c/x"))
    assert board.is_busy()
    container, _ = board.next_batch()
    assert board.is_busy()
    board.settle(container, is_done=True)
    assert not board.is_busy()


def test_a_batch_that_is_not_ready_yet_is_waited_for(steps, board):
    board.dirty._gather_s = 0.01
    steps.happen(changed("a/c/x"))
    with ThreadPoolExecutor(1) as executor:
        taken = executor.submit(board.next_batch)
        steps.now.s += 1.0
        assert taken.result() is not None


class TestTurns:
    """Two containers have names to be looked at, and somebody looks at the first."""

    @pytest.fixture
    def first(self, steps, board):
        steps.happen(changed("a/c/x"), changed("a/d/y"))
        container, _ = board.next_batch()
        return container

    @pytest.fixture
    def ask(self, board):
        """Asks for a batch in another thread."""
        with ThreadPoolExecutor(2) as executor:
            try:
                yield lambda: executor.submit(board.next_batch)
            finally:
                board.stop()

    def test_nobody_looks_beside_who_is_quick(self, first, ask):
        assert first.is_busy
        assert is_waiting(ask())

    def test_who_has_looked_lets_the_next_one_look(self, board, first, ask):
        second = ask()
        board.looked(first, self_events=2, short_lived=3)
        assert second.result()[0] is not first
        assert (board.counts.self_events, board.counts.short_lived) == (2, 3)

    def test_who_could_not_look_lets_the_next_one_look(self, board, first, ask):
        second = ask()
        board.settle(first, is_done=False)
        assert second.result()[0] is not first

    def test_who_is_slow_is_not_waited_for_and_has_no_turn_any_more(self, steps, board, first, ask):
        steps.happen(changed("a/e/z"))
        second, _ = ask().result()
        third = ask()
        board.looked(first, self_events=0, short_lived=0)
        board.settle(first, is_done=True)
        assert is_waiting(third)
        board.looked(second, self_events=0, short_lived=0)
        assert third.result()[0] not in (first, second)


def is_waiting(asked):
    """Whether somebody still waits, a good while later. The clock of the board stands."""
    return not wait([asked], timeout=3 * TURN_S).done


def test_jobs_wait_for_a_runner(steps, board):
    with ThreadPoolExecutor(1) as executor:
        taken = executor.submit(board.next_job)
        steps.happen(TreeMoved(RelPath(b"a/c/d"), RelPath(b"a/c/e")))
        entry = taken.result()
        assert entry.scope == Scope("a", "c", "d/", "events")
        board.retry(entry)
        assert board.next_job().scope == Scope("a", "c", "e/", "events")
        board.finish(entry)
        waiting = executor.submit(board.next_job)
        board.stop()
        assert waiting.result() is None
    assert board.counts.jobs == 2


def test_what_cannot_be_sent_waits_longer_and_longer(steps, board):
    steps.happen(changed("a/c/x"))
    waits = []
    for _ in range(6):
        container, _ = board.next_batch()
        board.settle(container, is_done=False)
        waits.append(container.wait_s)
        steps.now.s += container.wait_s
    assert waits == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert board.done(steps.reader.windows) is None


def test_without_memory_directories_become_jobs_and_everything_is_acknowledged(playground):
    steps = Steps(playground, memory_bytes=3000)
    steps.begin()
    steps.happen(*[changed(f"a/c/d/{number}") for number in range(20)])
    assert [entry.scope for entry in steps.board.book.entries()] == [Scope("a", "c", "d/", "events")]
    steps.read()
    assert steps.source.acknowledged == 20
    assert steps.board.counts.given_up == 20
    steps.happen(changed("a/c/d/21"))
    assert steps.board.dirty.oldest() is None
    playground.write("d/21")
    steps.work()
    assert playground.listed() == ["d/21"]
    steps.happen(changed("a/c/d/22"))
    assert steps.board.dirty.oldest() is not None


def test_a_container_that_is_given_up_absorbs_until_its_job_begins(steps, board):
    steps.happen(changed("a/c/x"))
    container, _ = board.next_batch()
    board.give_up(container, CONTAINER)
    board.settle(container, is_done=True)
    steps.happen(changed("a/c/y"))
    assert board.dirty.oldest() is None
    entry = board.next_job()
    steps.happen(changed("a/c/y"))
    assert list(container.names) == [b"y"]
    board.retry(entry, is_waiting=True)
    assert not container.names
    board.begin_tree()
    steps.happen(changed("a/c/z"))
    assert list(container.names) == [b"z"]


def test_a_loss_becomes_a_job_and_nothing_of_it_is_acknowledged(steps, board):
    steps.happen(changed("a/c/x"))
    board.lost(steps.reader.windows, Job(TREE, LOST))
    assert board.book.wants_tree()
    steps.work()
    assert steps.source.acknowledged == 0


def test_a_fence_passes_when_names_and_jobs_before_it_are_done(steps, board, playground):
    playground.write("x")
    playground.write("open")
    playground.write("e/y")
    steps.happen(
        changed("a/c/x"),
        changed("a/c/open", is_open=True),
        TreeMoved(RelPath(b"a/c/d"), RelPath(b"a/c/e")),
        changed(b".lustack/fence/" + NONCE),
    )
    steps.happen(changed("a/c/late", is_open=True))
    assert board.tick() == []
    assert steps.send()
    assert board.tick() == []
    assert steps.do_job()
    assert board.tick() == []
    assert steps.do_job()
    assert [each.nonce for each in board.tick()] == [NONCE]
    assert board.tick() == []
    assert playground.listed() == ["e/y", "open", "x"]


def test_what_is_held_is_published_after_a_while(steps, board, playground):
    playground.write("x")
    steps.happen(changed("a/c/x", is_open=True))
    assert not steps.send()
    steps.now.s += 31.0
    assert steps.send()
    assert playground.listed() == ["x"]
