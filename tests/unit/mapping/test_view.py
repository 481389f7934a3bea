# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from tests.blobs import (
    HEADERS,
    MTIME,
    NOW_NS,
    OWN_ETAG,
    POST,
    PUT,
    STAMP,
    SYSTEM,
    both,
    describe,
    post,
    put,
)

from lustack.mapping import metadata
from lustack.mapping.metadata import Blobs, DataLayer, MetaLayer, Stamp
from lustack.mapping.view import EMPTY_ETAG, Defaults, Origin, Row, listing_row, with_etag


class TestDescribe:
    def test_what_put_wrote_is_served_as_it_was(self):
        view = describe(put())
        assert view.origin is Origin.SWIFT
        assert view.data == {**HEADERS, **SYSTEM, "Content-Length": "7"}
        assert view.etag == HEADERS["ETag"]
        assert view.meta is None
        assert view.problems == ()
        assert view.merged() == view.data

    def test_a_bare_file_has_no_etag_but_one_for_s3(self):
        view = describe(Blobs(), defaults=Defaults(NOW_NS, "image/png"))
        assert view.origin is Origin.POSIX
        assert view.etag is None
        assert view.data == {
            "X-Timestamp": MTIME,
            "Content-Type": "image/png",
            "Content-Length": "7",
            "X-Object-Sysmeta-S3Api-Etag": STAMP.etag(),
            "X-Object-Sysmeta-Container-Update-Override-Etag": OWN_ETAG,
        }

    def test_an_empty_file_has_the_etag_of_nothing(self):
        view = describe(Blobs(), Stamp(42, 0, STAMP.mtime_ns))
        assert view.etag == "d41d8cd98f00b204e9800998ecf8427e"
        assert listing_row(view) == Row(0, "application/octet-stream", EMPTY_ETAG)

    @pytest.mark.parametrize("stamp", [Stamp(42, 8, STAMP.mtime_ns), Stamp(42, 7, 10**18)])
    def test_a_job_that_wrote_takes_away_what_describes_the_bytes(self, stamp):
        view = describe(put(**{"X-Delete-At": "1800000000"}), stamp)
        assert view.origin is Origin.CHANGED
        assert view.etag is None
        assert view.data["Content-Length"] == str(stamp.size_bytes)
        assert view.data["Content-Type"] == "text/plain"
        assert view.data["X-Object-Meta-Color"] == "grün"
        assert view.data["X-Delete-At"] == "1800000000"
        assert view.data["X-Timestamp"] == PUT
        assert view.data["X-Object-Sysmeta-S3Api-Etag"] == stamp.etag()
        assert not view.data.keys() & SYSTEM.keys()

    def test_a_job_that_wrote_later_makes_it_newer(self):
        view = describe(put(), Stamp(42, 7, 1_690_000_000 * 10**9))
        assert view.data["X-Timestamp"] == "1690000000.00000"

    def test_what_cp_carried_to_another_file_does_not_count(self):
        view = describe(both(put(), post()), Stamp(43, 7, STAMP.mtime_ns))
        assert view.origin is Origin.POSIX
        assert view.meta is None
        assert "X-Object-Meta-Color" not in view.data

    def test_what_the_hasher_wrote_is_an_etag_and_no_time(self):
        layer = DataLayer(STAMP, {"ETag": HEADERS["ETag"]})
        view = describe(metadata.render_data(layer, trusted=True))
        assert view.origin is Origin.POSIX
        assert view.data == {
            "X-Timestamp": MTIME,
            "Content-Type": "application/octet-stream",
            "Content-Length": "7",
            "ETag": HEADERS["ETag"],
        }

    def test_an_etag_that_became_known_takes_the_place_of_the_made_up_ones(self):
        view = with_etag(describe(Blobs()), HEADERS["ETag"])
        assert view.etag == HEADERS["ETag"]
        assert listing_row(view).etag == HEADERS["ETag"]
        assert "X-Object-Sysmeta-S3Api-Etag" not in view.data

    @pytest.mark.parametrize("trusted", [True, False])
    def test_a_post_replaces_user_metadata_and_keeps_the_systems(self, trusted):
        blobs = both(put(trusted=trusted), post(trusted=trusted))
        view = describe(blobs, defaults=Defaults(NOW_NS, trusted=trusted))
        assert view.meta == {"X-Timestamp": POST, "X-Object-Meta-New": "n", "X-Object-Transient-Sysmeta-T": "t"}
        merged = view.merged()
        assert merged["X-Timestamp"] == POST
        assert merged["X-Object-Meta-New"] == "n"
        assert "X-Object-Meta-Color" not in merged
        assert merged["X-Object-Sysmeta-Secret"] == "s"
        assert merged["X-Static-Large-Object"] == "True"
        assert merged["ETag"] == HEADERS["ETag"]
        assert merged["Content-Type"] == "text/plain"
        assert merged["Content-Length"] == "7"

    def test_a_post_with_a_type_replaces_it(self):
        more = {"Content-Type": "new/type", "Content-Type-Timestamp": POST}
        merged = describe(both(put(), post(**more))).merged()
        assert merged["Content-Type"] == "new/type"
        assert merged["Content-Type-Timestamp"] == POST

    def test_a_type_that_is_older_than_the_bytes_does_not_count(self):
        more = {"Content-Type": "old/type", "Content-Type-Timestamp": "1640000000.00000"}
        merged = describe(both(put(), post(**more))).merged()
        assert merged["Content-Type"] == "text/plain"
        assert "Content-Type-Timestamp" not in merged

    @pytest.mark.parametrize("time", [PUT, "1640000000.00000"])
    def test_a_post_that_is_not_newer_than_the_bytes_does_not_count(self, time):
        assert describe(both(put(), post(**{"X-Timestamp": time}))).meta is None

    def test_on_the_bytes_of_a_job_a_post_always_counts(self):
        view = describe(post(), Stamp(42, 7, 1_690_000_000 * 10**9))
        assert view.origin is Origin.POSIX
        assert view.meta is not None
        assert view.merged()["X-Object-Meta-New"] == "n"

    def test_a_job_that_wrote_to_a_big_object_takes_away_its_size(self):
        other = Stamp(42, 8, 1_690_000_000 * 10**9)
        written = put(**{"Content-Type": "text/plain;charset=utf-8;swift_bytes=5000"})
        assert listing_row(describe(written, other)).content_type == "text/plain;charset=utf-8"
        later = {"X-Timestamp": POST, "Content-Type-Timestamp": POST, "Content-Type": "a/b; swift_bytes=5000"}
        assert listing_row(describe(both(written, post(**later)), other)).content_type == "a/b"
        assert listing_row(describe(both(written, post(**later)))).content_type == "a/b; swift_bytes=5000"

    def test_what_cannot_be_read_is_reported_and_the_file_is_bare(self):
        view = describe(Blobs(b"garbage", None, None, None))
        assert view.origin is Origin.POSIX
        assert view.problems == ("the metadata cannot be read: it is not JSON",)

    def test_a_post_counts_when_what_put_wrote_cannot_be_read(self):
        view = describe(Blobs(b"garbage", None, post().meta, None))
        assert len(view.problems) == 1
        assert view.merged()["X-Object-Meta-New"] == "n"

    @pytest.mark.parametrize("key", ["X-Timestamp", "Content-Type-Timestamp"])
    def test_a_time_that_no_clock_can_show_was_forged(self, key):
        headers = {"X-Timestamp": POST, "Content-Type": "a/b", key: "9999999999.99999"}
        view = describe(metadata.render_meta(MetaLayer(42, headers), None, trusted=True))
        assert (view.meta, view.problems) == (None, ("the metadata is from the future",))
        view = describe(metadata.render_data(DataLayer(STAMP, {**HEADERS, key: "9999999999.99999"}), trusted=True))
        assert (view.origin, view.problems) == (Origin.POSIX, ("the metadata is from the future",))

    def test_a_request_that_comes_late_believes_what_was_written_before_it_came(self):
        hour_ns = 3600 * 10**9
        written = put(**{"X-Timestamp": metadata.timestamp_text(NOW_NS + hour_ns)})
        view = describe(written, defaults=Defaults(NOW_NS, clock_ns=NOW_NS + hour_ns))
        assert (view.origin, view.problems) == (Origin.SWIFT, ())

    @pytest.mark.parametrize("time", [{}, {"X-Timestamp": PUT}])
    def test_without_an_etag_there_is_always_one_for_s3(self, time):
        view = describe(metadata.render_data(DataLayer(STAMP, {"Content-Type": "a/b", **time}), trusted=True))
        assert view.etag is None
        assert listing_row(view).etag == OWN_ETAG

    def test_a_post_that_cannot_be_read_leaves_what_put_wrote(self):
        view = describe(both(put(), Blobs(meta=b"garbage")))
        assert view.origin is Origin.SWIFT
        assert view.meta is None
        assert len(view.problems) == 1


