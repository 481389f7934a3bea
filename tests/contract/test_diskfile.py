# SPDX-License-Identifier: Apache-2.0
"""What Swift's object server relies on, asked of Swift's own disk file first and of ours second."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from swift.common.exceptions import DiskFileDeleted, DiskFileExpired, DiskFileNotExist, DiskFileNotOpen
from swift.common.utils import Timestamp
from swift.obj.diskfile import DiskFileManager
from tests.exported import export, rewrite
from tests.objects import START_S, Files, Objects, SwiftLog, at

MD5_OF_HELLO = "5d41402abc4b2a76b9719d911017c592"
SYSTEM = {"X_Object_Sysmeta_Versions": "v", "X_Static_Large_Object": "True"}
MIB = 1024 * 1024


class DiskFileContract:
    """One test for each sentence; a subclass gives the fixture `objects`."""

    def test_what_nobody_wrote_does_not_exist(self, objects):
        for look in (objects.get, objects.head):
            with pytest.raises(DiskFileNotExist) as caught:
                look("o")
            assert not isinstance(caught.value, DiskFileDeleted)

    def test_put_is_seen_by_get_and_head(self, objects):
        objects.put("o", b"hello", 1, X_Object_Meta_Color="red", Content_Encoding="gzip")
        assert objects.get("o") == b"hello"
        found = objects.head("o")
        found.pop("name", None)
        assert found == {
            "X-Timestamp": at(1).internal,
            "Content-Type": "text/plain",
            "Content-Length": "5",
            "ETag": MD5_OF_HELLO,
            "X-Object-Meta-Color": "red",
            "Content-Encoding": "gzip",
        }

    def test_a_disk_file_says_when_and_what_was_written(self, objects):
        objects.put("o", b"hello", 1)
        disk_file = objects.disk_file("o")
        disk_file.read_metadata()
        assert (disk_file.account, disk_file.container, disk_file.obj) == ("a", "c", "o")
        assert disk_file.timestamp == disk_file.data_timestamp == disk_file.durable_timestamp == at(1)
        assert disk_file.content_type == "text/plain"
        assert disk_file.content_type_timestamp == at(1)
        assert disk_file.content_length == 5
        assert disk_file.fragments is None
        assert disk_file.get_metafile_metadata() is None

    def test_an_empty_object_has_no_bytes(self, objects):
        objects.put("o")
        assert objects.get("o") == b""
        assert objects.head("o")["Content-Length"] == "0"

    def test_a_body_of_unknown_length_is_written_in_pieces(self, objects):
        with objects.disk_file("o").create() as writer:
            for piece in (b"he", b"l", b"lo"):
                writer.write(piece)
            assert writer.chunks_finished() == (5, MD5_OF_HELLO)
            objects.publish(writer, 1)
        assert objects.get("o") == b"hello"

    def test_a_long_body_comes_back_whole(self, objects):
        body = bytes(range(256)) * (3 * MIB // 256)
        objects.put("o", body)
        assert objects.get("o") == body

    def test_what_is_not_published_does_not_appear(self, objects):
        with objects.upload("o", b"hello"):
            assert not objects.has("o")
        assert not objects.has("o")

    def test_what_is_not_published_leaves_what_was_there(self, objects):
        objects.put("o", b"old", 1)
        with objects.upload("o", b"new"):
            assert objects.get("o") == b"old"
        assert objects.get("o") == b"old"

    def test_a_newer_put_replaces_bytes_and_every_metadata(self, objects):
        objects.put("o", b"old", 1, X_Object_Meta_Old="1", **SYSTEM)
        objects.post("o", 2, X_Object_Meta_Posted="2")
        objects.put("o", b"new", 3, X_Object_Meta_New="3")
        assert objects.get("o") == b"new"
        names = {name for name in objects.head("o") if name.startswith("X-")}
        assert names == {"X-Timestamp", "X-Object-Meta-New"}

    def test_an_older_put_is_dropped_without_an_error(self, objects):
        objects.put("o", b"new", 3)
        objects.put("o", b"old", 2)
        assert objects.get("o") == b"new"
        assert objects.head("o")["X-Timestamp"] == at(3).internal

    def test_an_offset_makes_a_timestamp_newer(self, objects):
        objects.put("o", b"first", 1)
        objects.put("o", b"second", at(1, offset=2))
        objects.put("o", b"between", at(1, offset=1))
        assert objects.get("o") == b"second"
        disk_file = objects.disk_file("o")
        disk_file.read_metadata()
        assert disk_file.data_timestamp == at(1, offset=2)
        objects.delete("o", at(1, offset=1))
        assert objects.has("o")
        objects.delete("o", at(1, offset=3))
        assert not objects.has("o")

    def test_delete_says_when(self, objects):
        objects.put("o", b"hello", 1)
        objects.delete("o", 2)
        for look in (objects.get, objects.head):
            with pytest.raises(DiskFileDeleted) as caught:
                look("o")
            assert caught.value.timestamp == at(2)

    def test_an_older_delete_changes_nothing(self, objects):
        objects.put("o", b"hello", 3)
        objects.delete("o", 2)
        assert objects.get("o") == b"hello"

    def test_delete_of_what_does_not_exist_is_remembered(self, objects):
        objects.delete("o", 2)
        with pytest.raises(DiskFileDeleted) as caught:
            objects.get("o")
        assert caught.value.timestamp == at(2)

    def test_an_older_delete_does_not_set_a_newer_one_back(self, objects):
        objects.delete("o", 3)
        objects.delete("o", 2)
        with pytest.raises(DiskFileDeleted) as caught:
            objects.head("o")
        assert caught.value.timestamp == at(3)

    def test_a_late_put_does_not_revive_what_was_deleted(self, objects):
        objects.put("o", b"hello", 1)
        objects.delete("o", 3)
        objects.put("o", b"late", 2)
        with pytest.raises(DiskFileDeleted) as caught:
            objects.get("o")
        assert caught.value.timestamp == at(3)

    def test_a_newer_put_revives_what_was_deleted(self, objects):
        objects.put("o", b"hello", 1)
        objects.delete("o", 2)
        objects.put("o", b"again", 3)
        assert objects.get("o") == b"again"

    def test_post_replaces_what_the_owner_said_and_nothing_else(self, objects):
        objects.put("o", b"hello", 1, X_Object_Meta_A="1", X_Delete_At="9999999999", **SYSTEM)
        objects.post("o", 2, X_Object_Meta_B="2")
        found = objects.head("o")
        found.pop("name", None)
        assert found == {
            "X-Timestamp": at(2).internal,
            "Content-Type": "text/plain",
            "Content-Length": "5",
            "ETag": MD5_OF_HELLO,
            "X-Object-Meta-B": "2",
            "X-Object-Sysmeta-Versions": "v",
            "X-Static-Large-Object": "True",
        }
        assert objects.get("o") == b"hello"

    def test_the_two_layers_stay_apart(self, objects):
        objects.put("o", b"hello", 1, X_Object_Meta_A="1")
        objects.post("o", 2, X_Object_Meta_B="2", X_Object_Transient_Sysmeta_C="3")
        disk_file = objects.disk_file("o")
        disk_file.read_metadata()
        data, meta = disk_file.get_datafile_metadata(), disk_file.get_metafile_metadata()
        data.pop("name", None)
        meta.pop("name", None)
        assert data == {
            "X-Timestamp": at(1).internal,
            "Content-Type": "text/plain",
            "Content-Length": "5",
            "ETag": MD5_OF_HELLO,
            "X-Object-Meta-A": "1",
        }
        assert meta == {
            "X-Timestamp": at(2).internal,
            "X-Object-Meta-B": "2",
            "X-Object-Transient-Sysmeta-C": "3",
        }
        assert disk_file.data_timestamp == at(1)
        assert disk_file.timestamp == at(2)

    def test_an_older_post_changes_nothing(self, objects):
        objects.put("o", b"hello", 2, X_Object_Meta_A="1")
        objects.post("o", 1, X_Object_Meta_A="2")
        assert objects.head("o")["X-Object-Meta-A"] == "1"

    def test_of_two_posts_the_newer_counts(self, objects):
        objects.put("o", b"hello", 1)
        objects.post("o", 3, X_Object_Meta_A="3")
        objects.post("o", 2, X_Object_Meta_A="2", X_Object_Meta_B="2")
        found = objects.head("o")
        assert found["X-Object-Meta-A"] == "3"
        assert "X-Object-Meta-B" not in found

    def test_a_post_with_content_type_gives_it_a_time(self, objects):
        objects.put("o", b"hello", 1)
        objects.post("o", 2, Content_Type="image/png", Content_Type_Timestamp=at(2).internal)
        disk_file = objects.disk_file("o")
        assert disk_file.read_metadata()["Content-Type"] == "image/png"
        assert disk_file.content_type == "image/png"
        assert disk_file.content_type_timestamp == at(2)

    def test_a_content_type_outlives_a_newer_post_without_one(self, objects):
        objects.put("o", b"hello", 1)
        objects.post("o", 2, Content_Type="image/png", Content_Type_Timestamp=at(2).internal)
        objects.post("o", 3, X_Object_Meta_A="3")
        found = objects.head("o")
        assert (found["Content-Type"], found["X-Object-Meta-A"]) == ("image/png", "3")

    def test_a_late_content_type_joins_a_newer_post(self, objects):
        objects.put("o", b"hello", 1)
        objects.post("o", 3, X_Object_Meta_A="3")
        objects.post("o", 2, Content_Type="image/png", Content_Type_Timestamp=at(2).internal)
        found = objects.head("o")
        assert (found["Content-Type"], found["X-Object-Meta-A"]) == ("image/png", "3")

    def test_put_ends_an_older_content_type(self, objects):
        objects.put("o", b"hello", 1)
        objects.post("o", 2, Content_Type="image/png", Content_Type_Timestamp=at(2).internal)
        objects.put("o", b"hello", 3)
        assert objects.head("o")["Content-Type"] == "text/plain"

    def test_a_post_stays_in_force_when_a_late_put_comes_before_it(self, objects):
        objects.put("o", b"first", 1, X_Object_Meta_A="1")
        objects.post("o", 4, X_Object_Meta_B="4", X_Object_Transient_Sysmeta_C="5")
        objects.put("o", b"late", 2, X_Object_Meta_A="2", X_Object_Sysmeta_D="6")
        assert objects.get("o") == b"late"
        found = objects.head("o")
        assert {key: value for key, value in found.items() if key.startswith("X-")} == {
            "X-Timestamp": at(4).internal,
            "X-Object-Meta-B": "4",
            "X-Object-Transient-Sysmeta-C": "5",
            "X-Object-Sysmeta-D": "6",
        }

    def test_what_expired_is_gone_and_says_what_it_was(self, objects):
        objects.put("o", b"hello", 1, X_Delete_At=str(START_S + 5))
        with pytest.raises(DiskFileExpired) as caught:
            objects.disk_file("o").read_metadata(current_time=at(5))
        assert caught.value.timestamp == at(1)
        assert caught.value.metadata["X-Delete-At"] == str(START_S + 5)

    def test_what_will_expire_is_there_until_then(self, objects):
        objects.put("o", b"hello", 1, X_Delete_At=str(START_S + 5))
        assert objects.disk_file("o").read_metadata(current_time=at(4))["Content-Length"] == "5"

    def test_what_expired_can_be_opened_on_demand(self, objects):
        objects.put("o", b"hello", 1, X_Delete_At=str(START_S + 5))
        assert objects.head("o", open_expired=True)["Content-Length"] == "5"

    def test_post_takes_the_expiry_away(self, objects):
        objects.put("o", b"hello", 1, X_Delete_At=str(START_S + 5))
        objects.post("o", 2)
        assert objects.get("o") == b"hello"

    def test_metadata_of_any_script_comes_back_as_http_sent_it(self, objects):
        name, value = as_http("X-Object-Meta-\N{SNOWMAN}"), as_http("caf\xe9 \N{GRINNING FACE}")
        objects.put("o", b"hello", 1, **{name: value})
        assert objects.head("o")[name] == value
        objects.post("o", 2, **{name: value * 2})
        assert objects.head("o")[name] == value * 2

    @pytest.mark.parametrize(
        ("start", "stop", "expected"),
        [(0, 3, b"hel"), (1, 3, b"el"), (2, None, b"llo"), (0, 100, b"hello"), (4, 5, b"o")],
    )
    def test_a_range_is_a_piece(self, objects, start, stop, expected):
        objects.put("o", b"hello")
        with objects.disk_file("o").open() as disk_file:
            assert b"".join(disk_file.reader().app_iter_range(start, stop)) == expected

    def test_ranges_come_in_parts(self, objects):
        objects.put("o", b"0123456789")
        with objects.disk_file("o").open() as disk_file:
            parts = disk_file.reader().app_iter_ranges([(0, 2), (7, 10)], b"text/plain", b"xxx", 10)
            found = b"".join(parts).split(b"\r\n")
        assert found == [
            *(b"--xxx", b"Content-Type: text/plain", b"Content-Range: bytes 0-1/10", b"", b"01"),
            *(b"--xxx", b"Content-Type: text/plain", b"Content-Range: bytes 7-9/10", b"", b"789"),
            b"--xxx--",
        ]

    def test_a_reader_can_be_closed_early_and_twice(self, objects):
        objects.put("o", b"hello")
        with objects.disk_file("o").open() as disk_file:
            reader = disk_file.reader()
        reader.close()
        reader.close()

    def test_a_reader_sends_what_it_opened_though_the_object_is_replaced(self, objects):
        objects.put("o", b"old", 1)
        with objects.disk_file("o").open() as disk_file:
            reader = disk_file.reader()
        objects.put("o", b"newer", 2)
        assert b"".join(reader) == b"old"

    def test_nothing_is_told_before_it_is_opened(self, objects):
        objects.put("o", b"hello")
        disk_file = objects.disk_file("o")
        for ask in (disk_file.get_metadata, disk_file.get_datafile_metadata, disk_file.get_metafile_metadata):
            with pytest.raises(DiskFileNotOpen):
                ask()
        with pytest.raises(DiskFileNotOpen), disk_file:
            pass

    def test_an_opened_disk_file_closes_itself(self, objects):
        objects.put("o", b"hello")
        with objects.disk_file("o").open() as disk_file:
            assert disk_file.get_metadata()["Content-Length"] == "5"

    def test_an_unopened_writer_closes_without_an_error(self, objects):
        objects.disk_file("o").writer(size=1).close()
        assert not objects.has("o")

    def test_the_time_of_a_look_is_now_if_nobody_says(self, objects):
        objects.put("o", b"hello", 1, X_Delete_At=str(int(Timestamp.now()) + 1000))
        assert objects.has("o")


class TestStock(DiskFileContract):
    """Swift's own, which defines what is right."""

    @pytest.fixture
    def objects(self, swift_conf: Path, tmp_path: Path) -> Objects:
        (tmp_path / "stock" / "d").mkdir(parents=True)
        conf = {"devices": str(tmp_path / "stock"), "mount_check": "false", "mb_per_sync": "1"}
        # The tests count from a time in the past; what is deleted then must not be forgotten already.
        conf["reclaim_age"] = str(START_S)
        return Objects(DiskFileManager(conf, SwiftLog()))

    # Stock leaves the file open then, and Python says so when it closes it.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
    def test_what_expired_is_gone_and_says_what_it_was(self, objects):
        super().test_what_expired_is_gone_and_says_what_it_was(objects)
        gc.collect()


