# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import shutil

import pytest

from lustack.mapping.names import RelPath
from lustack.posix import inotify
from lustack.sync.sources import watches
from lustack.sync.sources.roots import Root
from lustack.sync.sources.watches import LinuxKernel, Watches


class Limited(LinuxKernel):
    """The real kernel, but it gives only so many watches, and does things in between."""

    def __init__(self, limit=10**6):
        self.limit = limit
        self.numbers = set()
        self.before_watch = lambda: None
        self.trouble = errno.ENOSPC

    def watch(self, instance, dirfd):
        self.before_watch()
        number = super().watch(instance, dirfd)
        if number not in self.numbers and len(self.numbers) >= self.limit:
            super().forget(instance, number)
            raise OSError(self.trouble, os.strerror(self.trouble))
        self.numbers.add(number)
        return number

    def forget(self, instance, number):
        self.numbers.discard(number)
        return super().forget(instance, number)


@pytest.fixture
def top(tmp_path):
    top = tmp_path / "top"
    (top / "a" / "b" / "c").mkdir(parents=True)
    (top / "d").mkdir()
    return top


@pytest.fixture
def kernel():
    return Limited()


@pytest.fixture
def start(top, kernel):
    started = []

    def start(*roots):
        found = Watches(kernel)
        started.append(found)
        for root in roots or [Root(str(top))]:
            found.add_root(root)
        return found

    yield start
    for each in started:
        each.close()


def bases(found):
    return sorted(each.base for each in found._by_number.values())


def at(found, base):
    [one] = [each for each in found._by_number.values() if each.base == base]
    return one


def test_every_directory_of_a_root_is_watched(start):
    found = start()
    assert bases(found) == [b"", b"a/", b"a/b/", b"a/b/c/", b"d/"]
    assert len(found) == 5
    assert found.get(at(found, b"a/").number).base == b"a/"
    assert found.get(0) is None


def test_what_concerns_nobody_is_not_watched(start, top):
    (top / ".lustack" / "locks" / "00").mkdir(parents=True)
    (top / ".lustack" / "fence").mkdir()
    (top / "link").symlink_to("a")
    assert [base for base in bases(start()) if base.startswith((b".l", b"l"))] == [b".lustack/", b".lustack/fence/"]


def test_a_new_directory_is_watched_with_all_below_it(start, top):
    found = start()
    (top / "d" / "e" / "f").mkdir(parents=True)
    found.add(at(found, b"d/"), b"e")
    assert {b"d/e/", b"d/e/f/"} < set(bases(found))


def test_a_directory_that_is_found_elsewhere_has_moved_with_all_below_it(start, top):
    found = start()
    numbers = {each.number for each in found._by_number.values()}
    os.rename(top / "a", top / "d" / "z")
    found.add(at(found, b"d/"), b"z")
    assert bases(found) == [b"", b"d/", b"d/z/", b"d/z/b/", b"d/z/b/c/"]
    assert {each.number for each in found._by_number.values()} == numbers
    assert at(found, b"d/z/b/").location() == (str(top), b"d/z/b")


def test_a_directory_that_took_the_place_of_another_is_watched_instead(start, top):
    found = start()
    os.rename(top / "d", top / "a" / "b" / "c")
    found.add(at(found, b"a/b/"), b"c")
    assert bases(found) == [b"", b"a/", b"a/b/", b"a/b/c/"]


def test_a_directory_that_is_not_there_is_not_watched(start):
    found = start()
    found.add(at(found, b"d/"), b"absent")
    assert len(found) == 5


def test_what_is_dropped_is_not_watched_any_more(start, kernel):
    found = start()
    found.drop(at(found, b"a/"))
    assert bases(found) == [b"", b"d/"]
    assert len(kernel.numbers) == 2
    found.drop(at(found, b""))
    assert bases(found) == [b"", b"d/"]


def test_a_directory_is_dropped_unless_it_is_there(start, top):
    found = start()
    kept, gone, replaced = (at(found, base) for base in (b"d/", b"a/b/c/", b"a/b/"))
    os.rmdir(top / "a" / "b" / "c")
    found.drop_unless_there(kept)
    found.drop_unless_there(gone)
    found.drop_unless_there(gone)
    shutil.rmtree(top / "a" / "b")
    (top / "a" / "b").mkdir()
    found.drop_unless_there(replaced)
    found.drop_unless_there(at(found, b""))
    assert bases(found) == [b"", b"a/", b"d/"]


def test_a_directory_in_whose_place_is_another_known_one_is_dropped(start, top):
    found = start()
    one = at(found, b"a/b/c/")
    os.rmdir(top / "a" / "b" / "c")
    os.rename(top / "d", top / "a" / "b" / "c")
    found.drop_unless_there(one)
    assert bases(found) == [b"", b"a/", b"a/b/", b"d/"]


