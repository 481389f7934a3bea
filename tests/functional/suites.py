# SPDX-License-Identifier: Apache-2.0
"""Running somebody else's test suite in a pytest of its own, and reading what it says.

Rule 1: the suite sees nothing of this project's pytest configuration.
Rule 2: a skipped test is a result like any other: with the servers down most of Swift's tests are skipped, not failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PYTEST = (
    *("-m", "pytest", "-q", "-r", "fEs", "-c", os.devnull, "--rootdir", ".", "--tb=native", "--timeout=300"),
    *("-p", "no:cacheprovider", "-p", "no:requests_mock", "-p", "no:randomly", "-p", "no:xdist"),
)


@dataclass(frozen=True)
class Outcome:
    """What a suite said.

    Attributes:
        passed: ids (`class.name`) of the tests that passed.
        skipped: reason by id.
        failed: message by id; failures and errors alike.
        seconds: duration of each test by id.
    """

    passed: frozenset[str] = frozenset()
    skipped: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run of (a part of) a suite.

    Attributes:
        directory: holds the suite's package `test`.
        tests: paths below it, or `--ignore=` arguments.
        config: the file for `SWIFT_TEST_CONFIG_FILE`.
        report: the JUnit file to write; the log is put beside it.
    """

    directory: Path
    tests: tuple[str, ...]
    config: Path
    report: Path

    @property
    def log(self) -> Path:
        """The file which receives everything that the suite prints."""
        return self.report.with_suffix(".log")

    def start(self) -> subprocess.Popen[bytes]:
        """Start the suite in a process group of its own."""
        path = os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"]))
        own = {"SWIFT_TEST_CONFIG_FILE": str(self.config), "LANG": "C.UTF-8", "PATH": path}
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, *PYTEST, f"--junitxml={self.report}", *self.tests],
                cwd=self.directory,
                env={**os.environ, **own},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def parse(report: Path) -> Outcome:
    """Return what the JUnit file `report` tells."""
    passed, skipped, failed, seconds = set(), {}, {}, {}
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        seconds[name] = float(case.get("time", "0"))
        problems = [*case.iter("failure"), *case.iter("error")]
        skip = case.find("skipped")
        if problems:
            failed[name] = "\n".join(problem.text or problem.get("message", "") for problem in problems)
        elif skip is not None:
            skipped[name] = skip.get("message", "")
        else:
            passed.add(name)
    return Outcome(frozenset(passed - failed.keys()), skipped, failed, seconds)


def merge(outcomes: list[Outcome]) -> Outcome:
    """Return the outcome of several runs which had no test in common."""
    return Outcome(
        frozenset().union(*(outcome.passed for outcome in outcomes)),
        {name: reason for outcome in outcomes for name, reason in outcome.skipped.items()},
        {name: text for outcome in outcomes for name, text in outcome.failed.items()},
        {name: seconds for outcome in outcomes for name, seconds in outcome.seconds.items()},
    )
