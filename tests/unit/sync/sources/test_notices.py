# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil

import pytest

from lustack.mapping.names import RelPath
from lustack.posix import inotify
from lustack.sync.events import NameChanged, TreeChanged, TreeMoved
from lustack.sync.sources.notices import NoticeTranslator
from lustack.sync.sources.roots import Root
from lustack.sync.sources.watches import LinuxKernel, Watches


class Followed:
    """A tree that is watched for real; what happened is translated when it is asked for."""

    def __init__(self, top, *roots):
        self.top = top
        self.watches = Watches(LinuxKernel())
        for root in roots:
            self.watches.add_root(root)
        self.translator = NoticeTranslator(self.watches)

    def notices(self):
        try:
            return inotify.parse(os.read(self.watches.instance, 65536))
        except BlockingIOError:
            return []

    def events(self):
        return self.translator.translate(self.notices())


@pytest.fixture
def tree(tmp_path):
    for name in ("top/a/b", "top/d", "exported", "outside/inner"):
        (tmp_path / name).mkdir(parents=True)
    tree = Followed(tmp_path, Root(str(tmp_path / "top")), Root(str(tmp_path / "exported"), RelPath(b"x/y")))
    yield tree
    tree.watches.close()


def test_a_file_that_was_written_has_one_event(tree):
    (tree.top / "top" / "a" / "f").write_bytes(b"content")
    (tree.top / "exported" / "g").write_bytes(b"content")
    assert tree.events() == [NameChanged(b"a/f"), NameChanged(b"x/y/g")]


def test_a_file_that_is_being_written_is_open_until_it_is_closed(tree):
    with (tree.top / "top" / "f").open("wb", buffering=0) as file:
        assert tree.events() == [NameChanged(b"f", is_open=True)]
        file.write(b"more")
        assert tree.events() == [NameChanged(b"f", is_open=True)]
    assert tree.events() == [NameChanged(b"f")]


def test_what_was_only_created_is_not_open(tree):
    (tree.top / "top" / "f").write_bytes(b"")
    tree.events()
    os.link(tree.top / "top" / "f", tree.top / "top" / "link")
    (tree.top / "top" / "symbolic").symlink_to("f")
    os.mkfifo(tree.top / "top" / "fifo")
    assert tree.events() == [NameChanged(each) for each in (b"link", b"symbolic", b"fifo")]


def test_what_was_created_and_cannot_be_found_may_be_open(tree):
    file = (tree.top / "top" / "d" / "f").open("wb")
    notices = tree.notices()
    os.rename(tree.top / "top" / "d", tree.top / "outside" / "d")
    assert tree.translator.translate(notices) == [NameChanged(b"d/f", is_open=True)]
    file.close()


def test_changed_attributes_removals_and_renames_have_events(tree):
    path = tree.top / "top" / "f"
    path.write_bytes(b"")
    tree.events()
    path.chmod(0o600)
    assert tree.events() == [NameChanged(b"f")]
    path.rename(tree.top / "top" / "g")
    assert tree.events() == [NameChanged(b"f"), NameChanged(b"g")]
    (tree.top / "top" / "g").unlink()
    assert tree.events() == [NameChanged(b"g")]


def test_our_temporary_files_have_no_events(tree):
    (tree.top / "top" / ".lustack.tmp.1").write_bytes(b"")
    os.rename(tree.top / "top" / ".lustack.tmp.1", tree.top / "top" / "f")
    assert tree.events() == [NameChanged(b"f")]


def test_a_new_directory_is_a_changed_tree_and_is_watched(tree):
    (tree.top / "top" / "n").mkdir()
    (tree.top / "top" / "n" / "early").write_bytes(b"")
    assert tree.events() == [TreeChanged(b"n")]
    (tree.top / "top" / "n" / "late").write_bytes(b"")
    assert tree.events() == [NameChanged(b"n/late")]


def test_a_directory_has_events_for_its_attributes_and_its_removal(tree):
    (tree.top / "top" / "d").chmod(0o700)
    assert tree.events() == [NameChanged(b"d", is_directory=True)]
    (tree.top / "top" / "d").rmdir()
    assert tree.events() == [NameChanged(b"d", is_directory=True)]
    assert len(tree.watches) == 4


def test_attributes_of_a_root_have_an_event_if_it_has_a_name(tree):
    (tree.top / "top").chmod(0o700)
    (tree.top / "exported").chmod(0o700)
    assert tree.events() == [NameChanged(b"x/y", is_directory=True)]


def test_a_directory_that_moves_takes_its_watches_along(tree):
    os.rename(tree.top / "top" / "a", tree.top / "exported" / "z")
    assert tree.events() == [TreeMoved(b"a", b"x/y/z")]
    (tree.top / "exported" / "z" / "b" / "f").write_bytes(b"")
    assert tree.events() == [NameChanged(b"x/y/z/b/f")]


