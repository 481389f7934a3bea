# SPDX-License-Identifier: Apache-2.0
"""The suites of Swift and of python-swiftclient on our policy, held against what stock Swift makes of them."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest
from tests.functional import conformance, stand, suites
from tests.functional.conformance import Recorded

from lustack.server.instance import Instance

# They take nine minutes on two idle cores; a machine of a build may be slower and busy.
SUITE_LIMIT_S = 3600


def recorded(package: str, suite: str = "functional") -> Recorded:
    version = importlib.metadata.version(package)
    path = conformance.data_file(package, version, suite)
    assert path.exists(), f"no stock run of {package} {version}: python -m tests.functional.record_stock"
    return Recorded.read(path)


def needs_boto(outcome: suites.Outcome) -> set[str]:
    """The tests that were skipped for want of boto 2, which no Python since 3.12 can import."""
    if sys.version_info < (3, 12):
        return set()
    return {name for name, why in outcome.skipped.items() if why == "boto 2.x library is not installed"}


def assert_as_stock(outcome: suites.Outcome, stock: Recorded) -> None:
    failures = "\n\n".join(f"{name}\n{text}" for name, text in sorted(outcome.failed.items()))
    assert not outcome.failed, failures
    excused = needs_boto(outcome)
    more_skips = {name: why for name, why in outcome.skipped.items() if name not in {*stock.skipped, *excused}}
    assert more_skips == {}
    assert len(outcome.passed) + len(outcome.skipped) == stock.passed + len(stock.skipped)
    assert len(outcome.passed) + len(excused) >= stock.passed


@pytest.mark.timeout(SUITE_LIMIT_S)
@pytest.mark.parametrize("way", ["short path", pytest.param("socket", marks=pytest.mark.long)])
def test_swifts_own_functional_suite_says_of_our_policy_what_it_says_of_stock(
    swift_tests: Path, file_system: Path, tmp_path: Path, way: str
) -> None:
    is_short = way == "short path"
    outcome = conformance.run_suite(swift_tests, tmp_path, file_system, stand.ours_and_stock, short_path=is_short)
    assert_as_stock(outcome, recorded("swift"))


@pytest.mark.timeout(SUITE_LIMIT_S)
def test_swiftclients_functional_suite_says_of_our_policy_what_it_says_of_stock(
    swiftclient_tests: Path, served: Instance, tmp_path: Path
) -> None:
    outcome = conformance.run_one_suite(swiftclient_tests, tmp_path, served)
    assert_as_stock(outcome, recorded("python-swiftclient"))


@pytest.mark.long
@pytest.mark.timeout(SUITE_LIMIT_S)
def test_swifts_suite_for_s3_says_of_our_policy_what_it_says_of_stock(
    swift_tests: Path, file_system: Path, tmp_path: Path
) -> None:
    root = file_system / "s3api"
    with stand.running(stand.plan(root, tmp_path / "state", stand.ours_and_stock(root))) as served:
        outcome = conformance.run_one_suite(swift_tests, tmp_path, served, "s3api")
    assert_as_stock(outcome, recorded("swift", "s3api"))
