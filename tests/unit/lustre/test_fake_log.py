# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import pytest

from lustack.lustre.changelog import Record, Type, scan
from lustack.lustre.errors import ChangelogError, ChangelogIndexError, ChangelogUserError
from lustack.lustre.fake_log import FakeLog
from lustack.lustre.fid import Fid

KEY = Fid(12, 1, 0).key


def happen(log, count=1, kind=Type.CREAT):
    for _ in range(count):
        log.append(Record(0, kind, 0x1000, 7, KEY, KEY, b"name"))


def indices(piece):
    return [record[2] for record in scan(piece)]


@pytest.fixture
def log():
    log = FakeLog("m")
    log.register()
    return log


def test_without_users_nothing_is_recorded():
    log = FakeLog("m")
    happen(log)
    assert log.last_index == 0
    assert log.open(1, follow=False).read(0.0) == b""


def test_a_mask_holds_back_only_what_nobody_wants():
    log = FakeLog("m")
    log.register({Type.UNLNK})
    happen(log)
    assert log.last_index == 0
    log.register({Type.CREAT})
    happen(log)
    assert log.last_index == 1


def test_two_readers_see_everything(log):
    happen(log, 3)
    readers = [log.open(1, follow=False) for _ in range(2)]
    assert [indices(reader.read(0.0)) for reader in readers] == [[1, 2, 3]] * 2


def test_a_reader_at_the_end_stays_there(log):
    happen(log)
    reader = log.open(1, follow=False)
    reader.read(0.0)
    happen(log)
    assert reader.read(0.0) == b""
    assert indices(log.open(2, follow=False).read(0.0)) == [2]
    reader.close()


def test_a_reader_keeps_what_is_cleared_meanwhile_and_a_new_one_gets_nothing(log):
    happen(log, 1000)
    reader = log.open(1, follow=False)
    first = indices(reader.read(0.0))
    log.clear("cl1", 0)
    assert indices(reader.read(0.0))[0] == first[-1] + 1
    assert log.open(1, follow=False).read(0.0) == b""


def test_reading_begins_at_the_first_record_that_is_there(log):
    happen(log, 4)
    log.clear("cl1", 2)
    assert indices(log.open(1, follow=False).read(0.0)) == [3, 4]
    assert log.open(9, follow=False).read(0.0) == b""


def test_a_record_goes_away_when_all_have_cleared_it(log):
    log.register()
    happen(log, 3)
    log.clear("cl1", 2)
    assert list(log.records) == [1, 2, 3]
    log.clear("cl2", 1)
    assert list(log.records) == [2, 3]


def test_the_same_may_be_cleared_again_and_nothing_else(log):
    happen(log, 3)
    log.clear("cl1", 2)
    log.clear("cl1", 2)
    with pytest.raises(ChangelogUserError):
        log.clear("cl1", 1)
    with pytest.raises(ChangelogUserError):
        log.clear("cl7", 2)
    with pytest.raises(ChangelogIndexError):
        log.clear("cl1", 4)


def test_with_the_last_user_everything_goes_and_numbers_go_on(log):
    happen(log, 2)
    log.deregister("cl1")
    assert log.records == {}
    assert log.register() == "cl2"
    happen(log)
    assert list(log.records) == [3]


def test_who_follows_waits_and_gets_what_comes(log):
    reader = log.open(1, follow=True)
    assert reader.read(0.01) is None
    timer = threading.Timer(0.05, happen, (log,))
    timer.start()
    assert indices(reader.read(60.0)) == [1]
    timer.join()
    happen(log)
    assert indices(reader.read(60.0)) == [2]


def test_a_crash_ends_readers_and_gives_indices_again(log):
    happen(log, 3)
    reader = log.open(1, follow=False)
    log.restart(lost=2)
    with pytest.raises(ChangelogError, match="Input/output"):
        reader.read(0.0)
    happen(log)
    assert list(log.records) == [1, 2]
    log.clear("cl1", 2)
    log.restart()
    assert log.last_index == 2


def test_who_waits_hears_of_a_crash(log):
    reader = log.open(1, follow=True)
    timer = threading.Timer(0.05, log.restart)
    timer.start()
    with pytest.raises(ChangelogError, match="Input/output"):
        reader.read(60.0)
    timer.join()


def test_faults_come_when_they_are_told_to(log):
    log.faults.append(ChangelogError("m", "busy"))
    with pytest.raises(ChangelogError, match="busy"):
        log.open(1, follow=False)
    log.is_stalled = True
    assert log.open(1, follow=False).read(0.01) is None
