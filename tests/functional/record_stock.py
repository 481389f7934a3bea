# SPDX-License-Identifier: Apache-2.0
"""Run the functional suites of Swift and of python-swiftclient on stock Swift and record what they said.

    python -m tests.functional.record_stock          writes data/PACKAGE-VERSION-functional.json
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
from pathlib import Path

from tests.functional import conformance, filesystem, sdists, stand, suites


def run_swift(tests: Path, directory: Path, file_system: Path, policies: conformance.Policies) -> suites.Outcome:
    """Run Swift's suite."""
    return conformance.run_suite(tests, directory, file_system, policies)


def run_client(tests: Path, directory: Path, file_system: Path, policies: conformance.Policies) -> suites.Outcome:
    """Run python-swiftclient's suite."""
    root = file_system / "client"
    with stand.running(stand.plan(root, directory / "client", policies(root))) as served:
        return conformance.run_client_suite(tests, directory, served)


SUITES = {"swift": run_swift, "python-swiftclient": run_client}


def describe(outcome: suites.Outcome) -> str:
    """Return the time of each module, the failures, and the figures."""
    seconds: Counter[str] = Counter()
    for name, duration in outcome.seconds.items():
        seconds[name.split(".Test")[0]] += round(duration)
    lines = [f"{duration:6} s  {module}" for module, duration in seconds.most_common() if duration]
    lines += [f"FAILED {name}: {text}" for name, text in sorted(outcome.failed.items())]
    figures = (len(outcome.passed), len(outcome.skipped), len(outcome.failed))
    return "\n".join([*lines, "{} passed, {} skipped, {} failed".format(*figures)])


def write(package: str, outcome: suites.Outcome) -> None:
    """Write the data file of `package`."""
    version = importlib.metadata.version(package)
    skipped = dict(sorted(outcome.skipped.items()))
    document = {package: version, "passed": len(outcome.passed), "skipped": skipped}
    conformance.data_file(package, version).write_text(json.dumps(document, indent=1) + "\n")


def main() -> int:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ours", action="store_true", help="run on our policy, record nothing")
    parser.add_argument("package", nargs="*", help=f"one of {', '.join(SUITES)}; without any all of them")
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="lustack-suites-"))
    started = time.monotonic()
    policies = stand.ours_and_stock if asked.ours else stand.only_stock
    failed = 0
    with filesystem.xfs_in_a_file(directory, size_gib=12) as mount_point:
        for package in asked.package or SUITES:
            tests = sdists.tests_of(package, Path(tempfile.gettempdir()) / "lustack-sdists")
            outcome = SUITES[package](tests, directory, mount_point, policies)
            print(f"== {package}", describe(outcome), sep="\n")
            failed += len(outcome.failed)
            if not asked.ours and not outcome.failed:
                write(package, outcome)
    print(f"{time.monotonic() - started:.0f} s, load {os.getloadavg()[0]:.1f}, logs in {directory}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
