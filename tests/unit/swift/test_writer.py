# SPDX-License-Identifier: Apache-2.0
"""Where uploads go: names that are in each other's way, markers, what others planted, and file systems without room."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from swift.common.swob import HTTPException
from tests.objects import NEEDS_ROOT, Files, Server, at

from lustack.mapping import layout
from lustack.posix import atomic
from lustack.posix.atomic import Sync
from lustack.swift import faults
from lustack.swift.placement import find
from lustack.swift.writer import AbandonedError

REPOSITORY = Path(__file__).parents[3]
FOLDER = {"Content_Type": "application/directory"}
LONG = b"below" * 20000
"""So long that there is a file before all of it is there."""
MIB = 1024 * 1024
NAMES = ("a", "a/b", "a/b/c")


def test_on_lustre_a_job_that_writes_in_the_same_second_is_seen(files, monkeypatch):
    monkeypatch.setattr(atomic, "is_lustre", lambda fd: True)
    files.put("o", b"of swift", 1)
    assert files.head("o")["ETag"] is not None
    path = files.directory / "o"
    with path.open("r+b") as job:
        job.write(b"of a job")
    now_ns = os.stat(path).st_mtime_ns
    os.utime(path, ns=(now_ns, now_ns // 10**9 * 10**9))
    assert files.get("o") == b"of a job"
    assert files.head("o")["ETag"] == hashlib.md5(b"of a job", usedforsecurity=False).hexdigest()


class TestNamesInEachOthersWay:
    def test_a_directory_goes_beside_a_file(self, files):
        files.put("a", b"file", 1)
        files.put("a/b", b"below", 2)
        assert files.tree() == ["a", "a%dir/", "a%dir/b"]
        assert (files.get("a"), files.get("a/b")) == (b"file", b"below")

    def test_a_file_goes_beside_a_directory(self, files):
        files.put("a/b", b"below", 1)
        files.put("a", b"file", 2)
        assert files.tree() == ["a%file", "a/", "a/b"]
        assert (files.get("a"), files.get("a/b")) == (b"file", b"below")

    def test_a_directory_gets_its_name_when_the_file_has_gone(self, files):
        files.put("a", b"file", 1)
        files.put("a/b", b"below", 2)
        files.delete("a", 3)
        assert files.tree() == ["a/", "a/b"]
        assert files.get("a/b") == b"below"

    def test_a_file_gets_its_name_when_the_directory_has_gone(self, files):
        files.put("a/b", b"below", 1)
        files.put("a", b"file", 2)
        files.delete("a/b", 3)
        assert files.tree() == ["a"]
        assert files.get("a") == b"file"

    @pytest.mark.parametrize("put", list(itertools.permutations(NAMES)))
    @pytest.mark.parametrize("deleted", list(itertools.permutations(NAMES)))
    def test_any_order_of_writing_and_deleting_leaves_nothing(self, files, put, deleted):
        for name in put:
            files.put(name, name.encode(), 1)
        here = set(NAMES)
        for name in deleted:
            assert {other for other in NAMES if files.has(other) and files.get(other) == other.encode()} == here
            files.delete(name, 2)
            here.remove(name)
        assert files.tree() == []

    def test_twins_are_written_again_and_posted_to_like_others(self, files):
        files.put("a/b", b"below", 1)
        files.put("a", b"file", 2)
        files.put("a", b"again", 3)
        files.post("a", 4, X_Object_Meta_A="1")
        assert (files.get("a"), files.head("a")["X-Object-Meta-A"]) == (b"again", "1")
        assert files.tree() == ["a%file", "a/", "a/b"]

    def test_twins_of_a_file_of_a_job_are_found_in_both_orders(self, files):
        files.write("a", b"job")
        files.put("a/b", b"below", 1)
        files.write("d/e", b"job")
        files.put("d", b"file", 1)
        assert [files.get(name) for name in ("a", "a/b", "d", "d/e")] == [b"job", b"below", b"file", b"job"]

    def test_a_twin_is_found_after_a_job_removed_what_was_in_its_way(self, files):
        files.write("a", b"job")
        files.put("a/b", b"below", 1)
        os.unlink(files.directory / "a")
        assert files.get("a/b") == b"below"
        assert not files.has("a")
        files.put("a/c", b"more", 2)
        assert (files.get("a/b"), files.get("a/c")) == (b"below", b"more")

    def hide(self, files) -> Path:
        """An object of Swift's at its twin's place, behind the file of a job at the plain one, which is returned."""
        files.put("a", b"file", 1)
        files.put("a/b", b"first", 2, X_Object_Meta_A="put")
        files.post("a/b", 3, X_Object_Meta_A="post")
        os.unlink(files.directory / "a")
        hiding = files.write("a/b", b"job")
        assert files.get("a/b") == b"job"
        assert "X-Object-Meta-A" not in files.head("a/b")
        return hiding

    def test_an_object_that_a_job_hid_shows_again_as_it_was_when_the_job_removes_its_file(self, files):
        os.unlink(self.hide(files))
        assert (files.get("a/b"), files.head("a/b")["X-Object-Meta-A"]) == (b"first", "post")

    def test_an_object_that_was_replaced_while_a_job_hid_it_never_shows_again(self, files):
        hiding = self.hide(files)
        files.put("a/b", b"second", 4)
        assert files.tree() == ["a/", "a/b"]
        os.unlink(hiding)
        assert not files.has("a/b")

    def test_a_put_that_comes_late_leaves_what_is_hidden(self, files):
        hiding = self.hide(files)
        files.put("a/b", b"late", 1)
        os.unlink(hiding)
        assert files.get("a/b") == b"first"

    @pytest.mark.parametrize("write", [b"by a job", None])
    def test_a_put_leaves_what_a_job_wrote_behind_another_file(self, files, write):
        hiding = self.hide(files)
        hidden = files.directory / "a%dir" / "b"
        if write is None:
            hidden.write_bytes(b"changed")
        else:
            hidden.unlink()
            hidden.write_bytes(write)
        files.put("a/b", b"second", 4)
        assert files.get("a/b") == b"second"
        os.unlink(hiding)
        assert files.get("a/b") == write or b"changed"

    def test_a_marker_that_a_job_hid_goes_with_the_next_put(self, files):
        files.put("m/", b"", 1, X_Object_Meta_A="marker")
        files.write("m/%", b"job")
        files.put("m/", b"second", 2)
        os.unlink(files.directory / "m" / "%")
        assert not files.has("m/")

    def test_a_directory_that_a_job_made_stays(self, files):
        (files.directory / "a").mkdir(parents=True)
        files.put("a/b", b"x", 1)
        files.delete("a/b", 2)
        assert files.tree() == ["a/"]

    def test_a_directory_with_something_of_a_job_stays(self, files):
        files.put("a/b", b"x", 1)
        (files.directory / "a" / "fifo").parent.joinpath("sub").mkdir()
        files.delete("a/b", 2)
        assert files.tree() == ["a/", "a/sub/"]

    def test_an_upload_that_is_given_up_leaves_no_directory(self, files):
        files.put("x", b"x", 1)
        with files.upload("a/b/c", LONG):
            assert "a/b/" in files.tree()
        assert files.tree() == ["x"]

    def test_an_upload_that_came_too_late_leaves_no_directory(self, files):
        files.delete("a/b/c", 5)
        files.put("a/b/c", b"late", 2)
        assert files.tree() == []

    def test_the_place_of_an_upload_may_change_while_its_bytes_come(self, files):
        with files.upload("a/b", LONG) as writer:
            files.delete("a/other", 1)
            os.rename(files.directory / "a", files.directory / "elsewhere")
            files.put("a", b"file", 1)
            files.publish(writer, 2)
        assert (files.get("a"), files.get("a/b")) == (b"file", LONG)
        assert files.tree() == ["a", "a%dir/", "a%dir/b", "elsewhere/"]

    def test_the_place_that_an_upload_left_is_tidied(self, files):
        files.put("a", b"file", 1)
        with files.upload("a/b", LONG) as writer:
            assert files.tree()[:2] == ["a", "a%dir/"]
            (files.directory / "a").unlink()
            (files.directory / "a").mkdir()
            files.publish(writer, 2)
        assert files.tree() == ["a/", "a/b"]

    def test_a_file_that_becomes_a_directory_while_bytes_come_is_no_harm(self, files):
        with files.upload("a", LONG) as writer:
            files.put("a/b", b"below", 1)
            files.publish(writer, 2)
        assert (files.get("a"), files.get("a/b")) == (LONG, b"below")


class TestOddNames:
    @pytest.mark.parametrize(
        ("name", "path"),
        [
            ("plain", "plain"),
            ("a//b", "a/%/b"),
            ("/a", "%/a"),
            ("a/./b", "a/%2E/b"),
            ("../../etc/passwd", "%2E./%2E./etc/passwd"),
            ("50%", "50%"),
            ("%", "%25"),
            ("a%file", "a%25file"),
            ("a%dir/b", "a%25dir/b"),
            ("with\0nul", "with%00nul"),
            ("line\nbreak", "line\nbreak"),
            (".lustack.tmp.x", "%2Elustack.tmp.x"),
            (".lustack/x", ".lustack/x"),
            ("\N{SNOWMAN}", "\N{SNOWMAN}"),
        ],
    )
    def test_each_has_its_file(self, files, name, path):
        files.put(name, b"body", 1)
        assert (files.directory / path).read_bytes() == b"body"
        assert files.get(name) == b"body"
        files.delete(name, 2)
        assert files.tree() == []

    @pytest.mark.parametrize(
        "name",
        ["x" * 255, "x" * 256, "x" * 1024, "\N{SNOWMAN}" * 341, "/".join("x" * 200), ("y" * 255 + "/") * 4, "%" * 1024],
    )
    def test_long_ones_too(self, files, name):
        files.put(name, b"body", 1)
        assert files.get(name) == b"body"
        files.post(name, 2, X_Object_Meta_A="1")
        assert files.head(name)["X-Object-Meta-A"] == "1"
        files.delete(name, 3)
        assert not files.has(name)
        assert files.tree() == []

    def test_a_long_name_and_what_is_below_it_exist_together(self, files):
        name = "x" * 600
        files.put(name, b"file", 1)
        files.put(name + "/b", b"below", 1)
        assert (files.get(name), files.get(name + "/b")) == (b"file", b"below")
        files.delete(name, 2)
        assert files.get(name + "/b") == b"below"
        files.delete(name + "/b", 2)
        assert files.tree() == []

    def test_names_that_look_like_twins_are_none(self, files):
        for name in ("a", "a/b", "a%dir/b", "a%file"):
            files.put(name, name.encode(), 1)
        assert [files.get(name) for name in ("a", "a/b", "a%dir/b", "a%file")] == [b"a", b"a/b", b"a%dir/b", b"a%file"]

    def test_hidden_containers_lie_below_the_reserved_directory(self, files):
        files.container = "\0versions\0c"
        files.put("\0o\0001", b"old", 1)
        assert (files.root / ".lustack/reserved/a/%00versions%00c/%00o%001").read_bytes() == b"old"
        assert files.get("\0o\0001") == b"old"
        assert (files.root / ".lustack").stat().st_mode & 0o7777 == 0o700
        files.delete("\0o\0001", 2)
        assert files.tree() == []


class TestMarkers:
    def test_an_empty_object_with_a_slash_is_a_directory(self, files):
        files.put("a/", b"", 1, X_Object_Meta_A="1")
        assert files.tree() == ["a/"]
        assert files.get("a/") == b""
        found = files.head("a/")
        assert (found["Content-Length"], found["X-Object-Meta-A"]) == ("0", "1")
        assert not files.has("a")

    def test_an_empty_object_of_the_type_of_a_directory_is_one(self, files):
        files.put("a", b"", 1, **FOLDER)
        assert files.tree() == ["a/"]
        assert files.head("a")["Content-Type"] == "application/directory"
        assert not files.has("a/")

    def test_both_can_be_the_same_directory(self, files):
        files.put("a", b"", 1, X_Object_Meta_A="plain", **FOLDER)
        files.put("a/", b"", 2, X_Object_Meta_A="slash")
        assert [files.head(name)["X-Object-Meta-A"] for name in ("a", "a/")] == ["plain", "slash"]
        assert files.tree() == ["a/"]
        files.delete("a", 3)
        assert files.has("a/")
        files.delete("a/", 4)
        assert files.tree() == []

    def test_a_directory_of_a_job_becomes_one_and_stays_when_it_is_none_any_more(self, files):
        (files.directory / "a").mkdir(parents=True)
        files.put("a/", b"", 1)
        assert files.has("a/")
        files.delete("a/", 2)
        assert not files.has("a/")
        assert files.tree() == ["a/"]

    def test_what_is_in_one_does_not_change_it(self, files):
        files.put("a/", b"", 1)
        files.put("a/b", b"x", 2)
        assert files.head("a/")["X-Timestamp"] == at(1).internal
        files.delete("a/b", 3)
        assert files.has("a/")
        assert files.tree() == ["a/"]

    def test_the_last_delete_in_one_that_is_none_any_more_removes_it(self, files):
        files.put("a/", b"", 1)
        files.put("a/b", b"x", 2)
        files.delete("a/", 3)
        assert files.get("a/b") == b"x"
        files.delete("a/b", 4)
        assert files.tree() == []

    def test_post_and_put_again(self, files):
        files.put("a/", b"", 1, X_Object_Meta_A="1", X_Object_Sysmeta_S="1")
        files.post("a/", 2, X_Object_Meta_A="2")
        found = files.head("a/")
        assert (found["X-Object-Meta-A"], found["X-Object-Sysmeta-S"]) == ("2", "1")
        files.put("a/", b"", 3, X_Object_Meta_A="3", X_Object_Sysmeta_S="3")
        found = files.head("a/")
        assert (found["X-Object-Meta-A"], found["X-Object-Sysmeta-S"]) == ("3", "3")

    def test_an_older_put_is_dropped(self, files):
        files.put("a/", b"", 3, X_Object_Meta_A="new")
        files.put("a/", b"", 2, X_Object_Meta_A="old")
        assert files.head("a/")["X-Object-Meta-A"] == "new"

    def test_one_with_bytes_is_a_file(self, files):
        files.put("a/", b"bytes", 1)
        assert files.tree() == ["a/", "a/%"]
        assert files.get("a/") == b"bytes"
        files.delete("a/", 2)
        assert files.tree() == []

    def test_a_file_replaces_one_and_gets_its_place(self, files):
        files.put("a", b"", 1, **FOLDER)
        files.put("a", b"bytes", 2)
        assert files.get("a") == b"bytes"
        assert files.tree() == ["a"]

    def test_a_file_replaces_one_that_has_something_in_it(self, files):
        files.put("a", b"", 1, **FOLDER)
        files.put("a/b", b"below", 1)
        files.put("a", b"bytes", 2)
        assert (files.get("a"), files.get("a/b")) == (b"bytes", b"below")
        assert files.tree() == ["a%file", "a/", "a/b"]

    def test_a_file_with_a_slash_replaces_one(self, files):
        files.put("a/", b"", 1)
        files.put("a/", b"bytes", 2)
        assert files.get("a/") == b"bytes"
        files.put("a/", b"", 3)
        assert files.get("a/") == b""
        assert files.head("a/")["X-Timestamp"] == at(3).internal

    def test_one_that_replaces_a_file_may_stay_a_file(self, files):
        files.put("a", b"bytes", 1)
        files.put("a", b"", 2, **FOLDER)
        found = files.head("a")
        assert (found["Content-Length"], found["Content-Type"]) == ("0", "application/directory")
        files.delete("a", 3)
        assert files.tree() == []

    def test_one_below_a_file_goes_beside_it(self, files):
        files.put("a", b"file", 1)
        files.put("a/b/", b"", 2)
        assert files.has("a/b/")
        files.put("a/", b"", 2)
        assert (files.has("a/"), files.get("a")) == (True, b"file")
        files.delete("a", 3)
        assert (files.has("a/"), files.has("a/b/")) == (True, True)

    def test_a_copy_of_one_is_no_object(self, files):
        files.put("a/", b"", 1)
        subprocess.run(["cp", "-a", files.directory / "a", files.directory / "b"], check=True)
        assert not files.has("b/")

    def test_a_copy_of_one_with_much_metadata_is_no_object_either(self, files):
        files.put("a/", b"", 1, X_Object_Meta_A="x" * 5000)
        assert files.head("a/")["X-Object-Meta-A"] == "x" * 5000
        subprocess.run(["cp", "-a", files.directory / "a", files.directory / "b"], check=True)
        assert not files.has("b/")
        files.delete("a/", 2)
        assert files.sidecars() == []

    def test_garbage_on_a_directory_makes_no_object(self, files):
        (files.directory / "a").mkdir(parents=True)
        os.setxattr(files.directory / "a", layout.SLASH_ATTRIBUTES.data, b"garbage")
        assert not files.has("a/")
        files.put("a/", b"", 1)
        assert files.has("a/")

    def test_slashes_alone_are_names(self, files):
        for name in ("/", "//", "a//"):
            files.put(name, b"", 1)
            assert files.has(name)
            files.delete(name, 2)
            assert not files.has(name)
        assert files.tree() == []

    def test_a_renamed_one_is_one_under_its_new_name(self, files):
        files.put("a/", b"", 1)
        os.rename(files.directory / "a", files.directory / "b")
        assert (files.has("a/"), files.has("b/")) == (False, True)


def plant_link(path: Path) -> None:
    path.symlink_to(path.parents[3] / "outside")


def plant_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def plant_link_to_directory(path: Path) -> None:
    path.symlink_to(path.parents[3])


def plant_fifo(path: Path) -> None:
    os.mkfifo(path)


def plant_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the address of a socket is short
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def plant_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


PLANTED = [
    plant_link,
    plant_dangling_link,
    plant_link_to_directory,
    plant_fifo,
    plant_socket,
    pytest.param(plant_device, marks=NEEDS_ROOT),
]


@pytest.mark.parametrize("plant", PLANTED)
class TestPlanted:
    @pytest.fixture(autouse=True)
    def outside(self, files) -> Path:
        secret = files.root.parent / "outside"
        secret.write_bytes(b"secret")
        files.directory.mkdir(parents=True)
        return secret

    def test_it_is_no_object(self, files, plant):
        plant(files.directory / "o")
        for method in ("GET", "HEAD", "POST", "DELETE"):
            assert Server(files).call(method, "o", 1).status_int == 404
        assert (files.directory / "o").is_symlink() or os.path.lexists(files.directory / "o")

    def test_a_put_goes_beside_it_and_touches_nothing(self, files, plant, outside):
        plant(files.directory / "o")
        before = os.lstat(files.directory / "o")
        files.put("o", b"new", 2)
        files.put("o", b"newer", 3)
        assert files.get("o") == b"newer"
        assert os.lstat(files.directory / "o") == before
        assert outside.read_bytes() == b"secret"
        files.delete("o", 4)
        assert files.tree() == ["o"] or files.tree() == ["o/"]

    def test_a_marker_goes_beside_it(self, files, plant):
        plant(files.directory / "o")
        files.put("o/", b"", 1)
        files.put("o", b"", 1, **FOLDER)
        assert (files.has("o/"), files.has("o")) == (True, True)

    def test_in_the_middle_of_a_path_it_leads_nowhere(self, files, plant, outside):
        plant(files.directory / "d")
        assert not files.has("d/outside")
        files.put("d/outside", b"new", 1)
        assert files.get("d/outside") == b"new"
        assert outside.read_bytes() == b"secret"
        files.delete("d/outside", 2)
        assert not files.has("d/outside")
        assert outside.read_bytes() == b"secret"

    def test_in_the_place_of_a_twin_too_a_put_is_refused(self, files, plant):
        plant(files.directory / "o")
        plant(files.directory / "o%file")
        before = os.lstat(files.directory / "o%file")
        response = Server(files).call("PUT", "o", 1, b"new")
        assert response.status == "403 Forbidden"
        assert b"in the way" in response.body
        assert os.lstat(files.directory / "o%file") == before
        assert files.temporary_files() == []

    @pytest.mark.parametrize("level", ["c", "a"])
    def test_in_the_place_of_a_container_or_an_account_nothing_is_followed(self, files, plant, level):
        files.directory.rmdir()
        target = files.directory if level == "c" else files.directory.parent
        if level == "a":
            target.rmdir()
        plant_at = target if level == "c" else files.root / "x" / "y" / "z"
        plant_at.parent.mkdir(parents=True, exist_ok=True)
        plant(plant_at)
        if level == "a":
            os.rename(plant_at, target)
        before = sorted(path for path in files.root.parent.rglob("*") if ".lustack" not in path.parts)
        for method in ("GET", "HEAD", "POST", "DELETE"):
            assert Server(files).call(method, "outside", 1).status_int == 404
        response = Server(files).call("PUT", "outside", 2, b"new")
        assert response.status == "403 Forbidden"
        assert b"in the way" in response.body
        assert sorted(path for path in files.root.parent.rglob("*") if ".lustack" not in path.parts) == before


@NEEDS_ROOT
class TestNoRoom:
    @pytest.fixture
    def small(self, swift_conf, tmp_path):
        """A file system of 1 MiB; of the files, lustack's own locks are 256."""
        mount = tmp_path / "small" / "d"
        mount.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=600", "tmpfs", mount], check=True)
        try:
            with contextlib.closing(Files(tmp_path / "small")) as found:
                yield found
        finally:
            subprocess.run(["umount", mount], check=True)

    @pytest.mark.parametrize("length", [2 * 1024 * 1024, None])
    def test_it_is_said_at_the_end_and_the_room_comes_back_at_once(self, small, length):
        small.put("o", b"before", 1)
        free = os.statvfs(small.root).f_bfree
        body = bytes(1024 * 1024)
        writer = small.disk_file("o").writer(size=length)
        writer.open()
        for _ in range(3):
            writer.write(body)
        assert small.temporary_files() == []
        assert os.statvfs(small.root).f_bfree == free
        with pytest.raises(HTTPException) as caught:
            small.publish(writer, 2)
        assert caught.value.status == faults.NO_ROOM_STATUS
        writer.close()
        assert small.get("o") == b"before"

    def test_no_room_for_another_file_is_no_room_either(self, small):
        small.put("o", b"before", 1)
        for number in range(os.statvfs(small.root).f_ffree):
            small.write(f"job{number}")
        assert Server(small).call("PUT", "p", 2, b"x").status == faults.NO_ROOM_STATUS
        assert small.get("o") == b"before"

    def test_swift_answers_with_the_mark_and_can_delete(self, small):
        server = Server(small)
        small.put("full", bytes(900 * 1024), 1)
        response = server.call("PUT", "o", 2, bytes(512 * 1024))
        assert response.status == faults.NO_ROOM_STATUS
        assert response.body == b"The file system has no room left, or a quota is reached.\n"
        assert server.call("DELETE", "full", 3).status_int == 204
        assert server.call("PUT", "o", 4, bytes(512 * 1024)).status_int == 201

    def test_a_delete_makes_the_room_that_its_own_note_needs(self, small):
        small.put("o", b"x", 1)
        small.delete("o", 2)
        [note] = small.root.glob(".lustack/tombstones/*/*")
        note.unlink()
        small.put("o", b"x", 3)
        for number in range(os.statvfs(small.root).f_ffree):
            small.write(f"job{number}")
        small.delete("o", 5)
        assert note.exists()
        small.write("job0").unlink()
        small.put("o", b"late", 4)
        assert not small.has("o")

    @pytest.mark.expects_log("WARNING swift.tests: /a/c/full: no room to note the deletion: a late upload may undo it")
    def test_a_delete_works_even_if_nothing_can_note_it(self, small):
        server = Server(small)
        small.put("full", b"x", 1)
        os.link(small.directory / "full", small.directory / "linked")
        for number in range(os.statvfs(small.root).f_ffree):
            small.write(f"job{number}")
        assert server.call("DELETE", "full", 2).status_int == 204
        assert not small.has("full")


