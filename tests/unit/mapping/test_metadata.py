# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.blobs import (
    DEFAULTS,
    HEADERS,
    LATER,
    NOW_NS,
    POST,
    PUT,
    STAMP,
    SYSTEM,
    describe,
    forge,
    headers,
    post,
    put,
    stamps,
    system_headers,
)

from lustack.mapping import metadata
from lustack.mapping.metadata import Blobs, CorruptMetadataError, DataLayer, MetaLayer, Stamp
from lustack.mapping.view import Defaults, listing_row, posix_time_ns


class TestTimes:
    @pytest.mark.parametrize(
        ("time_ns", "text"),
        [
            (1_600_000_000_123_456_789, "1600000000.12345"),
            (1_000_000_000, "0000000001.00000"),
            (9_999_999_999_999_999_999, "9999999999.99999"),
        ],
    )
    def test_are_cut_to_what_swift_holds(self, time_ns, text):
        assert metadata.timestamp_text(time_ns) == text

    @pytest.mark.parametrize(
        ("mtime_ns", "ctime_ns", "expected"),
        [
            (5 * 10**9, 6 * 10**9, 5 * 10**9),
            (NOW_NS, 0, NOW_NS),
            (NOW_NS + 1, 6 * 10**9, 6 * 10**9),
            (0, 6 * 10**9, 6 * 10**9),
            (-1, NOW_NS + 1, NOW_NS - 10**9),
        ],
    )
    def test_impossible_ones_are_not_shown(self, mtime_ns, ctime_ns, expected):
        assert posix_time_ns(mtime_ns, ctime_ns, NOW_NS) == expected


class TestStamp:
    def test_its_etag_changes_with_each_part_and_is_no_md5(self):
        stamps = [STAMP, Stamp(43, 7, 1), Stamp(43, 8, 1), Stamp(43, 8, 2)]
        etags = {stamp.etag() for stamp in stamps}
        assert len(etags) == len(stamps)
        assert all(etag.endswith("-1") and len(etag) == 34 for etag in etags)

    def test_its_etag_never_changes_between_releases(self):
        assert Stamp(1, 2, 3).etag() == "6289667cdc26ed20a1c4987c9aee2e8b-1"


