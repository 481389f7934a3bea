# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import pytest
from tests.lustres import QUICK, Clock, Watched

from lustack.lustre.changelog import scan
from lustack.lustre.errors import ChangelogError
from lustack.sync.sources.changelog_tail import Cursor, LogLostError, Tail

MDT = "lustre-MDT0000"


@pytest.fixture
def watched(tmp_path):
    watched = Watched(tmp_path)
    yield watched
    watched.close()


def tail_of(watched, lustre=None, clock=None):
    tail = Tail(lustre or watched.lustre, MDT, QUICK, threading.Event(), clock or Clock())
    tail.start(Cursor())
    return tail


def read(tail):
    """Indices of what comes, until nothing does."""
    found = []
    while piece := tail.read(0.01):
        records = list(scan(piece))
        tail.advance(len(records), records[-1][2:5])
        found += [record[2] for record in records]
    return found


def write(watched, *names):
    for name in names:
        watched.lustre.create(b"device/" + name)


def test_records_come_once_and_in_order(watched):
    write(watched, b"a", b"b")
    tail = tail_of(watched)
    assert read(tail) == [1, 2]
    write(watched, b"c")
    assert read(tail) == [3]
    assert read(tail) == []
    tail.close()


def test_a_long_log_comes_in_pieces(watched):
    write(watched, *(b"%d" % number for number in range(1000)))
    tail = tail_of(watched)
    assert read(tail) == list(range(1, 1001))
    tail.close()


def test_reading_goes_on_after_a_record_also_when_it_is_gone(watched):
    write(watched, b"a", b"b", b"c")
    tail = tail_of(watched)
    read(tail)
    cursor = tail.cursor
    write(watched, b"d")
    for cleared in (0, 2, 3):
        if cleared:
            watched.lustre.clear(MDT, "cl1", cleared)
        tail.start(cursor)
        assert read(tail) == [4]
    tail.close()


def test_reading_can_begin_at_the_end(watched):
    write(watched, b"a", b"b")
    tail = tail_of(watched)
    tail.start(None)
    assert tail.cursor.index == 2
    write(watched, b"c")
    assert read(tail) == [3]
    tail.close()


def test_a_gap_is_a_loss(watched):
    write(watched, b"a", b"b")
    tail = tail_of(watched)
    read(tail)
    write(watched, b"c", b"d", b"e")
    watched.log().drop(3)
    with pytest.raises(LogLostError, match="lustre-MDT0000 are missing: after 2 comes 4"):
        read(tail)
    tail.close()
    with pytest.raises(LogLostError, match="after 2 comes 4"):
        tail.start(tail.cursor)
    tail.close()


def test_a_gap_between_records_that_come_together_is_a_loss(watched):
    write(watched, b"a", b"b", b"c")
    watched.log().drop(2)
    tail = tail_of(watched)
    with pytest.raises(LogLostError, match="from 1 to 3 there are only 2"):
        read(tail)
    tail.close()


def test_a_restart_of_the_mdt_that_lost_nothing_is_survived(watched):
    write(watched, b"a")
    tail = tail_of(watched)
    piece = tail.read(0.01)
    watched.log().restart()
    tail.advance(1, next(scan(piece))[2:5])
    with pytest.raises(ChangelogError, match="Input/output"):
        tail.read(0.01)
    write(watched, b"b")
    assert read(tail) == [2]
    tail.close()


def test_a_log_that_ends_before_what_was_read_is_a_loss(watched):
    write(watched, b"a", b"b", b"c")
    tail = tail_of(watched)
    read(tail)
    watched.log().restart(lost=1)
    tail.doubt()
    with pytest.raises(LogLostError, match="3 was read, and now the log ends with 2"):
        read(tail)
    tail.close()


def test_an_index_that_was_given_again_is_a_loss(watched):
    write(watched, b"a", b"b", b"c")
    tail = tail_of(watched)
    read(tail)
    watched.log().restart(lost=1)
    write(watched, b"another", b"more")
    tail.doubt()
    with pytest.raises(LogLostError, match="3 is another one now"):
        read(tail)
    tail.close()


def test_an_index_that_was_given_again_is_noticed_without_an_error_too(watched):
    write(watched, b"a", b"b")
    tail = tail_of(watched)
    read(tail)
    watched.log().restart(lost=1)
    write(watched, b"another")
    with pytest.raises(LogLostError, match="2 is another one now"):
        read(tail)
    tail.close()


def test_after_a_silence_it_is_looked_from_further_back(watched):
    write(watched, b"a", b"b", b"c")
    clock = Clock()
    tail = tail_of(watched, clock=clock)
    read(tail)
    watched.log().restart(lost=2)
    assert tail.read(0.0) == b""
    clock.now_s += QUICK.silence + 1
    assert tail.read(0.0) == b""
    with pytest.raises(LogLostError, match="ends with 1"):
        tail.read(0.0)
    tail.close()


class Slow:
    """A Lustre whose logs are dear to open."""

    def __init__(self, lustre, clock, cost_s):
        self.lustre, self.clock, self.cost_s = lustre, clock, cost_s
        self.follows = []

    def open_changelog(self, mdt, index, *, follow):
        self.follows.append(follow)
        self.clock.now_s += self.cost_s
        return self.lustre.open_changelog(mdt, index, follow=follow)


