# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

import pytest
from tests.exported import damage, export, read, rewrite

from lustack.exports.table import FRESH_S
from lustack.mapping.exports import Stage
from lustack.sync.errors import StoppedError, SwiftUnavailableError, UnreadableError
from lustack.sync.importing import OWNER, Importer
from lustack.sync.state import Scope
from lustack.sync.survey import Options, Report


@dataclass
class Desk:
    """An importer and what it did.

    Attributes:
        playground: its device and its Swift.
        done: what happened, in order.
        answer: what a comparison returns or raises; None: it is really made.
    """

    playground: object
    done: list[str] = field(default_factory=list)
    answer: object = None

    def compare(self, scope: Scope) -> Report:
        assert scope.owner == OWNER
        self.done.append(f"compare {scope.account}/{scope.container}")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or self.playground.survey().run(scope, Options())

    def importer(self) -> Importer:
        devices = [str(self.playground.root)]
        return Importer(devices, self.compare, self.done.append, lambda: self.done.append("changed"))


@pytest.fixture
def desk(playground) -> Desk:
    return Desk(playground)


@pytest.fixture
def found(playground):
    found = export(playground.root, playground.base / "x")
    (playground.base / "x" / "o").touch()
    return found


def test_without_exports_there_is_nothing_to_do(desk):
    assert desk.importer().turn()
    assert desk.done == []


def test_who_watches_is_told_before_anything_is_imported(desk, found):
    assert not desk.importer().turn()
    assert desk.done == ["changed", "compare a/e"]
    assert read(desk.playground.root).get("a", "e").stage is Stage.READY
    assert [*desk.playground.sink.containers[("a", "e")].shown()] == ["o"]


def test_what_is_ready_is_left_to_the_others(desk, found):
    rewrite(desk.playground.root, replace(found, stage=Stage.READY))
    assert desk.importer().turn()
    assert desk.done == ["changed"]


def test_one_that_leaves_is_compared_as_well(desk, found):
    desk.importer().turn()
    rewrite(desk.playground.root, replace(found, stage=Stage.LEAVING))
    desk.importer().turn()
    assert not read(desk.playground.root)


def test_nobody_has_to_watch(desk, found):
    Importer([str(desk.playground.root)], desk.compare, desk.done.append).turn()
    assert desk.done == ["compare a/e"]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (SwiftUnavailableError("PUT", []), "too few servers answered"),
        (Report(errors=[UnreadableError("a/e", "I/O error")]), "the directory of a/e cannot be read"),
    ],
)
def test_trouble_is_told_and_met_again(desk, found, answer, sentence):
    desk.answer = answer
    assert not desk.importer().turn()
    assert sentence in desk.done[-1]


def test_who_is_stopped_says_nothing(desk, found):
    desk.answer = StoppedError()
    assert not desk.importer().turn()
    assert desk.done == ["changed", "compare a/e"]


def test_one_that_came_back_is_compared_because_nobody_watched_it(desk, found):
    importer = desk.importer()
    importer.turn()
    directory = desk.playground.base / "x"
    directory.rename(directory.parent / "away")
    time.sleep(FRESH_S)
    desk.done.clear()
    assert importer.turn()
    assert importer.turn()
    said, *told = desk.done
    assert said.endswith("cannot be used: No such file or directory")
    assert told == ["changed", said]
    (directory.parent / "away").rename(directory)
    desk.done.clear()
    assert not importer.turn()
    assert importer.turn()
    assert desk.done == ["changed", "compare a/e"]


def test_one_that_is_away_before_it_is_imported_waits(desk, found):
    (desk.playground.base / "x").rename(desk.playground.base / "away")
    importer = desk.importer()
    for _ in range(2):
        assert importer.turn()
    assert not [each for each in desk.done if each.startswith("compare")]
    (desk.playground.base / "away").rename(desk.playground.base / "x")
    importer.turn()
    assert desk.done[-1] == "compare a/e"


def test_a_damaged_table_is_told(desk, found):
    damage(desk.playground.root)
    assert not desk.importer().turn()
    [sentence] = desk.done
    assert "the table of exports is damaged" in sentence


def test_a_device_that_is_away_is_the_business_of_comparisons(desk, found):
    importer = desk.importer()
    desk.playground.root.rename(desk.playground.base / "away")
    assert importer.turn()
    assert desk.done == []
    (desk.playground.base / "away").rename(desk.playground.root)
    importer.turn()
    assert desk.done == ["changed", "compare a/e"]


@dataclass
class Waits(threading.Event):
    """An event whose waits take no time; set after so many."""

    left: int

    def __post_init__(self) -> None:
        super().__init__()
        self.waited_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited_s.append(timeout or 0.0)
        self.left -= 1
        return self.left < 0


def test_it_looks_twice_a_second_and_less_often_while_there_is_trouble(desk, found):
    desk.answer = Report()
    stop = Waits(9)
    desk.importer().run(stop)
    assert stop.waited_s == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]
    rewrite(desk.playground.root)
    stop = Waits(2)
    desk.importer().run(stop)
    assert stop.waited_s == [0.5, 0.5, 0.5]
