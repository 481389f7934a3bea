# SPDX-License-Identifier: Apache-2.0
"""What the contract does not say: files that jobs make, change, copy, rename and link, and forged metadata."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest
from swift.common.concurrency import patcher, sleep
from swift.common.exceptions import DiskFileDeleted, DiskFileExpired, DiskFileNotExist, DiskFileNotOpen
from swift.common.swob import HTTPException
from swift.common.utils import Timestamp
from tests.objects import NEEDS_ROOT, START_S, Files, Server, SwiftLog, at, thread_pool
from tests.waiting import LIMIT_S, wait_for

from lustack.mapping import layout
from lustack.mapping.view import EMPTY_ETAG, OCTET_STREAM
from lustack.swift.calls import Bounds, Calls
from lustack.swift.device import Device
from lustack.swift.diskfile import _hash_small
from lustack.swift.placement import Key, find
from lustack.swift.threads import POOL

DATA, DATA_SYSTEM, META, _ = layout.FILE_ATTRIBUTES
NS = 1_000_000_000
BIG = b"x" * 65537
LONG = b"below" * 20000
DEADLINE_S = 0.05

S3_ETAG = "X-Object-Sysmeta-S3Api-Etag"
ROW_ETAG = "X-Object-Sysmeta-Container-Update-Override-Etag"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def is_close(text: str, seconds: float) -> bool:
    return abs(float(Timestamp(text)) - seconds) < 60


def test_a_body_is_given_out_once(files):
    files.put("o", b"x", 1)
    disk_file = files.disk_file("o")
    with disk_file.open():
        disk_file.reader()
        with pytest.raises(DiskFileNotOpen):
            disk_file.reader()


class SlowDevice(Device):
    """A device that answers when it is told to, later than anybody waits."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.looks = self.changes = self.streams = Calls(path, SwiftLog(), Bounds(4, DEADLINE_S, DEADLINE_S))
        self._moves = patcher.original("threading").Event()

    @contextlib.contextmanager
    def root(self) -> Iterator[int]:
        self.hang()
        with super().root() as fd:
            yield fd

    def hang(self) -> None:
        assert self._moves.wait(LIMIT_S)

    def go_on(self) -> None:
        """What hangs goes on, and its end is waited for."""
        self._moves.set()
        wait_for(lambda: not self.changes._jobs and not POOL._busy, sleep=sleep)


@pytest.mark.expects_log("^WARNING swift.tests: .*/d: the file system does not answer$")
class TestStalls:
    @pytest.fixture
    def slow(self, files) -> Iterator[Files]:
        files.put("o", LONG, 1)
        quick = files.device
        slow = files.manager._devices[str(files.root)] = SlowDevice(str(files.root))
        with thread_pool():
            try:
                yield files
            finally:
                slow.go_on()
        slow.locks.close()
        files.manager._devices[str(files.root)] = quick

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
    def test_who_waited_too_long_is_told_to_come_back(self, slow, method):
        response = Server(slow).call(method, "o", 2, LONG if method == "PUT" else None)
        assert (response.status_int, response.headers["Retry-After"]) == (503, "10")

    def test_a_file_that_was_opened_too_late_is_closed(self, slow):
        with pytest.raises(HTTPException):
            slow.get("o")

    @pytest.mark.parametrize("size", [1, len(LONG), None])
    def test_an_upload_that_waited_too_long_leaves_nothing(self, slow, size):
        writer = slow.disk_file("p").writer(size=size).open()
        writer.write(LONG[: size or 1])
        with pytest.raises(HTTPException) as caught:
            slow.publish(writer, 2)
        assert caught.value.status_int == 503
        writer.close()
        slow.device.go_on()
        assert slow.temporary_files() == []
        assert not (slow.directory / "p").exists()

    @pytest.mark.parametrize("name", ["o", "marker/"])
    def test_an_upload_whose_client_was_told_that_it_failed_does_not_replace_what_is_there(self, slow, name):
        with pytest.raises(HTTPException):
            slow.put(name, b"" if name == "marker/" else b"new", 2)
        slow.device.go_on()
        assert (slow.directory / "o").read_bytes() == LONG
        assert slow.tree() == ["o"]

    def test_what_hangs_in_the_rename_itself_is_published_when_it_returns(self, slow, monkeypatch):
        real_rename, began = os.rename, []

        def rename(*args: object, **kwargs: object) -> None:
            began.append(args)
            slow.device.hang()
            real_rename(*args, **kwargs)

        monkeypatch.setattr(os, "rename", rename)
        monkeypatch.setattr(type(slow.device), "root", Device.root)
        while not began:  # what comes before it may take too long on a busy machine
            slow.device.changes.deadline_s *= 2
            with pytest.raises(HTTPException) as caught:
                slow.put("o", b"new", 2)
            assert caught.value.status_int == 503
        assert (slow.directory / "o").read_bytes() == LONG
        slow.device.go_on()
        assert (slow.directory / "o").read_bytes() == b"new"
        assert len(began) == 1


