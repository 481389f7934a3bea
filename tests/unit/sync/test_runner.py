# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from tests.engines import Steps
from tests.listings import KEY, Notebook
from tests.unit.sync.test_board import changed

from lustack.mapping.names import RelPath
from lustack.sync.errors import DeviceMissingError, MassDeletionError, SwiftUnavailableError
from lustack.sync.events import TreeChanged, TreeMoved
from lustack.sync.runner import KeptJobs
from lustack.sync.sinks.protocol import ContainerKey, Presence
from lustack.sync.state import Scope

NEW = ContainerKey("a", "new")


@pytest.fixture
def steps(playground):
    found = Steps(playground)
    found.begin()
    return found


def directory(name):
    return changed(name, is_directory=True)


def make(playground, path):
    place = playground.root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()


def test_a_moved_directory_is_listed_under_its_new_name(steps, playground):
    for number in range(5):
        playground.write(f"d/{number}")
    playground.write("x")
    steps.happen(TreeChanged(RelPath(b"a/c")))
    steps.work()
    (playground.container / "d").rename(playground.container / "e")
    steps.happen(TreeMoved(RelPath(b"a/c/d"), RelPath(b"a/c/e")))
    steps.work()
    assert playground.listed() == [*(f"e/{number}" for number in range(5)), "x"]
    assert playground.state.jobs("events") == []


def test_runs_until_the_board_is_stopped(steps, playground):
    playground.write("x")
    steps.happen(TreeChanged(RelPath(b"a/c")))
    steps.board.finish = lambda entry: steps.board.stop()
    steps.runner.run(steps.tools)
    assert playground.listed() == ["x"]


def test_a_new_directory_becomes_a_container_and_one_that_is_known_is_not_compared(steps, playground):
    make(playground, "a/new/x")
    playground.write("unseen")
    steps.happen(directory("a/new"), directory("a/c"), directory("a"))
    steps.work()
    assert playground.listed(NEW) == ["x"]
    assert playground.listed() == []


def test_the_listing_of_a_directory_that_went_is_emptied(steps, playground):
    playground.write("x")
    steps.happen(changed("a/c/x"))
    steps.work()
    shutil.rmtree(playground.root / "a")
    steps.happen(directory("a/c"))
    steps.work()
    assert playground.listed() == []
    steps.happen(directory("a"))
    steps.work()
    assert playground.state.jobs("events") == []


@pytest.mark.parametrize("presence", [Presence.DELETED, None])
def test_a_container_that_does_not_exist_waits_until_it_does(steps, playground, presence):
    steps.runner.settings = replace(steps.runner.settings, adopt_containers=False)
    if presence:
        playground.sink.create(NEW, 0)
        playground.sink.containers[NEW].presence = presence
    make(playground, "a/new/x")
    steps.happen(changed("a/new/x"))
    steps.work()
    steps.now.s += 100.0
    steps.work()
    assert len(playground.state.jobs("events")) == 1
    make(playground, "a/new/y")
    steps.happen(changed("a/new/y"))
    playground.sink.create(NEW, 0)
    steps.now.s += 100.0
    steps.work()
    assert playground.listed(NEW) == ["x", "y"]
    assert playground.state.jobs("events") == []


def test_what_is_gone_before_it_could_become_a_container_is_forgotten(steps, playground):
    make(playground, "a/new/x")
    steps.happen(directory("a/new"))
    shutil.rmtree(playground.root / "a" / "new")
    steps.work()
    assert playground.state.jobs("events") == []
    assert NEW not in playground.sink.containers


def test_an_account_that_does_not_exist_waits_too(steps, playground):
    make(playground, "b/c/x")
    steps.happen(directory("b"), changed("b/c/x"))
    steps.work()
    assert [job.scope for job in playground.state.jobs("events")] == [Scope("b", "", "", "events")]
    playground.sink.accounts.add("b")
    steps.now.s += 100.0
    steps.work()
    assert playground.listed(ContainerKey("b", "c")) == ["x"]


def test_a_whole_account_can_be_compared(steps, playground):
    make(playground, "a/new/x")
    playground.write("y")
    steps.happen(TreeChanged(RelPath(b"a")))
    steps.work()
    assert (playground.listed(NEW), playground.listed()) == (["x"], ["y"])


def test_trouble_is_told_and_the_job_done_later(steps, playground):
    playground.write("x")
    playground.sink.failures = 1
    steps.happen(TreeChanged(RelPath(b"a/c")))
    assert steps.do_job()
    assert not steps.do_job()
    assert [type(each) for each in steps.trouble] == [SwiftUnavailableError]
    assert len(playground.state.jobs("events")) == 1
    steps.now.s += 10.0
    steps.work()
    assert playground.listed() == ["x"]


def test_a_job_of_a_device_that_is_away_waits_for_it(steps, playground):
    playground.write("x")
    steps.happen(TreeChanged(RelPath(b"a/c")))
    playground.root.rename(playground.base / "away")
    assert steps.do_job()
    assert [type(each) for each in steps.trouble] == [DeviceMissingError]
    (playground.base / "away").rename(playground.root)
    steps.now.s += 10.0
    steps.work()
    assert playground.listed() == ["x"]


def test_what_a_human_must_decide_is_told_and_not_tried_again(steps, playground):
    for number in range(3):
        playground.write(str(number))
    steps.happen(TreeChanged(RelPath(b"a/c")))
    steps.work()
    steps.runner.settings = replace(steps.runner.settings, missing_rows=1)
    shutil.rmtree(playground.container)
    steps.happen(TreeChanged(RelPath(b"a/c")))
    steps.work()
    assert [type(each) for each in steps.trouble] == [MassDeletionError]
    assert playground.state.jobs("events") == []
    assert len(playground.listed()) == 3


@pytest.mark.parametrize("event", [directory("a/c"), TreeMoved(RelPath(b"a/c"), RelPath(b"a/new"))])
def test_whoever_is_seen_to_take_a_container_away_needs_nobody_to_confirm_it(steps, playground, event):
    for number in range(3):
        playground.write(str(number))
    steps.happen(TreeChanged(RelPath(b"a/c")))
    steps.work()
    steps.runner.settings = replace(steps.runner.settings, missing_rows=1)
    playground.container.rename(playground.root / "a" / "new")
    steps.happen(event)
    steps.work()
    assert (playground.listed(), steps.trouble) == ([], [])


def test_a_job_that_was_stopped_goes_on_later(steps, playground):
    playground.write("x")
    steps.happen(TreeChanged(RelPath(b"a/c")))
    playground.notebook = Notebook(stop_after=0)
    playground.settings = replace(playground.settings, batch_rows=1)
    steps.runner.settings = replace(steps.runner.settings, batch_rows=1)
    assert steps.do_job()
    assert len(playground.state.jobs("events")) == 1
    assert steps.trouble == []
    playground.notebook = Notebook()
    steps.now.s += 10.0
    steps.work()
    assert playground.listed() == ["x"]


def test_a_comparison_may_not_forget_its_job_itself(playground):
    kept = KeptJobs(playground.state)
    scope = Scope(KEY.account, KEY.container)
    cursor = kept.begin(scope)
    kept.advance(scope, replace(cursor, name="x"))
    kept.finish(scope)
    assert kept.begin(scope).name == "x"
