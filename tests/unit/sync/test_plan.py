# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import pytest

from lustack.mapping import metadata
from lustack.mapping.metadata import Blobs, DataLayer, MetaLayer, Stamp
from lustack.mapping.view import Defaults, ObjectView, describe
from lustack.sync import plan
from lustack.sync.plan import Action, ListedRow, Relation, Seen, SentRow, Wanted

NOW_NS = 1_700_000_000 * 10**9
WANTED = Wanted(5, "text/plain", "etag", "1600000000.00000")
LISTED = ListedRow("o", 5, "text/plain", "etag", "1600000000.00000")
STAMP = Stamp(7, 5, 1_600_000_000 * 10**9)
DEFAULTS = Defaults(NOW_NS, trusted=False)


def test_the_table_has_an_action_for_each_pair_that_can_occur():
    relations = {
        Seen.PRESENT: (Relation.NO_ROW, Relation.SAME, Relation.DIFFERENT),
        Seen.ABSENT: (Relation.NO_ROW, Relation.OLDER, Relation.NEWER),
        Seen.UNKNOWN: (Relation.NO_ROW, Relation.OLDER, Relation.NEWER),
    }
    pairs = {(seen, relation) for seen, found in relations.items() for relation in found}
    assert set(plan.TABLE) == pairs
    wanted = {Seen.PRESENT: WANTED, Seen.ABSENT: None, Seen.UNKNOWN: None}
    listed = (None, LISTED, LISTED._replace(etag="other"), LISTED._replace(modified="1800000000.00000"))
    met = {(seen, plan.relate(wanted[seen], row, NOW_NS)) for seen, row in itertools.product(Seen, listed)}
    assert met == pairs


def test_only_what_is_known_to_be_gone_is_deleted():
    deletes = [pair for pair, action in plan.TABLE.items() if action is Action.DELETE]
    assert deletes == [(Seen.ABSENT, Relation.OLDER)]


@pytest.mark.parametrize(
    ("wanted", "listed", "action"),
    [
        (WANTED, None, Action.PUT),
        (WANTED, LISTED, Action.NOTHING),
        (WANTED, LISTED._replace(size_bytes=6), Action.PUT),
        (WANTED, LISTED._replace(etag="other"), Action.PUT),
        (WANTED, LISTED._replace(content_type="text/html"), Action.PUT),
        (WANTED, LISTED._replace(modified="1599999999.99999"), Action.PUT),
        (WANTED, LISTED._replace(modified="1600000000.00001"), Action.NOTHING),
        (None, None, Action.NOTHING),
        (None, LISTED, Action.DELETE),
        (None, LISTED._replace(modified="1700000000.00001"), Action.LEAVE),
    ],
)
def test_what_is_done_about_a_name(wanted, listed, action):
    seen = Seen.ABSENT if wanted is None else Seen.PRESENT
    assert plan.decide(seen, wanted, listed, NOW_NS) is action


def test_what_cannot_be_looked_at_is_left():
    assert plan.decide(Seen.UNKNOWN, None, LISTED, NOW_NS) is Action.LEAVE
    assert plan.decide(Seen.UNKNOWN, None, None, NOW_NS) is Action.LEAVE


@pytest.mark.parametrize(
    ("content_type", "shown"),
    [
        ("text/plain", ("text/plain", 5)),
        ("text/plain; charset=UTF-8", ("text/plain;charset=UTF-8", 5)),
        ("text/plain;swift_bytes=77", ("text/plain", 77)),
        ("text/plain; a=b; swift_bytes=77; c=d", ("text/plain;a=b;c=d", 77)),
        ("text/plain;swift_bytes=many", ("text/plain", 5)),
        ("text/plain; x", ("text/plain;x=", 5)),
        ('text/plain; x="a;b"', ('text/plain;x="a;b"', 5)),
    ],
)
def test_a_content_type_is_shown_as_swift_shows_it(content_type, shown):
    from swift.common.utils import override_bytes_from_content_type

    assert plan.show(WANTED._replace(content_type=content_type)) == shown
    entry = {"content_type": content_type, "bytes": 5}
    override_bytes_from_content_type(entry)
    assert (entry["content_type"], entry["bytes"]) == shown


def test_a_row_is_the_same_if_it_shows_the_same():
    wanted = WANTED._replace(content_type="text/plain; charset=UTF-8;swift_bytes=9")
    assert plan.is_same(wanted, LISTED._replace(content_type="text/plain;charset=UTF-8", size_bytes=9))
    assert not plan.is_same(wanted, LISTED)


def view_of(headers: dict[str, str], stamp: Stamp = STAMP, meta: MetaLayer | None = None) -> ObjectView:
    blobs = metadata.render_data(DataLayer(stamp, headers), trusted=False)
    if meta is not None:
        blobs = Blobs(blobs.data, meta=metadata.render_meta(meta, None, trusted=False).meta)
    return describe(STAMP, STAMP.mtime_ns, blobs, DEFAULTS)


def test_the_row_of_an_object_is_what_put_said_and_never_older():
    put = {"X-Timestamp": "1600000001.00000_0000000000000001", "ETag": "m", "Content-Type": "a/b"}
    wanted = plan.want(view_of(put))
    assert wanted == Wanted(5, "a/b", "m", "1600000001.00000", "1600000001.00000_0000000000000001")
    assert plan.put("o", wanted, NOW_NS).timestamp == "1700000000.00000"
    assert plan.put("o", wanted, 10**18).timestamp == "1600000001.00000_0000000000000001"


def test_the_row_of_an_object_after_a_post_shows_its_time_and_type():
    put = {"X-Timestamp": "1600000001.00000", "ETag": "m", "Content-Type": "a/b"}
    post = {"X-Timestamp": "1600000005.00000", "Content-Type": "c/d", "Content-Type-Timestamp": "1600000005.00000"}
    wanted = plan.want(view_of(put, meta=MetaLayer(7, post)))
    assert (wanted.content_type, wanted.modified, wanted.floor) == ("c/d", "1600000005.00000", "1600000001.00000")


def test_the_row_of_an_object_that_a_job_changed_is_newer_than_what_put_said():
    put = {"X-Timestamp": "1650000000.99999", "ETag": "m", "Content-Type": "a/b"}
    wanted = plan.want(view_of(put, Stamp(7, 4, 0)))
    assert not wanted.is_hashed
    assert plan.put("o", wanted, 1_640_000_000 * 10**9).timestamp == "1650000001.00000"
    assert plan.put("o", wanted, NOW_NS).timestamp == "1700000000.00000"


def test_the_row_of_a_file_is_stamped_with_the_observation_and_shows_the_time_of_the_file():
    wanted = plan.want(describe(STAMP, 0, Blobs(), DEFAULTS))
    row = plan.put("o", wanted, NOW_NS)
    assert row == SentRow("o", "1700000000.00000", 5, "application/octet-stream", wanted.etag, "1600000000.00000")
    assert not row.is_deleted


def test_the_row_of_what_is_gone_is_swifts_own():
    row = plan.delete("o", NOW_NS)
    assert row == SentRow("o", "1700000000.00000", 0, "application/deleted", "noetag", "")
    assert row.is_deleted
