# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from lustack.cinder.errors import CorruptRecordError
from lustack.cinder.record import LINKED, Record, is_own_file, parse

NAME = "volume-1"


def test_a_record_is_read_as_it_was_written_and_as_other_drivers_write_it():
    record = Record(NAME).with_snapshot("a", "volume-1.a").with_snapshot("b", "volume-1.b")
    assert json.loads(record.render()) == {"active": "volume-1.b", "a": "volume-1.a", "b": "volume-1.b"}
    assert parse(record.render(), "/x", NAME) == record


def test_a_record_follows_what_happens_to_files():
    record = Record("volume-1.b", {"a": "volume-1.a", "b": "volume-1.b"})
    assert record.find_snapshot("volume-1.a") == "a"
    assert record.find_snapshot(NAME) is None
    assert record.without_snapshot("a") == Record("volume-1.b", {"b": "volume-1.b"})
    assert record.without_snapshot("b", active="volume-1.a") == Record("volume-1.a", {"a": "volume-1.a"})
    assert record.with_file("a", "volume-1.b").snapshots["a"] == "volume-1.b"
    assert record.with_id("a", "c") == Record("volume-1.b", {"c": "volume-1.a", "b": "volume-1.b"})
    assert record.with_kept("a") == Record("volume-1.b", {"b": "volume-1.b", "kept-a": "volume-1.a"})
    assert Record("volume-1.b", {"b": "x", "a": "y", "kept-a": "z", LINKED: "w"}).ids == ["a", "b"]
    assert not record.is_layered_for_good
    assert record.with_kept("a").is_layered_for_good
    assert Record("x", {LINKED: "x"}).is_layered_for_good


@pytest.mark.parametrize(
    "text", ["", b"\xff", "[]", "{}", '{"active": "../x"}', '{"active": 1}', '{"active": "volume-1", "a": "volume-10"}']
)
def test_what_is_no_record_is_refused(text: str | bytes):
    with pytest.raises(CorruptRecordError, match="nothing was changed"):
        parse(text, "/x", NAME)


def test_a_file_is_a_volume_s_own_by_its_name():
    assert is_own_file(NAME, NAME)
    assert is_own_file("volume-1.info", NAME)
    assert not is_own_file("volume-10", NAME)
    assert not is_own_file("volume-1.a/../b", NAME)


def test_a_snapshot_whose_file_was_merged_is_found():
    record = Record("v.b", {"a": "v.a", "b": "v.b"})
    assert record.find_left_out(["v.b", "v.a", "v"]) is None
    assert record.find_left_out(["v.b", "v"]) == "a"
