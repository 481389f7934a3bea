# SPDX-License-Identifier: Apache-2.0
"""The interpreter that a service runs with, and what it sees.

Rule: what this process can import says nothing about the service. Its program names its interpreter in the first line;
that one is asked.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import Any

from lustack.brick.bounded import BoundedRunner
from lustack.brick.errors import CommandError
from lustack.errors import LustackError

_LIMIT_S = 60.0
"""Importing Nova takes seconds, on a busy machine many."""


class NoWitnessError(LustackError):
    """The interpreter of a service cannot be asked.

    Attributes:
        program: the service's program, or its interpreter.
        why: what is wrong.
    """

    def __init__(self, program: str, why: str) -> None:
        super().__init__(program, why)
        self.program = program
        self.why = why

    def __str__(self) -> str:
        return f"{self.program}: {self.why}"


def find_interpreter(program: str) -> str:
    """The interpreter in the first line of a program on PATH.

    Raises:
        NoWitnessError: there is no such program, or it is no script.
    """
    path = shutil.which(program)
    if path is None:
        raise NoWitnessError(program, "there is no such program on PATH; name the service's Python with --python")
    with open(path, "rb") as file:
        first = file.readline(4096).decode("utf-8", "replace").strip()
    words = first.removeprefix("#!").split()
    if not first.startswith("#!") or not words:
        raise NoWitnessError(path, "it is no script; name the service's Python with --python")
    return words[1] if words[0].endswith("/env") and len(words) > 1 else words[0]


def ask(python: str, module: str, arguments: Sequence[str], runner: BoundedRunner) -> dict[str, Any]:
    """What a module of ours prints when an interpreter runs it: a document in JSON.

    Args:
        python: the interpreter.
        module: prints the document as its last line.
        arguments: for the module.
        runner: runs it.

    Raises:
        NoWitnessError: it printed none; its last words are told.
    """
    command = [python, "-W", "ignore", "-P", "-m", module, *arguments]
    try:
        said = runner.run(command, key=python, limit_s=_LIMIT_S)
        answer = json.loads(said.strip().rpartition("\n")[2])
    except CommandError as error:
        last = error.message.strip().rpartition("\n")[2]
        raise NoWitnessError(python, f"{module} fails there: {last or error}") from error
    except (LustackError, OSError, ValueError) as error:
        raise NoWitnessError(python, str(error)) from error
    if not isinstance(answer, dict):
        raise NoWitnessError(python, f"{module} said {said[:80]!r}")
    return answer
