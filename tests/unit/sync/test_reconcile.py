# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import resource

import pytest
from tests.listings import KEY, Timer

from lustack.mapping import layout
from lustack.sync.errors import ContainerGoneError, StoppedError, SwiftUnavailableError
from lustack.sync.reconcile import Limits, Tally
from lustack.sync.sinks.protocol import Presence


class Unreadable:
    """An observer of a file system that fails."""

    def observe(self, name, places, now_ns):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def lowest_free() -> int:
    """The next descriptor that this process would get."""
    fd = os.dup(0)
    os.close(fd)
    return fd


def listing(playground):
    return playground.sink.containers[KEY].shown()


def test_files_become_rows(playground):
    playground.write("a", b"12345", at_s=1_600_000_000)
    playground.write("d/b")
    tally = playground.compare()
    assert tally == Tally(files=2, put=2, unhashed=2)
    rows = listing(playground)
    assert sorted(rows) == ["a", "d/b"]
    assert (rows["a"].size_bytes, rows["a"].modified) == (5, "1600000000.00000")
    assert playground.notebook.unhashed == ["a", "d/b"]


def test_running_twice_changes_nothing(playground):
    playground.write("a")
    playground.put("b", b"body", "1600000000.00000")
    playground.compare()
    before = listing(playground)
    assert playground.compare() == Tally(files=2, rows=2, same=2, unhashed=1)
    assert listing(playground) == before


def test_what_is_gone_is_deleted_and_what_changed_is_written(playground):
    for name in "abc":
        playground.write(name)
    playground.compare()
    (playground.container / "a").unlink()
    playground.write("b", b"longer")
    assert playground.compare() == Tally(files=2, rows=3, same=1, put=1, deleted=1, unhashed=2)
    assert listing(playground)["b"].size_bytes == 6
    assert playground.listed() == ["b", "c"]


def test_a_file_that_came_back_is_listed_again_whatever_its_times(playground):
    path = playground.write("a", at_s=1_500_000_000)
    playground.compare()
    path.rename(playground.base / "away")
    playground.compare()
    (playground.base / "away").rename(path)
    assert playground.compare() == Tally(files=1, put=1, unhashed=1)
    assert playground.compare() == Tally(files=1, rows=1, same=1, unhashed=1)
    assert playground.listed() == ["a"]


def test_an_object_whose_row_was_lost_gets_what_put_said(playground):
    playground.put("a", b"body", "1600000000.00000")
    playground.compare()
    row = listing(playground)["a"]
    assert (row.content_type, row.modified) == ("text/plain", "1600000000.00000")


def test_only_a_part_is_compared_if_asked(playground):
    for name in ("a/1", "a/2", "b"):
        playground.write(name)
    assert playground.compare(prefix="a/").put == 2
    assert playground.compare(after="a/2").put == 1
    assert playground.listed() == ["a/1", "a/2", "b"]


def test_a_dry_run_tells_and_writes_nothing(playground):
    playground.write("a")
    playground.write("b%file")
    assert playground.compare(limits=Limits(dry_run=True)).put == 2
    assert [row.name for row in playground.notebook.rows] == ["a", "b"]
    assert playground.listed() == []
    assert layout.ATTRIBUTE_TWINS not in os.listxattr(playground.container)


def test_rows_that_may_not_go_or_come_are_counted(playground):
    playground.write("a")
    playground.compare()
    (playground.container / "a").unlink()
    playground.write("b")
    tally = playground.compare(limits=Limits(may_put=False, may_delete=False))
    assert (tally.withheld, tally.put, tally.deleted) == (2, 0, 0)
    assert playground.listed() == ["a"]


def test_without_a_directory_everything_is_gone(playground):
    playground.write("a")
    playground.compare()
    (playground.container / "a").unlink()
    playground.container.rmdir()
    assert playground.compare() == Tally(rows=1, deleted=1)
    assert playground.listed() == []


def test_a_row_that_is_newer_than_the_look_is_left(playground):
    playground.write("a")
    playground.compare()
    (playground.container / "a").unlink()
    container = playground.sink.containers[KEY]
    container.rows["a"] = container.rows["a"]._replace(modified="2900000000.00000")
    assert playground.compare() == Tally(rows=1, left=1)
    assert playground.listed() == ["a"]


def test_a_file_that_comes_while_its_directory_was_scanned_keeps_its_row(playground):
    playground.write("a")
    playground.write("b")
    playground.compare()
    (playground.container / "b").unlink()
    listing_of = playground.sink.list_rows

    def list_rows(key, marker, prefix):
        found = listing_of(key, marker, prefix)
        if marker:
            playground.write("b")
        return found

    playground.sink.list_rows = list_rows
    playground.sink.page_rows = 1
    assert playground.compare().deleted == 0
    assert playground.listed() == ["a", "b"]


