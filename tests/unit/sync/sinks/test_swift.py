# SPDX-License-Identifier: Apache-2.0
"""What the contract of all sinks does not say: copies, shards, and containers that are brought back by accident."""

from __future__ import annotations

import json

import pytest
from swift.common.utils import ShardRange
from tests.databases import COPIES, Swift, swift, swift_conf

from lustack.sync.errors import ContainerGoneError, SwiftRefusedError, SwiftUnavailableError
from lustack.sync.plan import SentRow, Wanted, delete, put
from lustack.sync.sinks import swift as sinks_swift
from lustack.sync.sinks.http import Answer, Connections, Node
from lustack.sync.sinks.protocol import ContainerKey, Presence

__all__ = ("swift", "swift_conf")

KEY = ContainerKey("AUTH_a", "c")
NOW_NS = 1_700_000_000 * 10**9


def row(name: str) -> SentRow:
    return put(name, Wanted(5, "text/plain", "etag", "1500000000.00000"), NOW_NS)


def names_of(sink, key=KEY, prefix=""):
    found = []
    while page := sink.list_rows(key, found[-1] if found else "", prefix).rows:
        found += [each.name for each in page]
    return found


@pytest.fixture
def made(swift: Swift) -> Swift:
    swift.make_account("AUTH_a")
    swift.make_container(KEY)
    swift.asked.clear()
    return swift


def updated(made):
    return {(device, "/".join(request.path)) for device, request in made.asked if request.method == "UPDATE"}


def rows_of(made, device, key=KEY):
    return [found[0] for found in made.broker(device, key).list_objects_iter(100, "", "", "", "")]


def test_rows_go_to_every_copy(made):
    made.sink.send(KEY, [row("o")])
    assert updated(made) == {(device, "AUTH_a/c") for device in COPIES}
    assert all(rows_of(made, device) == ["o"] for device in COPIES)


def test_one_copy_may_be_away(made):
    made.down.add("sda")
    made.sink.send(KEY, [row("o")])
    assert names_of(made.sink) == ["o"]
    assert list(made.sink.list_containers("AUTH_a", "")) == ["c"]
    assert made.sink.get_state(KEY).presence is Presence.EXISTS


def test_two_copies_may_not_be_away(made):
    made.down.add("sda")
    made.failing.add("sdb")
    with pytest.raises(SwiftUnavailableError, match=r"down.*507"):
        made.sink.send(KEY, [row("o")])
    # What one copy says is enough to read, and never to write.
    assert made.sink.list_containers("AUTH_a", "") == ["c"]


def test_a_copy_that_went_away_meanwhile_counts_as_away(made):
    ask = made.ask

    def lose(node, request, **options):
        if request.method == "UPDATE" and node.device in {"sda", "sdb"}:
            return Answer(503, {}, b"")
        return ask(node, request, **options)

    made.sink._connections.ask = lose
    with pytest.raises(SwiftUnavailableError, match="UPDATE"):
        made.sink.send(KEY, [row("o")])


def test_a_copy_that_was_never_made_or_is_deleted_gets_no_rows(made):
    other = ContainerKey("AUTH_a", "other")
    nodes = made._container_nodes(*other)
    made.sink._rings = made.sink._rings.__class__(
        made.sink._rings.accounts, lambda *_: nodes[:2], made.sink._rings.policies, 4
    )
    made.make_container(other)
    made.sink._rings = made.sink._rings.__class__(
        made.sink._rings.accounts, lambda *_: nodes, made.sink._rings.policies, 4
    )
    made.asked.clear()
    made.sink.send(other, [row("o")])
    assert updated(made) == {("sda", "AUTH_a/other"), ("sdb", "AUTH_a/other")}


def test_the_latest_word_on_a_container_counts(made):
    made.down.add("sda")
    for device in ("sdb", "sdc"):
        made.broker(device, KEY).delete_db(made.next_time())
    assert made.sink.get_state(KEY).presence is Presence.DELETED
    made.down.clear()
    # One copy does not know yet.
    assert made.sink.get_state(KEY).presence is Presence.DOOMED
    with pytest.raises(ContainerGoneError):
        made.sink.send(KEY, [row("o")])