class TestFilesOfJobs:
    def test_a_small_one_has_the_md5_of_its_bytes(self, files):
        files.write("dir/o.png", b"hello", mtime_ns=START_S * NS + 123_456_789)
        assert files.get("dir/o.png") == b"hello"
        assert files.head("dir/o.png") == {
            "X-Timestamp": f"{START_S}.12345",
            "Content-Type": "image/png",
            "Content-Length": "5",
            "ETag": md5(b"hello"),
        }

    def test_an_empty_one_has_the_md5_of_nothing(self, files):
        files.write("o")
        found = files.head("o")
        assert (found["ETag"], found["Content-Type"]) == (EMPTY_ETAG, OCTET_STREAM)

    def test_a_big_one_has_no_etag_and_one_for_s3_that_is_no_md5(self, files):
        files.write("o", BIG)
        found = files.head("o")
        assert found["ETag"] is None
        assert found[S3_ETAG].endswith("-1")
        assert found[ROW_ETAG] == f"; s3_etag={found[S3_ETAG]}"
        assert files.get("o") == BIG

    def test_the_bound_is_the_operators(self, swift_conf, tmp_path):
        with contextlib.closing(Files(tmp_path / "other", {"lustre_small_hash_bytes": "4"})) as files:
            files.write("o", b"hello")
            files.write("p", b"four")
            assert files.head("o")["ETag"] is None
            assert files.head("p")["ETag"] == md5(b"four")

    def test_looking_at_one_writes_nothing(self, files):
        path = files.write("o", b"hello")
        before = path.stat()
        files.head("o")
        files.get("o")
        after = path.stat()
        assert (before.st_ctime_ns, before.st_mtime_ns) == (after.st_ctime_ns, after.st_mtime_ns)
        assert os.listxattr(path) == []

    def test_one_that_is_written_to_right_now_is_not_hashed(self, files):
        path = files.write("o", b"hello")
        with files.device.home("a", "c") as home:
            found = find(home, Key("a", "c", "o"))
            path.write_bytes(b"other bytes")
            assert _hash_small(found) is None
            os.truncate(path, 2)
            assert _hash_small(found) is None
            os.close(found.fd)

    def test_post_gives_it_metadata_and_keeps_its_bytes_and_its_time(self, files):
        path = files.write("o", b"hello", mtime_ns=START_S * NS)
        files.post("o", 5, X_Object_Meta_Color="red")
        found = files.head("o")
        assert (found["X-Object-Meta-Color"], found["ETag"]) == ("red", md5(b"hello"))
        assert path.read_bytes() == b"hello"
        assert path.stat().st_mtime_ns == START_S * NS

    def test_put_replaces_it(self, files):
        files.write("o", b"job")
        files.put("o", b"swift", 1)
        assert files.get("o") == b"swift"

    def test_delete_removes_it(self, files):
        files.write("o", b"job")
        files.delete("o", 1)
        assert not files.has("o")

    def test_one_of_a_name_that_was_deleted_exists_again(self, files):
        files.put("o", b"swift", 1)
        files.delete("o", 2)
        files.write("o", b"job")
        assert files.get("o") == b"job"

    @pytest.mark.parametrize("mtime_ns", [-5 * NS, 0, NS, 4_000_000_000 * NS, "soon"])
    def test_no_mtime_keeps_swift_from_writing(self, files, mtime_ns):
        mtime_ns = int(time.time() + 100) * NS if mtime_ns == "soon" else mtime_ns
        server = Server(files)
        for name, method, body in (("o", "PUT", b"new"), ("p", "POST", None), ("q", "DELETE", None)):
            files.write(name, b"job", mtime_ns)
            assert server.call("HEAD", name, Timestamp.now()).status_int == 200
            assert server.call(method, name, Timestamp.now(), body).status_int in (201, 202, 204)
        assert files.get("o") == b"new"
        assert not files.has("q")

    def test_a_request_with_an_old_time_is_not_kept_from_writing_either(self, files):
        files.write("o", b"job")
        assert Server(files).call("PUT", "o", 1, b"new").status_int == 201
        assert files.get("o") == b"new"

    def test_a_directory_is_no_object(self, files):
        files.write("dir/o", b"hello")
        assert not files.has("dir")
        assert not files.has("dir/")


