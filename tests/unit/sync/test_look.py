# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import shutil

import pytest
from tests.listings import KEY, START_NS

from lustack.mapping import layout
from lustack.mapping.metadata import timestamp_text
from lustack.sync import look as module
from lustack.sync.device import Device, open_device
from lustack.sync.dirty import DIRECTORY, FILE, NEW
from lustack.sync.exclusion import compile_globs
from lustack.sync.look import LEFT_OUT_BYTES, LeftOut, look
from lustack.sync.observe import Observer

T0 = "1900000000.00000"


@pytest.fixture
def left_out():
    return LeftOut()


@pytest.fixture
def see(playground, left_out):
    def see(*names, flags=FILE, is_untouched=lambda *_: False):
        batch = {name if isinstance(name, bytes) else name.encode(): flags for name in names}
        with open_device(str(playground.root), compile_globs(("*.tmp",))) as device:
            return look(device, KEY, batch, playground.timer, is_untouched, left_out)

    return see


def shown(looked):
    return {row.name: not row.is_deleted for row in looked.rows}


def test_files_get_rows_and_what_is_gone_gets_a_deletion(playground, see):
    for name in ("a", "d/b", "d/e/c", "empty"):
        playground.write(name, b"" if name == "empty" else b"body")
    looked = see("a", "d/b", "d/e/c", "empty", "gone", "gone/too", "d/e/gone", "a/x")
    assert shown(looked) == {
        **dict.fromkeys(("a", "d/b", "d/e/c", "empty"), True),
        **dict.fromkeys(("gone", "gone/too", "d/e/gone", "a/x"), False),
    }
    assert looked.unhashed == ["a", "d/b", "d/e/c"]
    assert looked.unseen == []
    assert all(row.timestamp > timestamp_text(START_NS) for row in looked.rows)


def test_some_names_share_a_timestamp_that_is_taken_before_the_first_of_them_is_looked_at(playground, see, monkeypatch):
    names = [f"{number:03d}" for number in range(70)]
    for name in names:
        playground.write(name)
    looked_at = []
    real = Observer.look

    def look_at(self, name, *arguments):
        looked_at.append(timestamp_text(playground.timer()))
        return real(self, name, *arguments)

    monkeypatch.setattr(Observer, "look", look_at)
    rows = see(*names).rows
    assert len({row.timestamp for row in rows}) == 3
    assert all(row.timestamp < at for row, at in zip(rows, looked_at, strict=True))
    assert rows[63].timestamp > looked_at[31]


def test_the_timestamp_of_deletions_is_taken_before_the_directory_is_looked_for(playground, see, monkeypatch):
    shutil.rmtree(playground.container)
    opened_at = []
    monkeypatch.setattr(Device, "open_container", lambda *_: opened_at.append(timestamp_text(playground.timer())))
    (row,) = see("x").rows
    assert row.is_deleted
    assert row.timestamp < opened_at[0]


def test_what_came_and_went_unseen_needs_no_row(see):
    looked = see("x", "%25x%file", flags=FILE | NEW, is_untouched=lambda *_: True)
    assert (looked.rows, looked.short_lived) == ([], 2)


def test_what_came_and_went_but_was_listed_meanwhile_by_a_comparison_is_deleted(see):
    since = timestamp_text(START_NS - 60 * 10**9)
    looked = see("x", "y", flags=FILE | NEW, is_untouched=lambda _, name, after: name == "y" and after > since)
    assert (shown(looked), looked.short_lived) == ({"x": False}, 1)


@pytest.mark.parametrize("name", [b"\xff", b"d" * 200 + b"/" + b"\xc3" * 100, b"/".join([b"l" * 250] * 5)])
def test_what_cannot_be_an_object_gets_no_row(see, name):
    assert see(name).rows == []


def test_what_is_no_file_any_more_is_deleted(playground, see):
    os.mkfifo(playground.container / "fifo")
    (playground.container / "link").symlink_to("fifo")
    (playground.container / "directory").mkdir()
    assert shown(see("fifo", "link", "directory")) == dict.fromkeys(("fifo", "link", "directory"), False)


