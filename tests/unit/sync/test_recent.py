# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from tests.listings import KEY

from lustack.mapping.metadata import timestamp_text
from lustack.sync.errors import SyncError
from lustack.sync.plan import delete
from lustack.sync.recent import ROW_BYTES, RecentSink
from lustack.sync.sinks.fake import FakeSink
from lustack.sync.sinks.protocol import ContainerKey

S = 10**9
OTHER = ContainerKey("a", "other")


def at(second):
    return timestamp_text(second * S)


@pytest.fixture
def recent(playground):
    return RecentSink(playground.sink, 100 * S, limit_bytes=4 * (ROW_BYTES + 1))


def send(recent, name, second):
    recent.send(KEY, [delete(name, second * S)])


def test_a_name_is_untouched_if_nothing_later_was_sent(recent):
    send(recent, "x", 200)
    assert not recent.is_untouched(KEY, "x", at(199))
    assert recent.is_untouched(KEY, "x", at(200))
    assert recent.is_untouched(KEY, "y", at(150))


def test_what_was_before_is_not_known(recent):
    assert not recent.is_untouched(KEY, "x", at(100))


def test_what_was_forgotten_counts_as_sent(recent):
    for second, name in enumerate("abcde", 200):
        send(recent, name, second)
    assert not recent.is_untouched(KEY, "z", at(201))
    assert recent.is_untouched(KEY, "z", at(202))
    assert not recent.is_untouched(KEY, "c", at(201))
    recent.send(KEY, [])


def test_what_failed_may_have_arrived(recent, playground):
    playground.sink.failures = 1
    with pytest.raises(SyncError):
        send(recent, "x", 200)
    assert not recent.is_untouched(KEY, "x", at(150))


def test_what_was_sent_is_counted(recent, playground):
    recent.send(KEY, [delete("x", 200 * S), delete("y", 200 * S)])
    recent.send(KEY, [])
    playground.sink.failures = 1
    with pytest.raises(SyncError):
        send(recent, "z", 200)
    assert (recent.rows, recent.batches) == (2, 1)


def test_a_row_was_taken_if_swift_said_so_and_it_is_later(recent):
    send(recent, "x", 200)
    assert recent.was_taken(KEY, "x", at(199))
    assert not recent.was_taken(KEY, "x", at(200))
    assert not recent.was_taken(KEY, "y", at(199))
    for second, name in enumerate("abcd", 300):
        send(recent, name, second)
    assert not recent.was_taken(KEY, "x", at(199))
    assert recent.was_taken(KEY, "b", at(300))


def test_what_failed_may_not_have_arrived_and_neither_may_what_was_sent_before(recent, playground):
    send(recent, "x", 200)
    playground.sink.failures = 1
    with pytest.raises(SyncError):
        send(recent, "y", 300)
    assert not recent.was_taken(KEY, "y", at(299))
    assert not recent.was_taken(KEY, "x", at(199))
    send(recent, "y", 400)
    assert recent.was_taken(KEY, "y", at(399))


def test_what_is_on_its_way_was_not_taken_yet(playground):
    found = []

    class Asking(FakeSink):
        def send(self, key, rows):
            found.append([recent.was_taken(key, name, at(100)) for name in "xy"])
            found.append(recent.was_taken(OTHER, "x", at(100)))

    recent = RecentSink(Asking(), 100 * S)
    recent.send(OTHER, [delete("x", 200 * S)])
    send(recent, "x", 300)
    assert found == [[False, False], False, [False, False], True]


def test_what_was_taken_stays_so_while_other_names_of_its_container_are_on_their_way(playground):
    found = []

    class Asking(FakeSink):
        def send(self, key, rows):
            found.append(recent.was_taken(key, "x", at(100)))

    recent = RecentSink(Asking(), 100 * S)
    send(recent, "x", 200)
    send(recent, "y", 300)
    send(recent, "x", 400)
    assert found == [False, True, False]