class TestChangedInPlace:
    @pytest.fixture(params=[b"hello again", BIG])
    def content(self, files, request) -> bytes:
        files.put(
            "o",
            b"hello",
            1,
            Content_Type="image/png",
            X_Object_Meta_Color="red",
            X_Object_Sysmeta_A="1",
            X_Static_Large_Object="True",
            Content_Encoding="gzip",
        )
        files.write("o", request.param)
        return request.param

    def test_what_its_owner_said_stays_and_what_described_the_bytes_goes(self, files, content):
        found = files.head("o")
        assert found["X-Object-Meta-Color"] == "red"
        assert (found["Content-Type"], found["Content-Encoding"]) == ("image/png", "gzip")
        assert found["Content-Length"] == str(len(content))
        assert not {"X-Object-Sysmeta-A", "X-Static-Large-Object"} & set(found)
        assert files.get("o") == content

    def test_its_etag_is_never_stale(self, files, content):
        assert files.head("o")["ETag"] == (None if content is BIG else md5(content))

    def test_its_time_is_that_of_the_change(self, files, content):
        assert is_close(files.head("o")["X-Timestamp"], time.time())

    def test_its_time_is_never_older_than_the_put(self, files, content):
        os.utime(files.directory / "o", (0, 0))
        os.utime(files.directory / "o", (1, START_S - 100))
        assert files.head("o")["X-Timestamp"] == at(1).internal

    def test_a_post_before_the_change_still_counts(self, files):
        files.put("o", b"hello", 1)
        files.post("o", 2, X_Object_Meta_Color="blue")
        files.write("o", b"changed")
        assert files.head("o")["X-Object-Meta-Color"] == "blue"

    def test_a_post_after_the_change_counts(self, files, content):
        files.post("o", Timestamp.now(), X_Object_Meta_Color="blue")
        found = files.head("o")
        assert (found["X-Object-Meta-Color"], found["Content-Length"]) == ("blue", str(len(content)))

    def test_the_expiry_stays(self, files):
        files.put("o", b"hello", 1, X_Delete_At=str(START_S + 5))
        files.write("o", b"changed")
        with pytest.raises(DiskFileExpired):
            files.head("o")

    def test_a_late_put_still_loses_against_the_one_before_the_change(self, files):
        files.put("o", b"new", 5)
        files.write("o", b"changed")
        files.put("o", b"old", 2)
        assert files.get("o") == b"changed"


class TestCopiedMovedLinked:
    @pytest.fixture
    def original(self, files):
        files.put("o", b"hello", 1, X_Object_Meta_Color="red", X_Object_Sysmeta_A="1")
        files.post("o", 2, X_Object_Meta_Color="blue")
        return files.directory / "o"

    def test_nothing_that_a_copy_carries_is_believed(self, files, original):
        subprocess.run(["cp", "-a", original, files.directory / "copy"], check=True)
        assert DATA in os.listxattr(files.directory / "copy")
        found = files.head("copy")
        assert {key for key in found if key.startswith("X-")} == {"X-Timestamp"}
        assert found["ETag"] == md5(b"hello")

    def test_a_copy_can_be_written_by_swift_like_any_file(self, files, original):
        subprocess.run(["cp", "-a", original, files.directory / "copy"], check=True)
        files.post("copy", 1, X_Object_Meta_Size="small")
        assert files.head("copy")["X-Object-Meta-Size"] == "small"
        files.put("copy", b"put", 1)
        assert files.get("copy") == b"put"

    def test_a_renamed_file_keeps_what_it_has(self, files, original):
        before = files.head("o")
        (files.directory / "dir").mkdir()
        os.rename(original, files.directory / "dir" / "moved")
        assert files.head("dir/moved") == before
        assert files.get("dir/moved") == b"hello"
        assert not files.has("o")

    def test_a_file_that_was_moved_over_another_is_served_there(self, files, original):
        files.put("p", b"other", 9)
        os.rename(original, files.directory / "p")
        assert files.get("p") == b"hello"

    def test_a_linked_file_is_served_under_both_names(self, files, original):
        os.link(original, files.directory / "link")
        assert files.head("link") == files.head("o")
        files.delete("o", 3)
        assert files.get("link") == b"hello"

    def test_a_put_over_one_of_two_names_leaves_the_other(self, files, original):
        os.link(original, files.directory / "link")
        files.put("o", b"new", 3)
        assert (files.get("o"), files.get("link")) == (b"new", b"hello")

    def test_a_copied_tree_is_a_copied_container(self, files, original):
        subprocess.run(["cp", "-a", files.directory, files.root / "a" / "d"], check=True)
        files.container = "d"
        assert files.get("o") == b"hello"
        files.delete("o", 1)
        assert not files.has("o")


