# SPDX-License-Identifier: Apache-2.0
"""What an entry of each table takes is measured here: a table that is full takes no more than its share."""

from __future__ import annotations

import tracemalloc
from contextlib import contextmanager

import pytest
from tests.listings import KEY

from lustack.lustre.changelog import Record, Type, render_record
from lustack.lustre.fid import Fid
from lustack.sync.backlog import Backlog, Unhashed
from lustack.sync.budget import divide
from lustack.sync.dirty import Dirty
from lustack.sync.events import NameChanged
from lustack.sync.intake import Intake
from lustack.sync.look import LeftOut
from lustack.sync.plan import delete
from lustack.sync.recent import RecentSink
from lustack.sync.sources.changelog_window import Memory, Window

MIB = 2**20
LENGTHS = pytest.mark.parametrize("length", [9, 60, 240])


@contextmanager
def measured(limit_bytes):
    """What is made in the block takes no more than that, and is no empty promise either."""
    tracemalloc.start()
    try:
        before_bytes = tracemalloc.get_traced_memory()[0]
        yield
        taken_bytes = tracemalloc.get_traced_memory()[0] - before_bytes
    finally:
        tracemalloc.stop()
    assert limit_bytes / 4 < taken_bytes <= limit_bytes


class NoSink:
    def send(self, key, rows):
        pass


def named(number, length):
    return f"{number:08}".ljust(length, "n")


def test_all_of_the_memory_is_divided_and_nothing_twice():
    budget = divide(256 * MIB)
    assert sum((budget.names, budget.identities, budget.rows, budget.hashing, budget.left_out)) == 256 * MIB
    assert divide(256 * MIB, 3).identities == budget.identities // 3


@LENGTHS
@pytest.mark.parametrize("kind", [Type.CREAT, Type.MKDIR, Type.RMDIR, Type.HLINK, Type.MIGRT])
def test_identities_keep_to_their_share(kind, length):
    memory = Memory(4 * MIB)
    shares = {Type.CREAT: 6, Type.MKDIR: 4, Type.RMDIR: 2, Type.HLINK: 2, Type.MIGRT: 1}
    with measured(4 * MIB * shares[kind] / 16):
        for first in range(0, 9_000, 300):
            Window(memory).feed(b"".join(record(kind, number, length) for number in range(first, first + 300)))


def test_a_long_log_of_everything_leaves_no_more_behind_than_a_short_one():
    memory, sizes_bytes = Memory(MIB), []
    kinds = (Type.CREAT, Type.CLOSE, Type.MKDIR, Type.UNLNK, Type.RMDIR, Type.HLINK, Type.CLOSE, Type.CREAT)
    tracemalloc.start()
    try:
        for first in range(0, 40_000, 1000):
            records = [record(kinds[number % len(kinds)], number, 20) for number in range(first, first + 1000)]
            Window(memory).feed(b"".join(records))
            del records
            sizes_bytes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(sizes_bytes) < MIB
    assert max(sizes_bytes[20:]) < 1.1 * max(sizes_bytes[:20])


def record(kind, number, length):
    parent, name = Fid(2, number // 1000, 0).key, named(number, length).encode()
    source = Fid(3, number, 0).key if kind is Type.MIGRT else None
    source_parent, source_name = (parent, name) if source else (None, None)
    target = Fid(1, number, 0).key
    return render_record(Record(number + 1, kind, 0x1000, 7, target, parent, name, source, source_parent, source_name))


def test_what_publishes_is_remembered_within_a_share_too():
    memory = Memory(MIB)
    memory.published.update((Fid(1, number, 0).key, None) for number in range(10_000))
    Window(memory).feed(record(Type.RMDIR, 1, 9))
    assert len(memory.published) == 500


@LENGTHS
def test_rows_that_were_sent_keep_to_their_share(length):
    with measured(MIB):
        recent = RecentSink(NoSink(), 1, MIB)
        for first in range(0, 10_000, 100):
            recent.send(KEY, [delete(named(number, length), 10**18 + number) for number in range(first, first + 100)])


@LENGTHS
def test_objects_that_wait_for_their_md5_keep_to_their_share(length):
    with measured(MIB):
        backlog = Backlog(MIB)
        for number in range(10_000):
            backlog.add(Unhashed(KEY, named(number, length)), 3.0)


@LENGTHS
def test_names_that_are_left_out_keep_to_their_share(length):
    left_out = LeftOut(MIB)
    number = 0
    with measured(MIB):
        while left_out._size_bytes < 0.95 * MIB:
            left_out.add(KEY, named(number, length).encode())
            number += 1


@LENGTHS
def test_names_that_wait_keep_to_their_share(length):
    dirty = Dirty(MIB, 0.0)
    intake = Intake(0, dirty)
    number = 0
    with measured(MIB):
        while dirty.size_bytes() < 0.95 * MIB:
            path = f"AUTH_test/c/{named(number, length)}".encode()
            intake.take([NameChanged(path, is_new=True)], number + 1, 0.0, is_past=False)
            number += 1
