# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest

from lustack.lustre.changelog import Record, Type, read_record, render_record
from lustack.lustre.errors import RecordError
from lustack.lustre.fid import NO_FID, Fid
from lustack.sync.sources import changelog_window
from lustack.sync.sources.changelog_window import (
    IS_DIRECTORY,
    IS_FILE,
    IS_NEW,
    IS_OPEN,
    Memory,
    Move,
    Own,
    Window,
    first_record,
)

FOLDER, OTHER, FILE, LATER = (Fid(0x200000402, oid, 0).key for oid in (1, 2, 3, 4))


def record(index, kind, target=FILE, parent=FOLDER, name=b"", flags=0, old=None, moved=None):
    source, source_parent, source_name = (moved, *old) if old else (None, None, None)
    return render_record(
        Record(index, kind, 0x1000 | flags, 7, target, parent, name, source, source_parent, source_name, uid=0, gid=0)
    )


def fill(*records, memory=None):
    window = Window(memory or Memory())
    window.feed(b"".join(records))
    return window


def test_a_file_that_was_made_and_closed_is_one_new_name():
    window = fill(record(1, Type.CREAT, name=b"a"), record(2, Type.CLOSE, parent=OTHER, flags=0x242))
    assert window.names == {(FOLDER, b"a"): IS_NEW | IS_FILE}
    assert window.keys == {}
    assert (window.count, window.last) == (2, (2, 7, FILE))


def test_a_file_that_was_not_closed_may_still_be_written_to():
    assert fill(record(1, Type.CREAT, name=b"a")).names == {(FOLDER, b"a"): IS_NEW | IS_OPEN | IS_FILE}


def test_what_is_closed_in_a_later_window_has_the_name_of_its_birth():
    memory = Memory()
    fill(record(1, Type.CREAT, name=b"a"), memory=memory)
    assert fill(record(2, Type.CLOSE, flags=2), memory=memory).names == {(FOLDER, b"a"): IS_FILE}


def test_a_file_nobody_knows_is_a_key_and_closing_what_was_only_read_is_nothing():
    assert list(fill(record(1, Type.CLOSE, flags=2), record(2, Type.TRUNC, OTHER)).keys) == [FILE, OTHER]
    assert fill(record(1, Type.CLOSE, flags=1)).keys == {}


@pytest.mark.parametrize("kind", [Type.SATTR, Type.OPEN, Type.HSM, Type.LYOUT, Type.ATIME, Type.MARK, 99])
def test_what_changes_no_object_is_only_counted(kind):
    window = fill(record(1, kind))
    assert (window.count, window.names, window.keys) == (1, {}, {})


@pytest.mark.parametrize("kind", [Type.TRUNC, Type.MTIME, Type.XATTR])
def test_a_change_does_not_close_the_file(kind):
    window = fill(record(1, Type.CREAT, name=b"a"), record(2, kind))
    assert window.names == {(FOLDER, b"a"): IS_NEW | IS_OPEN | IS_FILE}


def test_a_name_that_was_there_before_is_not_new():
    gone = record(1, Type.UNLNK, name=b"a", flags=1)
    assert fill(gone).names == {(FOLDER, b"a"): IS_FILE}
    assert fill(gone, record(2, Type.CREAT, LATER, name=b"a")).names == {(FOLDER, b"a"): IS_OPEN | IS_FILE}
    made = record(1, Type.CREAT, name=b"a")
    assert fill(made, record(2, Type.UNLNK, name=b"a", flags=1)).names == {(FOLDER, b"a"): IS_NEW | IS_FILE}


@pytest.mark.parametrize(("kind", "what"), [(Type.SLINK, IS_FILE), (Type.MKNOD, IS_FILE), (Type.MKDIR, IS_DIRECTORY)])
def test_other_things_that_come_are_new_names(kind, what):
    assert fill(record(1, kind, name=b"a")).names == {(FOLDER, b"a"): IS_NEW | what}


def test_a_name_may_have_been_a_file_and_a_directory():
    window = fill(
        record(1, Type.UNLNK, name=b"a"),
        record(2, Type.MKDIR, OTHER, name=b"a"),
        record(3, Type.RMDIR, OTHER, name=b"a"),
    )
    assert window.names == {(FOLDER, b"a"): IS_FILE | IS_DIRECTORY}