GARBAGE = [
    b"",
    b"\x00\xff" * 50,
    b"\x80\x04\x95pickle",
    b"[]",
    b"null",
    b'"text"',
    b"{}",
    b'{"version":1}',
    b'{"version":2,"stamp":[1,2,3,null],"headers":{}}',
    b'{"version":1,"stamp":[1,2,3],"headers":{}}',
    b'{"version":1,"stamp":[1,2,3,4],"headers":{}}',
    b'{"version":1,"stamp":[1,2,null,null],"headers":{}}',
    b'{"version":1,"stamp":"1234","headers":{}}',
    b'{"version":1,"stamp":[1,2,3,null],"headers":[]}',
    b'{"version":1,"stamp":[1,2,3,null],"headers":{"A":1}}',
    b'{"version":1,"stamp":[1,2,3,null],"headers":{"A":"x\\r\\nSet-Cookie: y"}}',
    b'{"version":1,"stamp":[1,2,3,null],"headers":{"A\\r\\nB":"x"}}',
    b'{"version":1,"stamp":[1,2,3,null],"headers":{"A":"\\ud800"}}',
    b'{"version":1,"stamp":[1,2,3,null],"headers":{"X-Timestamp":"now"}}',
    b'{"version":1,"stamp":[1,2,3,null],"headers":{"X-Delete-At":"soon"}}',
    b"[" * 4000,
    b'{"a":' * 600,
    b"\0lustack-sidecar/1 " + b"0" * 32,
    b"\0lustack-sidecar/1 ../../../../etc/passwd",
    b"\0lustack-sidecar/1 ",
    b"\0lustack-sidecar/2 " + b"0" * 32,
]
GARBAGE_OF_POSTS = [
    *(blob.replace(b'"stamp":[1,2,3,null]', b'"inode":%d' % 1) for blob in GARBAGE),
    b'{"version":1,"inode":"1","headers":{}}',
    b'{"version":1,"inode":true,"headers":{}}',
    b'{"version":1,"inode":1,"headers":{}}',
    b'{"version":1,"inode":1,"headers":{"X-Timestamp":"1700000005.00000","Content-Type-Timestamp":"1700000005.00000"}}',
]


