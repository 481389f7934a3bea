# SPDX-License-Identifier: Apache-2.0
"""What a run of tempest found, and the page that says it (doc/tempest.md).

Rule 1: the page is made of results only; nothing in it is written by hand.
Rule 2: a test that was run again has its last result, and the page says what the earlier one was when it failed.
Rule 3: what was skipped or not run is listed test by test, with tempest's reason and what that means here.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

PASSED, SKIPPED, FAILED, NOT_RUN = OUTCOMES = "passed", "skipped", "failed", "not run"
# How testtools calls them.
_OUTCOMES = {"success": PASSED, "skip": SKIPPED, "xfail": PASSED}
_TAGS = re.compile(r"\[[^]]*\]")
_CLASS = re.compile(r"(?:setUpClass|tearDownClass) \((.+)\)")


@dataclass(frozen=True)
class Result:
    """A test, or a class whose tests were not begun.

    Attributes:
        name: dotted; `setUpClass (CLASS)` for a class.
        outcome: passed, skipped, failed, or not run.
        reason: why it was skipped, or what was wrong.
    """

    name: str
    outcome: str
    reason: str = ""

    @property
    def is_class(self) -> bool:
        return _CLASS.fullmatch(self.name) is not None

    @property
    def of(self) -> str:
        """The class that it is, or is in."""
        found = _CLASS.fullmatch(self.name)
        return found[1] if found else _TAGS.sub("", self.name).rpartition(".")[0]

    @property
    def module(self) -> str:
        """The module that it is in."""
        return self.of.rpartition(".")[0]

    @property
    def title(self) -> str:
        """Its class and name, without the tags that tempest adds."""
        if self.is_class:
            return f"{self.of.rpartition('.')[2]} (all)"
        return ".".join(_TAGS.sub("", self.name).split(".")[-2:])


@dataclass(frozen=True)
class Run:
    """What one call of tempest gave.

    Attributes:
        results: of each test, and of each class that was not begun.
        seconds: from the beginning of the first to the end of the last.
    """

    results: Sequence[Result]
    seconds: float

    def without(self, names: re.Pattern[str]) -> Run:
        """The run without the results whose names have this in them."""
        return Run([result for result in self.results if not names.search(result.name)], self.seconds)


@dataclass(frozen=True)
class Suite:
    """The results of all calls of tempest for the same tests.

    Attributes:
        title: what it is called on the page.
        regex: which tests it is.
        results: the last of each.
        seconds: how long it took, all in all.
        mended: earlier results that failed, of what has been run again.
    """

    title: str
    regex: str
    results: Sequence[Result]
    seconds: float
    mended: Sequence[Result] = ()

    def having(self, outcome: str) -> list[Result]:
        return [result for result in self.results if result.outcome == outcome]


def parse(stream: bytes) -> Run:
    """What a subunit stream says."""
    import subunit
    import testtools

    found: list[Result] = []
    times: list[datetime] = []

    def keep(test) -> None:
        details = test["details"]
        texts = [details[key].as_text().strip() for key in ("reason", "traceback") if key in details]
        if test["id"] != "output":
            found.append(Result(test["id"], _OUTCOMES.get(test["status"], FAILED), "\n".join(texts)))
            times.extend(filter(None, test["timestamps"]))

    sink = testtools.StreamToDict(keep)
    sink.startTestRun()
    subunit.ByteStreamToStreamResult(io.BytesIO(stream), non_subunit_name="output").run(sink)
    sink.stopTestRun()
    return Run(found, (max(times) - min(times)).total_seconds() if times else 0.0)


def merge(title: str, regex: str, names: Iterable[str], runs: Iterable[Run], excluded: Mapping[str, str]) -> Suite:
    """One suite of several runs, the earliest first.

    What a run says about a class as a whole (skipped, or it could not be begun) holds until its tests are run.

    Args:
        title: of the suite.
        regex: of it.
        names: of all tests that it has.
        runs: what they gave.
        excluded: regular expressions of tests that are not run, and why.
    """
    last: dict[str, Result] = {}
    mended: list[Result] = []
    seconds = 0.0
    for run in runs:
        seconds += run.seconds
        begun = {result.of for result in run.results if not result.is_class}
        again = {result.name for result in run.results}
        gone = [old for old in last.values() if old.name in again or (old.is_class and old.of in begun)]
        mended += [old for old in gone if old.outcome == FAILED]
        for old in gone:
            del last[old.name]
        last |= {result.name: result for result in run.results}
    found = _complete([*last.values()], names, excluded)
    return Suite(title, regex, sorted(found, key=lambda each: each.name), seconds, mended)


def _complete(results: Sequence[Result], names: Iterable[str], excluded: Mapping[str, str]) -> Iterator[Result]:
    """What was found, and what was not: not run, or skipped with the whole of its class, which then is not named."""
    known = {result.name for result in results}
    classes = {result.of: result for result in results if result.is_class}
    spread = set()
    for name in names:
        result = Result(name, NOT_RUN, _explain(name, excluded))
        whole = None if result.reason else classes.get(result.of)
        if name not in known and whole is None:
            yield result
        elif name not in known and whole.outcome == SKIPPED:
            spread.add(whole)
            yield Result(name, SKIPPED, whole.reason)
    yield from (result for result in results if result not in spread)


def _explain(text: str, meanings: Mapping[str, str]) -> str:
    """What is said about the first regular expression that is found in a text."""
    return next((meaning for regex, meaning in meanings.items() if re.search(regex, text)), "")


def render(suites: Sequence[Suite], facts: Sequence[str], meanings: Mapping[str, str]) -> str:
    """The page.

    Args:
        suites: what ran.
        facts: what they ran with, a sentence each.
        meanings: regular expressions of what tempest says of tests that it skips, or that failed before, and what each
            means here.
    """
    rows = [
        (f"`{each.title}`", *(len(each.having(outcome)) for outcome in OUTCOMES), len(each.mended), round(each.seconds))
        for each in suites
    ]
    total = ("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:]))
    lines = ["# Tempest", "", "Made by `make tempest`; do not edit.", "", *(f"- {fact}" for fact in facts), ""]
    lines += _table(("suite", *OUTCOMES, "run again", "seconds"), [*rows, total])
    for suite in suites:
        lines += ["", f"## {suite.title}", "", f"`tempest run --regex '{suite.regex}'`", "", *_render_modules(suite)]
        for title, found in (
            ("Failed", suite.having(FAILED)),
            ("Not run, and why", suite.having(NOT_RUN)),
        ):
            if found:
                lines += ["", f"### {title}", "", *_table(("reason", "tests"), _gather(found))]
        for title, found in (
            ("Skipped by tempest, and why", suite.having(SKIPPED)),
            ("Run again, and what was wrong before", suite.mended),
        ):
            if found:
                rows = [(reason, _explain(reason, meanings), names) for reason, names in _gather(found)]
                lines += ["", f"### {title}", "", *_table(("it says", "that is", "tests"), rows)]
    return "\n".join(lines) + "\n"


def _render_modules(suite: Suite) -> list[str]:
    counts: dict[str, Counter[str]] = {}
    for result in suite.results:
        counts.setdefault(result.module, Counter())[result.outcome] += 1
    rows = [
        (f"`{module}`", *(count[outcome] or "" for outcome in OUTCOMES)) for module, count in sorted(counts.items())
    ]
    return _table(("module", *OUTCOMES), rows)


def _gather(results: Iterable[Result]) -> list[tuple[str, str]]:
    """The reasons that there are, each with the tests that have it."""
    by_reason: dict[str, list[str]] = {}
    for result in results:
        # Of a traceback the last line says it.
        reason = (result.reason.splitlines() or ["no reason given"])[-1]
        by_reason.setdefault(reason.replace("|", "\\|"), []).append(f"`{result.title}`")
    return [(reason, ", ".join(names)) for reason, names in sorted(by_reason.items())]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