def test_twins_are_looked_for_where_there_are_some(playground, see):
    playground.write("a/x")
    playground.write("a%file")
    assert shown(see("a%file")) == {"a": True}
    assert shown(see("b")) == {"b": False}
    os.setxattr(playground.container, layout.ATTRIBUTE_TWINS, b"1")
    playground.write("b%file")
    assert shown(see("b")) == {"b": True}


def test_markers_are_objects_and_other_directories_are_not(playground, see):
    for name in ("slash", "plain", "none"):
        (playground.container / name).mkdir()
    playground.mark(playground.container / "slash", layout.SLASH_ATTRIBUTES.data)
    playground.mark(playground.container / "plain", layout.PLAIN_ATTRIBUTES.data)
    assert shown(see("slash", "plain", "none", flags=DIRECTORY)) == {"slash/": True, "plain": True}
    assert shown(see("gone", flags=DIRECTORY)) == {"gone": False, "gone/": False}
    assert shown(see("none", flags=DIRECTORY | FILE)) == {"none": False}
    assert see("gone", flags=DIRECTORY | NEW, is_untouched=lambda *_: True).rows == []


def test_rows_of_swift_are_repeated_where_nothing_came_after_them(playground, see):
    playground.put("o", b"body", T0)
    looked = see("o", is_untouched=lambda key, name, since: (key, name, since) == (KEY, "o", T0))
    assert [(row.timestamp, row.modified) for row in looked.rows] == [(T0, T0)]
    looked = see("o")
    assert looked.rows[0].timestamp > T0
    assert looked.self_events == 1
    (playground.container / "o").write_bytes(b"a job")
    assert see("o").self_events == 0


def test_temporary_files_are_left_out_and_leave_no_deletion(playground, see, left_out):
    path = playground.write("x.tmp")
    playground.put("swift.tmp", b"", T0)
    assert shown(see("x.tmp", "swift.tmp")) == {"swift.tmp": True}
    playground.write("file")
    assert shown(see("file/x.tmp")) == {"file/x.tmp": False}
    path.unlink()
    assert see("x.tmp").rows == []
    assert shown(see("x.tmp")) == {"x.tmp": False}


def test_what_is_left_out_is_remembered_for_a_while():
    left_out = LeftOut(2 * (LEFT_OUT_BYTES + 1))
    for name in (b"a", b"b", b"b"):
        left_out.add(KEY, name)
    assert left_out.take(KEY, b"a")
    for name in (b"a", b"b", b"c"):
        left_out.add(KEY, name)
    assert [left_out.take(KEY, name) for name in (b"a", b"c", b"c")] == [False, True, False]


def test_what_cannot_be_looked_at_is_reported(playground, see, monkeypatch):
    playground.write("a")
    playground.write("b/c")
    real = os.stat

    def stat(path, **options):
        if path in (b"a", b"c"):
            raise OSError(errno.EIO, "broken")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    looked = see("a", "b/c")
    monkeypatch.undo()
    assert (looked.rows, looked.unseen) == ([], [b"a", b"b/c"])


def test_a_directory_that_cannot_be_opened_is_reported(playground, see, monkeypatch):
    (playground.container / "d").mkdir()
    real = module.Directory.open.__func__

    def open_it(cls, dirfd, path):
        if path in (b"d", b"e"):
            raise OSError(errno.EIO, "broken")
        return real(cls, dirfd, path)

    monkeypatch.setattr(module.Directory, "open", classmethod(open_it))
    looked = see("d", flags=DIRECTORY)
    assert (looked.rows, looked.unseen) == ([], [b"d"])
    assert see("e/x").unseen == [b"e/x"]


def test_without_the_directory_of_the_container_everything_is_gone(playground, see):
    shutil.rmtree(playground.container)
    looked = see("a", "b%file", b"\xff")
    assert shown(looked) == {"a": False, "b": False}
    assert shown(see("d", flags=DIRECTORY)) == {"d": False, "d/": False}
