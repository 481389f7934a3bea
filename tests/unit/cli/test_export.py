# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from tests.exported import read, rewrite
from tests.listings import POLICY, playground
from tests.objects import swift_conf
from tests.unit.sync.sinks.test_rings import swift_dir
from tests.waiting import wait_for

from lustack.cli import export, main
from lustack.mapping.exports import Stage
from lustack.sync import status
from lustack.sync import world as worlds
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.status import Status
from lustack.sync.world import World

__all__ = ("playground", "swift_conf", "swift_dir")

KEY = ContainerKey("a", "e")
_HOUR_NS = 3600 * 10**9


@pytest.fixture
def directory(playground):
    path = playground.base / "projects" / "x"
    (path / "run").mkdir(parents=True)
    (path / "run" / "o").write_bytes(b"x")
    return path


@pytest.fixture
def call(playground, swift_dir, monkeypatch):
    """The command line, on a Swift in memory."""
    conf = playground.base / "lustack.conf"
    conf.write_text(
        f"[sync]\nswift_dir = {swift_dir}\ndevices = {playground.base}/node\nstate_dir = {playground.base}/state\n"
    )

    @contextlib.contextmanager
    def opened(settings):
        with ThreadPoolExecutor(1) as executor:
            yield World(settings, (POLICY,), playground.sink, playground.state, playground.clock, executor)

    monkeypatch.setattr(worlds, "opened", opened)
    return lambda *arguments: main.main(["export", *map(str, arguments), "--config-file", str(conf)])


def work(playground, **changes):
    """A daemon says that it works, and for so long that a slow test still believes it."""
    said = Status(state="running", written_ns=time.time_ns() + _HOUR_NS)
    status.write(str(playground.base / "state"), replace(said, **changes))


def test_a_directory_is_exported_listed_and_let_go(call, playground, directory, capsys):
    assert call("add", "a", "e", directory) == 0
    said = capsys.readouterr().err
    assert f"a/e is {directory}: its objects can be used now" in said
    assert "1 objects, 1 listed" in said
    assert playground.listed(KEY) == ["run/o"]
    assert call("add", "a", "e", directory) == 0
    assert call("list") == 0
    assert capsys.readouterr().out == f"a/e  {directory}  ready, 1 objects\n"
    assert call("remove", "a", "e") == 0
    said = capsys.readouterr().err
    assert "its files stay as they are" in said
    assert "1 removed from the listing" in said
    assert playground.listed(KEY) == []
    assert (directory / "run" / "o").read_bytes() == b"x"
    assert call("list") == 0
    assert capsys.readouterr().out == ""


def test_what_cannot_be_exported_is_yours_to_fix(call, playground, capsys):
    assert call("add", "a", "e", playground.root) == 2
    assert "outside of the device" in capsys.readouterr().err


def test_nobody_has_to_wait(call, playground, directory):
    assert call("add", "a", "e", directory, "--no-wait") == 0
    assert [each.stage for each in read(playground.root)] == [Stage.IMPORTING]
    assert call("remove", "a", "e", "--no-wait") == 0
    assert [each.stage for each in read(playground.root)] == [Stage.LEAVING]


class Settling:
    """Shows progress; when it has shown some, the daemon is done."""

    def __init__(self, playground):
        self.root, self.shown = playground.root, []

    def show(self, what, tally):
        self.shown.append((what, tally.files))
        [found] = read(self.root)
        rewrite(self.root, replace(found, stage=Stage.READY))


def test_a_daemon_that_works_makes_the_listing(call, playground, directory, monkeypatch):
    work(playground)
    progress = Settling(playground)
    monkeypatch.setattr(export, "show_progress", lambda _stream: contextlib.nullcontext(progress))
    assert call("add", "a", "e", directory) == 0
    assert progress.shown == [("a/e", 0)]
    assert playground.listed(KEY) == []


def test_who_does_not_want_to_wait_any_more_can_go_on_later(call, playground, directory, capsys):
    work(playground)
    before = signal.getsignal(signal.SIGINT)

    def stop():
        wait_for(lambda: read(playground.root) and signal.getsignal(signal.SIGINT) is not before)
        os.kill(os.getpid(), signal.SIGINT)

    stopper = threading.Thread(target=stop)
    stopper.start()
    assert call("add", "a", "e", directory) == 3
    stopper.join()
    assert "the next run continues" in capsys.readouterr().err


@pytest.mark.parametrize("changes", [{"state": "stopped"}, {"state": "standby"}, {"written_ns": 0}])
def test_a_daemon_that_does_not_work_is_not_waited_for(playground, changes):
    state_dir = str(playground.base / "state")
    assert not export.is_daemon_alive(state_dir)
    work(playground)
    assert export.is_daemon_alive(state_dir)
    work(playground, **changes)
    assert not export.is_daemon_alive(state_dir)
    (playground.base / "state" / "status.json").write_text("nonsense")
    assert not export.is_daemon_alive(state_dir)


def test_an_export_that_is_away_is_shown_with_the_reason(call, playground, directory, capsys):
    call("add", "a", "e", directory)
    directory.rename(directory.parent / "away")
    capsys.readouterr()
    assert call("list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "account": "a",
        "container": "e",
        "path": str(directory),
        "policy": "gold",
        "stage": "ready",
        "problem": "No such file or directory",
        "objects": 1,
    }
    assert call("list") == 0
    assert capsys.readouterr().out.endswith("ready, 1 objects: No such file or directory\n")


def test_what_failed_decides_the_exit_code(call, playground, directory, capsys):
    call("add", "a", "e", directory, "--no-wait")
    playground.state.set_device(0, 1)
    directory.rename(directory.parent / "away")
    assert call("remove", "a", "e") == 3
    assert "another file system is mounted there" in capsys.readouterr().err