def test_what_is_renamed_or_linked_to_a_name_is_not_new_there():
    window = fill(
        record(1, Type.CREAT, LATER, name=b"v"),
        record(2, Type.UNLNK, LATER, name=b"v"),
        record(3, Type.RENME, NO_FID, FOLDER, b"v", old=(FOLDER, b"a"), moved=FILE),
    )
    assert window.names == {(FOLDER, b"a"): IS_FILE, (FOLDER, b"v"): IS_FILE}


def test_a_file_with_two_names_is_asked_for_them():
    window = fill(
        record(1, Type.CREAT, name=b"a"), record(2, Type.HLINK, name=b"b"), record(3, Type.CLOSE, flags=0x242)
    )
    assert window.names == {(FOLDER, b"a"): IS_NEW | IS_OPEN | IS_FILE, (FOLDER, b"b"): IS_FILE}
    assert list(window.keys) == [FILE]


def test_a_second_name_may_be_heard_of_before_the_first():
    memory = Memory()
    fill(record(1, Type.HLINK, name=b"b"), memory=memory)  # the log of another MDT
    window = fill(record(1, Type.CREAT, name=b"a"), record(2, Type.CLOSE, flags=2), memory=memory)
    assert list(window.keys) == [FILE]


def test_a_renamed_file_has_its_new_name_and_is_as_open_as_before():
    window = fill(
        record(1, Type.CREAT, name=b"a"),
        record(2, Type.RENME, NO_FID, OTHER, b"b", old=(FOLDER, b"a"), moved=FILE),
    )
    assert window.names == {(FOLDER, b"a"): IS_NEW | IS_FILE, (OTHER, b"b"): IS_OPEN | IS_FILE}
    assert window.memory.files == {FILE: (OTHER, b"b")}
    assert window.moves == window.unclear == []
    over = fill(
        record(1, Type.CREAT, LATER, name=b"v"),
        record(2, Type.CREAT, name=b"a"),
        record(3, Type.CLOSE, flags=2),
        record(4, Type.RENME, LATER, FOLDER, b"v", old=(FOLDER, b"a"), moved=FILE),
    )
    assert over.names == {(FOLDER, b"v"): IS_FILE, (FOLDER, b"a"): IS_NEW | IS_FILE}
    assert over.memory.files == {FILE: (FOLDER, b"v")}


def test_a_rename_over_something_makes_no_new_name():
    window = fill(record(1, Type.RENME, LATER, FOLDER, b"b", old=(FOLDER, b"a"), moved=FILE))
    assert window.names == {(FOLDER, b"a"): IS_FILE, (FOLDER, b"b"): IS_FILE}
    assert window.unclear == [Move(FILE, (FOLDER, b"a"), (FOLDER, b"b"))]


def test_what_is_renamed_from_where_it_was_not_is_asked_for_its_name():
    elsewhere = record(1, Type.RENME, NO_FID, OTHER, b"c", old=(OTHER, b"b"), moved=FILE)
    late = fill(record(1, Type.CREAT, name=b"a"), elsewhere, record(2, Type.CLOSE, flags=2))
    assert (list(late.keys), late.memory.files) == ([FILE], {})
    memory = Memory()
    fill(elsewhere, memory=memory)
    fill(record(1, Type.CREAT, name=b"a"), memory=memory)
    assert list(fill(record(2, Type.CLOSE, flags=2), memory=memory).keys) == [FILE]
    folder = fill(record(1, Type.MKDIR, name=b"d"), elsewhere)
    assert (folder.memory.folders, len(folder.moves)) == ({}, 1)
    fill(record(1, Type.MKDIR, name=b"d"), memory=memory)
    assert memory.folders == {}


def test_a_renamed_directory_is_a_move_and_keeps_its_identity():
    window = fill(
        record(1, Type.MKDIR, OTHER, name=b"d"),
        record(2, Type.CREAT, FILE, OTHER, b"f"),
        record(3, Type.RENME, NO_FID, FOLDER, b"e", old=(FOLDER, b"d"), moved=OTHER),
    )
    assert window.moves == [Move(OTHER, (FOLDER, b"d"), (FOLDER, b"e"))]
    assert window.memory.folders == {OTHER: (FOLDER, b"e")}
    assert (OTHER, b"f") in window.names


