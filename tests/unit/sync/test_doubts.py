# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest
from tests.engines import Steps
from tests.unit.sync.test_board import changed

from lustack.posix.kernel import filesystem_type
from lustack.sync.doubts import Doubts, is_at_rest


@pytest.fixture
def steps(playground):
    found = Steps(playground)
    found.begin()
    return found


@pytest.fixture
def doubts(steps, playground):
    return Doubts(steps.board, {0: str(playground.root)})


def held(steps):
    with steps.board.locked():
        return steps.board.dirty.count()[1]


def hold(steps, *names):
    steps.happen(*(changed(f"a/c/{name}", is_open=True) for name in names))


def test_a_file_that_nobody_writes_to_is_listed_after_a_second(steps, doubts, playground):
    playground.write("truncated", b"x")
    hold(steps, "truncated")
    doubts.ask()
    assert held(steps) == 1
    steps.now.s += 1.0
    doubts.ask()
    assert held(steps) == 0
    steps.work()
    assert playground.listed() == ["truncated"]


def test_a_file_that_is_written_to_stays_held_until_it_is_closed(steps, doubts, playground):
    playground.write("growing", b"x")
    playground.write("at-rest", b"x")
    with (playground.container / "growing").open("ab"):
        hold(steps, "growing", "at-rest")
        steps.now.s += 1.0
        doubts.ask()
    assert held(steps) == 1
    # It is not asked about again: its writer will say when it is done.
    steps.now.s += 1.0
    doubts.ask()
    assert held(steps) == 1
    steps.work()
    assert playground.listed() == ["at-rest"]


def test_it_is_not_asked_at_every_tick(steps, doubts, playground):
    playground.write("a", b"x")
    hold(steps, "a")
    for pause_s, count in ((0.9, 1), (0.125, 1), (0.125, 0)):
        steps.now.s += pause_s
        doubts.ask()
        assert held(steps) == count


def test_of_a_crowd_only_some_are_asked_about(steps, doubts, playground):
    names = [f"{number:04d}" for number in range(1005)]
    for name in names:
        playground.write(name, b"x")
    hold(steps, *names[:500])
    hold(steps, *names[500:])
    steps.happen(changed("a/d/a", is_open=True))
    steps.now.s += 2.0
    doubts.ask()
    assert held(steps) == 6


def test_what_is_gone_stays_held(steps, doubts, playground):
    steps.happen(changed("a/c/gone", is_open=True), changed("a/missing/a", is_open=True))
    steps.now.s += 1.0
    doubts.ask()
    assert held(steps) == 2
    hold(steps, "new")
    playground.root.rename(playground.root.with_suffix(".away"))
    steps.now.s += 1.0
    doubts.ask()
    assert held(steps) == 3


def test_what_is_listed_meanwhile_is_not_listed_twice(steps, playground):
    playground.write("a", b"x")
    hold(steps, "a")
    [(container, names)] = steps.board.held(0.0, steps.now.s, 10)
    steps.happen(changed("a/c/a"))
    steps.work()
    requests = list(playground.sink.requests)
    steps.board.release(container, names)
    steps.work()
    assert playground.sink.requests == requests


def test_only_a_regular_file_is_at_rest(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    fd = os.open(tmp_path, os.O_PATH)
    try:
        assert is_at_rest(fd, b"file")
        assert not is_at_rest(fd, b"pipe")
        assert not is_at_rest(fd, b"missing")
    finally:
        os.close(fd)


def test_of_writers_on_other_machines_nobody_knows(steps, doubts, playground, monkeypatch):
    playground.write("a", b"x")
    fd = os.open(playground.root, os.O_PATH)
    monkeypatch.setattr("lustack.sync.doubts.SHARED", {filesystem_type(fd): "shared"})
    os.close(fd)
    hold(steps, "a")
    steps.now.s += 1.0
    doubts.ask()
    assert held(steps) == 1