def test_directories_that_are_exchanged_are_both_followed(tree):
    (tree.top / "top" / "d" / "old-d").mkdir()
    tree.events()
    for old, new in (("a", "t"), ("d", "a"), ("t", "d")):
        os.rename(tree.top / "top" / old, tree.top / "top" / new)
    assert TreeMoved(b"d", b"a") in tree.events()
    (tree.top / "top" / "a" / "old-d" / "f").write_bytes(b"")
    (tree.top / "top" / "d" / "b" / "g").write_bytes(b"")
    assert tree.events() == [NameChanged(b"a/old-d/f"), NameChanged(b"d/b/g")]


def test_a_directory_that_leaves_is_a_changed_tree_as_soon_as_it_did_not_arrive(tree):
    os.rename(tree.top / "top" / "a", tree.top / "outside" / "a")
    assert tree.events() == []
    assert tree.translator.overdue() == [TreeChanged(b"a")]
    assert tree.translator.overdue() == []
    (tree.top / "outside" / "a" / "b" / "f").write_bytes(b"")
    assert tree.events() == []
    assert len(tree.watches) == 3


def test_the_halves_of_a_move_may_be_read_apart(tree):
    os.rename(tree.top / "top" / "a", tree.top / "top" / "z")
    first, second = tree.notices()
    assert tree.translator.translate([first]) == []
    assert tree.translator.translate([second]) == [TreeMoved(b"a", b"z")]


def test_a_directory_that_left_has_an_event_in_the_batch_after_the_next(tree):
    os.rename(tree.top / "top" / "a", tree.top / "outside" / "a")
    assert tree.events() == []
    (tree.top / "top" / "f").write_bytes(b"")
    assert tree.events() == [NameChanged(b"f"), TreeChanged(b"a")]


def test_a_directory_that_left_and_whose_name_is_there_again_is_watched(tree):
    os.rename(tree.top / "top" / "d", tree.top / "outside" / "d")
    (tree.top / "top" / "d").mkdir()
    assert tree.events() == [TreeChanged(b"d")]
    assert tree.translator.overdue() == [TreeChanged(b"d")]
    (tree.top / "top" / "d" / "f").write_bytes(b"")
    assert tree.events() == [NameChanged(b"d/f")]


def test_a_directory_that_comes_in_is_a_changed_tree_and_is_watched(tree):
    os.rename(tree.top / "outside", tree.top / "top" / "in")
    assert tree.events() == [TreeChanged(b"in")]
    (tree.top / "top" / "in" / "inner" / "f").write_bytes(b"")
    assert tree.events() == [NameChanged(b"in/inner/f")]


def test_a_directory_that_nobody_knew_is_a_changed_tree_when_it_is_removed_or_moved(tree):
    tree.watches.drop(tree.watches.get(_number(tree, b"d/")))
    tree.watches.drop(tree.watches.get(_number(tree, b"a/")))
    tree.notices()
    os.rmdir(tree.top / "top" / "d")
    os.rename(tree.top / "top" / "a", tree.top / "outside" / "a")
    assert tree.events() == [TreeChanged(b"d")]
    assert tree.translator.overdue() == [TreeChanged(b"a")]


def test_what_concerns_nobody_has_no_events(tree):
    (tree.top / "top" / ".lustack" / "locks").mkdir(parents=True)
    tree.events()
    (tree.top / "top" / ".lustack" / "locks" / "l").write_bytes(b"")
    os.rename(tree.top / "top" / ".lustack" / "locks", tree.top / "top" / ".lustack" / "other")
    assert tree.events() == []
    (tree.top / "top" / ".lustack" / "fence").mkdir()
    assert tree.events() == [TreeChanged(b".lustack/fence")]
    os.rename(tree.top / "top" / ".lustack", tree.top / "top" / "visible")
    assert tree.events() == [TreeChanged(b"visible")]
    os.rename(tree.top / "top" / "visible", tree.top / "top" / ".lustack")
    assert tree.events() == [TreeChanged(b"visible")]
    os.rename(tree.top / "top" / ".lustack", tree.top / "outside" / "gone")
    assert tree.events() == []
    assert tree.translator.overdue() == []
    shutil.rmtree(tree.top / "outside" / "gone")
    (tree.top / "top" / ".lustack").mkdir()
    (tree.top / "top" / ".lustack").rmdir()
    assert tree.events() == []


def test_a_directory_that_became_too_deep_has_no_events(tree):
    one = tree.watches.get(_number(tree, b"d/"))
    (tree.top / "top" / "d" / "f").write_bytes(b"")
    one.base = None
    assert tree.events() == []


def _number(tree, base):
    [number] = [number for number, each in tree.watches._by_number.items() if each.base == base]
    return number
