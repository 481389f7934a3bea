# SPDX-License-Identifier: Apache-2.0
"""A guide as a script: the fenced blocks of a Markdown page, in their order, for one shell.

Rule 1: every ```bash block is run; blocks that are not meant for a shell are ```text.
Rule 2: what a test must do differently is written in the page itself, behind the block that it concerns:

    <!-- test: replace "LINE" with "OTHER LINE" -->

LINE is a whole line of that block, exactly; a comment that fits no line is an error, so none can become stale.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = re.compile(r"^```(\w*)$")
REPLACEMENT = re.compile(r'^<!-- test: replace "(.*)" with "(.*)" -->$')
LANGUAGES = ("bash", "text")


class GuideError(Exception):
    """The page breaks a rule of this module."""


@dataclass(frozen=True)
class Block:
    """One block of commands.

    Attributes:
        line: number of its first line in the page, for messages.
        commands: its lines.
    """

    line: int
    commands: tuple[str, ...]

    def replace(self, old: str, new: str) -> Block:
        """Return the block with the line `old` replaced by `new`.

        Raises:
            GuideError: there is no such line.
        """
        if old not in self.commands:
            raise GuideError(f"line {self.line}: the block has no line {old!r}")
        return Block(self.line, tuple(new if command == old else command for command in self.commands))


def parse(page: str) -> list[Block]:
    """Return the commands of `page` with the replacements applied.

    Raises:
        GuideError: an unknown language, a block without end, or a replacement that fits nothing.
    """
    blocks: list[Block] = []
    numbered = iter(enumerate(page.splitlines(), 1))
    for number, line in numbered:
        if replacement := REPLACEMENT.match(line):
            blocks[-1] = blocks[-1].replace(replacement[1], replacement[2])
        elif fence := FENCE.match(line):
            if fence[1] not in LANGUAGES:
                raise GuideError(f"line {number}: unknown language {fence[1]!r}")
            commands = _read_block(numbered)
            if fence[1] == "bash":
                blocks.append(Block(number + 1, commands))
    return blocks


def _read_block(numbered: Iterator[tuple[int, str]]) -> tuple[str, ...]:
    lines: list[str] = []
    for _, line in numbered:
        if line == "```":
            return tuple(lines)
        lines.append(line)
    raise GuideError("the last block has no end")


def render(blocks: list[Block]) -> str:
    """Return one shell script which says before each block where it stands, and stops at the first failure."""
    script = ["set -euo pipefail"]
    for block in blocks:
        script += [f"echo '== line {block.line}' >&2", *block.commands]
    return "\n".join(script) + "\n"
