# SPDX-License-Identifier: Apache-2.0
"""What every place that holds listings must do."""

from __future__ import annotations

import pytest
from tests.databases import Swift, swift, swift_conf

from lustack.sync.errors import ContainerGoneError, SwiftRefusedError, SwiftUnavailableError
from lustack.sync.plan import ListedRow, SentRow, Wanted, delete, put
from lustack.sync.sinks.fake import FakeContainer, FakeSink
from lustack.sync.sinks.protocol import ContainerKey, Presence

__all__ = ("swift", "swift_conf")

KEY = ContainerKey("AUTH_a", "c ü")
HIDDEN = ContainerKey("AUTH_a", "\0versions\0c")
NOW_NS = 1_700_000_000 * 10**9
WANTED = Wanted(5, "text/plain", "etag", "1500000000.00000")


def row(name: str, later_s: int = 0, **changes: object) -> SentRow:
    return put(name, WANTED._replace(**changes), NOW_NS + later_s * 10**9)


def listed(sink, key=KEY, prefix="") -> list[ListedRow]:
    found: list[ListedRow] = []
    is_last = False
    while not is_last:
        rows, is_last = sink.list_rows(key, found[-1].name if found else "", prefix)
        is_last |= not rows
        found += rows
    return found


def names_of(sink, key=KEY, prefix="") -> list[str]:
    return [each.name for each in listed(sink, key, prefix)]


