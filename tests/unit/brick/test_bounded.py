# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from lustack.brick import bounded
from lustack.brick.bounded import BoundedRunner
from lustack.brick.errors import CommandError, NoAnswerError


def test_a_command_s_output_comes_back_however_long_it_is():
    assert BoundedRunner().run(["echo", "hello"], key="k", limit_s=120) == "hello\n"
    assert len(BoundedRunner().run(["seq", "100000"], key="k", limit_s=60)) > 500_000


def test_a_command_that_fails_says_what_it_said():
    with pytest.raises(CommandError, match=r"exit code 3: sorry") as caught:
        BoundedRunner().run(["sh", "-c", "echo sorry >&2; exit 3"], key="k", limit_s=120)
    assert caught.value.code == 3


def test_a_command_that_takes_too_long_is_ended():
    runner = BoundedRunner()
    with pytest.raises(NoAnswerError, match=r"within 0.05 s from: sleep 60"):
        runner.run(["sleep", "60"], key="k", limit_s=0.05)
    # On a busy machine it may take a while to die.
    for child in runner._stuck.values():
        assert child.wait() == -signal.SIGKILL


def test_while_one_is_stuck_no_other_is_sent_after_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    runner = BoundedRunner()
    ended = []
    # A child in uninterruptible sleep does not die of a signal.
    monkeypatch.setattr(bounded.subprocess.Popen, "kill", lambda child: ended.append(child))  # noqa: PLW0108 - a method gets the child
    with pytest.raises(NoAnswerError):
        runner.run(["sleep", "60"], key="/mnt", limit_s=0.05)
    with pytest.raises(NoAnswerError):
        runner.run(["touch", str(tmp_path / "x")], key="/mnt", limit_s=120)
    assert not (tmp_path / "x").exists()
    assert runner.run(["echo"], key="/other", limit_s=120) == "\n"
    os.kill(ended[0].pid, signal.SIGKILL)
    ended[0].wait()
    assert runner.run(["echo"], key="/mnt", limit_s=120) == "\n"


def test_the_root_helper_is_for_those_who_are_not_root(monkeypatch: pytest.MonkeyPatch):
    runner = BoundedRunner("echo 'as root'")
    assert runner.run(["echo", "x"], key="k", limit_s=120, as_root=True) == (
        "x\n" if os.geteuid() == 0 else "as root echo x\n"
    )
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert runner.run(["echo", "x"], key="k", limit_s=120, as_root=True) == "as root echo x\n"
    assert runner.run(["echo", "x"], key="k", limit_s=120) == "x\n"
