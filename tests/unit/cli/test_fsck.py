# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import os
import pty
import time
from dataclasses import replace

import pytest
from tests.listings import playground
from tests.objects import swift_conf
from tests.unit.cli.test_sync import conf
from tests.unit.sync.sinks.test_rings import swift_dir

from lustack.cli import exits, fsck, main
from lustack.sync.journal import Progress
from lustack.sync.problems import Kind, Problem, Summary
from lustack.sync.status import Status, write

__all__ = ("conf", "playground", "swift_conf", "swift_dir")


def summary_of(*problems):
    summary = Summary()
    for problem in problems:
        summary.add(problem)
    return summary


def test_a_clean_tree_is_said_to_be_clean(conf, capsys):
    assert main.main(["fsck", "--config-file", conf, "--settle", "0"]) == 0
    assert capsys.readouterr().out == "0 names in 0 containers: no problems\n"
    assert main.main(["fsck", "--config-file", conf, "--json", "--rate", "0", "--restart"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == {
        "names": 0,
        "containers": 0,
        "problems": 0,
        "kinds": {},
        "errors": [],
    }


def test_the_result_can_be_left_for_prometheus(tmp_path, conf, capsys):
    path = tmp_path / "lustack.prom"
    assert main.main(["fsck", "--config-file", conf, "--settle", "0", "--textfile", str(path)]) == 0
    assert "lustack_fsck_problems 0.0" in path.read_text()
    assert "no problems" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "settle_s"),
    [
        (None, 5.0),
        (Status(state="stopped", mode="scan"), 5.0),
        (Status(state="running", mode="scan", comparison_s=7.0), 5.0 + 60.0 + 7.0),
        (Status(state="running", mode="events", lag_s=4.0), 5.0 + 8.0),
    ],
)
def test_a_difference_lasts_longer_than_the_daemon_needs(playground, found, settle_s):
    if found is not None:
        write(playground.settings.state_dir, replace(found, written_ns=time.time_ns()))
    assert fsck.choose_settle_s(playground.settings) == settle_s


def test_a_device_that_is_missing_is_worth_another_try(playground, conf, capsys):
    playground.root.rmdir()
    assert main.main(["fsck", "--config-file", conf]) == exits.TRY_AGAIN
    assert "cannot be used" in capsys.readouterr().err


def test_a_scope_that_is_wrong_names_the_command(conf, capsys):
    assert main.main(["fsck", "--config-file", conf, "a//p"]) == exits.YOURS_TO_FIX
    assert "lustack fsck: scope" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--rate", "-1"], ["--rate", "0.5"], ["--settle", "x"], ["--settle", "nan"], ["--settle", "-1"]]
)
def test_numbers_are_checked(conf, capsys, arguments):
    with pytest.raises(SystemExit):
        main.main(["fsck", "--config-file", conf, *arguments])
    assert "argument --" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("problem", "failures", "code", "strict_code"),
    [
        (Problem(Kind.EXTRA_ROW, "p"), [], 1, 1),
        (Problem(Kind.EXTRA_ROW, "p", "", is_repaired=True), [], 0, 0),
        (Problem(Kind.SPECIAL, "p"), [], 0, 1),
        (Problem(Kind.SPECIAL, "p"), [("away", True)], 3, 1),
        (Problem(Kind.SPECIAL, "p"), [("away", True), ("no", False)], 1, 1),
    ],
)
def test_the_exit_code_says_whether_something_is_left(problem, failures, code, strict_code):
    progress = Progress(summary=summary_of(problem), failures=failures)
    assert fsck.code_of(progress, strict=False) == code
    assert fsck.code_of(progress, strict=True) == strict_code


def test_people_are_told_what_it_is_and_what_to_do():
    problems = [Problem(Kind.UNLISTABLE, "a/c/\udcff", "its bytes are not UTF-8")]
    problems += [Problem(Kind.EXTRA_ROW, f"a/c/{number:02}", "", is_repaired=True) for number in range(21)]
    text = fsck.render_text(Progress(names=7, containers=1, summary=summary_of(*problems))).splitlines()
    assert text[:3] == [
        "7 names in 1 containers: no problems",
        "extra-row: 21 rows without a file, 21 mended",
        "    a/c/00",
    ]
    assert text[-3:] == [
        "    and 1 more",
        "note: unlistable-name: 1 names that cannot be objects (rename them)",
        "    a/c/\\udcff: its bytes are not UTF-8",
    ]


def test_programs_are_told_each_problem():
    stream = io.StringIO()
    for is_json in (False, True):
        fsck.Teller(lambda _sentence: None, stream, is_json=is_json).on_problem(Problem(Kind.EXTRA_ROW, "p", "w"))
    assert json.loads(stream.getvalue()) == {
        "problem": {"kind": "extra-row", "path": "p", "why": "w", "repaired": False}
    }


def test_progress_is_a_line_now_and_then():
    now_s, stream = [0.0], io.StringIO()
    with fsck.show_progress(stream, lambda: now_s[0]) as show:
        teller = fsck.Teller(show, stream, is_json=False)
        for later_s in (1.0, 10.0, 11.0):
            now_s[0] = later_s
            teller.on_progress("a/\x1b", int(later_s))
    assert stream.getvalue() == "a/\\x1b: 10 names checked\n"


def test_progress_is_a_line_that_changes_on_a_terminal():
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        with fsck.show_progress(terminal) as show:
            show("a/[c]: 7 names")
            shown = b""
            while b"a/[c]: 7 names" not in shown:
                shown += os.read(ours, 10_000)
    os.close(ours)