def test_a_removed_directory_is_remembered_where_it_was():
    window = fill(record(1, Type.RMDIR, OTHER, name=b"d", flags=1))
    assert window.names == {(FOLDER, b"d"): IS_DIRECTORY}
    assert window.memory.last_name(OTHER) == (FOLDER, b"d")


def test_a_directory_may_be_gone_before_its_creation_and_its_renames_are_read():
    memory = Memory()
    fill(record(1, Type.RMDIR, OTHER, LATER, b"e"), memory=memory)  # the log of another MDT
    window = fill(
        record(1, Type.MKDIR, OTHER, name=b"d"),
        record(2, Type.RENME, NO_FID, LATER, b"e", old=(FOLDER, b"d"), moved=OTHER),
        memory=memory,
    )
    assert window.moves == [Move(OTHER, (FOLDER, b"d"), (LATER, b"e"))]
    assert memory.last_name(OTHER) == (LATER, b"e")
    late = fill(
        record(1, Type.RMDIR, OTHER, LATER, b"e"),
        record(2, Type.RENME, NO_FID, LATER, b"e", old=(FOLDER, b"d"), moved=OTHER),
    )
    assert (late.moves, late.unclear) == (window.moves, [])
    assert late.memory.last_name(OTHER) == (LATER, b"e")


def test_what_migrates_gets_another_identity_and_keeps_its_name():
    window = fill(
        record(1, Type.MKDIR, OTHER, name=b"d"),
        record(2, Type.MIGRT, LATER, FOLDER, b"d", old=(FOLDER, b"d"), moved=OTHER),
    )
    assert window.memory.heirs == {OTHER: LATER}
    assert window.memory.folders[LATER] == (FOLDER, b"d")
    assert window.keys == {}
    file = fill(
        record(1, Type.CREAT, name=b"f"), record(2, Type.MIGRT, LATER, OTHER, b"f", old=(FOLDER, b"f"), moved=FILE)
    )
    assert list(file.keys) == [LATER]
    assert file.memory.files == {}


def test_what_is_remembered_has_a_limit(monkeypatch):
    memory = Memory(limit_bytes=1)
    monkeypatch.setattr(changelog_window, "_LEAST", 3)
    for number in range(10):
        key = Fid(1, number, 0).key
        fill(record(1, Type.CREAT, key, name=b"%d" % number), memory=memory)
        fill(record(1, Type.MKDIR, key, name=b"d%d" % number), memory=memory)
        fill(record(1, Type.MIGRT, LATER, name=b"x", old=(FOLDER, b"x"), moved=key), memory=memory)
    assert [len(each) for each in (memory.files, memory.folders, memory.heirs)] == [0, 3, 3]
    for number in range(10):
        fill(record(1, Type.CREAT, Fid(1, number, 0).key, name=b"a"), memory=memory)
    assert len(memory.files) == 3


def test_when_a_second_name_is_forgotten_the_first_is_not_believed_any_more(monkeypatch):
    memory = Memory(limit_bytes=1)
    monkeypatch.setattr(changelog_window, "_LEAST", 1)
    fill(record(1, Type.CREAT, name=b"a"), record(2, Type.HLINK, name=b"b"), memory=memory)
    fill(record(3, Type.HLINK, LATER, name=b"d"), memory=memory)
    assert memory.doubtful == {LATER: None}
    assert list(fill(record(4, Type.CLOSE, flags=2), memory=memory).keys) == [FILE]


def test_what_are_no_records_is_an_error():
    with pytest.raises(RecordError):
        fill(record(1, Type.CREAT)[:-1])


def test_the_first_record_is_told():
    assert first_record(record(9, Type.CREAT) + record(10, Type.CREAT)) == (9, 7, FILE)


NIDS = {"10.0.0.5@tcp": bytes((5, 0, 0, 10, 0, 0, 2, 0)) + bytes(16), "10.0.0.6@tcp": bytes((6, 0, 0, 10, 0, 0, 2, 0))}
TEMPORARY = b".lustack.tmp.1"