def test_what_cannot_be_looked_at_for_another_reason_is_an_error(start, kernel):
    found = start()
    kernel.trouble, kernel.limit = errno.EIO, 0
    kernel.numbers.clear()
    with pytest.raises(OSError, match="Input/output"):
        found.add(at(found, b""), b"a")
    with pytest.raises(OSError, match="Input/output"):
        found.drop_unless_there(at(found, b"a/"))


def test_a_directory_below_one_that_has_moved_is_left_for_the_event_that_says_so(start, top, kernel):
    found = start()
    a = at(found, b"a/")
    os.rename(top / "a", top / "z")
    (top / "a" / "b").mkdir(parents=True)
    before = set(kernel.numbers)
    found.add(a, b"b")
    assert len(found) == 5
    assert kernel.numbers == before


def test_a_directory_below_one_whose_place_another_known_one_took_is_left_alone(start, top):
    found = start()
    a = at(found, b"a/")
    os.rename(top / "a", top / "z")
    os.rename(top / "d", top / "a")
    (top / "a" / "new").mkdir()
    found.add(a, b"new")
    assert bases(found) == [b"", b"a/", b"a/b/", b"a/b/c/", b"d/"]


def test_a_root_inside_another_one_keeps_its_prefix(start, top):
    found = start(Root(str(top / "d"), RelPath(b"x/y")), Root(str(top)))
    assert bases(found) == [b"", b"a/", b"a/b/", b"a/b/c/", b"x/y/"]


def test_a_directory_that_becomes_a_root_gets_its_prefix_and_loses_it_again(start, top):
    found = start()
    device, exported = Root(str(top)), Root(str(top / "a" / "b"), RelPath(b"x/y"))
    found.add_root(exported)
    assert bases(found) == [b"", b"a/", b"d/", b"x/y/", b"x/y/c/"]
    found.keep_roots([device])
    assert bases(found) == [b"", b"a/", b"d/"]
    found.add_root(device)
    assert bases(found) == [b"", b"a/", b"a/b/", b"a/b/c/", b"d/"]


def test_a_root_that_is_another_directory_now_is_watched_instead(start, top, tmp_path):
    found = start()
    os.rename(top, tmp_path / "elsewhere")
    (top / "new").mkdir(parents=True)
    found.add_root(Root(str(top)))
    assert bases(found) == [b"", b"new/"]


def test_what_is_found_inside_itself_is_left_alone(start, top):
    found = start()
    c = at(found, b"a/b/c/")
    assert found._place(at(found, b"a/").number, c, b"a") is None


def test_a_tree_without_a_watch_is_remembered_and_tried_again(start, kernel):
    kernel.limit = 2
    found = start()
    [path] = found.unwatched if len(found.unwatched) == 1 else sorted(found.unwatched)[:1]
    assert "No space left" in found.unwatched[path].why
    assert set(found.retry()) >= {path}
    assert found.unwatched
    kernel.limit = 100
    found.retry()
    assert found.unwatched == {}
    assert bases(found) == [b"", b"a/", b"a/b/", b"a/b/c/", b"d/"]
    assert found.retry() == []


def test_a_tree_without_a_watch_whose_parent_is_gone_is_forgotten(start, kernel):
    found = start()
    kernel.limit = 0
    kernel.numbers = {at(found, b"a/").number}
    found.add(at(found, b"a/"), b"b")
    assert list(found.unwatched) == [b"a/b"]
    found.drop(at(found, b"a/"))
    assert found.retry() == []


def test_what_is_unwatched_is_forgotten_with_the_tree_that_it_is_in(start):
    found = start()
    for path in (b"x", b"x/y", b"xy"):
        found.unwatched[RelPath(path)] = watches.Unwatched(at(found, b""), path, "")
    found.forget_unwatched(RelPath(b"x"))
    assert list(found.unwatched) == [b"xy"]


def test_more_without_a_watch_than_can_be_remembered_is_not_tried_again(start, kernel, monkeypatch):
    monkeypatch.setattr(watches, "_MOST_UNWATCHED", 1)
    kernel.limit = 1
    found = start()
    assert len(found.unwatched) == 1
    assert found.is_crowded
    assert found.retry() == []


def test_the_reserved_directory_without_a_watch_is_nothing_to_compare(start, top, kernel):
    (top / ".lustack").mkdir()
    for name in ("a", "d"):
        shutil.rmtree(top / name)
    kernel.limit = 1
    assert start().unwatched == {}


def test_a_root_that_cannot_be_watched_is_an_error(start, kernel):
    kernel.limit = 0
    with pytest.raises(OSError, match="No space"):
        start()


def test_the_number_of_a_watch_is_that_of_the_kernel(start, top):
    found = start()
    (top / "d" / "file").write_bytes(b"")
    notices = inotify.parse(os.read(found.instance, 4096))
    assert {each.watch for each in notices} == {at(found, b"d/").number}
