# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time

import pytest
from tests.lustres import QUICK, Clock, Watched, read_all
from tests.waiting import LIMIT_S

from lustack.lustre.changelog import Record, Type
from lustack.lustre.errors import ChangelogError
from lustack.lustre.fid import Fid
from lustack.mapping.names import RelPath
from lustack.sync.events import NameChanged, TreeChanged
from lustack.sync.sources.changelog import MASK, parse_position, render_position
from lustack.sync.sources.changelog_tail import Cursor
from lustack.sync.sources.changelog_window import Memory
from lustack.sync.sources.protocol import SourceLostError, SourceUnavailableError

MDT = "lustre-MDT0000"


@pytest.fixture
def watched(tmp_path):
    watched = Watched(tmp_path)
    yield watched
    watched.close()


@pytest.fixture
def source(watched):
    source = watched.source()
    source.open(None)
    return source


def paths_of(events):
    return [event.path for event in events]


def test_positions_come_back_from_their_text():
    cursor = Cursor(7, 8, b"0123456789abcdef")
    assert parse_position(render_position(cursor)) == cursor


def test_the_mask_is_made_of_types():
    assert set(MASK) <= {kind.name for kind in Type}


def test_events_come_with_the_time_of_the_first_record(watched, source):
    before_ns = time.time_ns()
    watched.lustre.write(b"device/f", b"x")
    batch = source.read(1.0)
    assert batch.events == [NameChanged(RelPath(b"f"), is_new=True)]
    assert before_ns <= batch.happened_ns <= time.time_ns()


def test_nothing_is_cleared_before_it_is_acknowledged(watched, source):
    watched.lustre.write(b"device/f", b"x")
    batch = source.read(1.0)
    assert watched.log().users == {"cl1": 0}
    source.acknowledge(batch.position)
    assert watched.log().users == {"cl1": 2}
    assert watched.log().records == {}


def test_what_concerns_nobody_is_acknowledged_too(watched, source):
    watched.lustre.write(b"outside", b"x")
    batch = source.read(1.0)
    assert batch.events == []
    source.acknowledge(batch.position)
    assert watched.log().records == {}


def test_a_quiet_mdt_is_told_that_we_are_here(watched):
    clock = Clock()
    source = watched.source(monotonic_s=clock)
    watched.lustre.write(b"device/f", b"x")
    source.open(None)
    cleared = []
    watched.lustre.clear = lambda mdt, user, index: cleared.append((mdt, user, index))
    source.read(0.0)
    assert cleared == []
    clock.now_s += QUICK.heartbeat
    source.read(0.0)
    source.read(0.0)
    assert cleared == [(MDT, "cl1", 2)]


def test_zero_is_never_cleared(watched, source):
    cleared = []
    watched.lustre.clear = lambda mdt, user, index: cleared.append(index)
    source.close()
    source.open(render_position(Cursor()))
    source.acknowledge(render_position(Cursor()))
    assert cleared == []


def test_an_older_position_is_never_cleared(watched, source):
    positions = []
    for name in (b"f", b"g"):
        watched.lustre.write(b"device/" + name, b"x")
        positions.append(source.read(1.0).position)
    cleared = []
    watched.lustre.clear = lambda mdt, user, index: cleared.append(index)
    for position in (positions[1], positions[0], positions[1]):
        source.acknowledge(position)
    assert cleared == [4]


def test_a_user_that_is_gone_is_a_loss(watched, source):
    watched.lustre.write(b"device/f", b"x")
    first = source.read(1.0).position
    watched.log().deregister("cl1")
    source.acknowledge(first)
    with pytest.raises(SourceLostError, match="refuses to clear up to 2 for cl1"):
        source.read(0.01)
    with pytest.raises(SourceLostError):
        source.read(0.01)
    source.acknowledge(first)
    with pytest.raises(SourceLostError, match="it removed that user"):
        source.open(first)


def test_without_a_user_of_ours_the_source_cannot_be_used(watched, source):
    watched.log().register()
    watched.lustre.write(b"device/f", b"x")
    watched.log().deregister("cl1")
    with pytest.raises(SourceUnavailableError, match="removed that user"):
        source.open(None)
    assert source.read(0.0) is None


def test_an_mdt_that_lost_what_we_cleared_is_a_loss(watched, source):
    watched.lustre.write(b"device/f", b"x")
    first = source.read(1.0).position
    watched.log().restart(lost=1)
    source.acknowledge(first)
    with pytest.raises(SourceLostError, match="ends before record 2"):
        source.read(0.01)


def test_damaged_records_are_a_loss(watched, source):
    watched.lustre.write(b"device/f", b"x")
    watched.log().records[1] = b"x" * 100
    with pytest.raises(SourceLostError, match="no changelog record"):
        source.read(0.01)


def test_clearing_that_fails_is_tried_again(watched, source):
    watched.lustre.write(b"device/f", b"x")
    batch = source.read(1.0)
    watched.log().faults.append(ChangelogError(MDT, "busy"))
    source.acknowledge(batch.position)
    assert watched.log().users == {"cl1": 0}
    source.read(0.0)
    assert watched.log().users == {"cl1": 2}


def test_what_is_acknowledged_after_closing_is_cleared_at_the_next_opening(watched, source):
    watched.lustre.write(b"device/f", b"x")
    batch = source.read(1.0)
    source.close()
    source.acknowledge(batch.position)
    assert watched.log().users == {"cl1": 0}
    source.open(batch.position)
    assert watched.log().users == {"cl1": 2}


