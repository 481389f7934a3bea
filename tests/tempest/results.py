# SPDX-License-Identifier: Apache-2.0
"""What a run of tempest found, and the page that says it (doc/tempest.md).

Rule 1: the page is made of results only; nothing in it is written by hand.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"
# How testtools calls them.
_OUTCOMES = {"success": PASSED, "skip": SKIPPED, "xfail": PASSED}
_TAGS = re.compile(r"\[[^]]*\]")


@dataclass(frozen=True)
class Result:
    """A test, or a class whose tests were not begun.

    Attributes:
        name: dotted; `setUpClass (CLASS)` for a class.
        outcome: passed, skipped or failed.
        seconds: how long it took.
        reason: why it was skipped, or what was wrong.
    """

    name: str
    outcome: str
    seconds: float = 0.0
    reason: str = ""

    @property
    def module(self) -> str:
        """The module that it is in."""
        found = re.fullmatch(r"setUpClass \((.+)\)", self.name)
        return (found[1] if found else self.name.rpartition(".")[0]).rpartition(".")[0]

    @property
    def title(self) -> str:
        """Its class and name, without the tags that tempest adds."""
        found = re.fullmatch(r"setUpClass \((.+)\)", self.name)
        if found:
            return f"{found[1].rpartition('.')[2]} (all)"
        return ".".join(_TAGS.sub("", self.name).split(".")[-2:])


@dataclass(frozen=True)
class Suite:
    """The results of one call of tempest.

    Attributes:
        title: what it is called on the page.
        regex: which tests it runs.
        results: of each.
        seconds: how long it took, all in all.
    """

    title: str
    regex: str
    results: Sequence[Result]
    seconds: float

    def having(self, outcome: str) -> list[Result]:
        return [result for result in self.results if result.outcome == outcome]


def parse(stream: bytes) -> list[Result]:
    """The results in a subunit stream, in the order of their names."""
    import subunit
    import testtools

    found: list[Result] = []

    def keep(test) -> None:
        begun, ended = test["timestamps"]
        seconds = (ended - begun).total_seconds() if begun and ended else 0.0
        details = test["details"]
        texts = [details[key].as_text().strip() for key in ("reason", "traceback") if key in details]
        found.append(Result(test["id"], _OUTCOMES.get(test["status"], FAILED), seconds, "\n".join(texts)))

    sink = testtools.StreamToDict(keep)
    sink.startTestRun()
    subunit.ByteStreamToStreamResult(io.BytesIO(stream), non_subunit_name="output").run(sink)
    sink.stopTestRun()
    return sorted((each for each in found if each.name != "output"), key=lambda each: each.name)


def render(suites: Sequence[Suite], facts: Sequence[str]) -> str:
    """The page.

    Args:
        suites: what ran.
        facts: what they ran with, a sentence each.
    """
    lines = ["# Tempest", "", "Made by `make tempest`; do not edit.", "", *(f"- {fact}" for fact in facts), ""]
    lines += _table(
        ("suite", PASSED, SKIPPED, FAILED, "seconds"),
        [
            (
                f"`{each.title}`",
                *(len(each.having(outcome)) for outcome in (PASSED, SKIPPED, FAILED)),
                f"{each.seconds:.0f}",
            )
            for each in suites
        ],
    )
    for suite in suites:
        lines += ["", f"## {suite.title}", "", f"`tempest run --regex '{suite.regex}'`", "", *_render_modules(suite)]
        for outcome, title in ((FAILED, "Failed"), (SKIPPED, "Skipped, and why")):
            if found := suite.having(outcome):
                lines += ["", f"### {title}", "", *_render_reasons(found)]
    return "\n".join(lines) + "\n"


def _render_modules(suite: Suite) -> list[str]:
    counts: dict[str, Counter[str]] = {}
    for result in suite.results:
        counts.setdefault(result.module, Counter())[result.outcome] += 1
    rows = [
        (f"`{module}`", *(count[outcome] or "" for outcome in (PASSED, SKIPPED, FAILED)))
        for module, count in sorted(counts.items())
    ]
    return _table(("module", PASSED, SKIPPED, FAILED), rows)


def _render_reasons(results: Iterable[Result]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for result in results:
        # Of a traceback the last line says it.
        reason = (result.reason.splitlines() or ["no reason given"])[-1]
        by_reason.setdefault(reason.replace("|", "\\|"), []).append(f"`{result.title}`")
    return _table(("reason", "tests"), [(reason, ", ".join(names)) for reason, names in sorted(by_reason.items())])


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
