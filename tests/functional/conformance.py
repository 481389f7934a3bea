# SPDX-License-Identifier: Apache-2.0
"""The suites of Swift and of its client; the longest in parts that run beside each other, each with a Swift of its own.

Rule 1: a part starts with an empty Swift; what another run left in the account `test` breaks three of the tests.
Rule 2: but with an account that exists: a test of accounts fails, on stock too, where nobody has used the cluster yet.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.functional import stand, suites
from tests.functional.client import Client

from lustack.server.instance import Instance
from lustack.server.topology import Policy

S3 = ("test/functional/s3api", "test/functional/test_slo.py")
VERSIONING = tuple(
    f"test/functional/test_{module}.py" for module in ("object_versioning", "container", "dlo", "tempurl")
)
# Measured: the parts take about the same time. What is in no list is in the last part.
PARTS: Mapping[str, tuple[str, ...]] = {
    "s3": S3,
    "versioning": VERSIONING,
    "others": ("test/functional", *(f"--ignore={path}" for path in (*S3, *VERSIONING))),
}

Policies = Callable[[Path], tuple[Policy, ...]]


@dataclass(frozen=True)
class Recorded:
    """What stock Swift made of the suite.

    Attributes:
        passed: how many tests passed.
        skipped: the reason of each skipped test, by its id.
    """

    passed: int
    skipped: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Recorded:
        """Read the file that `record_stock` wrote."""
        document = json.loads(path.read_text())
        return cls(document["passed"], document["skipped"])


@contextmanager
def without_coverage() -> Iterator[None]:
    """Start processes that do not measure themselves: the suite is long, and what it reaches others reach too."""
    names = [name for name in os.environ if name.startswith("COVERAGE_")]
    kept = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(kept)


def make_account(served: Instance) -> None:
    """Make the account of the first user."""
    with Client(served.access) as client:
        answer = client.send("POST", "")
        assert answer.status == 204, answer


@contextmanager
def started(run: suites.Run) -> Iterator[subprocess.Popen[bytes]]:
    """Start a suite; in the end nothing of it runs any more."""
    process = run.start()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_suite(
    tests: Path, directory: Path, file_system: Path, policies: Policies, *, short_path: bool = True
) -> suites.Outcome:
    """Run all parts at the same time and return what they said together.

    Args:
        tests: the directory that holds Swift's package `test`.
        directory: an empty directory for states, logs and reports; kept.
        file_system: where the objects are; they are removed in the end.
        policies: gives the policies for a directory.
        short_path: whether the proxy reaches our files by itself.
    """
    with ExitStack() as stack:
        stack.enter_context(without_coverage())
        processes, runs = [], []
        for part, arguments in PARTS.items():
            root = file_system / part
            host = stand.plan(root, directory / part, policies(root), short_path=short_path)
            served = stack.enter_context(stand.running(host))
            make_account(served)
            config = stand.write_test_conf(served, directory / f"{part}.conf")
            run = suites.Run(tests, arguments, config, directory / f"{part}.xml")
            processes.append(stack.enter_context(started(run)))
            runs.append(run)
        while any(process.poll() is None for process in processes):
            time.sleep(0.5)
        return suites.merge([suites.parse(run.report) for run in runs])


def run_one_suite(tests: Path, directory: Path, served: Instance, suite: str = "functional") -> suites.Outcome:
    """Run python-swiftclient's functional suite, or Swift's suite for S3, and return what it said.

    Args:
        tests: the directory that holds the package `test`.
        directory: an existing directory for the report and the log; kept.
        served: the Swift to talk to.
        suite: the package below `test`.
    """
    config = stand.write_test_conf(served, directory / f"{suite}.conf")
    run = suites.Run(tests, (f"test/{suite}",), config, directory / f"{suite}.xml")
    with without_coverage(), started(run) as process:
        process.wait()
    return suites.parse(run.report)


def data_file(package: str, version: str, suite: str = "functional") -> Path:
    """The file that says what stock Swift makes of a suite of a package."""
    return Path(__file__).parent / "data" / f"{package}-{version}-{suite}.json"
