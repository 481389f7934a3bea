# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from lustack.lustre import changelog, fid
from lustack.lustre.changelog import Decoder, Record, Type, render_record, scan
from lustack.lustre.errors import RecordError

FILE = fid.parse("[0x200000402:0x3:0x0]").key
FOLDER = fid.parse("[0x200000402:0x1:0x0]").key
CREATED = Record(7, Type.CREAT, 0x1000, 1_795_338_366_127_908_728, FILE, FOLDER, b"a\nb\xff")
RENAMED = replace(CREATED, kind=Type.RENME, source=FILE, source_parent=FOLDER, source_name=b" s=[x] ")
FULL = replace(
    RENAMED,
    job=b"python3.0",
    uid=1000,
    gid=1001,
    nid=bytes(6) + b"\x09" + bytes(17),
    nid_is_big=True,
    mode=0xCA,
    attribute=b"user.a",
)


def decode(*pieces):
    decoder = Decoder()
    found = [record for piece in pieces for record in decoder.feed(piece)]
    decoder.finish()
    return found, decoder.unknown


def plain(record):
    """The record without what only its bytes know."""
    return replace(record, size_bytes=0, flags=record.flags & 0xFFF)


@pytest.mark.parametrize("record", [CREATED, RENAMED, FULL, replace(CREATED, name=b"", mode=3)])
def test_a_record_comes_back_from_its_bytes(record):
    raw = render_record(record)
    (found,), unknown = decode(raw)
    assert plain(found) == plain(record)
    assert found.size_bytes == len(raw)
    assert not unknown


def test_half_of_what_a_record_may_hold_is_no_reason_to_fail():
    half = replace(CREATED, source=FILE, uid=1)
    (found,), _ = decode(render_record(half))
    assert (found.source_parent, found.source_name, found.uid) == (fid.NO_FID, b"", None)


def test_records_may_come_in_pieces_of_any_size():
    raw = render_record(CREATED) + render_record(FULL)
    pieces = [raw[at : at + 1] for at in range(len(raw))]
    assert decode(*pieces) == decode(raw)


def test_the_quick_way_and_the_long_way_see_the_same():
    raw = render_record(CREATED) + render_record(FULL)
    first, second = scan(raw)
    assert first == (1, 0x1000, 7, 1_795_338_366 << 30 | 127_908_728, FILE, FOLDER, 0, CREATED.name)
    at = second[6]
    assert raw[at : at + 16] == FILE
    assert second[7] == b"a\nb\xff\0 s=[x] "


def test_types_and_flags_that_nobody_knows_are_tolerated_and_counted():
    raw = bytearray(render_record(replace(FULL, kind=99, source=None)))
    raw[64 + 32] |= 0x40
    (found,), unknown = decode(bytes(raw))
    assert found.type_name == "TYPE99"
    assert unknown == {"TYPE99": 1, "extra flags": 1}
    assert found.name == FULL.name


@pytest.mark.parametrize("cut", [1, 63, 64, 100, 104, 110])
def test_what_is_cut_off_is_an_error_with_its_place(cut):
    raw = render_record(CREATED) + render_record(FULL)
    at = len(render_record(CREATED))
    with pytest.raises(RecordError, match=f"at byte {at}"):
        decode(raw[: at + cut])
    with pytest.raises(RecordError, match=f"at byte {at}"):
        list(scan(raw[: at + cut]))


def test_a_name_that_cannot_be_so_long_is_an_error_with_its_place():
    wrong = b"\xff\xff" + render_record(CREATED)[2:] + bytes(70_000)
    decoder = Decoder()
    assert len(list(decoder.feed(render_record(CREATED)))) == 1
    with pytest.raises(RecordError, match="at byte 68: its name would have 65535 bytes"):
        list(decoder.feed(wrong))
    with pytest.raises(RecordError, match="at byte 0"):
        list(scan(wrong))


def test_every_known_type_has_the_name_that_lfs_prints():
    assert changelog.type_name(8) == "RENME"
    assert [changelog.type_name(kind) for kind in range(25)] == [kind.name for kind in Type]


def test_no_record_is_larger_than_the_largest():
    longest = replace(FULL, name=b"n" * 255, source_name=b"o" * 255)
    assert len(render_record(longest)) == changelog.LARGEST_RECORD