class TestPosix(DiskFileContract):
    """Ours, with system metadata in `trusted.*` where this process may write it."""

    @pytest.fixture
    def objects(self, swift_conf: Path, tmp_path: Path) -> Iterator[Files]:
        with contextlib.closing(Files(tmp_path / "ours", {"mb_per_sync": "1"})) as found:
            yield found
            assert found.temporary_files() == []


class TestPosixWithoutTrusted(TestPosix):
    """Ours, where nobody may write `trusted.*`."""

    @pytest.fixture
    def objects(self, swift_conf: Path, tmp_path: Path) -> Iterator[Files]:
        with contextlib.closing(Files(tmp_path / "ours", {"mb_per_sync": "1"})) as found:
            found.distrust()
            yield found
            assert found.temporary_files() == []


class TestExported(TestPosix):
    """Ours, in a directory somewhere else that is exported, as if it were on another file system."""

    @pytest.fixture
    def objects(self, swift_conf: Path, tmp_path: Path) -> Iterator[Files]:
        with contextlib.closing(Files(tmp_path / "ours", {"mb_per_sync": "1"})) as found:
            exported = export(found.root, tmp_path / "projects", "a", "c")
            rewrite(found.root, replace(exported, is_foreign=True))
            yield found
            assert not list(tmp_path.rglob(".lustack.tmp.*"))
            assert sorted(path.name for path in found.root.iterdir()) == [".lustack"]
            assert found.sidecars() == []


def as_http(text: str) -> str:
    """How HTTP's strings look in Python (PEP 3333)."""
    return text.encode("utf-8").decode("latin-1")
