# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.posix.fanotify import ATTRIB, CLOSE_WRITE, CREATE, DELETE, MODIFY, ONDIR, RENAME, Change
from lustack.posix.handles import Place
from lustack.sync.events import NameChanged, TreeChanged, TreeMoved
from lustack.sync.sources import translate
from lustack.sync.sources.directories import Directories
from lustack.sync.sources.translate import EVERYTHING, Translator

WRITTEN = CREATE | MODIFY | CLOSE_WRITE
PLACES = {
    b"D": (b"R", b"d"),
    b"E": (b"D", b"e"),
    b"O": (b"T", b"out"),
    b"L": (b"R", b".lustack"),
    b"K": (b"L", b"locks"),
    b"F": (b"L", b"fence"),
}


@pytest.fixture
def places():
    return dict(PLACES)


@pytest.fixture
def translator(places):
    def locate(key):
        if key == b"T":
            return None
        try:
            return Place(*places[key])
        except KeyError:
            raise FileNotFoundError from None

    return Translator(Directories({b"R": b""}, locate, 1000))


def say(translator, *changes, is_all=True):
    return translator.translate(changes, is_all=is_all)


def test_a_file_that_was_written_has_one_event(translator):
    assert say(translator, Change(WRITTEN, b"D", b"f", b"1")) == [NameChanged(b"d/f", is_new=True)]
    assert say(translator, Change(MODIFY | CLOSE_WRITE, b"D", b"f", b"1")) == [NameChanged(b"d/f")]


def test_a_file_that_is_being_written_is_open(translator):
    assert say(translator, Change(CREATE, b"R", b"f", b"1"), Change(MODIFY, b"R", b"g", b"2")) == [
        NameChanged(b"f", is_open=True, is_new=True),
        NameChanged(b"g", is_open=True),
    ]


def test_a_link_is_neither_open_nor_new(translator):
    found = say(translator, Change(ATTRIB, target=b"1"), Change(CREATE, b"R", b"l", b"1"))
    assert found == [NameChanged(b"l")]


def test_a_link_whose_halves_were_read_apart_is_not_new(translator):
    say(translator, Change(ATTRIB, target=b"1"))
    [event] = say(translator, Change(CREATE, b"R", b"l", b"1"))
    assert not event.is_new


def test_a_link_that_was_announced_long_before_the_queue_was_empty_is_not_new(translator):
    say(translator, Change(ATTRIB, target=b"1"), is_all=False)
    for _ in range(3):
        say(translator, Change(MODIFY, b"R", b"g", b"2"), is_all=False)
    [event] = say(translator, Change(CREATE, b"R", b"l", b"1"))
    assert not event.is_new
    say(translator)
    [event] = say(translator, Change(CREATE, b"R", b"l", b"1"))
    assert event.is_new


def test_nothing_is_called_new_while_the_queue_is_not_empty_or_a_removal_is_in_the_same_report(translator):
    [first] = say(translator, Change(CREATE, b"R", b"f", b"1"), is_all=False)
    [second] = say(translator, Change(WRITTEN | DELETE, b"R", b"f", b"1"))
    assert (first.is_new, second.is_new, second.is_open) == (False, False, False)


def test_what_is_remembered_of_links_is_bounded_and_nothing_is_called_new_instead(translator, monkeypatch):
    monkeypatch.setattr(translate, "_MOST_LINKED", 2)
    say(translator, *(Change(ATTRIB, target=b"%d" % number) for number in range(9)), is_all=False)
    [event] = say(translator, Change(CREATE, b"R", b"f", b"f"))
    assert not event.is_new
    assert len(translator._linked_before) == 3


def test_a_removed_file_and_changed_attributes_have_an_event(translator):
    assert say(translator, Change(DELETE, b"D", b"f", b"1"), Change(ATTRIB, b"E", b"g", b"2")) == [
        NameChanged(b"d/f"),
        NameChanged(b"d/e/g"),
    ]


def test_a_renamed_file_has_an_event_for_each_name(translator):
    assert say(translator, Change(RENAME, b"D", b"f", b"1", b"E", b"g")) == [
        NameChanged(b"d/f"),
        NameChanged(b"d/e/g"),
    ]


