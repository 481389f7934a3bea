# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import shutil
import subprocess

from tests.listings import KEY, sidecar_store

from lustack.mapping import layout, metadata
from lustack.sync.inspector import ToldFindings, inspected
from lustack.sync.problems import Kind, Problem
from lustack.sync.reconcile import Comparison, Limits

DATA = layout.FILE_ATTRIBUTES.data
TIME = "1600000000.00000"


def look(playground, restore=None):
    """Compares the container; what was told, with paths below the container."""
    told = []
    with playground.device() as opened:
        device = inspected(opened, told.append)
        directory = device.open_container(*KEY)
        findings = ToldFindings(key=KEY, tell=told.append, restore=restore)
        try:
            Comparison(KEY, directory, device.observer, playground.tools, Limits(dry_run=True), findings=findings).run()
        finally:
            if directory is not None:
                directory.close()
    base = str(playground.container)
    return [problem._replace(path=problem.path.replace(base, "C")) for problem in told]


def test_a_tidy_tree_is_nothing_to_tell(playground):
    playground.put("o", b"body", TIME)
    playground.write("d/bare")
    playground.mark(playground.container / "d", layout.SLASH_ATTRIBUTES.data)
    playground.mark(playground.container / "d", layout.PLAIN_ATTRIBUTES.data)
    assert look(playground) == []


def test_metadata_that_cannot_be_read_is_told(playground):
    os.setxattr(playground.write("o"), DATA, b"garbage")
    os.setxattr(playground.write("p"), layout.FILE_ATTRIBUTES.meta, b"[]")
    assert look(playground) == [
        Problem(Kind.DAMAGED, "C/o", "the metadata cannot be read: it is not JSON"),
        Problem(Kind.DAMAGED, "C/p", "the metadata cannot be read: it is not an object"),
    ]


def test_a_damaged_marker_is_told(playground):
    (playground.container / "d").mkdir()
    os.setxattr(playground.container / "d", layout.PLAIN_ATTRIBUTES.data, b"garbage")
    assert look(playground) == [Problem(Kind.DAMAGED, "C/d", "the metadata cannot be read: it is not JSON")]


def test_a_sidecar_that_is_missing_is_told(playground):
    path = playground.write("o")
    fd = os.open(path, os.O_RDONLY)
    sidecar_store(playground).write(fd, DATA, b"x" * 70_000)
    os.close(fd)
    shutil.rmtree(playground.root / os.fsdecode(layout.SIDECARS))
    [problem] = look(playground)
    assert (problem.kind, problem.path) == (Kind.DAMAGED, "C/o")
    assert "sidecar" in problem.why


def test_a_sidecar_of_a_marker_that_is_missing_is_told(playground):
    directory = playground.container / "d"
    directory.mkdir()
    fd = os.open(directory, os.O_RDONLY)
    sidecar_store(playground).write(fd, layout.PLAIN_ATTRIBUTES.data, b"x" * 70_000)
    os.close(fd)
    shutil.rmtree(playground.root / os.fsdecode(layout.SIDECARS))
    [problem] = look(playground)
    assert (problem.kind, problem.path) == (Kind.DAMAGED, "C/d")
    assert "sidecar" in problem.why


def test_bytes_that_a_job_has_changed_are_told(playground):
    playground.put("o", b"body", TIME)
    playground.write("o", b"longer body")
    assert look(playground) == [Problem(Kind.STALE_STAMP, "C/o")]


def test_what_a_copy_carries_is_told(playground):
    playground.put("o", b"body", TIME)
    (playground.container / "d").mkdir()
    playground.mark(playground.container / "d", layout.PLAIN_ATTRIBUTES.data)
    for source, copy in (("o", "copy"), ("d", "e")):
        subprocess.run(["cp", "-a", playground.container / source, playground.container / copy], check=True)
    assert look(playground) == [Problem(Kind.COPIED, "C/copy"), Problem(Kind.COPIED, "C/e")]


def test_a_file_that_another_hides_is_told(playground):
    playground.write("a")
    playground.write("a%file")
    assert look(playground) == [Problem(Kind.SHADOWED, "C/a%file", "object 'a' is another file")]


def test_names_that_cannot_be_objects_are_told(playground):
    playground.write(b"d/\xff")
    (playground.container / "link").symlink_to("x")
    assert look(playground) == [
        Problem(Kind.SPECIAL, "a/c/link"),
        Problem(Kind.UNLISTABLE, "a/c/d/\udcff", "its bytes are not UTF-8"),
    ]


def test_a_directory_that_cannot_be_read_is_told():
    told = []
    ToldFindings(key=KEY, tell=told.append).note_unreadable(b"d/", OSError(errno.EACCES, "Permission denied"))
    assert told == [Problem(Kind.UNREADABLE, "a/c/d/", "Permission denied")]


def test_twins_whose_place_is_free_are_told(playground):
    playground.write("x/a%file")
    playground.write("d%dir/b")
    playground.write("e%dir/b")
    playground.write("e")
    assert look(playground) == [
        Problem(Kind.STALE_TWIN, "C/d%dir", "'d' is free"),
        Problem(Kind.STALE_TWIN, "C/x/a%file", "'a' is free"),
    ]


def test_twins_can_be_mended_at_once(playground):
    playground.write("x/a%file")
    asked = []

    def restore(key, directory, entry, name):
        asked.append((key, entry, name))
        return True

    [problem] = look(playground, restore)
    assert problem.is_repaired
    assert asked == [(KEY, b"a%file", "x/a")]


def test_the_twin_of_a_name_that_was_cut_is_left_alone(playground):
    playground.write(f"{'l' * 253}%+/tail%file")
    assert look(playground) == []


def test_a_container_without_a_directory_is_told(playground):
    shutil.rmtree(playground.container)
    assert look(playground) == [Problem(Kind.NO_DIRECTORY, "a/c")]


def test_a_file_that_is_gone_by_now_is_not_told(playground):
    path = playground.write("o")
    told = []
    with playground.device() as opened:
        observer = inspected(opened, told.append).observer
        os.setxattr(path, DATA, b"garbage")
        fd = os.open(path, os.O_PATH)
        path.unlink()
        observer.view("o", fd, layout.FILE_ATTRIBUTES, 0)
        os.close(fd)
    assert told == []


def test_a_file_system_without_attributes_is_fine(playground):
    told = []
    with playground.device() as opened:
        observer = inspected(opened, told.append).observer
        fd = os.open("/proc/version", os.O_PATH)
        try:
            assert observer.blobs(fd, layout.FILE_ATTRIBUTES) == (metadata.Blobs(), ())
        finally:
            os.close(fd)
    assert told == []