def test_where_opening_is_dear_it_is_waited_in_the_log(watched):
    clock = Clock()
    slow = Slow(watched.lustre, clock, cost_s=0.2)
    tail = tail_of(watched, slow, clock)
    for name in (b"a", b"b", b"c", b"d"):
        write(watched, name)
        assert len(read(tail)) == 1
    assert slow.follows[-1] is True
    opened = len(slow.follows)
    for name in (b"e", b"f"):
        write(watched, name)
        assert len(read(tail)) == 1
    assert len(slow.follows) == opened
    tail.close()


def test_where_opening_is_cheap_it_is_never_waited(watched):
    clock = Clock()
    slow = Slow(watched.lustre, clock, cost_s=0.0)
    tail = tail_of(watched, slow, clock)
    for number in range(10):
        write(watched, b"%d" % number)
        read(tail)
    assert set(slow.follows) == {False}
    tail.close()


def test_a_log_that_does_not_even_end_is_an_error(watched):
    write(watched, b"a")
    watched.log().is_stalled = True
    clock = Clock()

    class Impatient(Clock):
        def __call__(self):
            self.now_s += 1
            return self.now_s

    with pytest.raises(ChangelogError, match="it says nothing"):
        tail_of(watched, clock=Impatient())
    closed = threading.Event()
    closed.set()
    tail = Tail(watched.lustre, MDT, QUICK, closed, clock)
    with pytest.raises(ChangelogError, match="it says nothing"):
        tail.start(None)
    tail.close()


def test_an_error_of_the_log_is_met_again_from_further_back(watched):
    write(watched, b"a")
    tail = tail_of(watched)
    assert read(tail) == [1]
    watched.log().faults.append(ChangelogError(MDT, "busy"))
    with pytest.raises(ChangelogError, match="busy"):
        read(tail)
    write(watched, b"b")
    assert read(tail) == [2]
    tail.close()


def replay(watched, most_bytes):
    """Where a tail begins and ends that knows no better, and what it reads."""
    tail = Tail(watched.lustre, MDT, QUICK, threading.Event(), Clock())
    tail.start(None, most_bytes)
    begin, end = tail.cursor.index, tail.end.index
    found = read(tail)
    tail.close()
    return begin, end, found


def test_reading_can_begin_with_the_oldest_that_is_there(watched):
    assert replay(watched, 10**6) == (0, 0, [])
    write(watched, b"a", b"b", b"c")
    assert replay(watched, 10**6) == (0, 3, [1, 2, 3])
    watched.lustre.clear(MDT, "cl1", 2)
    assert replay(watched, 10**6) == (2, 3, [3])


def test_no_more_is_replayed_than_fits(watched):
    write(watched, *(b"%d" % number for number in range(1000)))
    begin, end, found = replay(watched, 60_000)
    assert 0 < begin < 1000 == end
    assert found == list(range(begin + 1, 1001))


def test_what_is_replayed_need_not_be_in_the_log_any_more(watched):
    write(watched, b"a", b"b")
    tail = Tail(watched.lustre, MDT, QUICK, threading.Event(), Clock())
    tail.start(None, 10**6)
    watched.lustre.clear(MDT, "cl1", tail.end.index)
    write(watched, b"c")
    assert read(tail) == [1, 2, 3]
    tail.close()


@pytest.mark.parametrize("gap", [2, 500])
def test_nothing_before_a_gap_is_replayed(watched, gap):
    write(watched, *(b"%d" % number for number in range(1000)))
    watched.log().drop(gap)
    begin, end, found = replay(watched, 10**6)
    assert gap <= begin < 1000 == end
    assert found == list(range(begin + 1, 1001))


def test_nothing_before_a_gap_between_pieces_is_replayed(watched):
    write(watched, *(b"%d" % number for number in range(1000)))
    log = watched.lustre.open_changelog(MDT, 1, follow=False)
    *_, last = scan(log.read(0.01))
    watched.log().drop(last[2] + 1)
    begin, _, found = replay(watched, 10**6)
    assert begin == last[2] + 1
    assert found == list(range(begin + 1, 1001))


def test_a_log_that_was_read_to_its_end_has_shown_what_was_in_it_when_it_was_opened(watched):
    clock = Clock()
    tail = tail_of(watched, clock=clock)
    before_s = clock()
    assert tail.seen_s < before_s
    write(watched, b"a")
    assert read(tail) == [1]
    assert before_s < tail.seen_s < clock()
    tail.close()


def test_who_asks_for_the_end_does_not_wait_in_the_log(watched):
    clock = Clock()
    slow = Slow(watched.lustre, clock, cost_s=0.2)
    tail = tail_of(watched, slow, clock)
    for name in (b"a", b"b", b"c", b"d"):
        write(watched, name)
        read(tail)
    assert slow.follows[-1] is True
    asked_s = clock()
    assert tail.seen_s < asked_s
    tail.ask_for_end(asked_s)
    # The record that was read last is met again first.
    assert [tail.read(0.01) for _ in range(2)] == [b"", b""]
    assert slow.follows[-1] is False
    assert asked_s <= tail.seen_s
    # And then it waits again.
    assert read(tail) == []
    assert slow.follows[-1] is True
    tail.close()