@pytest.mark.expects_log("trying again and again: .* busy")
def test_an_error_of_the_log_is_said_once_and_loses_nothing(watched, source):
    watched.lustre.write(b"device/f", b"x")
    watched.log().faults.extend(ChangelogError(MDT, "busy") for _ in range(3))
    events, _ = read_all(source, 1.0)
    assert paths_of(events) == [b"f"]


@pytest.mark.expects_log("trying again and again: .* busy")
def test_what_was_read_before_an_error_is_reported(watched, source):
    for number in range(400):
        watched.lustre.create(b"device/%d" % number)
    log = watched.log()
    opened = watched.lustre.open_changelog

    class Broken:
        def __init__(self, reader):
            self.reader, self.reads = reader, 0

        def read(self, timeout_s):
            self.reads += 1
            if self.reads == 2:
                raise ChangelogError(MDT, "busy")
            return self.reader.read(timeout_s)

        def close(self):
            self.reader.close()

    watched.lustre.open_changelog = lambda *args, **options: Broken(opened(*args, **options))
    events = []
    while batch := source.read(0.5):
        events += batch.events
    watched.lustre.open_changelog = opened
    events += read_all(source, 0.05)[0]
    assert len(set(paths_of(events))) == 400
    assert log.last_index == 400


@pytest.mark.expects_log("trying again and again: .*Stale")
def test_a_file_system_that_fails_loses_nothing(watched, source):
    lustre = watched.lustre
    lustre.write(b"device/f", b"x")
    links, failures = lustre.links, [1, 2]

    def fail(key):
        if failures:
            failures.pop()
            raise OSError(116, "Stale file handle")
        return links(key)

    lustre.links = fail
    watched.memory.files.clear()
    source.read(1.0)
    lustre.chmod(b"device/f", 0o600)
    watched.memory.files.clear()
    lustre.truncate(b"device/f", 0)
    assert paths_of(read_all(source, 1.0)[0]) == [b"f"]


@pytest.mark.expects_log("trying again and again: .*Stale")
def test_what_was_answered_before_an_error_is_not_asked_again(watched, source):
    lustre, names = watched.lustre, (b"f", b"g", b"h")
    for name in names:
        lustre.write(b"device/" + name, b"x")
    read_all(source, 0.1)
    watched.memory.files.clear()
    links, asked, broken = lustre.links, [], [lustre.key_at(b"device/h")]

    def fail(key):
        asked.append(key)
        if key in broken:
            broken.remove(key)
            raise OSError(116, "Stale file handle")
        return links(key)

    lustre.links = fail
    watched.log().is_stalled = True
    for name in names:
        lustre.truncate(b"device/" + name, 0)
    watched.log().is_stalled = False
    assert set(paths_of(read_all(source, 0.5)[0])) == set(names)
    assert [asked.count(lustre.key_at(b"device/" + name)) for name in names] == [1, 1, 2]


def test_an_mdt_that_does_not_answer_cannot_be_used_now(watched, source):
    watched.log().faults.append(ChangelogError(MDT, "busy"))
    with pytest.raises(SourceUnavailableError, match="busy") as caught:
        source.open(None)
    assert caught.value.retryable


def test_names_in_a_lost_directory_hold_back_until_its_removal_is_read(watched):
    lustre, log = watched.lustre, watched.log()
    lustre.mkdir(b"device/a")
    lustre.write(b"device/a/f", b"x")
    source = watched.source(memory=Memory())
    source.open(None)
    lustre.write(b"device/g", b"x")
    lustre.unlink(b"device/a/f")
    lustre.rmdir(b"device/a")
    # The directory is gone already when the record of the file is read; the record of that is still to come.
    removal = log.records.pop(log.last_index)
    log.last_index -= 1
    batch = source.read(1.0)
    assert paths_of(batch.events) == [b"g"]
    assert parse_position(batch.position).index == 3
    log.last_index += 1
    log.records[log.last_index] = removal
    batch = source.read(1.0)
    assert TreeChanged(RelPath(b"a")) in batch.events
    assert parse_position(batch.position).index == log.last_index


@pytest.mark.expects_log("nobody knows where a directory was")
def test_names_in_a_directory_that_stays_lost_cost_a_comparison(watched):
    lustre = watched.lustre
    lustre.mkdir(b"device/a")
    lustre.write(b"device/a/f", b"x")
    clock = Clock()
    source = watched.source(memory=Memory(), monotonic_s=clock)
    source.open(None)
    lustre.unlink(b"device/a/f")
    lustre.rmdir(b"device/a")
    watched.log().records.popitem()
    watched.log().last_index -= 1
    assert source.read(0.05) is None
    clock.now_s += QUICK.patience
    batch = source.read(0.05)
    assert batch.events == [TreeChanged(RelPath(b""))]
    assert parse_position(batch.position).index == 4


def test_a_batch_has_a_limit(watched, source):
    log, folder = watched.log(), watched.lustre.key_at(b"device")
    for number in range(25_000):
        log.append(Record(0, Type.CREAT, 0x1000, 7, Fid(12, number, 0).key, folder, b"%d" % number))
    first = source.read(1.0)
    assert 20_000 <= parse_position(first.position).index == len(first.events) < 21_000
    events, last = read_all(source)
    assert len(first.events) + len(events) == 25_000 == parse_position(last.position).index


def test_closing_ends_a_read_that_waits(watched, source):
    found = []
    thread = threading.Thread(target=lambda: found.append(source.read(LIMIT_S)))
    thread.start()
    time.sleep(0.05)
    source.close()
    thread.join(LIMIT_S / 2)
    assert found == [None]