class TestListingRow:
    def test_is_what_the_object_shows(self):
        assert listing_row(describe(put())) == Row(7, "text/plain", HEADERS["ETag"])

    def test_of_a_file_whose_md5_nobody_knows_has_the_etag_for_s3(self):
        assert listing_row(describe(Blobs())) == Row(7, "application/octet-stream", OWN_ETAG)

    def test_system_metadata_overrides_it(self):
        system = {
            "X-Object-Sysmeta-Container-Update-Override-Etag": "e; slo_etag=s",
            "X-Object-Sysmeta-Container-Update-Override-Size": "4096",
            "X-Object-Sysmeta-Container-Update-Override-Content-Type": "text/plain; swift_bytes=9",
        }
        blobs = metadata.render_data(DataLayer(STAMP, HEADERS, system), trusted=True)
        assert listing_row(describe(blobs)) == Row(4096, "text/plain; swift_bytes=9", "e; slo_etag=s")

    @pytest.mark.parametrize("size", ["", "-1", "many", "9" * 30])
    def test_a_size_that_is_none_does_not_count(self, size):
        system = {"X-Object-Sysmeta-Container-Update-Override-Size": size}
        blobs = metadata.render_data(DataLayer(STAMP, HEADERS, system), trusted=True)
        assert listing_row(describe(blobs)).size_bytes == 7
