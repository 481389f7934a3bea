# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest
from tests.lustres import Watched

from lustack.lustre.errors import FidNotFoundError
from lustack.lustre.fid import Fid
from lustack.mapping.names import RelPath
from lustack.sync.events import NameChanged, TreeChanged, TreeMoved
from lustack.sync.sources.changelog_paths import translate, tree_of
from lustack.sync.sources.changelog_window import Memory, Window


@pytest.fixture
def watched(tmp_path):
    watched = Watched(tmp_path)
    yield watched
    watched.close()


def window_of(watched, memory=None):
    """Everything that was recorded and not yet looked at."""
    window = Window(memory or watched.memory)
    log = watched.log()
    window.feed(b"".join(raw for _, raw in log.find(1)))
    log.records.clear()
    return window


def report(watched, memory=None):
    events, lost = translate(window_of(watched, memory), watched.paths(memory))
    return events, lost


def named(path, *, is_open=False, is_new=False, is_directory=False):
    return NameChanged(RelPath(path), is_open, is_new, is_directory)


def test_what_happens_in_the_device_is_reported_with_its_path(watched):
    lustre = watched.lustre
    lustre.mkdir(b"device/a")
    lustre.write(b"device/a/f", b"x")
    lustre.create(b"device/g")
    assert report(watched) == (
        [
            named(b"a", is_new=True, is_directory=True),
            named(b"a/f", is_new=True),
            named(b"g", is_open=True, is_new=True),
        ],
        set(),
    )
    assert lustre.resolved == 0


def test_what_happens_elsewhere_is_not_reported(watched):
    watched.lustre.write(b"elsewhere", b"x")
    watched.lustre.mkdir(b"other")
    watched.lustre.write(b"other/f", b"x")
    assert report(watched) == ([], set())
    # The top was asked for once; from then on it is known.
    asked = watched.lustre.resolved
    watched.lustre.write(b"other/g", b"x")
    paths = watched.paths()
    assert translate(window_of(watched), paths) == ([], set())
    watched.lustre.write(b"other/h", b"x")
    asked = watched.lustre.resolved
    assert translate(window_of(watched), paths) == ([], set())
    assert watched.lustre.resolved == asked


def test_our_own_files_are_not_reported_but_fences_are(watched):
    for folder in (b".lustack", b".lustack/locks", b".lustack/fence", b"a"):
        watched.lustre.mkdir(b"device/" + folder)
    for name in (b".lustack/x", b".lustack/locks/y", b".lustack/fence/nonce", b"a/.lustack.tmp.1"):
        watched.lustre.write(b"device/" + name, b"")
    events, _ = report(watched)
    assert {each.path for each in events} == {b".lustack", b".lustack/fence/nonce", b"a"}


def test_a_file_from_before_is_found_by_all_its_names(watched):
    lustre = watched.lustre
    lustre.mkdir(b"device/d")
    lustre.write(b"device/f", b"x")
    lustre.link(b"device/f", b"device/d/g")
    lustre.link(b"device/f", b"outside")
    lustre.write(b"device/lone", b"x")
    window_of(watched)
    memory = Memory()
    lustre.write(b"device/f", b"longer")
    lustre.write(b"device/lone", b"longer")
    events, _ = report(watched, memory)
    assert {each.path for each in events} == {b"f", b"d/g", b"lone"}
    # One name is worth remembering, several are not.
    assert list(memory.files) == [lustre.key_at(b"device/lone")]


def test_a_file_that_is_gone_when_it_is_asked_for_is_nothing(watched):
    lustre = watched.lustre
    key = lustre.write(b"device/f", b"x")
    lustre.unlink(b"device/f")
    window_of(watched)
    lustre.close(key, 2)
    assert report(watched, Memory()) == ([], set())


def test_a_directory_that_moved_behind_our_back_is_found_where_it_is(watched):
    lustre = watched.lustre
    lustre.mkdir(b"device/a")
    lustre.mkdir(b"device/a/b")
    report(watched)
    lustre.rename(b"device/a", b"device/z")
    window_of(watched, Memory())  # another MDT's reader has it
    lustre.write(b"device/z/b/f", b"x")
    assert report(watched) == ([named(b"z/b/f", is_new=True)], set())


def test_a_directory_that_moves_is_a_tree_that_moves(watched):
    lustre = watched.lustre
    lustre.mkdir(b"device/a")
    lustre.write(b"device/a/f", b"x")
    lustre.rename(b"device/a", b"device/b")
    events, _ = report(watched)
    assert TreeMoved(RelPath(b"a"), RelPath(b"b")) in events
    assert named(b"b/f", is_new=True) in events


def test_a_directory_nobody_remembers_is_asked_for_when_it_moves(watched):
    lustre = watched.lustre
    lustre.mkdir(b"device/a")
    lustre.write(b"device/f", b"x")
    window_of(watched)
    lustre.rename(b"device/a", b"device/b")
    lustre.rename(b"device/f", b"device/g")
    lustre.write(b"device/.lustack.tmp.1", b"x")
    memory = Memory()
    window_of(watched, memory)
    memory.files.clear()
    lustre.rename(b"device/.lustack.tmp.1", b"device/h")
    events, _ = report(watched, memory)
    assert {each.path for each in events} == {b"h"}
    lustre.rename(b"device/b", b"device/c")
    lustre.rename(b"device/g", b"device/i")
    events, _ = report(watched, memory)
    assert [each for each in events if not isinstance(each, NameChanged)] == [
        TreeChanged(RelPath(b"b")),
        TreeChanged(RelPath(b"c")),
    ]