AS_NOBODY = """
import logging, os, sys, warnings
from pathlib import Path
from swift.common import storage_policy, utils
from tests.objects import Files, Server, no_thread_pool

warnings.simplefilter("ignore")
logging.disable()
utils.SWIFT_CONF_FILE, utils.HASH_PATH_SUFFIX = sys.argv[1], b"tests"
storage_policy.reload_storage_policies()
server = Server(Files(Path(sys.argv[2])))
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with no_thread_pool():
    for method, name, body in (("PUT", "new", b"x"), ("DELETE", "mine", None), ("GET", "secret", None)):
        response = server.call(method, name, 2, body)
        print(response.status, response.body.decode().strip(), sep="; ")
"""


@NEEDS_ROOT
class TestWithoutRights:
    @pytest.fixture
    def shared(self, swift_conf):
        """Files that an ordinary user can reach, in a reserved directory that is his; pytest's are closed to others."""
        with tempfile.TemporaryDirectory() as top, contextlib.closing(Files(Path(top) / "devices")) as files:
            os.chmod(top, 0o755)
            shutil.copy(swift_conf, top)
            files.put("mine", b"x", 1)
            files.put("secret", b"x", 1)
            (files.directory / "secret").chmod(0o600)
            self.give(files.root / ".lustack")
            yield files

    def give(self, path: Path) -> None:
        subprocess.run(["chown", "-R", "65534", path], check=True)

    def ask(self, files: Files) -> list[str]:
        devices = files.root.parent
        command = [sys.executable, "-c", AS_NOBODY, devices.parent / "swift.conf", devices]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, cwd=REPOSITORY)
        return done.stdout.splitlines()

    def test_what_the_kernel_forbids_is_403(self, shared):
        assert self.ask(shared) == ["403 Forbidden; The file system does not permit this."] * 3
        assert shared.get("mine") == b"x"

    def test_an_ordinary_user_can_serve_what_is_his(self, shared):
        self.give(shared.root)
        assert self.ask(shared) == ["201 Created; ", "204 No Content; ", "200 OK; x"]


