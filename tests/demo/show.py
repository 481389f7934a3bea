# SPDX-License-Identifier: Apache-2.0
"""What the demonstration prints: one line for each step, the command as a person would type it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

import botocore.exceptions

_BOLD, _DIM, _GREEN, _RED, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[0m"
_CLEAR_LINE = "\r\x1b[K"


class UnexpectedError(Exception):
    """A step did not give what it should.

    Attributes:
        expected: what it should have given.
        found: what it gave.
    """

    def __init__(self, expected: object, found: object) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"expected {_shorten(self.expected)}\n    but got  {_shorten(self.found)}"


# What a step may raise; the others are tried nevertheless.
_FAILURES = (
    UnexpectedError,
    OSError,
    subprocess.SubprocessError,
    botocore.exceptions.BotoCoreError,
    botocore.exceptions.ClientError,
)


def expect(expected: object, found: object) -> None:
    """Hold what was found against what was expected.

    Raises:
        UnexpectedError: they differ.
    """
    if expected != found:
        raise UnexpectedError(expected, found)


@dataclass
class Step:
    """A step that runs.

    Attributes:
        remark: what is said behind the command.
    """

    remark: str = ""


@dataclass
class Show:
    """Where it is shown. On a terminal with colours and marks, elsewhere in plain ASCII.

    Attributes:
        stream: standard output.
        steps: how many there were.
        failed: the commands of those that did not hold.
    """

    stream: TextIO
    steps: int = 0
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._is_terminal = self.stream.isatty()
        self._is_unicode = self._is_terminal and (self.stream.encoding or "").lower().startswith("utf")

    def say(self, text: str = "") -> None:
        """Print a line of text."""
        print(text, file=self.stream, flush=True)

    def head(self, title: str) -> None:
        """Print what the next steps are about."""
        self.say(f"\n{_BOLD}{title}{_PLAIN}" if self._is_terminal else f"\n{title}")

    @contextlib.contextmanager
    def step(self, command: str) -> Iterator[Step]:
        """Run a step in the block, and say whether it held.

        Args:
            command: what a person would type; of several lines the first is shown, and that there are more.
        """
        step, started_s = Step(), time.monotonic()
        self.steps += 1
        if self._is_terminal:
            print(f"  .. {command}", end="", file=self.stream, flush=True)
        try:
            yield step
        except _FAILURES as error:
            self.failed.append(command)
            self._finish(command, is_good=False, remark=f"{time.monotonic() - started_s:.1f} s")
            self.say(f"    {_explain(error)}")
        else:
            self._finish(command, is_good=True, remark=step.remark or f"{time.monotonic() - started_s:.1f} s")

    def _finish(self, command: str, *, is_good: bool, remark: str) -> None:
        if not self._is_terminal:
            self.say(f"{'ok    ' if is_good else 'FAILED'} {command}   [{remark}]")
            return
        word = ("\u2714 " if is_good else "\u2718 ") if self._is_unicode else ("ok" if is_good else "NO")
        colour = _GREEN if is_good else _RED
        self.say(f"{_CLEAR_LINE}  {colour}{word}{_PLAIN} {command}   {_DIM}{remark}{_PLAIN}")


def _explain(error: BaseException) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"it ended with {error.returncode}: {(error.stderr or error.output or '').strip()}"
    if isinstance(error, UnexpectedError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _shorten(thing: object, limit: int = 600) -> str:
    text = ascii(thing)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