class SinkContract:
    """The contract; who implements it makes a sink with an empty account `AUTH_a`, and changes it behind its back."""

    @pytest.fixture
    def sink(self):
        raise NotImplementedError

    def delete_container(self, sink, key):
        raise NotImplementedError

    def fail(self, sink):
        """The sink can do nothing from now on."""
        raise NotImplementedError

    def test_it_knows_accounts(self, sink):
        assert sink.has_account("AUTH_a")
        assert not sink.has_account("AUTH_b")

    def test_a_container_is_made(self, sink):
        assert sink.get_state(KEY).presence is Presence.UNKNOWN
        sink.create(KEY, 0)
        state = sink.get_state(KEY)
        assert (state.presence, state.policy_index, state.object_count) == (Presence.EXISTS, 0, 0)
        assert not state.is_sharded

    def test_a_container_can_be_of_another_policy(self, sink):
        sink.create(KEY, 1)
        assert sink.get_state(KEY).policy_index == 1
        sink.send(KEY, [row("o")])
        assert names_of(sink) == ["o"]

    def test_a_container_of_no_account_is_refused(self, sink):
        with pytest.raises(SwiftRefusedError):
            sink.create(ContainerKey("AUTH_b", "c"), 0)

    def test_containers_are_listed_in_order(self, sink):
        for container in ("b", "a", "é", "B"):
            sink.create(ContainerKey("AUTH_a", container), 0)
        assert (
            list(sink.list_containers("AUTH_a", "")) == ["B", "a", "b", "é"][: len(sink.list_containers("AUTH_a", ""))]
        )
        assert list(sink.list_containers("AUTH_a", "b")) == ["é"]
        assert not sink.list_containers("AUTH_a", "é")
        assert not sink.list_containers("AUTH_b", "")

    def test_hidden_containers_are_containers(self, sink):
        sink.create(HIDDEN, 0)
        assert list(sink.list_containers("AUTH_a", "")) == [HIDDEN.container]
        sink.send(HIDDEN, [row("\0a\0b")])
        assert names_of(sink, HIDDEN) == ["\0a\0b"]

    def test_rows_are_listed_as_they_were_sent(self, sink):
        sink.create(KEY, 0)
        sink.send(KEY, [row("o", size_bytes=2**40, content_type="a/b; c=d;swift_bytes=9", etag="e; s3_etag=x-1")])
        assert listed(sink) == [ListedRow("o", 9, "a/b;c=d", "e; s3_etag=x-1", "1500000000.00000")]
        assert sink.get_state(KEY).object_count == 1

    def test_rows_come_in_pages_in_the_order_of_their_bytes(self, sink):
        sink.create(KEY, 0)
        names = ["a", "a/b", "a!", "é", "z", "B", "\U0001f600", "\uffff", "a\nb", "a b", '"', "%"]
        sink.send(KEY, [row(name) for name in names])
        assert names_of(sink) == sorted(names, key=str.encode)
        assert names_of(sink, prefix="a") == ["a", "a\nb", "a b", "a!", "a/b"]
        assert names_of(sink, prefix="nothing") == []

    def test_sending_twice_changes_nothing(self, sink):
        sink.create(KEY, 0)
        for _ in range(2):
            sink.send(KEY, [row("a"), row("b")])
        assert names_of(sink) == ["a", "b"]

    def test_the_later_row_wins_whatever_comes_first(self, sink):
        sink.create(KEY, 0)
        sink.send(KEY, [row("o", later_s=2, etag="new")])
        sink.send(KEY, [row("o", later_s=1, etag="old"), delete("o", NOW_NS)])
        assert [each.etag for each in listed(sink)] == ["new"]
        sink.send(KEY, [delete("o", NOW_NS + 3 * 10**9)])
        sink.send(KEY, [row("o", later_s=2, etag="new")])
        assert names_of(sink) == []

    def test_what_is_shown_as_time_never_goes_back(self, sink):
        sink.create(KEY, 0)
        sink.send(KEY, [row("o")])
        sink.send(KEY, [row("o", later_s=1, etag="new", modified="1400000000.00000")])
        assert [(each.etag, each.modified) for each in listed(sink)] == [("new", "1500000000.00000")]
        sink.send(KEY, [row("o", later_s=1, etag="new", modified="1600000000.00000")])
        assert [(each.etag, each.modified) for each in listed(sink)] == [("new", "1600000000.00000")]

    def test_nothing_is_sent_where_no_container_is(self, sink):
        with pytest.raises(ContainerGoneError):
            sink.send(KEY, [row("o")])
        with pytest.raises(ContainerGoneError):
            sink.list_rows(KEY, "", "")
        assert sink.get_state(KEY).presence is Presence.UNKNOWN

    def test_a_deleted_container_stays_deleted(self, sink):
        sink.create(KEY, 0)
        self.delete_container(sink, KEY)
        assert sink.get_state(KEY).presence is Presence.DELETED
        with pytest.raises(ContainerGoneError):
            sink.send(KEY, [row("o")])
        with pytest.raises(ContainerGoneError):
            sink.list_rows(KEY, "", "")
        assert sink.get_state(KEY).presence is Presence.DELETED

    def test_without_servers_nothing_is_claimed(self, sink):
        sink.create(KEY, 0)
        calls = (
            lambda: sink.has_account("AUTH_a"),
            lambda: sink.list_containers("AUTH_a", ""),
            lambda: sink.get_state(KEY),
            lambda: sink.create(KEY, 0),
            lambda: sink.list_rows(KEY, "", ""),
            lambda: sink.send(KEY, [row("o")]),
        )
        self.fail(sink)
        for call in calls:
            with pytest.raises(SwiftUnavailableError):
                call()


class TestFakeSink(SinkContract):
    @pytest.fixture
    def sink(self):
        return FakeSink(accounts={"AUTH_a"})

    def delete_container(self, sink, key):
        sink.containers[key].presence = Presence.DELETED

    def fail(self, sink):
        sink.failures = 1000

    def test_a_doomed_container_takes_deletions_only(self, sink):
        sink.containers[KEY] = FakeContainer(Presence.DOOMED)
        with pytest.raises(ContainerGoneError):
            sink.send(KEY, [row("o"), delete("p", NOW_NS)])
        sink.send(KEY, [delete("o", NOW_NS)])


class TestSwiftSink(SinkContract):
    """The servers of the installed Swift, with three copies of each database, and no network."""

    @pytest.fixture
    def sink(self, swift: Swift):
        swift.make_account("AUTH_a")
        # The tests of the contract change a Swift through its sink alone.
        self.swift = swift
        return swift.sink

    def delete_container(self, sink, key):
        self.swift.delete_container(key)

    def fail(self, sink):
        self.swift.down.update(("sda", "sdb"))
        self.swift.failing.add("sdc")
