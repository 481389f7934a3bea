# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import shutil

import pytest
from tests.listings import KEY

from lustack.sync import drift
from lustack.sync.drift import Relook, Rows, Suspect, Verdict
from lustack.sync.locate import Locator
from lustack.sync.plan import ListedRow, Wanted, delete, put
from lustack.sync.problems import Kind
from lustack.sync.sinks.fake import FakeContainer


def fill(playground, *names):
    container = playground.sink.containers[KEY] = FakeContainer()
    for name in names:
        container.merge(put(name, Wanted(1, "t", "e", "1500000000.00000"), 1_600_000_000 * 10**9))


def judge(playground, *suspects):
    with playground.device() as device:
        return list(Relook(playground.sink, playground.clock).judge(device, suspects))


def suspect_of(playground, name):
    """As the comparison suspects it."""
    playground.notebook.rows.clear()
    playground.compare(limits=drift_limits())
    [row] = [row for row in playground.notebook.rows if row.name == name]
    return Suspect(str(playground.root), KEY, row)


def drift_limits():
    from lustack.sync.reconcile import Limits

    return Limits(dry_run=True)


def test_rows_are_found_by_name_however_far_apart_they_are(playground):
    names = ["a", "aa", "ab", "b", "c", "c\U0010ffff", "cc", "d", "e"]
    fill(playground, *names)
    rows = Rows(playground.sink, KEY)
    for name in ["a", "aa", "ab", "b", "bb", "c", "cb", "cc", "e", "f"]:
        found = rows.find(name)
        assert (found.name if found else None) == (name if name in names else None)


def test_rows_of_an_empty_listing_are_none(playground):
    fill(playground)
    rows = Rows(playground.sink, KEY)
    assert [rows.find(name) for name in ("a", "b")] == [None, None]


def test_a_row_is_found_behind_many_that_begin_alike(playground):
    fill(playground, *(f"a{number}" for number in range(9)))
    assert Rows(playground.sink, KEY).find("a8").name == "a8"
    assert Rows(playground.sink, KEY).find("a85") is None


def test_a_difference_that_lasts_is_drift(playground):
    playground.write("o")
    suspect = suspect_of(playground, "o")
    [judged] = judge(playground, suspect)
    assert (judged.verdict, judged.listed, judged.suspect.looks) == (Verdict.DRIFT, None, 1)
    assert drift.describe(judged.suspect.row, judged.listed) == (Kind.MISSING_ROW, "")


def test_a_row_that_came_meanwhile_is_none(playground):
    playground.write("o")
    suspect = suspect_of(playground, "o")
    playground.compare()
    assert [each.verdict for each in judge(playground, suspect)] == [Verdict.TRUE]


def test_a_row_whose_file_is_gone_is_drift(playground):
    fill(playground, "gone")
    suspect = suspect_of(playground, "gone")
    [judged] = judge(playground, suspect)
    assert judged.verdict is Verdict.DRIFT
    assert drift.describe(judged.suspect.row, judged.listed) == (Kind.EXTRA_ROW, "")


def test_a_row_whose_container_has_no_directory_is_drift(playground):
    fill(playground, "gone", "lost")
    suspects = [suspect_of(playground, "lost"), suspect_of(playground, "gone")]
    shutil.rmtree(playground.container)
    judged = judge(playground, *suspects)
    assert [(each.verdict, each.suspect.row.name) for each in judged] == [
        (Verdict.DRIFT, "gone"),
        (Verdict.DRIFT, "lost"),
    ]


def test_a_file_that_changed_is_looked_at_again_but_not_for_ever(playground):
    playground.write("o")
    suspect = suspect_of(playground, "o")
    verdicts = []
    for number in range(5):
        playground.write("o", b"x" * number)
        [judged] = judge(playground, suspect)
        suspect = judged.suspect
        verdicts.append(judged.verdict)
    assert verdicts == [Verdict.AGAIN] * 4 + [Verdict.MOVING]


def test_a_file_that_cannot_be_looked_at_is_no_drift(playground, monkeypatch):
    playground.write("o")
    playground.write("p")
    suspects = [suspect_of(playground, "o"), suspect_of(playground, "p")]
    places = Locator.places

    def fail(self, name):
        if name == "o":
            raise OSError(errno.EIO, "broken")
        return places(self, name)

    monkeypatch.setattr(Locator, "places", fail)
    assert [each.verdict for each in judge(playground, *suspects)] == [Verdict.AGAIN, Verdict.DRIFT]


def test_a_row_that_is_newer_than_the_look_is_none_of_ours(playground):
    container = playground.sink.containers[KEY] = FakeContainer()
    container.merge(put("o", Wanted(1, "t", "e", "9500000000.00000"), 1))
    [judged] = judge(playground, Suspect(str(playground.root), KEY, delete("o", 1)))
    assert judged.verdict is Verdict.AGAIN


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"size_bytes": 2}, "size 2, not 1"),
        ({"content_type": "x", "etag": "f"}, "type x, not t, etag f, not e"),
        ({"modified": "1400000000.00000"}, "time 1400000000.00000, not 1500000000.00000"),
    ],
)
def test_what_is_wrong_is_said(change, why):
    row = put("o", Wanted(1, "t", "e", "1500000000.00000"), 1)
    listed = ListedRow("o", 1, "t", "e", "1500000000.00000")._replace(**change)
    assert drift.describe(row, listed) == (Kind.WRONG_ROW, why)