class FailOnce:
    """A function that does not find what it needs at the first call."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self.has_failed = False

    def __call__(self, *args: object) -> object:
        if not self.has_failed:
            self.has_failed = True
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return self._function(*args)


class TestCrashes:
    def test_what_a_crash_left_is_no_object_and_stays_for_the_sweeper(self, files):
        files.put("o", b"x", 1)
        left = files.write(".lustack.tmp.0123456789abcdef", b"half")
        for name in (".lustack.tmp.0123456789abcdef", "o"):
            assert files.has(name) == (name == "o")
        files.put(".lustack.tmp.0123456789abcdef", b"object", 1)
        assert files.get(".lustack.tmp.0123456789abcdef") == b"object"
        assert left.read_bytes() == b"half"

    def test_a_temporary_file_that_was_swept_meanwhile_is_503(self, files):
        with files.upload("o", LONG) as writer:
            [path] = files.temporary_files()
            path.unlink()
            with pytest.raises(HTTPException) as caught:
                files.publish(writer, 1)
        assert caught.value.status_int == 503

    @pytest.mark.parametrize("name", ["o", "marker/"])
    def test_what_was_given_up_once_is_not_published_later(self, files, monkeypatch, name):
        monkeypatch.setattr("lustack.swift.writer.find", fail_once := FailOnce(find))
        with files.upload(name) as writer:
            with pytest.raises(HTTPException):
                files.publish(writer, 1)
            with pytest.raises(AbandonedError):
                files.publish(writer, 2)
        assert fail_once.has_failed
        assert not files.has(name)

    def test_what_is_given_up_at_the_last_moment_leaves_no_sidecar(self, files):
        with files.upload("o", LONG) as writer:
            [path] = files.temporary_files()
            path.unlink()
            with pytest.raises(HTTPException):
                files.publish(writer, 1, **{f"X_Object_Meta_{number}": "v" * 8000 for number in range(20)})
            assert len(files.sidecars()) == 1
        assert files.sidecars() == []

    @pytest.mark.expects_log("WARNING swift.tests: /a/c/o: a temporary file stays until it is swept: ")
    def test_a_temporary_file_that_cannot_be_removed_is_reported(self, files):
        with files.upload("o", LONG):
            [path] = files.temporary_files()
            path.unlink()
            path.mkdir()

    def test_a_writer_that_is_not_open_takes_nothing(self, files):
        with pytest.raises(ValueError, match="not open"):
            files.disk_file("o").writer(size=1).write(b"x")

    def test_what_nobody_will_read_soon_leaves_the_page_cache(self, files):
        files.manager.keep_cache_size = len(LONG) - 1
        files.put("o", LONG, 1)
        assert files.get("o") == LONG


@pytest.mark.parametrize("word", [each.value for each in Sync])
def test_an_object_is_whole_however_durable_it_is(swift_conf, tmp_path, word):
    conf = {"lustre_fsync": f"gold={word}", "mb_per_sync": "0"}
    with contextlib.closing(Files(tmp_path / "devices", conf)) as files:
        files.put("o", LONG, 1)
        files.put("o", LONG + b"more", 2)
        assert files.get("o") == LONG + b"more"


@pytest.mark.parametrize("word", [each.value for each in Sync])
def test_the_disk_begins_before_the_last_byte_has_come(swift_conf, tmp_path, word, monkeypatch):
    monkeypatch.setattr("lustack.swift.writer._WRITEBACK_BYTES", MIB)
    with contextlib.closing(Files(tmp_path / "devices", {"lustre_fsync": word})) as files:
        writer = files.disk_file("o").writer(size=None).open()
        for number in range(5):
            writer.write(bytes([number]) * MIB)
        files.publish(writer, 1)
        writer.close()
        assert files.get("o") == b"".join(bytes([number]) * MIB for number in range(5))


@pytest.mark.parametrize("long_bytes", [MIB, 100 * MIB])
@pytest.mark.parametrize("crowd", [0, 300])
@pytest.mark.parametrize("piece_bytes", [700, 64 * 1024, 2 * MIB])
def test_md5_and_bytes_are_right_however_pieces_come_and_wherever_they_are_hashed(
    files, monkeypatch, piece_bytes, crowd, long_bytes
):
    monkeypatch.setattr("lustack.swift.writer._LONG_BYTES", long_bytes)
    body = b"".join(b"%07d\n" % number for number in range(5 * MIB // 8 + 1))
    for _ in range(crowd):
        files.device.crowd.come()
    with files.disk_file("o").create(size=len(body)) as writer:
        for start in range(0, len(body), piece_bytes):
            writer.write(body[start : start + piece_bytes])
        assert writer.chunks_finished() == (len(body), hashlib.md5(body, usedforsecurity=False).hexdigest())
        files.publish(writer, 1)
    assert files.get("o") == body


def test_an_upload_counts_as_one_of_the_crowd_until_it_is_closed(files):
    for _ in range(2):
        with files.upload("o", LONG) as writer:
            assert files.device.crowd._here == 1
            files.publish(writer, 1)
        writer.close()
        assert files.device.crowd._here == 0


def test_a_long_upload_takes_the_place_of_a_marker(files):
    files.put("o", b"", 1, **FOLDER)
    assert files.tree() == ["o/"]
    files.put("o", LONG, 2)
    assert files.get("o") == LONG
