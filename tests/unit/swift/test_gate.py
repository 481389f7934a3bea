# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from swift.common.concurrency import patcher, sleep, spawn
from swift.common.ring import RingData
from swift.common.swob import HTTPException
from tests.exported import damage, export
from tests.objects import SwiftLog, thread_pool
from tests.waiting import LIMIT_S, wait_for

from lustack.exports.table import FRESH_S
from lustack.swift import gate as module
from lustack.swift.gate import Gate


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self) -> None:
        self.now_s += FRESH_S


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def root(tmp_path) -> Path:
    path = tmp_path / "devices" / "d"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def gate(swift_conf, tmp_path, root, clock) -> Gate:
    device = {"id": 1, "device": "d", "ip": "127.0.0.1", "port": 1, "region": 1, "zone": 1, "weight": 1}
    RingData([[1]], [None, device], 32).save(str(tmp_path / "object.ring.gz"))
    return Gate(str(root.parent), str(tmp_path), SwiftLog(), clock)


def is_refused(gate: Gate, container: str = "e") -> bool:
    try:
        gate.check("a", container)
    except HTTPException as refusal:
        return refusal.status == "503 Service Unavailable"
    return False


def test_exports_are_known_by_account_and_container(gate, root, tmp_path):
    found = export(root, tmp_path / "x")
    assert gate.find("a", "e") == found
    assert gate.find("a", "c") is None
    assert gate.has_exports("a")
    assert not gate.has_exports("b")


def test_a_new_one_is_known_soon(gate, root, tmp_path, clock):
    assert gate.find("a", "e") is None
    export(root, tmp_path / "x")
    assert gate.find("a", "e") is None
    clock.wait()
    assert gate.find("a", "e") is not None


def test_requests_for_ordinary_containers_pass(gate, root, tmp_path):
    export(root, tmp_path / "x")
    (tmp_path / "x").rmdir()
    assert not is_refused(gate, "c")


@pytest.mark.expects_log("^ERROR swift.tests: /a/e: the exported directory .* cannot be used: No such file")
def test_while_a_directory_is_away_requests_are_refused_and_it_is_logged_once(gate, root, tmp_path, clock, caplog):
    export(root, tmp_path / "x")
    assert not is_refused(gate)
    (tmp_path / "x").rename(tmp_path / "away")
    assert not is_refused(gate)
    for _ in range(3):
        clock.wait()
        assert is_refused(gate)
    (tmp_path / "away").rename(tmp_path / "x")
    assert is_refused(gate)
    clock.wait()
    assert not is_refused(gate)
    assert len(caplog.records) == 1


@pytest.mark.expects_log("^ERROR swift.tests: the table of exports is damaged")
def test_nobody_passes_while_nobody_knows_what_is_an_export(gate, root, tmp_path):
    export(root, tmp_path / "x")
    damage(root)
    assert is_refused(gate, "c")


def test_a_device_that_is_away_is_the_business_of_the_object_server(gate, root):
    root.rmdir()
    assert not is_refused(gate)


def test_of_a_device_that_was_never_seen_nobody_says_that_an_account_has_no_exports(gate, root, tmp_path, clock):
    export(root, tmp_path / "x")
    root.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(HTTPException) as caught:
            gate.has_exports("b")
        assert caught.value.status == "503 Service Unavailable"
        clock.wait()
    (tmp_path / "away").rename(root)
    assert (gate.has_exports("a"), gate.has_exports("b")) == (True, False)
    root.rename(tmp_path / "away")
    clock.wait()
    assert (gate.has_exports("a"), gate.has_exports("b")) == (True, False)


@pytest.mark.expects_log("^WARNING swift.tests: exports: the file system does not answer$")
def test_what_was_known_stays_while_the_file_system_does_not_answer(gate, root, tmp_path, clock, monkeypatch):
    found = export(root, tmp_path / "x")
    assert gate.find("a", "e") == found
    clock.wait()
    moves = patcher.original("threading").Event()
    monkeypatch.setattr("lustack.swift.gate.opened_device", lambda _: moves.wait(LIMIT_S))
    with thread_pool():
        assert gate.find("a", "e") == found
        moves.set()
        wait_for(lambda: not gate._calls._jobs, sleep=sleep)


class Slow:
    """Opens a device when it may, and counts how often somebody wanted that."""

    def __init__(self, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
        gate._calls.deadline_s = LIMIT_S
        self._open = module.opened_device
        self.moves = patcher.original("threading").Event()
        self.asked = 0
        monkeypatch.setattr(module, "opened_device", self)

    def __call__(self, root: str) -> AbstractContextManager[int]:
        self.asked += 1
        self.moves.wait(LIMIT_S)
        return self._open(root)


def test_while_one_request_asks_the_others_take_what_was_known(gate, root, tmp_path, clock, monkeypatch):
    found = export(root, tmp_path / "x")
    assert gate.find("a", "e") == found
    clock.wait()
    slow = Slow(gate, monkeypatch)
    with thread_pool():
        asking = spawn(gate.find, "a", "e")
        wait_for(lambda: slow.asked, sleep=sleep)
        assert [gate.find("a", "e") for _ in range(100)] == [found] * 100
        slow.moves.set()
        assert asking.wait() == found
    assert slow.asked == 1


def test_while_nothing_is_known_the_others_wait_for_the_one_that_asks(gate, root, tmp_path, monkeypatch):
    found = export(root, tmp_path / "x")
    slow = Slow(gate, monkeypatch)
    with thread_pool():
        asking = [spawn(gate.find, "a", "e") for _ in range(100)]
        wait_for(lambda: slow.asked, sleep=sleep)
        slow.moves.set()
        assert [each.wait() for each in asking] == [found] * 100
    assert slow.asked == 1


@pytest.mark.expects_log("^ERROR swift.tests: the table of exports is damaged")
def test_nobody_passes_who_waited_for_an_answer_that_did_not_come(gate, root, tmp_path, monkeypatch):
    export(root, tmp_path / "x")
    damage(root)
    slow = Slow(gate, monkeypatch)
    with thread_pool():
        asking = [spawn(is_refused, gate, "c") for _ in range(5)]
        wait_for(lambda: slow.asked, sleep=sleep)
        slow.moves.set()
        assert [each.wait() for each in asking] == [True] * 5
