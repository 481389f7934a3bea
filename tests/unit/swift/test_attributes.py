# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os

import pytest
from swift.common.swob import HTTPException
from tests.objects import NEEDS_ROOT

from lustack.mapping import layout
from lustack.mapping.metadata import DataLayer, MetaLayer, Stamp
from lustack.swift import attributes
from lustack.swift.placement import Key, find

LONG = "x" * 3000
# No file system has attributes of this length: XATTR_SIZE_MAX is 65536 (linux/limits.h).
BEYOND_ALL = "x" * 100_000
"""Two of these do not fit into the attributes of a file of ext4."""


def test_strings_of_http_become_text_and_back():
    http = {"X-Object-Meta-caf\xc3\xa9".title(): "\xe2\x98\x83"}
    native = attributes.to_native(http)
    assert list(native.values()) == ["\N{SNOWMAN}"]
    assert attributes.to_http(native) == http


def test_bytes_that_are_no_text_survive():
    http = {"X-Object-Meta-A": "\xff\xfe"}
    assert attributes.to_http(attributes.to_native(http)) == http


def test_text_that_swift_itself_adds_is_taken_as_it_is():
    assert attributes.to_native({"X-Object-Sysmeta-A": "\N{SNOWMAN}"}) == {"X-Object-Sysmeta-A": "\N{SNOWMAN}"}


def test_what_the_file_itself_says_is_not_stored():
    assert attributes.to_native({"Content-Length": "1", "name": "/a/c/o", "ETag": "e"}) == {"ETag": "e"}


def test_values_that_are_no_strings_are_written_as_such():
    assert attributes.to_native({"X-Delete-At": 17}) == {"X-Delete-At": "17"}


def test_layers_keep_what_is_the_systems_apart():
    own, system = {"X-Object-Meta-A": "1"}, {"X-Object-Sysmeta-B": "2", "X-Static-Large-Object": "True"}
    stamp = Stamp(1, 2, 3)
    assert attributes.data_layer(stamp, {**own, **system}) == DataLayer(stamp, own, system)
    transient = {"X-Object-Transient-Sysmeta-C": "3"}
    assert attributes.meta_layer(1, {**own, **transient}) == MetaLayer(1, own, transient)


