# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lustack.mapping import exports
from lustack.mapping.exports import Export, Exports, ExportsDamagedError, Stage

MARK = "0123456789abcdef" * 2
ONE = Export("AUTH_x", "results", b"/projects/cosmo/results", MARK, 7, stage=Stage.READY)
TWO = Export("AUTH_x", "more", b"/projects/cosmo/res", MARK[::-1], 8, is_foreign=True)
LEFT = Export("AUTH_y", "old", b"/old", MARK, 9, stage=Stage.LEAVING)
TABLE = Exports([ONE, TWO, LEFT])

plain_components = st.binary(min_size=1, max_size=8).filter(lambda each: not {0, 47} & {*each} and each.strip(b"."))
plain_paths = st.lists(plain_components, min_size=1, max_size=4).map(lambda parts: b"/" + b"/".join(parts))
names_of_swift = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8)


class TestTable:
    def test_a_container_is_an_export_or_not(self):
        assert TABLE.get("AUTH_x", "results") == ONE
        assert TABLE.get("AUTH_x", "other") is None
        assert TABLE.containers("AUTH_x") == ["more", "results"]
        assert TABLE.accounts() == {"AUTH_x"}

    def test_one_that_leaves_is_an_ordinary_container(self):
        assert TABLE.get("AUTH_y", "old") is None
        assert TABLE.containers("AUTH_y") == []
        assert LEFT not in TABLE.bound()
        assert LEFT in TABLE

    def test_listings_have_to_catch_up_with_those_that_come_and_go(self):
        assert TABLE.unsettled("AUTH_x", "results") is None
        assert TABLE.unsettled("AUTH_x", "more") == TWO
        assert TABLE.unsettled("AUTH_y", "old") == LEFT
        assert TABLE.unsettled("AUTH_z", "c") is None

    def test_another_one_of_a_container_takes_its_place(self):
        again = replace(ONE, path=b"/elsewhere")
        assert TABLE.put(again).get("AUTH_x", "results") == again
        assert TABLE.put(again) != TABLE
        assert TABLE.put(ONE) == TABLE

    def test_one_can_be_taken_out(self):
        assert {*TABLE.remove("AUTH_x", "results")} == {TWO, LEFT}
        assert TABLE.remove("AUTH_z", "c") == TABLE

    def test_one_goes_from_stage_to_stage(self):
        assert TABLE.at_stage("AUTH_x", "more", Stage.READY).unsettled("AUTH_x", "more") is None
        assert TABLE.at_stage("AUTH_z", "c", Stage.READY) is TABLE

    def test_tables_are_values(self):
        assert Exports([LEFT, TWO, ONE]) == TABLE
        assert hash(TABLE) == hash(Exports([LEFT, TWO, ONE]))
        assert TABLE != "a table"
        assert TABLE
        assert not Exports()


@pytest.mark.parametrize(
    ("path", "is_so"),
    [
        *((path, True) for path in (b"/a", b"/a/b.c", b"/a/...", b"/\xff")),
        *((path, False) for path in (b"", b"/", b"a", b"a/b", b"/a/", b"//a", b"/a/../b", b"/./a", b"/a\0")),
    ],
)
def test_a_plain_path_says_the_same_to_everybody(path, is_so):
    assert exports.is_plain(path) is is_so


def test_below_ends_at_a_slash():
    assert exports.is_below(b"/a/b", b"/a")
    assert exports.is_below(b"/a", b"/a")
    assert not exports.is_below(b"/ab", b"/a")


class TestFile:
    @given(plain_paths, names_of_swift, names_of_swift, st.sampled_from(Stage), st.booleans())
    def test_what_is_written_is_read(self, path, account, container, stage, is_foreign):
        table = Exports([Export(account, container, path, MARK, 2**63, is_foreign, stage)])
        assert exports.parse(exports.render(table)) == table

    def test_an_empty_table_is_one(self):
        assert exports.parse(exports.render(Exports())) == Exports()

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"", "JSONDecodeError"),
            (b"\xff", "UnicodeDecodeError"),
            (exports.render(TABLE)[:-20], "JSONDecodeError"),
            (b"[]", "TypeError"),
            (b"{}", "KeyError: 'version'"),
            (b'{"version": 2, "exports": []}', "it has version 2, this lustack reads 1"),
            (b'{"version": 1}', "KeyError: 'exports'"),
            (b'{"version": 1, "exports": [{}]}', "KeyError: 'path'"),
            (b'{"version": 1, "exports": [7]}', "TypeError"),
        ],
    )
    def test_what_is_no_table_is_damaged(self, content, why):
        with pytest.raises(ExportsDamagedError, match=why) as caught:
            exports.parse(content)
        assert str(caught.value).startswith("the table of exports is damaged: ")

    @pytest.mark.parametrize(
        "change",
        [
            {"path": "/a/../b"},
            {"path": 7},
            {"mark": "0"},
            {"account": ""},
            {"container": None},
            {"inode": "7"},
            {"foreign": 1},
            {"stage": "gone"},
        ],
    )
    def test_an_entry_that_nobody_could_have_written_is_damage(self, change):
        document = json.loads(exports.render(Exports([ONE])))
        document["exports"][0].update(change)
        with pytest.raises(ExportsDamagedError):
            exports.parse(json.dumps(document).encode())

    def test_a_container_that_is_in_it_twice_is_damage(self):
        document = json.loads(exports.render(Exports([ONE])))
        document["exports"] *= 2
        with pytest.raises(ExportsDamagedError, match="twice"):
            exports.parse(json.dumps(document).encode())
