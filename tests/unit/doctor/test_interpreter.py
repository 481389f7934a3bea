# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys

import pytest

from lustack.brick.bounded import BoundedRunner
from lustack.brick.errors import NoAnswerError
from lustack.doctor.interpreter import NoWitnessError, ask, find_interpreter


class Runner:
    def __init__(self, answer):
        self.answer = answer

    def run(self, command, *, key, limit_s, as_root=False):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(text):
        path = tmp_path / "nova-compute"
        path.write_text(text)
        path.chmod(0o755)

    return write


@pytest.mark.parametrize(
    ("first", "python"),
    [
        ("#!/opt/nova/bin/python3", "/opt/nova/bin/python3"),
        ("#!/opt/nova/bin/python3 -sP", "/opt/nova/bin/python3"),
        ("#!/usr/bin/env python3.12", "python3.12"),
        ("#! /usr/bin/env", "/usr/bin/env"),
    ],
)
def test_a_program_names_its_interpreter(program, first, python):
    program(f"{first}\nimport nova\n")
    assert find_interpreter("nova-compute") == python


@pytest.mark.parametrize("text", ["\x7fELF\x02", "#!\n", ""])
def test_what_is_no_script_is_said(program, text):
    program(text)
    with pytest.raises(NoWitnessError, match=r"nova-compute: it is no script; .*--python"):
        find_interpreter("nova-compute")


def test_a_program_that_is_not_there_is_said(program):
    with pytest.raises(NoWitnessError, match="cinder-volume: there is no such program on PATH"):
        find_interpreter("cinder-volume")


def test_the_last_line_of_a_real_interpreter_is_its_answer(tmp_path):
    # `platform` prints a line that is no document, as a program does that was not made for this.
    with pytest.raises(NoWitnessError):
        ask(sys.executable, "platform", [], BoundedRunner())
    assert ask("python", "m", [], Runner('a warning\n{"nova": "34"}\n')) == {"nova": "34"}


def test_an_interpreter_without_us_is_told_by_its_last_words():
    with pytest.raises(NoWitnessError, match=r"lustack\.no\.such fails there: .*No module named"):
        ask(sys.executable, "lustack.no.such", [], BoundedRunner())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (NoAnswerError("python -m m", 60.0), "no answer within 60 s"),
        (FileNotFoundError(2, "No such file or directory"), "No such file"),
        ("", "Expecting value"),
        ("[1]", r"m said '\[1\]'"),
    ],
)
def test_what_is_no_answer_is_said(answer, why):
    with pytest.raises(NoWitnessError, match=why):
        ask("python", "m", [], Runner(answer))
