# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import shutil

import pytest
from tests.engines import Steps
from tests.listings import KEY
from tests.unit.sync.test_board import changed

from lustack.sync.errors import DeviceMissingError, SwiftRefusedError, SwiftUnavailableError
from lustack.sync.sinks.fake import FakeContainer
from lustack.sync.sinks.protocol import ContainerKey, Presence
from lustack.sync.state import Scope


@pytest.fixture
def steps(playground):
    found = Steps(playground)
    found.begin()
    return found


def scopes(steps):
    return [entry.scope for entry in steps.board.book.entries()]


def test_what_changed_is_listed_and_counted(steps, playground):
    # What waited in the source from before is read to its end: from here on what came and went was never listed.
    steps.read()
    playground.write("a", b"x")
    playground.put("swift", b"x", "2000000000.00000")
    steps.happen(changed("a/c/a"), changed("a/c/swift"), changed("a/c/gone"), changed("a/c/short", is_new=True))
    steps.happen(changed("a/c/a"))
    steps.work()
    assert playground.listed() == ["a", "swift"]
    assert steps.unhashed == ["a"]
    counts = steps.board.counts
    assert (counts.events, counts.self_events) == (5, 1)
    assert steps.source.acknowledged == 5
    assert playground.sink.requests == [3]


def test_several_threads_may_run_it(steps, playground):
    playground.write("a", b"x")
    steps.happen(changed("a/c/a"))
    steps.board.settle = lambda container, is_done: steps.board.stop()
    steps.sender.run()
    assert playground.listed() == ["a"]


def test_what_swift_could_not_take_is_sent_later(steps, playground):
    playground.write("a")
    steps.happen(changed("a/c/a"))
    playground.sink.failures = 1
    assert steps.send()
    assert [type(each) for each in steps.trouble] == [SwiftUnavailableError]
    steps.read()
    assert steps.source.acknowledged == 0
    steps.now.s += 10.0
    steps.work()
    assert playground.listed() == ["a"]
    assert steps.source.acknowledged == 1


def test_what_swift_refuses_is_told_and_not_sent_again(steps, playground):
    def refuse(key, rows):
        raise SwiftRefusedError("UPDATE", 400)

    playground.sink.send = refuse
    steps.happen(changed("a/c/a"))
    steps.work()
    assert [type(each) for each in steps.trouble] == [SwiftRefusedError]
    assert steps.source.acknowledged == 1


def test_rows_of_a_container_that_swift_does_not_know_are_left_to_a_job(steps, playground):
    (playground.root / "a" / "new").mkdir()
    (playground.root / "a" / "new" / "x").touch()
    steps.happen(changed("a/new/x"))
    assert steps.send()
    assert scopes(steps) == [Scope("a", "new", "", "events")]
    steps.work()
    assert playground.listed(ContainerKey("a", "new")) == ["x"]
    assert steps.trouble == []


def test_a_container_of_another_policy_is_left_alone(steps, playground):
    playground.sink.containers[KEY] = FakeContainer(policy_index=7)
    playground.write("x")
    steps.happen(changed("a/c/x"))
    steps.work()
    assert playground.listed() == []
    assert steps.source.acknowledged == 1
    playground.sink.containers[KEY] = FakeContainer()
    steps.now.s += 60.0
    steps.happen(changed("a/c/x"))
    steps.work()
    assert playground.listed() == ["x"]


def test_on_another_file_system_nothing_is_done(steps, playground):
    playground.write("x")
    steps.happen(changed("a/c/x"))
    steps.work()
    mark = playground.root / ".lustack"
    mark.rename(playground.root / "old")
    mark.mkdir()
    (playground.container / "x").unlink()
    steps.happen(changed("a/c/x"))
    assert steps.send()
    assert [type(each) for each in steps.trouble] == [DeviceMissingError]
    assert playground.listed() == ["x"]
    mark.rmdir()
    (playground.root / "old").rename(mark)
    steps.now.s += 10.0
    steps.work()
    assert playground.listed() == []


def test_before_a_device_is_known_nothing_is_deleted(playground):
    playground.write("x")
    playground.write("y")
    playground.compare()
    steps = Steps(playground)
    steps.reader._open_first()
    playground.write("z")
    (playground.container / "x").unlink()
    steps.happen(changed("a/c/x"), changed("a/c/z"))
    assert steps.send()
    assert playground.listed() == ["x", "y", "z"]
    steps.compare()
    steps.work()
    assert playground.listed() == ["y", "z"]


def test_what_cannot_be_looked_at_is_left_to_a_job(steps, playground, monkeypatch):
    playground.write("d/x")
    steps.happen(changed("a/c/d/x"))
    real = os.stat

    def stat(path, **options):
        if path == b"x":
            raise OSError(errno.EIO, "broken")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert steps.send()
    monkeypatch.undo()
    assert scopes(steps) == [Scope("a", "c", "d/", "events")]
    steps.work()
    assert playground.listed() == ["d/x"]


def test_with_its_directory_goes_what_was_in_a_container(steps, playground):
    playground.write("x")
    steps.happen(changed("a/c/x"))
    steps.work()
    shutil.rmtree(playground.container)
    steps.happen(changed("a/c/x"))
    steps.work()
    assert playground.listed() == []


def test_deletions_go_to_a_doomed_container(steps, playground):
    playground.sink.containers[KEY] = FakeContainer(presence=Presence.DOOMED)
    steps.happen(changed("a/c/x"))
    steps.work()
    assert playground.sink.requests == [1]
