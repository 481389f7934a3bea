# SPDX-License-Identifier: Apache-2.0
"""doc/tempest.md says what the results say, all of it."""

from __future__ import annotations

import re

from tests.tempest.results import FAILED, NOT_RUN, PASSED, SKIPPED, Result, Run, Suite, merge, render

MEANINGS = {"no backups": "nothing to keep them on"}
CLASS = "tempest.api.volume.test_backup.Backups"
BACKUPS = "tempest.api.volume.test_backup.Backups.test_make[id-1,smoke]"


def make_page(*results):
    return render([Suite("volume", "^volume", results, 61.4)], ["Versions: some."], MEANINGS)


def test_each_outcome_is_counted_by_suite_and_by_module():
    page = make_page(Result(BACKUPS, PASSED), Result("tempest.api.volume.test_types.Types.test_list", PASSED))
    assert "| `volume` | 2 | 0 | 0 | 0 | 0 | 61 |" in page
    assert "| `tempest.api.volume.test_backup` | 1 |  |  |  |" in page
    assert "- Versions: some." in page


def test_the_last_row_is_the_sum_of_all_suites():
    suites = [Suite("volume", "^volume", [Result(BACKUPS, PASSED)], 61.4), make_suite([Result(BACKUPS, SKIPPED)])]
    assert "| all | 1 | 1 | 0 | 0 | 0 | 91 |" in render(suites, [], {})


def test_a_test_that_was_skipped_is_listed_with_its_reason_and_what_that_means():
    page = make_page(Result(BACKUPS, SKIPPED, reason="no backups | here"))
    assert "| `volume` | 0 | 1 | 0 | 0 | 0 | 61 |" in page
    assert "| no backups \\| here | nothing to keep them on | `Backups.test_make` |" in page


def test_of_a_failure_the_last_line_is_shown():
    page = make_page(Result(BACKUPS, FAILED, reason="Traceback:\n  somewhere\nTimeout: too slow"))
    assert "### Failed" in page
    assert "| Timeout: too slow | `Backups.test_make` |" in page


def test_a_reason_that_nobody_gave_is_said_to_be_missing():
    assert "| no reason given |  | `Backups.test_make` |" in make_page(Result(BACKUPS, SKIPPED))


def make_suite(*runs, names=(BACKUPS,), excluded=None):
    return merge("volume", "^volume", names, [Run(results, 30.0) for results in runs], excluded or {})


def test_the_last_result_of_a_test_counts_and_the_page_says_how_it_failed_before():
    suite = make_suite([Result(BACKUPS, FAILED, reason="Timeout: too slow")], [Result(BACKUPS, PASSED)])
    page = render([suite], [], {"too slow": "a busy machine"})
    assert "| `volume` | 1 | 0 | 0 | 0 | 1 | 60 |" in page
    assert "### Failed" not in page
    assert "### Run again, and what was wrong before" in page
    assert "| Timeout: too slow | a busy machine | `Backups.test_make` |" in page


def test_a_test_that_fails_again_is_failed():
    failed = Result(BACKUPS, FAILED, reason="Timeout: too slow")
    assert make_suite([failed], [failed]).having(FAILED) == [failed]


def test_what_was_not_run_again_stays():
    other = Result(f"{CLASS}.test_other", PASSED)
    assert make_suite([other, Result(BACKUPS, FAILED)], [Result(BACKUPS, PASSED)]).having(PASSED) == [
        Result(BACKUPS, PASSED),
        other,
    ]


def test_a_class_that_was_skipped_is_no_longer_when_its_tests_have_run():
    suite = make_suite([Result(f"setUpClass ({CLASS})", SKIPPED, reason="no backups")], [Result(BACKUPS, PASSED)])
    assert (suite.having(SKIPPED), suite.mended) == ([], [])


def test_a_class_that_could_not_be_begun_is_named_when_its_tests_have_run():
    failed = Result(f"setUpClass ({CLASS})", FAILED, reason="no quota")
    assert make_suite([failed], [Result(BACKUPS, PASSED)]).mended == [failed]


def test_what_is_not_run_any_more_is_not_counted():
    run = Run([Result(BACKUPS, FAILED), Result(f"{CLASS}.test_other", PASSED)], 30.0)
    assert run.without(re.compile("test_make")).results == [Result(f"{CLASS}.test_other", PASSED)]


def test_a_test_that_no_run_came_to_is_counted_and_listed_with_its_reason():
    suite = make_suite([Result(f"{CLASS}.test_other", PASSED)], excluded={"test_ma": "no time"})
    assert suite.having(NOT_RUN) == [Result(BACKUPS, NOT_RUN, "no time")]
    page = render([suite], [], {})
    assert "| `volume` | 1 | 0 | 0 | 1 | 0 | 30 |" in page
    assert "### Not run, and why" in page
    assert "| no time | `Backups.test_make` |" in page


def test_of_a_class_that_was_skipped_each_test_is_skipped_unless_it_is_not_run_anyhow():
    names = (BACKUPS, f"{CLASS}.test_other", f"{CLASS}.test_third")
    whole = Result(f"setUpClass ({CLASS})", SKIPPED, "no backups")
    suite = make_suite([whole], names=names, excluded={"third": "no time"})
    assert [(each.title, each.reason) for each in suite.having(SKIPPED)] == [
        ("Backups.test_make", "no backups"),
        ("Backups.test_other", "no backups"),
    ]
    assert [each.title for each in suite.having(NOT_RUN)] == ["Backups.test_third"]


def test_a_class_that_could_not_be_begun_is_failed_as_a_whole():
    failed = Result(f"setUpClass ({CLASS})", FAILED, reason="no quota")
    assert make_suite([failed]).results == [failed]