def test_what_cannot_be_looked_at_keeps_its_row(playground):
    playground.write("a")
    playground.write("d/b")
    playground.compare()
    with playground.comparison() as comparison:
        comparison.observer = Unreadable()
        assert comparison.run() == Tally(rows=2, left=2)
    assert playground.listed() == ["a", "d/b"]


def test_a_name_that_cannot_be_looked_up_keeps_its_row(playground):
    playground.write("a")
    playground.write("d/e/b")
    playground.compare()
    playground.sink.page_rows = 1
    list_rows = playground.sink.list_rows
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def list_rows_without_descriptors(key, marker, prefix):
        if marker == "a":
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free(), before[1]))
        return list_rows(key, marker, prefix)

    playground.sink.list_rows = list_rows_without_descriptors
    with playground.comparison() as comparison:
        try:
            assert comparison.run() == Tally(files=1, rows=2, same=1, left=1, unhashed=1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert comparison.findings.unreadable == 1


def test_rows_are_sent_in_batches_with_one_in_flight(playground):
    for number in range(7):
        playground.write(f"{number}")
    playground.compare(limits=Limits(batch_rows=3))
    assert playground.sink.requests == [3, 3, 1]


def test_a_row_does_not_wait_long_for_others(playground):
    playground.timer.step_ns = 10_000_000
    for number in range(600):
        playground.write(f"{number:03}", b"")
    playground.compare()
    assert len(playground.sink.requests) > 1
    assert sum(playground.sink.requests) == 600


def test_rows_wait_for_others_for_a_moment(playground):
    playground.timer.step_ns = 0
    for number in range(600):
        playground.write(f"{number:03}", b"")
    playground.compare()
    assert playground.sink.requests == [600]
    assert len(playground.notebook.reached) > 2


def test_the_cursor_passes_a_name_when_its_row_is_acknowledged(playground):
    for number in range(6):
        playground.write(f"{number}")
    send = playground.sink.send

    def fail_on_second(key, rows):
        if rows[0].name == "2":
            raise SwiftUnavailableError("UPDATE", ["it is down"])
        send(key, rows)

    playground.sink.send = fail_on_second
    with pytest.raises(SwiftUnavailableError):
        playground.compare(limits=Limits(batch_rows=2))
    assert playground.notebook.reached[-1] == "1"
    playground.sink.send = send
    assert playground.compare(after="1").put == 4
    assert playground.listed() == list("012345")


def test_what_was_acknowledged_while_another_error_came_counts(playground):
    for number in range(4):
        playground.write(f"{number}")
    playground.notebook.stop_after = 1
    with pytest.raises(StoppedError):
        playground.compare(limits=Limits(batch_rows=2))
    assert playground.notebook.reached[-1] == "1"
    assert playground.listed() == ["0", "1"]


def test_a_container_that_is_deleted_meanwhile_gets_no_rows(playground):
    playground.write("a")
    send = playground.sink.send

    def delete_before(key, rows):
        playground.sink.containers[key].presence = Presence.DELETED
        send(key, rows)

    playground.sink.send = delete_before
    with pytest.raises(ContainerGoneError):
        playground.compare()
    assert playground.listed() == []


def test_object_servers_are_told_of_twins_that_a_job_made(playground):
    playground.write("a%file")
    playground.compare()
    assert os.getxattr(playground.container, layout.ATTRIBUTE_TWINS) == b"1"
    playground.write("b%file")
    playground.compare()
    assert playground.listed() == ["a", "b"]


def test_twins_on_a_file_system_that_takes_no_attributes_are_listed_all_the_same(playground, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    playground.write("a%file")
    monkeypatch.setattr(os, "setxattr", refuse)
    playground.compare()
    assert playground.listed() == ["a"]


def test_a_clock_that_was_set_back_does_not_freeze_the_listing(playground):
    playground.write("a", b"1")
    playground.compare()
    playground.write("a", b"22")
    playground.timer.now_ns -= 3600 * 10**9
    playground.compare()
    assert listing(playground)["a"].size_bytes == 2
    assert playground.clock.ahead_s() == pytest.approx(3600, abs=1)


def test_a_tally_adds_up():
    tally = Tally(files=1, put=2)
    tally.add(Tally(files=3, left=4))
    assert tally == Tally(files=4, put=2, left=4)


def test_a_timer_moves():
    timer = Timer()
    assert timer() < timer()


def test_a_dry_run_says_how_far_it_is_after_every_part(playground):
    for number in range(600):
        playground.write(f"{number:03}")
    playground.notebook.stop_after = 2
    with pytest.raises(StoppedError):
        playground.compare(limits=Limits(dry_run=True))
    assert playground.notebook.reached == ["255", "511"]
    assert len(playground.notebook.rows) == 512