def test_rows_that_brought_a_container_back_can_be_removed(made):
    for device in COPIES:
        made.broker(device, KEY).delete_db(made.next_time())
        made.broker(device, KEY).merge_items(json.loads(sinks_swift._render([row("late")], 0)))
    assert made.sink.get_state(KEY).presence is Presence.DOOMED
    assert names_of(made.sink) == ["late"]
    with pytest.raises(ContainerGoneError):
        made.sink.send(KEY, [row("o")])
    made.sink.send(KEY, [delete("late", NOW_NS + 10**9)])
    assert made.sink.get_state(KEY).presence is Presence.DELETED


def test_a_container_that_goes_between_look_and_rows_is_gone(made):
    ask = made.ask

    def delete_before_update(node, request, **options):
        if request.method == "UPDATE":
            return Answer(404, {}, b"")
        return ask(node, request, **options)

    made.sink._connections.ask = delete_before_update
    with pytest.raises(ContainerGoneError):
        made.sink.send(KEY, [row("o")])


def test_a_container_that_goes_between_two_looks_is_gone(made):
    ask = made.ask

    def lose(node, request, **options):
        return Answer(404, {}, b"") if request.method == "GET" else ask(node, request, **options)

    made.sink._connections.ask = lose
    with pytest.raises(ContainerGoneError):
        made.sink.list_rows(KEY, "", "")


def test_rows_that_swift_does_not_take_are_refused(made):
    ask = made.ask

    def refuse(node, request, **options):
        return Answer(400, {}, b"") if request.method == "UPDATE" else ask(node, request, **options)

    made.sink._connections.ask = refuse
    with pytest.raises(SwiftRefusedError, match="400"):
        made.sink.send(KEY, [row("o")])


def test_a_new_container_is_in_the_listing_of_its_account_at_once(made):
    made.sink.create(ContainerKey("AUTH_a", "new"), 0)
    assert list(made.sink.list_containers("AUTH_a", "")) == ["c", "new"]


def test_every_copy_of_the_account_is_told_by_one_copy_of_the_container(made):
    headers = made.sink._account_headers(KEY, 2)
    assert [each["X-Account-Device"] for each in headers] == ["sda,sdc", "sdb"]
    assert made.sink._account_headers(KEY, 4)[3] == {}


def test_the_last_page_is_known_where_it_can_be(made):
    names = ["a", "b", "c", "d", "e"]
    made.sink.send(KEY, [row(name) for name in names])
    assert not made.sink.list_rows(KEY, "", "").is_last
    assert made.sink.list_rows(KEY, "d", "").is_last
    made.shard(KEY, "b")
    made.sink.send(KEY, [row(name) for name in names])
    assert not made.sink.list_rows(KEY, "d", "").is_last


def test_very_many_rows_go_in_several_requests(made):
    made.sink.send(KEY, [row(f"{number:05}") for number in range(10_001)])
    assert [
        request.body.count(b'"name"')
        for device, request in made.asked
        if request.method == "UPDATE" and device == "sda"
    ] == [10_000, 1]
    assert made.sink.get_state(KEY).object_count == 10_001


@pytest.mark.parametrize("finished", [False, True])
def test_rows_of_a_sharded_container_go_to_its_shards(made, finished):
    shards = made.shard(KEY, "b", "d", finished=finished)
    assert made.sink.get_state(KEY).is_sharded
    made.asked.clear()
    made.sink.send(KEY, [row(name) for name in ("e", "a", "b", "d", "c")])
    assert {path for _, path in updated(made)} == {str(shard) for shard in shards}
    assert [rows_of(made, "sda", shard) for shard in shards] == [["a", "b"], ["c", "d"], ["e"]]
    made.sink.send(KEY, [delete("c", NOW_NS + 10**9)])
    assert rows_of(made, "sdc", shards[1]) == ["d"]


