# SPDX-License-Identifier: Apache-2.0
"""doc/tempest.md says what the results say, all of it."""

from __future__ import annotations

from tests.tempest.results import FAILED, PASSED, SKIPPED, Result, Suite, render

BACKUPS = "tempest.api.volume.test_backup.Backups.test_make[id-1,smoke]"


def make_page(*results):
    return render([Suite("volume", "^volume", results, 61.4)], ["Versions: some."])


def test_each_outcome_is_counted_by_suite_and_by_module():
    page = make_page(Result(BACKUPS, PASSED), Result("tempest.api.volume.test_types.Types.test_list", PASSED))
    assert "| `volume` | 2 | 0 | 0 | 61 |" in page
    assert "| `tempest.api.volume.test_backup` | 1 |  |  |" in page
    assert "- Versions: some." in page


def test_a_test_that_was_skipped_is_listed_with_its_reason():
    page = make_page(Result(BACKUPS, SKIPPED, reason="no backups | here"))
    assert "| `volume` | 0 | 1 | 0 | 61 |" in page
    assert "| no backups \\| here | `Backups.test_make` |" in page


def test_a_class_that_was_skipped_counts_as_one_in_its_module():
    page = make_page(Result("setUpClass (tempest.api.volume.test_backup.Backups)", SKIPPED, reason="no backups"))
    assert "| `tempest.api.volume.test_backup` |  | 1 |  |" in page
    assert "| no backups | `Backups (all)` |" in page


def test_of_a_failure_the_last_line_is_shown():
    page = make_page(Result(BACKUPS, FAILED, reason="Traceback:\n  somewhere\nTimeout: too slow"))
    assert "### Failed" in page
    assert "| Timeout: too slow | `Backups.test_make` |" in page


def test_a_reason_that_nobody_gave_is_said_to_be_missing():
    assert "| no reason given | `Backups.test_make` |" in make_page(Result(BACKUPS, SKIPPED))
