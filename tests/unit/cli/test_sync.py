# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import logging
import os
import pty
import signal
import threading
from dataclasses import replace

import pytest
from tests.listings import KEY, playground
from tests.objects import swift_conf
from tests.unit.sync.sinks.test_rings import swift_dir
from tests.waiting import LIMIT_S, wait_for

from lustack.cli import main, sync
from lustack.errors import ConfigurationError
from lustack.sync.errors import DeviceMissingError
from lustack.sync.plan import Wanted, delete, put
from lustack.sync.reconcile import Tally
from lustack.sync.state import Scope
from lustack.sync.survey import Report

__all__ = ("playground", "swift_conf", "swift_dir")

ROW = put("a\x1b", Wanted(1, "t", "e", "1500000000.00000"), 1_600_000_000 * 10**9)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("", Scope()),
        ("a", Scope("a")),
        ("a/", Scope("a")),
        ("/a/c", Scope("a", "c")),
        ("a/c/", Scope("a", "c")),
        ("a/c/p/q/", Scope("a", "c", "p/q/")),
    ],
)
def test_a_scope_is_a_path(text, scope):
    assert sync.parse_scope(text) == scope


@pytest.mark.parametrize("text", ["//c", "a//p"])
def test_a_scope_without_its_parts_is_refused(text):
    with pytest.raises(ConfigurationError, match="scope"):
        sync.parse_scope(text)


@pytest.fixture
def conf(playground, swift_dir):
    path = playground.base / "lustack.conf"
    path.write_text(
        f"[sync]\nswift_dir = {swift_dir}\ndevices = {playground.base}/node\n"
        f"state_dir = {playground.base}/state2\ninterval_s = 0.1\n"
    )
    for child in playground.root.iterdir():
        # Without accounts nobody has to be asked.
        child.rename(playground.base / child.name)
    return str(path)


@pytest.fixture
def own_log():
    """oslo.log takes over the root logger; afterwards it is as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


def test_the_daemon_runs_until_a_signal_comes(conf, own_log):
    before = signal.getsignal(signal.SIGTERM)

    def stop_it():
        wait_for(lambda: signal.getsignal(signal.SIGTERM) is not before)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop_it)
    stopper.start()
    assert main.main(["sync", "run", "--config-file", conf]) == 0
    stopper.join()
    assert signal.getsignal(signal.SIGTERM) is before


def test_everything_is_compared_once(conf, capsys):
    assert main.main(["sync", "reconcile", "--config-file", conf]) == 0
    assert capsys.readouterr().out == "0 containers, 0 objects, 0 rows: 0 written, 0 deleted\n"
    assert main.main(["sync", "reconcile", "--json", "--dry-run", "--config-file", conf]) == 0
    assert json.loads(capsys.readouterr().out)["report"]["containers"] == 0


def test_what_failed_decides_the_exit_code(playground, conf, capsys):
    playground.root.rmdir()
    assert main.main(["sync", "reconcile", "--config-file", conf]) == 3
    assert "cannot be used: No such file" in capsys.readouterr().err


def follow(**options):
    stream = io.StringIO()
    given = {"is_telling": True, "is_json": False, **options}
    follower = sync.Follower(threading.Event(), sync.LineProgress(stream), stream, **given)
    follower.on_difference(KEY, ROW)
    follower.on_difference(KEY, delete("b", 0))
    follower.on_unhashed(KEY, "a")
    follower.on_pulse(KEY, "a", Tally())
    return stream.getvalue(), follower


def test_differences_are_told_to_people_and_programs():
    assert follow()[0] == "+ a/c/a\\x1b\n- a/c/b\n"
    assert follow(is_telling=False)[0] == ""
    lines = [json.loads(line) for line in follow(is_json=True)[0].splitlines()]
    assert [(line["container"], line["name"], line["deleted"]) for line in lines] == [
        ("a/c", "a\x1b", False),
        ("a/c", "b", True),
    ]


def test_a_follower_stops_when_it_is_told_to():
    _, follower = follow()
    assert not follower.is_stopped()
    follower.stop.set()
    assert follower.is_stopped()


def test_a_report_can_be_printed_whatever_bytes_a_name_has():
    odd = os.fsdecode(b"a/c/\xff\n")
    report = Report(Tally(), 1, 0, 1, 0, [(odd, f"like {odd}")], [("a/c", f"so {odd} is no object")])
    text = sync.render_text(report, dry_run=False)
    assert text.encode("utf-8").count(b"\\udcff") == 3
    assert len(text.splitlines()) == 4


def test_a_report_tells_people_everything():
    report = Report(Tally(files=1, left=2, withheld=3), 1, 1, 2, 3, [("a/c/x", "why")], [("a/b", "left")])
    assert sync.render_text(report, dry_run=True).splitlines() == [
        "1 containers, 1 objects, 0 rows: 0 written, 0 deleted (nothing was written)",
        "1 directories became containers",
        "5 rows were left as they are",
        "2 entries cannot be objects, 3 directories cannot be read:",
        "  a/c/x: why",
        "left alone: a/b: left",
    ]


def test_a_report_tells_programs_everything():
    report = Report(errors=[DeviceMissingError("/d", "gone")])
    assert json.loads(sync.render_json(report))["report"]["errors"] == ["the device /d cannot be used: gone"]


def test_progress_is_a_line_now_and_then():
    now_s = [0.0]
    stream = io.StringIO()
    progress = sync.LineProgress(stream, lambda: now_s[0])
    for later_s in (1.0, 10.0, 11.0):
        now_s[0] = later_s
        progress.show("a/c", Tally(files=7))
    assert stream.getvalue() == "a/c: 7 objects, 0 rows: 0 written, 0 deleted\n"
    with sync.show_progress(stream) as progress:
        assert isinstance(progress, sync.LineProgress)


def test_progress_is_a_line_that_changes_on_a_terminal():
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        with sync.show_progress(terminal) as progress:
            progress.show("a/[c]", Tally(files=7))
            shown = b""
            while b"a/[c]: 7 objects" not in shown:
                shown += os.read(ours, 10_000)
    os.close(ours)


def test_a_broken_lease_ends_nothing():
    with sync.stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(LIMIT_S)
    with sync.stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGIO)
        assert not stop.is_set()


def test_settings_of_tests_are_settings(playground):
    assert replace(playground.settings, interval_s=1.0).interval_s == 1.0