class TestDataLayer:
    @given(stamp=stamps, headers=headers, system=system_headers)
    def test_comes_back_from_its_blobs(self, stamp, headers, system):
        layer = DataLayer(stamp, headers, system)
        for trusted in (True, False):
            blobs = metadata.render_data(layer, trusted=trusted)
            assert metadata.parse_data(blobs.data, blobs.data_system, trusted=trusted) == layer
            assert (blobs.data_system is not None) == (trusted and bool(system))
            assert blobs.meta is None
            assert blobs.meta_system is None

    def test_bytes_that_are_no_text_come_back(self):
        layer = DataLayer(STAMP, {"X-Object-Meta-A": "\udcff"})
        assert metadata.parse_data(metadata.render_data(layer, trusted=True).data, None, trusted=True) == layer

    def test_the_format_never_changes(self):
        assert put().data == (
            b'{"version":1,"stamp":[42,7,1600000000123456789,null],"headers":{"X-Timestamp":"1650000000.00000",'
            b'"Content-Type":"text/plain","ETag":"0123456789abcdef0123456789abcdef","X-Object-Meta-Color":"gr\\u00fcn"},'
            b'"system":true}'
        )
        assert put().data_system == (
            b'{"version":1,"inode":42,"headers":{"X-Object-Sysmeta-Secret":"s","X-Static-Large-Object":"True"}}'
        )

    def test_system_metadata_in_the_part_of_the_owner_is_forged(self):
        blobs = put()
        forged = forge(blobs.data, headers={**HEADERS, "x-object-SYSMETA-Secret": "forged"})
        assert metadata.parse_data(forged, blobs.data_system, trusted=True).headers == HEADERS
        forged = forge(blobs.data, system={"X-Object-Sysmeta-Secret": "forged"})
        assert metadata.parse_data(forged, blobs.data_system, trusted=True).system == {}

    def test_a_crash_between_its_two_parts_mixes_nothing(self):
        old = DataLayer(STAMP, {**HEADERS, "X-Timestamp": PUT}, SYSTEM)
        new = DataLayer(STAMP, {**HEADERS, "X-Timestamp": LATER}, {"X-Object-Sysmeta-Secret": "new"})
        old_blobs = metadata.render_data(old, trusted=True)
        new_blobs = metadata.render_data(new, old, trusted=True)
        assert metadata.parse_data(old_blobs.data, new_blobs.data_system, trusted=True) == old
        assert metadata.parse_data(new_blobs.data, new_blobs.data_system, trusted=True) == new

    def test_what_replaces_one_of_the_same_time_counts_alone(self):
        old = DataLayer(STAMP, HEADERS, SYSTEM)
        new = DataLayer(STAMP, HEADERS, {"X-Object-Sysmeta-Secret": "new"})
        blobs = metadata.render_data(new, old, trusted=True)
        assert metadata.parse_data(blobs.data, blobs.data_system, trusted=True) == new

    def test_what_the_system_wrote_does_not_count_where_nobody_can_have_written_it(self):
        blobs = put()
        assert metadata.parse_data(blobs.data, blobs.data_system, trusted=False).system == {}

    @pytest.mark.parametrize(
        ("system", "why"),
        [
            (None, "missing"),
            (b"garbage", "not JSON"),
            (forge(put().data_system, inode=43), "another file"),
            (forge(put().data_system, headers=None), "headers"),
        ],
    )
    def test_a_damaged_part_of_the_system_is_no_layer(self, system, why):
        with pytest.raises(CorruptMetadataError, match=why):
            metadata.parse_data(put().data, system, trusted=True)

    @pytest.mark.parametrize(
        ("blob", "why"),
        [
            (b"", "not JSON"),
            (b"\xff\xfe\xff", "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b"1" * 5000, "not JSON"),
            (b"[]", "not an object"),
            (b"{}", "version None"),
            (b'{"version":2}', "version 2"),
            (forge(put().data, stamp=None), "stamp"),
            (forge(put().data, stamp=[1, 2, 3]), "stamp"),
            (forge(put().data, stamp=[1, 2, 3, 4.5]), "stamp"),
            (forge(put().data, stamp=[1, 2, True, 4]), "stamp"),
            (forge(put().data, headers=[]), "headers"),
            (forge(put().data, headers={"a": 1}), "no header"),
            (forge(put().data, headers={"a": "b\r\nX-Evil: 1"}), "no header"),
            (forge(put().data, headers={"a\n": "b"}), "no header"),
            (forge(put().data, headers={"a": "\0"}), "no header"),
            (forge(put().data, headers={"a": "\ud800"}), "no header"),
            (forge(put().data, headers={"X-Timestamp": "yesterday"}), "X-Timestamp"),
            (forge(put().data, headers={"X-Delete-At": "never"}), "X-Delete-At"),
            (forge(put().data, headers={"x-delete-at": "never"}), "x-delete-at"),
            (forge(put().data, headers={"Content-Type-Timestamp": "1"}), "Content-Type-Timestamp"),
        ],
    )
    def test_garbage_is_no_layer(self, blob, why):
        with pytest.raises(CorruptMetadataError, match=why) as caught:
            metadata.parse_data(blob, None, trusted=True)
        assert str(caught.value) == f"the metadata cannot be read: {caught.value.why}"

    @given(blob=st.binary(max_size=60), trusted=st.booleans())
    def test_no_bytes_do_worse_than_being_corrupt(self, blob, trusted):
        for parse in (metadata.parse_data, metadata.parse_meta):
            with pytest.raises(CorruptMetadataError):
                parse(blob, blob, trusted=trusted)

    @given(data=st.data())
    def test_no_json_in_our_form_does_worse_than_being_corrupt(self, data):
        values = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(HEADERS)), inner),
            max_leaves=6,
        )
        keys = ("stamp", "headers", "system", "inode", "generations")
        document = {"version": 1, **{key: data.draw(values, key) for key in keys}}
        blob = json.dumps(document).encode()
        for defaults in (DEFAULTS, Defaults(NOW_NS, trusted=False)):
            view = describe(Blobs(blob, blob, blob, blob), defaults=defaults)
            assert listing_row(view).size_bytes == STAMP.size_bytes
            for key, value in view.merged().items():
                (key + value).encode("utf-8", "surrogateescape")


