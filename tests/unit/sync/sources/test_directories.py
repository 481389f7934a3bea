# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.posix.handles import Place
from lustack.sync.sources.directories import Directories


class Tree:
    """Directories as the kernel knows them: key -> (parent, name)."""

    def __init__(self, **places):
        self.places = {name.encode(): place for name, place in places.items()}
        self.tops = {b"top"}
        self.asked = []

    def locate(self, key):
        self.asked.append(key)
        if key in self.tops:
            return None
        try:
            return Place(*self.places[key])
        except KeyError:
            raise FileNotFoundError from None


@pytest.fixture
def tree():
    return Tree(a=(b"root", b"a"), b=(b"a", b"b"), c=(b"b", b"c"), outside=(b"top", b"elsewhere"))


@pytest.fixture
def directories(tree):
    return Directories({b"root": b"", b"export": b"acc/con/"}, tree.locate, 1000)


def test_a_directory_is_asked_for_once(directories, tree):
    assert [directories.base(b"c") for _ in range(3)] == [b"a/b/c/"] * 3
    assert directories.base(b"b") == b"a/b/"
    assert sorted(tree.asked) == [b"a", b"b", b"c"]


def test_the_roots_have_their_own_bases(directories, tree):
    tree.places[b"x"] = (b"export", b"x")
    assert directories.base(b"root") == b""
    assert directories.base(b"export") == b"acc/con/"
    assert directories.base(b"x") == b"acc/con/x/"


def test_what_is_in_no_root_has_no_base_and_is_not_asked_for_again(directories, tree):
    assert directories.base(b"outside") is None
    assert directories.base(b"outside") is None
    assert tree.asked == [b"outside", b"top"]


def test_what_is_nowhere_is_asked_for_again_after_a_move(directories, tree):
    directories.learn(b"inner", b"top", b"inner")
    assert directories.base(b"inner") is None
    tree.tops.clear()
    tree.places[b"top"] = (b"root", b"in")
    assert directories.base(b"inner") is None
    directories.forget(b"another")
    assert directories.base(b"inner") == b"in/inner/"


def test_the_move_of_a_directory_moves_all_below_it_and_asks_for_one(directories, tree):
    directories.base(b"c")
    tree.asked.clear()
    tree.places[b"a"] = (b"root", b"z")
    directories.forget(b"a")
    assert directories.base(b"c") == b"z/b/c/"
    assert tree.asked == [b"a"]


def test_a_directory_that_was_made_needs_not_be_asked_for(directories, tree):
    directories.learn(b"new", b"root", b"n")
    assert directories.base(b"new") == b"n/"
    assert tree.asked == []


def test_events_in_a_directory_that_is_gone_are_remembered_until_its_removal_is_reported(directories):
    assert directories.base(b"gone") is None
    assert directories.was_passed_over(b"gone")
    assert not directories.was_passed_over(b"gone")
    assert not directories.was_passed_over(b"a")
    assert not directories.take_doubt()


def test_a_directory_whose_remembered_parent_is_gone_is_asked_for_again(directories, tree):
    directories.base(b"c")
    tree.places[b"c"] = (b"root", b"moved")
    del tree.places[b"b"]
    directories.forget(b"b")
    assert directories.base(b"c") == b"moved/"


def test_directories_that_are_remembered_one_inside_the_other_are_asked_for_again(directories, tree):
    directories.learn(b"a", b"b", b"a")
    directories.learn(b"b", b"a", b"b")
    assert directories.base(b"b") == b"a/b/"
    assert not directories.take_doubt()


def test_what_changes_faster_than_it_can_be_asked_for_is_doubt(directories, tree):
    tree.places[b"x"] = (b"y", b"x")
    tree.places[b"y"] = (b"x", b"y")
    assert directories.base(b"x") is None
    assert directories.take_doubt()
    assert not directories.take_doubt()


def test_more_that_is_passed_over_than_can_be_remembered_is_doubt(tree):
    directories = Directories({b"root": b""}, tree.locate, 2)
    for number in range(3):
        directories.base(b"gone%d" % number)
    assert directories.take_doubt()


def test_a_directory_too_deep_for_an_object_has_no_base(directories):
    parent = b"root"
    for number in range(5000):
        directories.learn(b"%d" % number, parent, b"d")
        parent = b"%d" % number
    assert directories.base(b"4999") is None
    assert not directories.take_doubt()