class TestStored:
    """What lies on a file; the disk file is the door."""

    def read(self, files, name: str = "o") -> set[str]:
        return {key for key in os.listxattr(files.directory / name) if "lustack" in key}

    @NEEDS_ROOT
    def test_system_metadata_lies_where_owners_of_files_cannot_write(self, files):
        files.put("o", b"x", 1, X_Object_Sysmeta_A="secret")
        files.post("o", 2, X_Object_Transient_Sysmeta_B="secret")
        assert self.read(files) == set(layout.FILE_ATTRIBUTES)
        for name in (layout.FILE_ATTRIBUTES.data, layout.FILE_ATTRIBUTES.meta):
            assert b"secret" not in os.getxattr(files.directory / "o", name)

    def test_without_trusted_attributes_everything_lies_together(self, files):
        files.distrust()
        files.put("o", b"x", 1, X_Object_Sysmeta_A="1")
        files.post("o", 2, X_Object_Transient_Sysmeta_B="2")
        assert self.read(files) == {layout.FILE_ATTRIBUTES.data, layout.FILE_ATTRIBUTES.meta}
        found = files.head("o")
        assert (found["X-Object-Sysmeta-A"], found["X-Object-Transient-Sysmeta-B"]) == ("1", "2")

    def test_metadata_beyond_the_limit_of_the_file_system_lies_in_sidecars(self, files):
        files.put("o", b"x", 1, X_Object_Meta_A=LONG, X_Object_Sysmeta_B=LONG)
        files.post("o", 2, X_Object_Meta_C=LONG, X_Object_Transient_Sysmeta_D=LONG)
        found = files.head("o")
        names = ("X-Object-Sysmeta-B", "X-Object-Meta-C", "X-Object-Transient-Sysmeta-D")
        assert [found[name] for name in names] == [LONG] * 3
        assert "X-Object-Meta-A" not in found

    def test_sidecars_go_with_what_they_belong_to(self, files):
        value = BEYOND_ALL
        files.put("o", b"x", 1, X_Object_Meta_A=value)
        assert len(files.sidecars()) == 1
        files.post("o", 2, X_Object_Meta_B=value)
        assert len(files.sidecars()) == 2
        files.post("o", 3, X_Object_Meta_B="short")
        assert len(files.sidecars()) == 1
        files.put("o", b"y", 4, X_Object_Meta_A=value)
        assert len(files.sidecars()) == 1
        files.put("o", b"y", 5)
        assert files.sidecars() == []
        files.put("o", b"y", 6, X_Object_Meta_A=value)
        files.delete("o", 7)
        assert files.sidecars() == []

    def test_a_put_that_is_given_up_leaves_no_sidecar(self, files):
        files.put("o", b"x", 1)
        with files.upload("o", b"y") as writer:
            os.rename(files.directory, files.root / "moved")
            files.directory.symlink_to(files.root / "moved")
            with pytest.raises(HTTPException):
                files.publish(writer, 2, X_Object_Meta_A=BEYOND_ALL)
        assert files.sidecars() == []

    def test_another_name_of_a_file_keeps_its_sidecar(self, files):
        files.put("o", b"x", 1, X_Object_Meta_A=BEYOND_ALL)
        os.link(files.directory / "o", files.directory / "linked")
        files.put("o", b"y", 2)
        assert files.head("linked")["X-Object-Meta-A"] == BEYOND_ALL
        files.delete("linked", 3)
        assert files.sidecars() == []

    def test_deleting_one_name_of_a_file_keeps_its_sidecar(self, files):
        files.put("o", b"x", 1, X_Object_Meta_A=BEYOND_ALL)
        os.link(files.directory / "o", files.directory / "linked")
        files.delete("o", 2)
        assert files.head("linked")["X-Object-Meta-A"] == BEYOND_ALL

    def test_a_post_over_a_damaged_one_replaces_it(self, files):
        files.put("o", b"x", 1)
        files.post("o", 2, X_Object_Meta_A="old")
        os.setxattr(files.directory / "o", layout.FILE_ATTRIBUTES.meta, b"garbage")
        files.post("o", 3, X_Object_Meta_A="new")
        assert files.head("o")["X-Object-Meta-A"] == "new"

    @NEEDS_ROOT
    def test_a_post_over_a_damaged_system_part_replaces_it(self, files):
        files.put("o", b"x", 1)
        files.post("o", 2, X_Object_Transient_Sysmeta_A="old")
        os.setxattr(files.directory / "o", layout.FILE_ATTRIBUTES.meta_system, b"garbage")
        files.post("o", 3, X_Object_Transient_Sysmeta_A="new")
        assert files.head("o")["X-Object-Transient-Sysmeta-A"] == "new"

    @pytest.mark.expects_log("^WARNING .*/a/c/o: the attribute user.lustack.data cannot be read: .* is missing")
    def test_a_missing_sidecar_is_reported_and_the_file_served_as_a_bare_one(self, files):
        files.put("o", b"x", 1, X_Object_Meta_A=BEYOND_ALL)
        for sidecar in files.root.glob(".lustack/sidecars/*/*"):
            sidecar.unlink()
        found = files.head("o")
        assert "X-Object-Meta-A" not in found
        assert found["Content-Length"] == "1"

    def test_only_the_inode_that_swift_wrote_has_a_time_of_swift(self, files):
        files.put("o", b"x", 1)
        files.write("bare")
        for name, expected in (("o", "1700000001.00000"), ("bare", "")):
            with files.device.home("a", "c") as home:
                found = find(home, Key("a", "c", name))
                assert files.device.attributes.swift_timestamp(found) == expected
                os.close(found.fd)

    @pytest.mark.expects_log("^WARNING .*/a/c/o: the attribute user.lustack.data cannot be read: .* is missing")
    def test_a_post_on_a_file_with_a_missing_sidecar_counts(self, files):
        files.put("o", b"x", 1, X_Object_Meta_A=BEYOND_ALL)
        for sidecar in files.root.glob(".lustack/sidecars/*/*"):
            sidecar.unlink()
        files.post("o", 2, X_Object_Meta_B="new")
        assert files.head("o")["X-Object-Meta-B"] == "new"

    @pytest.mark.expects_log("^WARNING .*/a/c/o: it has more than 157 headers. It is served as a bare file.")
    def test_more_headers_than_a_proxy_takes_were_forged(self, files):
        files.put("o", b"x", 1)
        forge(files, "data", **{f"Xom{number}": "" for number in range(160)})
        assert not any(key.startswith("Xom") for key in files.head("o"))

    @pytest.mark.expects_log("^WARNING .*/a/c/o: the metadata is from the future. It is served as a bare file.")
    def test_a_forged_time_does_not_win_against_requests(self, files):
        files.put("o", b"x", 1)
        files.post("o", 2, X_Object_Meta_A="old")
        forge(files, "meta", **{"X-Timestamp": "9999999999.99999"})
        files.head("o")
        files.post("o", 3, X_Object_Meta_A="new")
        assert files.head("o")["X-Object-Meta-A"] == "new"
        forge(files, "data", **{"X-Timestamp": "9999999999.99999"})
        files.put("o", b"y", 4)
        assert (files.directory / "o").read_bytes() == b"y"


def forge(files, layer: str, **headers: str) -> None:
    """What the owner of a file can write in the place of what Swift wrote."""
    path, name = files.directory / "o", f"user.lustack.{layer}"
    document = json.loads(os.getxattr(path, name))
    document["headers"] |= headers
    os.setxattr(path, name, json.dumps(document).encode())