class TestForged:
    """Owners of files can write `user.*` as they like."""

    @pytest.mark.expects_log(r"^WARNING swift.tests: /a/c/o: the (metadata|attribute) .*is served as a bare file\.$")
    @pytest.mark.parametrize("blob", GARBAGE)
    def test_garbage_for_what_put_wrote_is_reported_and_the_file_is_a_bare_one(self, files, blob):
        files.write("o", b"hello")
        # An empty value is no metadata at all.
        blob = blob or b" "
        os.setxattr(files.directory / "o", DATA, blob)
        found = files.head("o")
        assert found["ETag"] == md5(b"hello")
        assert set(found) == {"X-Timestamp", "Content-Type", "Content-Length", "ETag"}
        assert os.getxattr(files.directory / "o", DATA) == blob

    @pytest.mark.expects_log(r"^WARNING swift.tests: /a/c/o: the (metadata|attribute) .*is served as a bare file\.$")
    @pytest.mark.parametrize("blob", GARBAGE_OF_POSTS)
    def test_garbage_for_what_post_wrote_is_reported_too(self, files, blob):
        files.write("o", b"hello")
        os.setxattr(files.directory / "o", META, blob or b" ")
        assert files.head("o")["ETag"] == md5(b"hello")
        assert os.getxattr(files.directory / "o", META) == (blob or b" ")

    @NEEDS_ROOT
    @pytest.mark.expects_log("is served as a bare file")
    def test_every_method_works_on_a_file_with_garbage(self, files):
        server = Server(files)
        for name, method, body in (
            ("o", "PUT", b"new"),
            ("p", "POST", None),
            ("q", "DELETE", None),
            ("r", "GET", None),
        ):
            path = files.write(name, b"hello")
            for attribute in layout.FILE_ATTRIBUTES:
                os.setxattr(path, attribute, b"garbage")
            assert server.call(method, name, Timestamp.now(), body).status_int in (200, 201, 202, 204)
        assert files.get("o") == b"new"
        assert files.get("r") == b"hello"

    def forge(self, files, **document) -> dict:
        path = files.write("o", b"hello")
        stamp = [path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns, None]
        headers = {"X-Timestamp": at(1).internal, "ETag": md5(b"hello"), "Content-Type": "t"}
        document = {"version": 1, "stamp": stamp, "headers": {**headers, **document.pop("headers", {})}, **document}
        os.setxattr(path, DATA, json.dumps(document).encode())
        return files.head("o")

    @NEEDS_ROOT
    def test_forged_system_metadata_does_not_count(self, files):
        system = {"X-Object-Sysmeta-Symlink-Target": "x/y", "x-static-large-object": "True"}
        found = self.forge(files, headers=system, system=system)
        assert found["X-Timestamp"] == at(1).internal
        assert not {key for key in found if "ysmeta" in key or "arge" in key}

    @NEEDS_ROOT
    @pytest.mark.expects_log("the system's part is missing")
    def test_system_metadata_that_should_be_there_and_is_not_is_reported(self, files):
        self.forge(files, system=True)

    def test_a_forged_length_does_not_count(self, files):
        found = self.forge(files, headers={"Content-Length": "999"})
        assert found["Content-Length"] == "5"
        assert files.get("o") == b"hello"

    @NEEDS_ROOT
    @pytest.mark.expects_log("the system's part is of another file")
    def test_system_metadata_of_another_file_does_not_count(self, files):
        files.put("secret", b"x", 1, X_Object_Sysmeta_A="1")
        self.forge(files)
        stolen = os.getxattr(files.directory / "secret", DATA_SYSTEM)
        path = files.directory / "o"
        document = json.loads(os.getxattr(path, DATA))
        os.setxattr(path, DATA, json.dumps({**document, "system": True}, separators=(",", ":")).encode())
        os.setxattr(path, DATA_SYSTEM, stolen)
        server = Server(files)
        assert server.call("HEAD", "o", 3).headers.get("X-Object-Sysmeta-A") is None


class TestGone:
    def test_an_expired_object_closes_its_file(self, files):
        files.put("o", b"hello", 1, X_Delete_At=str(START_S + 5))
        with pytest.raises(DiskFileExpired):
            files.disk_file("o").open()

    def test_a_post_to_what_went_meanwhile_is_404(self, files):
        with pytest.raises(HTTPException) as caught:
            files.post("o", 1)
        assert caught.value.status_int == 404

    def test_a_delete_older_than_the_tombstone_spares_a_file_that_a_job_made_since(self, files):
        files.delete("o", 5)
        files.write("o", b"job")
        files.delete("o", 2)
        assert files.get("o") == b"job"

    def test_what_a_job_removed_does_not_exist_and_was_not_deleted(self, files):
        files.put("o", b"hello", 1)
        os.unlink(files.directory / "o")
        with pytest.raises(DiskFileNotExist) as caught:
            files.head("o")
        assert not isinstance(caught.value, DiskFileDeleted)

    def test_what_a_job_removed_can_be_put_again_with_an_older_time(self, files):
        files.put("o", b"hello", 5)
        os.unlink(files.directory / "o")
        files.put("o", b"older", 2)
        assert files.get("o") == b"older"

    def test_a_whole_container_that_a_job_removed_is_made_again(self, files):
        files.put("dir/o", b"hello", 1)
        shutil.rmtree(files.directory)
        assert not files.has("dir/o")
        files.put("dir/o", b"again", 2)
        assert files.get("dir/o") == b"again"

    def test_a_disk_file_names_its_object(self, files):
        assert repr(files.disk_file("x/y")) == "<PosixDiskFile /a/c/x/y>"
