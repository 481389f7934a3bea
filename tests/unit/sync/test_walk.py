# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import errno
import os
import resource

import pytest

from lustack.mapping import layout
from lustack.sync import walk as walk_module
from lustack.sync.observe import Directory
from lustack.sync.walk import Findings, Walk

LONG = "l" * 253


def walk(playground, **options):
    with playground.directory() as directory:
        walker = Walk(directory, **options)
        return [(name, [place.entry for place in places]) for name, places in walker], walker.findings


def names_of(playground, **options):
    return [name for name, _ in walk(playground, **options)[0]]


def test_names_come_in_the_order_of_their_bytes(playground):
    for path in ("a/b", "a!", "a", "a.txt", "z", "a0", "é", "B"):
        if path == "a":
            continue
        playground.write(path)
    playground.write("a%file")
    assert names_of(playground) == ["B", "a", "a!", "a.txt", "a/b", "a0", "z", "é"]


def test_only_regular_files_are_objects_and_nothing_is_followed(playground):
    playground.write("file")
    os.mkfifo(playground.container / "fifo")
    (playground.container / "link").symlink_to("file")
    (playground.container / "linked").symlink_to("/")
    (playground.container / "empty").mkdir()
    assert names_of(playground) == ["file"]


class Told(Findings):
    def __init__(self):
        super().__init__()
        self.twins = []

    def note_twin(self, directory, entry, name):
        super().note_twin(directory, entry, name)
        self.twins.append((entry, name))


def test_whoever_wants_to_know_is_told_what_is_met_besides_objects(playground):
    playground.write("d/a%file")
    playground.write("b%dir/x")
    os.mkfifo(playground.container / "d" / "fifo")
    (playground.container / f"{LONG}%+").mkdir()
    (playground.container / f"{LONG}%+" / "link").symlink_to("x")
    told = Told()
    assert walk(playground, findings=told)[1] is told
    assert told.special == 2
    assert (told.has_twins, told.twins) == (True, [(b"b%dir", b"b/"), (b"a%file", b"d/a")])


def test_what_stands_for_one_name_comes_once_with_all_of_its_places(playground):
    playground.write("a%file")
    playground.write("a")
    playground.write("d%dir/x")
    playground.write("d/x")
    assert walk(playground)[0] == [("a", [b"a", b"a%file"]), ("d/x", [b"x", b"x"])]


def test_markers_are_objects_at_their_names(playground):
    path = playground.container / "d"
    path.mkdir()
    playground.write("d/x")
    playground.mark(path, layout.SLASH_ATTRIBUTES.data)
    playground.mark(path, layout.PLAIN_ATTRIBUTES.data)
    assert walk(playground)[0] == [("d", [b"d"]), ("d/", [b"."]), ("d/x", [b"x"])]


def test_a_cut_name_is_joined(playground):
    playground.write(f"{LONG}%+/tail-of-it")
    playground.write(f"{LONG}%+/{'m' * 253}%+/end-of-it/x")
    assert names_of(playground) == [f"{LONG}{'m' * 253}end-of-it/x", f"{LONG}tail-of-it"]


def test_what_cannot_be_an_object_is_counted_and_shown(playground):
    playground.write(b"\xff")
    playground.write(b"d\xff/x")
    playground.write("%25%dir%dir/x")
    playground.write(f"{LONG}%+/s")
    playground.write(f"{LONG}%+/d/x")
    playground.write(".lustack.tmp.0123456789abcdef")
    playground.write("ok")
    found, findings = walk(playground)
    assert [name for name, _ in found] == ["ok"]
    assert findings.unlistable == len(findings.samples) == 5


def test_a_path_that_is_too_long_for_swift_is_counted(playground):
    deep = "/".join(["d" * 250] * 5)
    playground.write(f"{deep}/x")
    nested = "/".join([f"{LONG}%+"] * 14)
    playground.write(f"{nested}/x")
    found, findings = walk(playground)
    assert found == []
    assert findings.unlistable == 2
    assert any("too long" in why for _, why in findings.samples)


def test_samples_are_bounded(playground):
    for number in range(120):
        playground.write(b"\xff%d" % number)
    _, findings = walk(playground)
    assert (findings.unlistable, len(findings.samples)) == (120, 100)


def test_a_part_of_the_names_can_be_asked_for(playground):
    for path in ("a/1", "a/2", "ab", "b/1", "c"):
        playground.write(path)
    assert names_of(playground, after="a/1") == ["a/2", "ab", "b/1", "c"]
    assert names_of(playground, prefix="a") == ["a/1", "a/2", "ab"]
    assert names_of(playground, prefix="a/") == ["a/1", "a/2"]
    assert names_of(playground, after="a/1", prefix="a/") == ["a/2"]


def test_twins_are_noticed(playground):
    playground.write("a")
    assert not walk(playground)[1].has_twins
    playground.write("b%file")
    assert walk(playground)[1].has_twins
    (playground.container / "b%file").unlink()
    playground.write("c%dir/x")
    assert walk(playground)[1].has_twins


def test_a_directory_that_vanishes_meanwhile_is_no_trouble(playground):
    playground.write("a")
    playground.write("d/x")
    playground.write("e%dir/x")
    with playground.directory() as directory:
        walker = Walk(directory)
        entries = iter(walker)
        assert next(entries)[0] == "a"
        (playground.container / "d" / "x").unlink()
        (playground.container / "d").rmdir()
        (playground.container / "d").symlink_to("/")
        assert [name for name, _ in entries] == ["e/x"]
        assert walker.findings.unreadable == 0


def test_a_walk_can_be_given_up(playground):
    playground.write("a")
    playground.write("b/c")
    with playground.directory() as directory:
        walker = Walk(directory)
        entries = iter(walker)
        assert next(entries)[0] == "a"
        entries.close()
        walker.close()


@contextlib.contextmanager
def no_more_descriptors(room: int):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("path", ["d/x", f"{LONG}%+/tail-of-it"])
@pytest.mark.parametrize("room", [1, 2])
def test_a_directory_that_cannot_be_read_is_reported(playground, path, room):
    playground.write(path)
    with playground.directory() as directory, no_more_descriptors(room):
        walker = Walk(directory)
        assert [name for name, _ in walker] == []
        assert walker.findings.unreadable == 1
        walker.close()


def fail(code):
    def call(*_, **__):
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize(("code", "unreadable"), [(errno.EIO, 1), (errno.ENOENT, 0)])
def test_a_directory_that_cannot_be_asked_for_its_markers_is_reported_unless_it_is_gone(
    playground, monkeypatch, code, unreadable
):
    playground.write("d/x")
    monkeypatch.setattr(walk_module, "list_attributes", fail(code))
    found, findings = walk(playground)
    assert found == []
    assert findings.unreadable == unreadable


@pytest.mark.parametrize(("code", "unreadable"), [(errno.EIO, 1), (errno.ENOENT, 0), (errno.EXDEV, 0)])
def test_a_directory_that_cannot_be_entered_is_reported_unless_it_is_gone_or_a_mount(
    playground, monkeypatch, code, unreadable
):
    playground.write(f"{LONG}%+/tail-of-it")
    with playground.directory() as directory:
        monkeypatch.setattr(Directory, "open", fail(code))
        walker = Walk(directory)
        assert list(walker) == []
        assert walker.findings.unreadable == unreadable
        walker.close()
