# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from tests.engines import Steps
from tests.unit.sync.test_board import changed

from lustack.mapping.names import RelPath
from lustack.sync import status
from lustack.sync.backlog import Backlog
from lustack.sync.events import TreeChanged
from lustack.sync.reporter import Compared, Reporter
from lustack.sync.status import JobStatus, SourceStatus

S = 10**9


class Stand:
    """What a reporter asks of an engine."""

    def __init__(self, steps):
        self.board = steps.board
        self.readers = [steps.reader]
        self.parts = SimpleNamespace(sink=steps.sink)


@pytest.fixture
def steps(playground):
    found = Steps(playground)
    found.begin()
    return found


@pytest.fixture
def now():
    return [100 * S]


@pytest.fixture
def shown():
    return []


@pytest.fixture
def reporter(steps, playground, now, shown):
    return Reporter(
        playground.settings.state_dir,
        Stand(steps),
        Backlog(),
        Compared(comparisons=3, trouble="rain"),
        lambda: 1.5,
        shown.append,
        lambda: now[0],
    )


def test_it_says_how_the_daemon_is(steps, reporter, now, shown, playground):
    steps.happen(changed("a/c/x"), changed("a/c/y", is_open=True), TreeChanged(RelPath(b"a/c/d")))
    steps.now.s += 10.0
    now[0] += 2 * S
    found = reporter.report("running")
    assert status.read(playground.settings.state_dir) == found == shown[0]
    assert found.sources == (SourceStatus("fake", str(playground.root), True, True, 0.0, "", 10.0, 3, 0, ""),)
    assert found.jobs == (JobStatus("a", "c", "d/", "changed"),)
    assert (found.state, found.mode, found.precision, found.job_count) == ("running", "events", "names", 1)
    assert (found.dirty_names, found.held_names, found.lag_s, found.lag_records) == (2, 1, 10.0, 3)
    assert (found.events, found.events_per_s, found.clock_ahead_s) == (3, 1.5, 1.5)
    assert (found.comparisons, found.trouble) == (3, "rain")
    assert found.started_ns == 100 * S


def test_rows_are_counted_whatever_they_were_sent_for(steps, reporter, now, playground):
    for name in ("x", "d/y", "d/z"):
        playground.write(name, b"x")
    steps.happen(changed("a/c/x"))
    steps.work()
    assert (reporter.report("running").rows, reporter.report("running").batches) == (1, 1)
    steps.happen(TreeChanged(RelPath(b"a/c/d")))
    steps.work()
    now[0] += 2 * S
    found = reporter.report("running")
    assert (found.rows, found.rows_per_s, found.batches) == (3, 1.0, 2)


def test_hashing_waits_while_events_wait(steps, reporter):
    steps.happen(changed("a/c/x"))
    steps.now.s += 10.0
    reporter.report("running")
    assert reporter.backlog.is_paused
    steps.work()
    reporter.report("running")
    assert not reporter.backlog.is_paused


def test_it_goes_on_where_it_cannot_write(reporter, shown, tmp_path):
    reporter.state_dir = str(tmp_path / "gone")
    reporter.report("running")
    assert len(shown) == 1


def test_rates_are_of_the_time_between_two_reports(steps, reporter, now):
    assert reporter.report("running").events_per_s == 0.0
    steps.happen(*[changed(f"a/c/{number}") for number in range(10)])
    now[0] += 5 * S
    assert reporter.report("running").events_per_s == 2.0


def test_it_reports_until_it_is_stopped(reporter, shown, monkeypatch):
    monkeypatch.setattr("lustack.sync.reporter._PERIOD_S", 0.001)
    stop = threading.Event()
    reporter.show = lambda found: (shown.append(found), stop.set())
    reporter.run(stop)
    assert shown[0].state == "running"