def test_a_sharded_container_is_listed_in_order(made):
    made.shard(KEY, "b", "d", "dd")
    names = ["a", "b", "c", "c1", "c2", "c3", "c4", "d", "e", "f"]
    made.sink.send(KEY, [row(name) for name in names])
    assert names_of(made.sink) == names
    assert names_of(made.sink, prefix="c") == names[2:7]
    assert names_of(made.sink, prefix="d") == ["d"]
    assert names_of(made.sink, prefix="x") == []


def test_a_shard_that_is_sharded_itself_is_followed(made):
    shards = made.shard(KEY, "m")
    made.shard(shards[0], "c")
    made.sink.send(KEY, [row(name) for name in "nz"])
    for device in COPIES:
        for number, name in ((0, "a"), (1, "d")):
            inner = ContainerKey(".shards_.shards_AUTH_a", f"c-0-{number}")
            made.broker(device, inner).merge_items(json.loads(sinks_swift._render([row(name)], 0)))
    assert names_of(made.sink) == ["a", "d", "n", "z"]


def test_a_container_that_is_still_being_sharded_is_listed_whole(made):
    made.sink.send(KEY, [row(name) for name in "ace"])
    made.shard(KEY, "b", "d", finished=False)
    for device in COPIES:
        broker = made.broker(device, KEY)
        found = broker.get_shard_ranges()
        for shard in found:
            # Not cleaved yet: listings still come from the root, updates already go to the shard.
            shard.state = ShardRange.CREATED
            shard.state_timestamp = made.next_time()
            shard.timestamp = made.next_time()
        broker.merge_shard_ranges(found)
    assert names_of(made.sink) == ["a", "c", "e"]


def test_shards_that_change_under_a_batch_are_looked_up_again(made):
    first = made.shard(KEY, "b")
    for device in COPIES:
        made.broker(device, first[0]).delete_db(made.next_time())
    updating = made.sink._updating_shards
    looks = []

    def look(key):
        looks.append(key)
        found = updating(key)
        if len(looks) > 1:
            found[0]["name"] = f"{first[1]}"
        return found

    made.sink._updating_shards = look
    made.sink.send(KEY, [row("a"), row("z")])
    assert len(looks) == 2
    assert rows_of(made, "sda", first[1]) == ["a", "z"]


def test_shards_that_stay_away_are_an_error(made):
    shards = made.shard(KEY, "b")
    for device in COPIES:
        made.broker(device, shards[0]).delete_db(made.next_time())
    with pytest.raises(SwiftUnavailableError, match="c-0 is gone"):
        made.sink.send(KEY, [row("a")])


def test_a_root_that_goes_with_its_shards_is_gone(made):
    made.shard(KEY, "b")
    ask = made.ask

    def lose(node, request, **options):
        return Answer(404, {}, b"") if request.method == "GET" else ask(node, request, **options)

    made.sink._connections.ask = lose
    with pytest.raises(ContainerGoneError):
        made.sink.send(KEY, [row("a")])


def test_names_that_no_shard_wants_go_to_the_root():
    shards = [
        {"name": "s/1", "lower": "b", "upper": "d"},
        {"name": "s/2", "lower": "f", "upper": "h"},
    ]
    found = sinks_swift._split([row(name) for name in "abcdefghij"], shards, KEY)
    assert [(str(key), "".join(each.name for each in rows)) for key, rows in found] == [
        ("AUTH_a/c", "ab"),
        ("s/1", "cd"),
        ("AUTH_a/c", "ef"),
        ("s/2", "gh"),
        ("AUTH_a/c", "ij"),
    ]


def test_it_makes_its_own_connections_and_closes_them(made):
    sink = sinks_swift.SwiftSink(made.sink._rings)
    assert isinstance(sink._connections, Connections)
    sink.close()
    assert Node("h", 1, "d", 0) == Node("h", 1, "d", 0)
