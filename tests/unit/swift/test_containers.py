# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from lustack.mapping import layout, names
from lustack.swift import containers

PATH = names.container_path("a", "c")
HIDDEN = names.container_path("a", "\0versions\0c")


@pytest.fixture
def root(tmp_path):
    return tmp_path


@pytest.fixture
def directory(root):
    """Of the container, made."""
    containers.make(str(root), PATH)
    return root / "a" / "c"


def test_making_it_twice_is_making_it_once(root, directory):
    (directory / "o").touch()
    containers.make(str(root), PATH)
    assert os.listdir(directory) == ["o"]


def test_a_directory_that_swift_made_says_so(root, directory):
    (root / "of-a-job").mkdir()
    for path, expected in ((directory, True), (directory.parent, True), (root / "of-a-job", False)):
        fd = os.open(path, os.O_PATH)
        assert containers.is_made(fd) == expected
        os.close(fd)


def test_hidden_containers_lie_in_a_reserved_directory_that_is_ours_alone(root):
    containers.make(str(root), HIDDEN)
    assert (root / os.fsdecode(HIDDEN)).is_dir()
    assert (root / ".lustack").stat().st_mode & 0o7777 == 0o700
    containers.remove(str(root), HIDDEN)
    assert os.listdir(root / ".lustack") == ["reserved"]
    assert os.listdir(root / ".lustack" / "reserved") == []


class TestFirstObject:
    def test_nothing_holds_nothing(self, root):
        assert containers.first_object(str(root), PATH) is None

    def test_directories_and_what_is_ours_do_not_count(self, root, directory):
        (directory / "x" / "y").mkdir(parents=True)
        (directory / "x" / ".lustack.tmp.0123").touch()
        assert containers.first_object(str(root), PATH) is None

    @pytest.mark.parametrize(
        "make",
        [
            lambda path: path.touch(),
            lambda path: path.symlink_to("."),
            os.mkfifo,
        ],
    )
    def test_everything_else_does(self, root, directory, make):
        (directory / "x" / "y").mkdir(parents=True)
        make(directory / "x" / "y" / "z")
        assert containers.first_object(str(root), PATH) == b"x/y/z"

    def test_names_that_are_no_text_are_named_too(self, root, directory):
        with open(os.path.join(bytes(directory), b"\xff"), "wb"):
            pass
        assert containers.first_object(str(root), PATH) == b"\xff"

    def test_a_link_in_its_place_is_not_followed(self, root):
        (root / "elsewhere").mkdir()
        (root / "elsewhere" / "o").touch()
        (root / "a").mkdir()
        (root / "a" / "c").symlink_to("../elsewhere")
        with pytest.raises(OSError, match="symbolic links"):
            containers.first_object(str(root), PATH)

    @pytest.mark.parametrize(("name", "kind"), [("d/", "text/plain"), ("d", "application/directory")])
    @pytest.mark.parametrize("metadata", ["short", "x" * 100_000])
    def test_a_directory_that_is_an_object_does_too(self, files, name, kind, metadata):
        files.put("x/" + name, b"", 1, Content_Type=kind, X_Object_Meta_A=metadata)
        assert containers.first_object(str(files.root), PATH) == b"x/d/"
        files.delete("x/" + name, 2)
        assert containers.first_object(str(files.root), PATH) is None

    def test_a_copy_of_such_a_directory_is_none(self, files):
        files.put("d/", b"", 1)
        subprocess.run(["cp", "-a", files.directory / "d", files.root / "copy"], check=True)
        shutil.rmtree(files.directory)
        os.rename(files.root / "copy", files.directory)
        assert containers.first_object(str(files.root), PATH) is None

    def test_one_that_goes_meanwhile_is_none(self, root, directory, monkeypatch):
        (directory / "d").mkdir()
        entries = containers._entries

        def remove_what_is_found(*arguments):
            for path, is_directory in entries(*arguments):
                (root / os.fsdecode(path)).rmdir()
                yield path, is_directory

        monkeypatch.setattr(containers, "_entries", remove_what_is_found)
        assert containers.first_object(str(root), PATH) is None


class TestRemove:
    def test_it_goes_with_empty_directories_and_what_is_ours(self, root, directory):
        (directory / "x" / "y").mkdir(parents=True)
        (directory / "x" / ".lustack.tmp.0123").touch()
        containers.remove(str(root), PATH)
        assert os.listdir(root) == []

    def test_what_does_not_exist_is_removed_already(self, root):
        containers.remove(str(root), PATH)

    def test_an_account_that_a_job_made_stays(self, root):
        (root / "a").mkdir()
        containers.make(str(root), PATH)
        containers.remove(str(root), PATH)
        assert os.listdir(root) == ["a"]

    def test_an_account_with_another_container_stays(self, root, directory):
        containers.make(str(root), names.container_path("a", "d"))
        containers.remove(str(root), PATH)
        assert os.listdir(root / "a") == ["d"]

    def test_a_file_that_came_meanwhile_stays(self, root, directory):
        (directory / "x").mkdir()
        (directory / "x" / "o").write_bytes(b"job")
        with pytest.raises(OSError, match="not empty"):
            containers.remove(str(root), PATH)
        assert (directory / "x" / "o").read_bytes() == b"job"

    def test_the_reserved_attribute_is_the_one_of_the_layout(self, directory):
        assert os.listxattr(directory) == [layout.ATTRIBUTE_MADE]