def test_what_was_renamed_and_is_gone_may_have_been_a_directory(watched):
    lustre = watched.lustre
    lustre.mkdir(b"device/a")
    window_of(watched)
    lustre.rename(b"device/a", b"device/b")
    window = window_of(watched, Memory())
    lustre.rmdir(b"device/b")
    events, _ = translate(window, watched.paths(Memory()))
    assert [each.path for each in events if isinstance(each, TreeChanged)] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("old", "new", "path"), [(b"device/d", b"out", b"d"), (b"out", b"device/d", b"d"), (b"out", b"out2", None)]
)
def test_a_directory_that_comes_in_or_goes_out_is_a_tree_that_changed(watched, old, new, path):
    watched.lustre.mkdir(old)
    report(watched)
    watched.lustre.rename(old, new)
    events, _ = report(watched)
    assert [each.path for each in events if isinstance(each, TreeChanged)] == ([] if path is None else [path])


def test_names_in_a_directory_that_is_removed_are_reported_where_it_was(watched):
    lustre = watched.lustre
    lustre.mkdir(b"device/a")
    lustre.mkdir(b"device/a/b")
    lustre.write(b"device/a/b/f", b"x")
    window_of(watched)
    lustre.unlink(b"device/a/b/f")
    lustre.rmdir(b"device/a/b")
    lustre.rmdir(b"device/a")
    events, lost = report(watched, Memory())
    assert {each.path for each in events} == {b"a/b/f", b"a/b", b"a"}
    assert lost == set()


def test_a_directory_that_is_gone_without_a_word_is_lost(watched):
    lustre = watched.lustre
    folder = lustre.mkdir(b"device/a")
    lustre.write(b"device/a/f", b"x")
    window_of(watched)
    lustre.unlink(b"device/a/f")
    memory = Memory()
    window = window_of(watched, memory)
    lustre.rmdir(b"device/a")
    paths = watched.paths(memory)
    assert translate(window, paths) == ([], {folder})
    with pytest.raises(FidNotFoundError):
        paths.base_of(folder)
    # The record of the removal comes later.
    window_of(watched, memory)
    paths.begin()
    assert tree_of(paths.base_of(folder)) == [TreeChanged(RelPath(b"a"))]


def test_a_move_of_a_lost_directory_is_lost_too(watched):
    lustre = watched.lustre
    folder = lustre.mkdir(b"device/a")
    lustre.mkdir(b"device/a/b")
    report(watched)
    lustre.rename(b"device/a/b", b"device/b")
    lustre.rmdir(b"device/a")
    watched.log().records.popitem()
    del watched.memory.folders[folder]
    events, lost = report(watched)
    assert lost == {folder}
    assert TreeChanged(RelPath(b"b")) in events


def test_what_migrated_is_found_under_its_old_identity_too(watched):
    lustre = watched.lustre
    old = lustre.mkdir(b"device/a")
    lustre.write(b"device/f", b"x")
    report(watched)
    lustre.migrate(b"device/a", 0)
    lustre.migrate(b"device/f", 0)
    events, _ = report(watched)
    assert {each.path for each in events} == {b"a", b"f"}
    paths = watched.paths()
    assert paths.base_of(old) == b"a/"


def test_identities_that_go_round_in_circles_end(watched):
    one, two = (Fid(5, number, 0).key for number in (1, 2))
    watched.memory.heirs.update({one: two, two: one})
    with pytest.raises(FidNotFoundError):
        watched.paths().base_of(one)
    watched.memory.heirs.clear()
    watched.memory.folders.update({one: (two, b"x"), two: (one, b"y")})
    assert watched.paths().base_of(one) is None


def test_a_path_through_what_is_a_file_now_leads_nowhere(watched):
    lustre = watched.lustre
    lustre.mkdir(b"device/a")
    lustre.mkdir(b"device/a/b")
    report(watched)
    lustre.rename(b"device/a", b"device/z")
    lustre.write(b"device/a", b"now a file")
    window_of(watched, Memory())
    lustre.write(b"device/z/b/f", b"x")
    events, _ = report(watched)
    assert named(b"z/b/f", is_new=True) in events


def test_exports_are_reported_under_their_prefix(tmp_path):
    os.makedirs(tmp_path / "lustre" / "project" / "out")
    watched = Watched(tmp_path, roots=((b"device", b""), (b"project/out", b"AUTH_a/c")))
    watched.lustre.write(b"project/out/f", b"x")
    watched.lustre.write(b"project/f", b"x")
    assert report(watched) == ([named(b"AUTH_a/c/f", is_new=True)], set())
    watched.close()


def test_a_root_itself_is_a_tree():
    assert tree_of(b"") == [TreeChanged(RelPath(b""))]
    assert tree_of(None) == []
