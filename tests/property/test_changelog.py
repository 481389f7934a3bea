# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes a changelog gives: records or a declared error, in the end; and records survive their bytes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.recorded import read_raw

from lustack.lustre.changelog import Decoder, Record, render_record, scan
from lustack.lustre.errors import LinkError, RecordError
from lustack.lustre.kernel import Link, parse_links, render_links
from lustack.sync.sources.changelog_window import NOBODY, Memory, Own, Window

KEYS = st.binary(min_size=16, max_size=16)
NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name and b"/" not in name)
PLAIN = st.builds(
    Record,
    index=st.integers(1, 2**64 - 1),
    kind=st.integers(0, 40),
    flags=st.integers(0, 0x1FFF),
    time_ns=st.integers(0, 2**62),
    target=KEYS,
    parent=KEYS,
    name=NAMES | st.just(b""),
    job=st.none() | NAMES.filter(lambda name: len(name) <= 32),
    mode=st.none() | st.integers(0, 2**32 - 1),
    attribute=st.none() | NAMES,
)
RECORDS = st.one_of(
    PLAIN,
    st.builds(
        lambda record, source, name, old: replace(
            record, source=source, source_parent=source, name=name, source_name=old, uid=7, gid=8, nid=source + bytes(8)
        ),
        PLAIN,
        KEYS,
        NAMES,
        NAMES,
    ),
)
RAW = read_raw("full/lustre-MDT0000")


def plain(record):
    return replace(record, size_bytes=0, flags=record.flags & 0x1FFF)


@given(st.lists(RECORDS, max_size=5), st.lists(st.integers(1, 400), max_size=8))
def test_records_survive_their_bytes_in_pieces_of_any_size(records, cuts):
    raw = b"".join(render_record(record) for record in records)
    decoder, found, at = Decoder(), [], 0
    for cut in [*cuts, len(raw)]:
        found += decoder.feed(raw[at : at + cut])
        at += cut
    found += decoder.feed(raw[at:])
    decoder.finish()
    assert [plain(record) for record in found] == [plain(record) for record in records]
    assert [(each[0], each[2]) for each in scan(raw)] == [(record.kind, record.index) for record in records]


@given(st.binary(max_size=4000))
def test_any_bytes_are_records_or_an_error_that_says_where(raw):
    digest(raw)


@given(
    st.integers(0, len(RAW) - 2000),
    st.lists(st.tuples(st.integers(0, 1999), st.integers(0, 255)), max_size=10),
    st.lists(st.tuples(st.integers(0, 1999), st.binary(max_size=6)), max_size=3),
)
def test_what_was_recorded_and_then_damaged_is_records_or_an_error(start, changes, insertions):
    raw = bytearray(RAW[start : start + 2000])
    for at, byte in changes:
        raw[at] = byte
    for at, more in insertions:
        raw[at:at] = more
    digest(bytes(raw))


def digest(raw):
    """Reads it in every way there is. Each step takes bytes away, so it ends."""
    decoder, count = Decoder(), None
    with suppress(RecordError):
        count = sum(1 for _ in decoder.feed(raw))
        decoder.finish()
    for own in (NOBODY, Own(frozenset(("swift",)), frozenset(("0@lo",)))):
        window = Window(Memory(own=own))
        with suppress(RecordError):
            assert window.feed(raw) == count


@given(st.lists(st.builds(Link, KEYS, NAMES), max_size=6), st.lists(st.tuples(st.integers(0), st.integers(0, 255))))
def test_names_of_an_inode_survive_their_bytes_and_damage_is_an_error(links, changes):
    raw = bytearray(render_links(links))
    assert parse_links(bytes(raw)) == links
    for at, byte in changes:
        raw[at % len(raw)] = byte
    with suppress(LinkError):
        parse_links(bytes(raw))
