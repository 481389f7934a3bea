# SPDX-License-Identifier: Apache-2.0
"""Run the suites of Swift and of python-swiftclient on stock Swift and record what they said.

    python -m tests.functional.record_stock          writes data/PACKAGE-VERSION-SUITE.json
    python -m tests.functional.record_stock --ours   runs them on our policy and writes nothing

Needs root (a loop file system) and, for the times, an idle machine.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from tests.functional import conformance, filesystem, sdists, stand, suites


def run_swift(tests: Path, directory: Path, file_system: Path, policies: conformance.Policies) -> suites.Outcome:
    """Run Swift's suite."""
    return conformance.run_suite(tests, directory, file_system, policies)


def run_alone(
    suite: str, tests: Path, directory: Path, file_system: Path, policies: conformance.Policies
) -> suites.Outcome:
    """Run a suite with a Swift of its own."""
    root = file_system / suite
    with stand.running(stand.plan(root, directory / f"{suite}-state", policies(root))) as served:
        return conformance.run_one_suite(tests, directory, served, suite)


# By package and suite.
SUITES = {
    ("swift", "functional"): run_swift,
    ("swift", "s3api"): partial(run_alone, "s3api"),
    ("python-swiftclient", "functional"): partial(run_alone, "functional"),
}


def describe(outcome: suites.Outcome) -> str:
    """Return the time of each module, the failures, and the figures."""
    seconds: Counter[str] = Counter()
    for name, duration in outcome.seconds.items():
        seconds[name.split(".Test")[0]] += round(duration)
    lines = [f"{duration:6} s  {module}" for module, duration in seconds.most_common() if duration]
    lines += [f"FAILED {name}: {text}" for name, text in sorted(outcome.failed.items())]
    figures = (len(outcome.passed), len(outcome.skipped), len(outcome.failed))
    return "\n".join([*lines, "{} passed, {} skipped, {} failed".format(*figures)])


def write(package: str, suite: str, outcome: suites.Outcome) -> None:
    """Write the data file of a suite of `package`."""
    version = importlib.metadata.version(package)
    skipped = dict(sorted(outcome.skipped.items()))
    document = {package: version, "passed": len(outcome.passed), "skipped": skipped}
    conformance.data_file(package, version, suite).write_text(json.dumps(document, indent=1) + "\n")


def main() -> int:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ours", action="store_true", help="run on our policy, record nothing")
    names = {f"{package}/{suite}": (package, suite) for package, suite in SUITES}
    parser.add_argument("suite", nargs="*", help=f"of {', '.join(names)}; without any all of them")
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="lustack-suites-"))
    started = time.monotonic()
    policies = stand.ours_and_stock if asked.ours else stand.only_stock
    failed = 0
    with filesystem.xfs_in_a_file(directory, size_gib=12) as mount_point:
        for name in asked.suite or names:
            package, suite = names[name]
            tests = sdists.tests_of(package, Path(tempfile.gettempdir()) / "lustack-sdists")
            outcome = SUITES[package, suite](tests, directory, mount_point, policies)
            print(f"== {name}", describe(outcome), sep="\n")
            failed += len(outcome.failed)
            if not asked.ours and not outcome.failed:
                write(package, suite, outcome)
    print(f"{time.monotonic() - started:.0f} s, load {os.getloadavg()[0]:.1f}, logs in {directory}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