def made_by(raw, job=b"swift", nid="10.0.0.5@tcp"):
    return render_record(replace(read_record(raw, 0, len(raw)), job=job, nid=NIDS[nid].ljust(24, b"\0")))


def upload(new=b"o", old=TEMPORARY, old_parent=FOLDER, victim=NO_FID, **who):
    """The records of a PUT: the close comes last, as the file is published while it is open."""
    create = record(1, Type.CREAT, FILE, name=old)
    publish = record(2, Type.RENME, victim, name=new, old=(old_parent, old), moved=FILE)
    close = record(3, Type.CLOSE, FILE, flags=0x242)
    return [made_by(each, **who) for each in (create, publish, close)]


def memory_of_own(jobs=(), nids=()):
    return Memory(own=Own(frozenset(jobs), frozenset(nids)))


SET = [
    {"jobs": ["swift"]},
    {"nids": ["10.0.0.5@tcp"]},
    {"jobs": ["other", "swift"], "nids": ["10.0.0.5@tcp", "10.0.0.7@tcp"]},
]


@pytest.mark.parametrize("own", SET)
def test_an_upload_of_our_own_is_remembered_and_not_reported(own):
    memory = memory_of_own(**own)
    window = fill(*upload(victim=OTHER), memory=memory)
    assert (window.names, window.keys, window.unclear) == ({}, {}, [])
    assert (window.count, window.last) == (3, (3, 7, FILE))
    assert memory.files == {FILE: (FOLDER, b"o")}
    assert memory.published == {}


def test_an_upload_of_our_own_may_be_read_in_pieces():
    memory = memory_of_own(["swift"])
    create, publish, close = upload()
    assert fill(create, memory=memory).names == {(FOLDER, TEMPORARY): IS_NEW | IS_OPEN | IS_FILE}
    assert fill(publish, memory=memory).names == {}
    assert fill(close, memory=memory).names == {}
    # Whoever closes it later wrote to it.
    assert fill(close, memory=memory).names == {(FOLDER, b"o"): IS_FILE}


@pytest.mark.parametrize(
    ("own", "who"),
    [
        ({}, {}),
        ({"jobs": ["swift"]}, {"job": b"tar"}),
        ({"nids": ["10.0.0.5@tcp"]}, {"nid": "10.0.0.6@tcp"}),
        ({"jobs": ["swift"], "nids": ["10.0.0.6@tcp"]}, {}),
        ({"jobs": ["tar"], "nids": ["10.0.0.5@tcp"]}, {}),
        ({"jobs": ["swift"]}, {"old": b"o.part"}),
        ({"jobs": ["swift"]}, {"old_parent": OTHER}),
    ],
)
def test_everything_else_is_reported(own, who):
    window = fill(*upload(**who), memory=memory_of_own(**own))
    assert window.names[FOLDER, b"o"] & IS_FILE


def test_a_close_by_somebody_else_is_reported_and_ours_is_still_left_out():
    memory = memory_of_own(["swift"])
    create, publish, close = upload()
    window = fill(create, publish, made_by(close, job=b"tar"), memory=memory)
    assert window.names == {(FOLDER, b"o"): IS_FILE}
    assert fill(close, memory=memory).names == {}


def test_what_our_own_removes_and_what_a_job_did_before_is_reported():
    memory = memory_of_own(["swift"])
    job = record(1, Type.CREAT, OTHER, name=b"o")
    window = fill(job, *upload(victim=OTHER), memory=memory)
    assert window.names == {(FOLDER, b"o"): IS_NEW | IS_OPEN | IS_FILE}
    assert fill(made_by(record(4, Type.UNLNK, name=b"o")), memory=memory).names == {(FOLDER, b"o"): IS_FILE}


def test_a_window_is_gone_when_nobody_has_it_any_more():
    """It is large, and the collector of garbage comes seldom."""
    window = fill(record(1, Type.MKDIR, name=b"a"))
    gone = weakref.ref(window)
    gc.disable()
    try:
        del window
        assert gone() is None
    finally:
        gc.enable()
