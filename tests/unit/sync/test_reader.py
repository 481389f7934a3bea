# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import pytest
from tests.engines import Steps
from tests.unit.sync.test_board import changed

from lustack.sync.errors import DeviceMissingError, StateError
from lustack.sync.sources.fake import FakeSource
from lustack.sync.sources.protocol import Guarantees, SourceLostError, SourceUnavailableError

INCOMPLETE = Guarantees(complete=False, across_hosts=True, latency_s=0.0)


class Flaky(FakeSource):
    """Fails on demand; what is to come happens when it is read."""

    error = None
    refusals = 0
    to_come = ()

    def open(self, position):
        if self.refusals:
            self.refusals -= 1
            raise SourceUnavailableError(self.name, "try later")
        super().open(position)

    def read(self, timeout_s):
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if self._is_open:
            self.happen(*self.to_come)
            self.to_come = ()
        return super().read(timeout_s)


@pytest.fixture
def stop():
    return threading.Event()


def run(steps, stop, *events):
    """Runs the reader until it has read these."""
    take = steps.board.take

    def stopping(*arguments, **named):
        take(*arguments, **named)
        stop.set()

    steps.board.take = stopping
    steps.source.to_come = events
    steps.reader.run(stop)


def test_a_source_goes_on_where_it_was(playground):
    steps = Steps(playground)
    steps.begin()
    steps.happen(changed("a/c/x"))
    steps.work()
    steps.read()
    source = steps.source
    assert playground.state.position("fake") == "1"
    source.happen(changed("a/c/y", is_new=True))
    again = Steps(playground, source)
    again.reader._open_first()
    assert not again.board.book.wants_tree()
    again.read()
    again.work()
    # What the run before may have listed is not new.
    assert [row.name for row in playground.sink.containers["a", "c"].rows.values()] == ["x", "y"]
    again.read()
    again.happen(changed("a/c/z", is_new=True))
    again.work()
    assert again.board.counts.short_lived == 1


def test_a_position_is_stored_before_it_is_acknowledged_and_not_too_often(playground):
    steps = Steps(playground)
    steps.begin()
    stored = []
    steps.source.acknowledge = lambda position: stored.append((position, playground.state.position("fake")))
    for number in range(3):
        steps.source.happen(changed(f"a/c/{number}"))
        steps.now.s += 0.6
        steps.reader.read_once()
        steps.send()
    steps.now.s += 0.6
    steps.reader.read_once()
    assert stored == [("1", "1"), ("3", "3")]


def test_a_source_that_knows_only_the_present_is_opened_anew_and_everything_is_compared(playground):
    for _ in range(2):
        steps = Steps(playground, FakeSource(guarantees=INCOMPLETE))
        steps.begin()
        steps.happen(changed("a/c/x"))
        steps.work()
        assert steps.source.acknowledged == 1
        assert playground.state.position("fake") is None
        assert steps.reader.losses == 0


def test_after_a_loss_everything_is_compared(playground, stop):
    steps = Steps(playground, Flaky(most=10))
    steps.source.error = SourceLostError("fake", "too much")
    run(steps, stop, changed("a/c/x"))
    assert steps.reader.losses == 1
    assert steps.board.book.wants_tree()
    assert [str(each) for each in steps.trouble] == ["fake has lost events: too much"]


def test_what_was_lost_while_nobody_watched_is_found_by_a_comparison(playground, stop):
    playground.state.set_position("fake", "0")
    source = Flaky(most=10)
    source.happen(changed("a/c/lost"))
    source.forget()
    steps = Steps(playground, source)
    run(steps, stop, changed("a/c/x"))
    assert steps.reader.losses == 1
    assert len(steps.trouble) == 1


@pytest.mark.parametrize("stored", [True, False])
def test_a_source_that_cannot_be_opened_is_tried_again(playground, stop, monkeypatch, stored):
    if stored:
        playground.state.set_position("fake", "0")
    steps = Steps(playground, Flaky(most=10))
    steps.source.refusals = 3
    waits = []
    monkeypatch.setattr(stop, "wait", waits.append)
    run(steps, stop, changed("a/c/x"))
    assert waits[:2] == [0.0, 1.0]
    assert steps.reader.why_down == ""
    # Who knows where he was goes on there, however late.
    assert steps.board.book.wants_tree() is not stored


def test_who_was_never_here_begins_with_the_oldest_that_is_left_and_compares_everything(playground):
    source = FakeSource(most=10)
    source.happen(changed("a/c/done"), changed("a/c/left", is_new=True), changed("a/c/more", is_new=True))
    source.acknowledged = 1
    steps = Steps(playground, source)
    steps.reader._open_first()
    assert steps.board.book.wants_tree()
    steps.compare()
    steps.read()
    steps.work()
    # What another daemon may have listed is not new.
    assert [row.name for row in playground.sink.containers["a", "c"].rows.values()] == ["left", "more"]


@pytest.mark.parametrize("error", [DeviceMissingError("/d", "gone"), StateError("/s", "full")])
def test_other_trouble_is_told_and_the_source_opened_again(playground, stop, error):
    steps = Steps(playground, Flaky(most=10))
    steps.source.error = error
    run(steps, stop, changed("a/c/x"))
    assert steps.trouble == [error]
    assert steps.board.book.wants_tree()
