# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from lustack.sync.problems import MEANINGS, Kind, Problem, Summary


def test_every_kind_has_a_meaning():
    assert set(MEANINGS) == set(Kind)
    assert all(each.sentence and each.remedy for each in MEANINGS.values())


def test_findings_are_counted_and_some_are_kept():
    summary = Summary()
    for number in range(30):
        summary.add(Problem(Kind.MISSING_ROW, f"a/c/{number}", is_repaired=number < 3))
    found = summary.kinds[Kind.MISSING_ROW]
    assert (found.count, found.repaired, len(found.samples)) == (30, 3, 20)
    assert found.samples[0] == ("a/c/0", "")


def test_notes_count_only_where_somebody_is_strict():
    summary = Summary()
    summary.add(Problem(Kind.SPECIAL, "a/c/link"))
    assert (summary.open_count(), summary.open_count(strict=True)) == (0, 1)
    summary.add(Problem(Kind.EXTRA_ROW, "a/c/o"))
    assert (summary.open_count(), summary.open_count(strict=True)) == (1, 2)


def test_a_summary_survives_json():
    summary = Summary()
    summary.add(Problem(Kind.UNLISTABLE, "a/c/\udcff", "its bytes are not UTF-8"))
    document = json.loads(json.dumps(summary.to_document()))
    assert document["unlistable-name"]["problem"] is False
    assert Summary.from_document(document) == summary