class TestMetaLayer:
    @given(inode=st.integers(0, 2**64), headers=headers, system=system_headers)
    def test_comes_back_from_its_blobs(self, inode, headers, system):
        layer = MetaLayer(inode, {**headers, "X-Timestamp": POST}, system)
        for trusted in (True, False):
            blobs = metadata.render_meta(layer, None, trusted=trusted)
            assert metadata.parse_meta(blobs.meta, blobs.meta_system, trusted=trusted) == layer

    def test_a_crash_between_its_two_parts_loses_neither_the_old_nor_the_new(self):
        old = post()
        new = metadata.render_meta(
            MetaLayer(42, {"X-Timestamp": LATER}, {"X-Object-Transient-Sysmeta-T": "new"}),
            metadata.parse_meta(old.meta, old.meta_system, trusted=True),
            trusted=True,
        )
        before = metadata.parse_meta(old.meta, new.meta_system, trusted=True)
        assert before == metadata.parse_meta(old.meta, old.meta_system, trusted=True)
        after = metadata.parse_meta(new.meta, new.meta_system, trusted=True)
        assert after.system == {"X-Object-Transient-Sysmeta-T": "new"}

    def test_its_system_part_holds_two_generations_at_most(self):
        blobs, old = Blobs(), None
        for time in (PUT, POST, LATER):
            layer = MetaLayer(42, {"X-Timestamp": time}, {"X-Object-Transient-Sysmeta-T": time})
            blobs = metadata.render_meta(layer, old, trusted=True)
            old = metadata.parse_meta(blobs.meta, blobs.meta_system, trusted=True)
        assert list(json.loads(blobs.meta_system)["generations"]) == [POST, LATER]

    def test_without_system_metadata_it_has_one_part(self):
        blobs = metadata.render_meta(MetaLayer(42, {"X-Timestamp": POST}), None, trusted=True)
        assert blobs.meta_system is None
        assert metadata.parse_meta(blobs.meta, post().meta_system, trusted=True).system == {}

    def test_a_missing_part_of_the_system_is_empty(self):
        assert metadata.parse_meta(post().meta, None, trusted=True).system == {}

    def test_a_damaged_part_of_the_system_is_no_layer(self):
        with pytest.raises(CorruptMetadataError, match="generations"):
            metadata.parse_meta(post().meta, forge(post().meta_system, generations=[]), trusted=True)

    @pytest.mark.parametrize(
        ("blob", "why"),
        [
            (b"x", "not JSON"),
            (forge(post().meta, inode="42"), "inode"),
            (forge(post().meta, inode=True), "inode"),
            (forge(post().meta, headers={}), "X-Timestamp is missing"),
            (
                forge(post().meta, headers={"X-Timestamp": POST, "Content-Type-Timestamp": POST}),
                "Content-Type is missing",
            ),
        ],
    )
    def test_garbage_is_no_layer(self, blob, why):
        with pytest.raises(CorruptMetadataError, match=why):
            metadata.parse_meta(blob, None, trusted=True)

    def test_the_time_of_a_type_without_a_type_is_refused(self):
        blobs = metadata.render_meta(
            MetaLayer(42, {"X-Timestamp": POST, "Content-Type-Timestamp": POST}), None, trusted=True
        )
        with pytest.raises(CorruptMetadataError, match="Content-Type is missing"):
            metadata.parse_meta(blobs.meta, None, trusted=True)


class TestTwoPosts:
    OLD = MetaLayer(42, {"X-Timestamp": POST, "X-Object-Meta-A": "old"})
    NEW = MetaLayer(42, {"X-Timestamp": LATER, "X-Object-Meta-A": "new"})

    @staticmethod
    def typed(layer: MetaLayer, content_type: str, time: str) -> MetaLayer:
        more = {"Content-Type": content_type, "Content-Type-Timestamp": time}
        return MetaLayer(layer.inode, {**layer.headers, **more})

    def test_the_first_one_counts(self):
        assert metadata.merge_meta(None, self.NEW) == self.NEW

    def test_one_for_another_file_does_not_count(self):
        assert metadata.merge_meta(MetaLayer(43, {"X-Timestamp": LATER}), self.OLD) == self.OLD

    def test_the_newer_one_counts_in_whatever_order_they_come(self):
        assert metadata.merge_meta(self.OLD, self.NEW) == self.NEW
        assert metadata.merge_meta(self.NEW, self.OLD) == self.NEW

    def test_the_type_counts_by_its_own_time(self):
        typed = self.typed(self.OLD, "old/type", POST)
        expected = self.typed(self.NEW, "old/type", POST)
        assert metadata.merge_meta(typed, self.NEW) == expected
        assert metadata.merge_meta(self.NEW, typed) == expected
        newer = self.typed(self.NEW, "new/type", LATER)
        assert metadata.merge_meta(typed, newer) == newer
        assert metadata.merge_meta(newer, typed) == newer


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("X-Object-Sysmeta-A", True),
        ("x-object-transient-sysmeta-a", True),
        ("X-Static-Large-Object", True),
        ("X-Object-Meta-A", False),
        ("X-Object-Sysmetaphor", False),
        ("Content-Type", False),
    ],
)
def test_system_metadata_is_known_by_its_name(key, expected):
    assert metadata.is_system(key) is expected
