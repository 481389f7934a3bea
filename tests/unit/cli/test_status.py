# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import os
import pty
import threading
import time
from dataclasses import replace

import pytest
from tests.listings import playground
from tests.objects import swift_conf
from tests.unit.cli.test_sync import conf
from tests.unit.sync.sinks.test_rings import swift_dir

from lustack.cli import main, status
from lustack.sync.state import FILE, Job, Scope, State
from lustack.sync.status import JobStatus, SourceStatus, Status, write
from lustack.sync.unfinished import Unfinished

__all__ = ("conf", "playground", "swift_conf", "swift_dir")

S = 10**9
NOW_NS = 1_700_000_000 * S
RUNNING = Status(state="running", written_ns=NOW_NS - S, started_ns=NOW_NS - 7200 * S, pid=7, host="h", mode="events")


def text_of(**changes):
    return status.render_text(replace(RUNNING, **changes), NOW_NS, "/state").splitlines()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "lustack sync: running for 2 h, process 7 on h, mode: events"),
        ({"state": "stopped"}, "lustack sync does not run: it was stopped 1.0 s ago (process 7 on h)"),
        (
            {"written_ns": NOW_NS - 90 * S},
            "lustack sync does not run, or hangs: process 7 on h has said nothing for 2 min",
        ),
    ],
)
def test_the_first_line_says_whether_it_runs(changes, sentence):
    found = text_of(**changes)
    assert found[0] == sentence
    assert (len(found) == 1) == (not status.is_alive(replace(RUNNING, **changes), NOW_NS))


def test_a_daemon_that_never_ran_is_said_so():
    text = status.render_text(None, NOW_NS, "/state")
    assert text == "lustack sync does not run: no daemon has ever written its status to /state"
    assert not status.is_alive(None, NOW_NS)
    assert json.loads(status.render_json(None, NOW_NS)) == {"is_alive": False, "age_s": None}


def test_what_a_stopped_daemon_has_left_is_told(playground, conf, capsys):
    state_dir = playground.base / "state2"
    state = State(str(state_dir / FILE))
    state.enqueue(Job(Scope("a", "c", f"p{number}/", "events"), "moved") for number in range(21))
    state.set_position("changelog of MDT0000", "17")
    state.set_compared(time.time_ns() - 300 * S)
    state.close()
    write(str(state_dir), replace(RUNNING, state="stopped", written_ns=time.time_ns() - 300 * S))
    assert main.main(["sync", "status", "--config-file", conf]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("lustack sync does not run: it was stopped 5 min ago")
    assert lines[1:4] == [
        "source        changelog of MDT0000: done up to 17",
        "jobs          21, 0 running",
        "              a/c/p0/: moved, waits",
    ]
    assert lines[-2:] == ["              and 1 more", "comparison    5 min ago"]
    assert main.main(["sync", "status", "--json", "--config-file", conf]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["unfinished"]["positions"] == {"changelog of MDT0000": "17"}
    assert shown["unfinished"]["job_count"] == 21


def test_a_stopped_daemon_with_nothing_left_says_so():
    stopped = replace(RUNNING, state="stopped")
    lines = status.render_text(stopped, NOW_NS, "/state", Unfinished({})).splitlines()
    assert lines[1:] == ["jobs          none is left", "comparison    none was ever finished"]


def test_one_that_stands_by_says_so():
    assert text_of(state="standby")[1:] == ["another daemon does the work; this one takes over when it ends"]


def test_everything_it_does_is_told():
    source = SourceStatus("fanotify", "/d", losses=1, why_down="it is raining")
    far = replace(source, is_complete=True, is_across_hosts=True, latency_s=0.5, position="12", why_down="")
    jobs = (JobStatus("a", "c", "p/", "moved", is_running=True, at_container="c", at_name="p/x"), JobStatus(why="lost"))
    found = text_of(
        sources=(source, far),
        jobs=jobs,
        job_count=5,
        hash_backlog=3,
        is_hashing_paused=True,
        compared_ns=NOW_NS - 100 * 3600 * S,
        comparison_s=12.3,
        is_comparing=True,
        clock_ahead_s=100,
        trouble="no\x1b room",
        trouble_ns=NOW_NS - 10 * S,
    )
    for line in (
        "lag           0.00 s, 0 records",
        "to be hashed  3 files, paused: events come first",
        "source        fanotify of /d: changes on this host only, only while the daemon runs, late by 0 s at most",
        "              IT IS DOWN: it is raining",
        "              position 12, lag 0.00 s, 0 records, 1 losses",
        "jobs          5, 1 running",
        "              a/c/p/: moved, at c/p/x",
        "              everything: lost, waits",
        "              and 3 more",
        "comparison    4 days ago, took 12.3 s, 0 since the start, running now",
        "clock         timestamps are 2 min ahead of this machine's clock",
        "last trouble  10.0 s ago: no\\x1b room",
    ):
        assert line in found


def test_an_idle_daemon_says_little():
    found = text_of(jobs=(JobStatus(why="retry"),), job_count=1)
    assert "comparison    not finished yet" in found
    assert not any("trouble" in line or "clock" in line or "more" in line for line in found)


def test_the_exit_code_says_whether_it_runs(playground, conf, capsys):
    assert main.main(["sync", "status", "--config-file", conf]) == 1
    assert "no daemon has ever written" in capsys.readouterr().out
    state_dir = str(playground.base / "state2")
    os.makedirs(state_dir)
    write(state_dir, replace(RUNNING, written_ns=time.time_ns()))
    assert main.main(["sync", "status", "--json", "--config-file", conf]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["is_alive"], shown["pid"]) == (True, 7)


class Impatient(threading.Event):
    """Is set after two looks."""

    looks = 0

    def wait(self, timeout=None):
        self.looks += 1
        return self.looks == 2


def test_it_can_be_watched(playground, conf, capsys, monkeypatch):
    stream = io.StringIO()
    assert status.watch(str(playground.base), stream, Impatient(), is_json=True) == 1
    assert stream.getvalue().count('"is_alive": false') == 2
    monkeypatch.setattr(threading.Event, "wait", lambda _self, _timeout=None: True)
    assert main.main(["sync", "status", "--watch", "--config-file", conf]) == 1
    assert capsys.readouterr().out.count("no daemon has ever written") == 1


def test_a_terminal_is_cleared_before_each_look(playground):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        status.watch(str(playground.base), terminal, Impatient(), is_json=False)
        shown = ""
        # A terminal hands over what it has; without a second look this would wait until the test's time is over.
        while shown.count("\n") < 2:
            shown += os.read(ours, 10_000).decode()
    os.close(ours)
    assert shown.count("\x1b[H\x1b[J") == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (59.94, "59.9 s"), (300, "5 min"), (86_400, "24 h"), (3 * 86_400, "3 days")],
)
def test_durations_are_short(seconds, text):
    assert status.duration(seconds) == text
