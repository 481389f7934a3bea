# SPDX-License-Identifier: Apache-2.0
"""What is tidied when an object goes; that it goes is said in test_writer.py and in the contract."""

from __future__ import annotations

import os
from dataclasses import replace

from lustack.mapping import layout
from lustack.swift import removal
from lustack.swift.placement import Key, find, note_twins

CONTAINER = b"a/c"
KEY = Key("a", "c", "a/b")


def tidy(files, directory: bytes = CONTAINER + b"/a", key: Key = KEY) -> None:
    with files.device.home("a", "c") as home:
        removal.tidy(home, key, directory)


def note(files) -> None:
    with files.device.home("a", "c") as home:
        note_twins(home)


def make(files, path: str, *attributes: str) -> None:
    directory = files.directory / path
    directory.mkdir(parents=True)
    for name in attributes:
        os.setxattr(directory, name, b"1")


class TestDirectories:
    def test_those_that_a_put_made_go_while_they_are_empty(self, files):
        make(files, "a", layout.ATTRIBUTE_MADE)
        make(files, "a/x", layout.ATTRIBUTE_MADE)
        make(files, "a/x/y", layout.ATTRIBUTE_MADE)
        files.write("a/o")
        tidy(files, CONTAINER + b"/a/x/y")
        assert files.tree() == ["a/", "a/o"]

    def test_those_of_jobs_and_markers_stay(self, files):
        make(files, "job")
        make(files, "marker", layout.ATTRIBUTE_MADE, layout.SLASH_ATTRIBUTES.data)
        make(files, "folder", layout.ATTRIBUTE_MADE, layout.PLAIN_ATTRIBUTES.data)
        for name in (b"job", b"marker", b"folder"):
            tidy(files, CONTAINER + b"/" + name)
        assert files.tree() == ["folder/", "job/", "marker/"]

    def test_the_container_stays(self, files):
        make(files, "", layout.ATTRIBUTE_MADE)
        tidy(files, CONTAINER)
        assert files.directory.is_dir()

    def test_a_container_that_is_gone_is_tidy(self, files):
        tidy(files)


class TestTwins:
    def test_a_file_gets_its_name_back(self, files):
        files.write("a/b%file", b"twin")
        note(files)
        tidy(files)
        assert files.tree() == ["a/", "a/b"]

    def test_a_directory_gets_its_name_back(self, files):
        files.write("a%dir/b", b"twin")
        note(files)
        tidy(files)
        assert files.tree() == ["a/", "a/b"]

    def test_what_a_job_made_in_the_plain_place_stays_there(self, files):
        files.write("a%file", b"twin")
        files.write("a", b"job")
        (files.directory / "link%file").touch()
        (files.directory / "link").symlink_to("nowhere")
        note(files)
        tidy(files)
        tidy(files, key=replace(KEY, name="link"))
        assert files.tree() == ["a", "a%file", "link", "link%file"]

    def test_without_the_note_nobody_looks(self, files):
        files.write("a%file", b"twin")
        tidy(files)
        assert files.tree() == ["a%file"]

    def test_a_name_with_empty_parts_has_twins_too(self, files):
        key = replace(KEY, name="a//")
        files.write("a%file", b"twin")
        note(files)
        tidy(files, key=key)
        assert files.tree() == ["a"]

    def test_a_twin_of_a_name_that_is_too_long_for_one_entry_stays(self, files):
        name = "x" * 253
        files.put(name + "/b", b"below", 1)
        files.put(name, b"file", 1)
        files.delete(name + "/b", 2)
        assert files.get(name) == b"file"
        files.delete(name, 3)
        assert files.tree() == []


class TestPlaces:
    def test_a_delete_removes_what_a_job_made_in_every_place(self, files):
        for index in range(16):
            steps = [("x", "x%dir")[index >> bit & 1] for bit in range(3)]
            files.write("/".join([*steps, ("x", "x%file")[index >> 3]]), b"job")
        note(files)
        files.delete("x/x/x/x", 1)
        assert [path for path in files.tree() if not path.endswith("/")] == []

    def test_a_file_that_a_job_removed_meanwhile_is_removed(self, files):
        files.put("o", b"x", 1)
        with files.device.home("a", "c") as home:
            found = find(home, Key("a", "c", "o"))
            removal.remove_place(home, found)
            os.close(found.fd)
        assert not files.has("o")