def test_of_our_temporary_files_only_the_name_that_they_get_has_an_event(translator):
    assert say(
        translator,
        Change(WRITTEN, b"D", b".lustack.tmp.1", b"1"),
        Change(RENAME, b"D", b".lustack.tmp.1", b"1", b"D", b"f"),
    ) == [NameChanged(b"d/f")]


def test_a_rename_to_somewhere_else_has_an_event_for_the_side_that_concerns_us(translator):
    assert say(translator, Change(RENAME, b"O", b"f", b"1", b"D", b"g")) == [NameChanged(b"d/g")]
    assert say(translator, Change(RENAME, b"D", b"f", b"1", b"O", b"g")) == [NameChanged(b"d/f")]


def test_a_directory_that_is_made_or_changed_or_removed_has_an_event(translator):
    assert say(
        translator,
        Change(CREATE | ONDIR, b"D", b"n", b"N"),
        Change(CREATE, b"N", b"f", b"1"),
        Change(ATTRIB | ONDIR, b"N", b"."),
        Change(DELETE | ONDIR, b"D", b"n", b"N"),
    ) == [
        NameChanged(b"d/n", is_new=True, is_directory=True),
        NameChanged(b"d/n/f", is_open=True, is_new=True),
        NameChanged(b"d/n", is_directory=True),
        NameChanged(b"d/n", is_directory=True),
    ]


def test_attributes_of_the_root_and_of_what_is_in_no_root_concern_nobody(translator):
    assert say(translator, *(Change(ATTRIB | ONDIR, each, b".") for each in (b"R", b"O", b"L"))) == []


def test_a_tree_that_was_removed_with_unknown_directories_in_it_has_one_event(translator):
    assert say(
        translator,
        Change(DELETE, b"gone2", b"f", b"1"),
        Change(DELETE | ONDIR, b"gone1", b"inner", b"gone2"),
        Change(DELETE | ONDIR, b"R", b"outer", b"gone1"),
    ) == [TreeChanged(b"outer")]


def test_the_move_of_a_directory_has_one_event_and_what_follows_the_new_name(translator, places):
    say(translator, Change(CREATE, b"E", b"before", b"1"))
    places[b"D"] = (b"R", b"z")
    assert say(
        translator, Change(RENAME | ONDIR, b"R", b"d", b"D", b"R", b"z"), Change(MODIFY, b"E", b"after", b"2")
    ) == [TreeMoved(b"d", b"z"), NameChanged(b"z/e/after", is_open=True)]


def test_of_moves_back_and_forth_the_kernel_is_asked_where_the_directory_is(translator, places):
    # mv d z; mv z d; mv d z: the third is merged into the first.
    places[b"D"] = (b"R", b"z")
    forth = Change(RENAME | ONDIR, b"R", b"d", b"D", b"R", b"z")
    back = Change(RENAME | ONDIR, b"R", b"z", b"D", b"R", b"d")
    found = say(translator, forth, back, Change(MODIFY | CLOSE_WRITE, b"D", b"f", b"1"))
    assert found == [TreeMoved(b"d", b"z"), TreeMoved(b"z", b"d"), NameChanged(b"z/f")]


def test_a_directory_that_moves_in_or_out_is_a_changed_tree(translator):
    assert say(
        translator,
        Change(RENAME | ONDIR, b"O", b"x", b"X", b"R", b"x"),
        Change(RENAME | ONDIR, b"R", b"y", b"Y", b"O", b"y"),
        Change(RENAME | ONDIR, b"O", b"z", b"Z", b"O", b"z2"),
        Change(RENAME | ONDIR, b"R", b"same", b"S", b"R", b"same"),
    ) == [TreeChanged(b"x"), TreeChanged(b"y"), TreeChanged(b"same")]


def test_of_the_reserved_directory_only_the_fence_has_events(translator):
    assert say(
        translator,
        Change(CREATE | ONDIR, b"R", b".lustack", b"L"),
        Change(CREATE, b"L", b"file", b"0"),
        Change(WRITTEN, b"K", b"lock", b"1"),
        Change(WRITTEN, b"F", b"nonce", b"2"),
    ) == [NameChanged(b".lustack/fence/nonce", is_new=True)]


def test_doubt_is_a_change_of_everything(translator, places):
    places[b"D"] = (b"E", b"d")
    assert say(translator, Change(MODIFY | CLOSE_WRITE, b"E", b"f", b"1")) == [EVERYTHING]
