# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest

from lustack.lustre import fid
from lustack.lustre.changelog import Decoder
from lustack.lustre.errors import FidNotFoundError, NotLustreError
from lustack.lustre.fake import FakeLustre
from lustack.lustre.kernel import Link

MDTS = ("lustre-MDT0000", "lustre-MDT0001")


@pytest.fixture
def lustre(tmp_path):
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "f").write_bytes(b"x")
    (tmp_path / "before" / "s").symlink_to("before")
    lustre = FakeLustre(os.fsencode(tmp_path), mdts=2)
    for mdt in MDTS:
        lustre.logs[mdt].register()
    return lustre


def records(lustre, mdt=0):
    raw = b"".join(each for _, each in lustre.logs[MDTS[mdt]].find(1))
    return list(Decoder().feed(raw))


def types(lustre, mdt=0):
    return [record.type_name for record in records(lustre, mdt)]


def test_what_was_there_before_has_identities(lustre):
    key = lustre.key_at(b"before/f")
    assert lustre.links(key) == [Link(lustre.key_at(b"before"), b"f")]
    assert lustre.path_of(key) == b"before/f"
    assert fid.inode_of(key) == os.lstat(os.path.join(lustre.root, b"before/f")).st_ino
    assert lustre.is_directory(lustre.key_at(b"before"))
    assert lustre.is_directory(lustre.key_at(b""))
    assert not lustre.is_directory(key)
    assert lustre.links(lustre.key_at(b"")) == []


def test_what_had_two_names_before_has_both(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    lustre = FakeLustre(os.fsencode(tmp_path))
    root = lustre.key_at(b"")
    assert lustre.links(lustre.key_at(b"a")) == [Link(root, b"a"), Link(root, b"b")]


def test_an_open_inode_has_an_identity(lustre, tmp_path):
    fd = os.open(tmp_path / "before", os.O_PATH)
    assert lustre.key_of(fd) == lustre.key_at(b"before")
    os.close(fd)
    fd = os.open("/proc", os.O_PATH)
    with pytest.raises(NotLustreError):
        lustre.key_of(fd)
    os.close(fd)


def test_what_is_gone_has_none(lustre):
    key = lustre.write(b"f", b"x")
    lustre.unlink(b"f")
    with pytest.raises(FidNotFoundError):
        lustre.links(key)
    with pytest.raises(FidNotFoundError):
        lustre.is_directory(key)


def test_a_number_that_is_used_again_is_another_identity(lustre):
    seen = set()
    for _ in range(5):
        seen.add(lustre.write(b"f", b"x"))
        lustre.unlink(b"f")
    assert len(seen) == 5


def test_the_content_is_real(lustre, tmp_path):
    lustre.write(b"f", b"content")
    lustre.write(b"f", b"more")
    assert (tmp_path / "f").read_bytes() == b"more"
    lustre.truncate(b"f", 1)
    lustre.utime(b"f", 5 * 10**9)
    assert ((tmp_path / "f").stat().st_size, (tmp_path / "f").stat().st_mtime) == (1, 5)
    assert types(lustre) == ["CREAT", "CLOSE", "CLOSE", "TRUNC"]


def test_new_times_are_recorded_only_after_a_purge_and_once(lustre):
    log, _ = lustre.logs.values()
    lustre.write(b"f", b"content")
    for _ in range(2):
        log.clear("cl1", log.last_index)
        for time_s in (5, 6):
            lustre.utime(b"f", time_s * 10**9)
        assert types(lustre) == ["MTIME"]


def test_the_parent_in_a_close_is_left_over_from_another_record(lustre):
    lustre.mkdir(b"d")
    key = lustre.create(b"f")
    lustre.write(b"d/g", b"x")
    lustre.close(key)
    assert records(lustre)[-1].parent != lustre.key_at(b"")


def test_a_close_can_be_lost(lustre):
    lustre.write(b"f", b"x", is_close_lost=True)
    assert types(lustre) == ["CREAT"]


def test_names_follow_links_and_renames(lustre):
    key = lustre.write(b"f", b"x")
    lustre.link(b"f", b"before/g")
    root, before = lustre.key_at(b""), lustre.key_at(b"before")
    assert lustre.links(key) == [Link(root, b"f"), Link(before, b"g")]
    lustre.rename(b"f", b"before/h")
    assert lustre.links(key) == [Link(before, b"g"), Link(before, b"h")]
    lustre.rename(b"before/g", b"before/h")  # of one inode: POSIX does nothing
    lustre.rename(b"before/h", b"before/f")
    assert types(lustre) == ["CREAT", "CLOSE", "HLINK", "RENME", "RENME"]
    assert records(lustre)[-1].flags & 0xFFF == 1
    lustre.unlink(b"before/g")
    assert records(lustre)[-1].flags & 0xFFF == 0


def test_what_happens_is_recorded_where_it_happens(lustre):
    lustre.mkdir(b"far", 1)
    key = lustre.write(b"far/f", b"x")
    lustre.rename(b"far/f", b"f")
    lustre.close(key)
    lustre.rmdir(b"far")
    assert types(lustre, 1) == ["MKDIR", "CREAT", "CLOSE", "CLOSE", "RMDIR"]
    assert types(lustre, 0) == ["RENME"]


def test_a_striped_directory_is_on_several_mdts(lustre):
    lustre.mkdir(b"wide", 0, 1)
    for number in range(4):
        lustre.write(b"wide/%d" % number, b"x")
    assert types(lustre, 0).count("CREAT") == types(lustre, 1).count("CREAT") == 2


def test_what_migrates_gets_another_identity(lustre, tmp_path):
    old = lustre.write(b"f", b"content"), lustre.mkdir(b"d")
    new = lustre.migrate(b"f", 1), lustre.migrate(b"d", 1)
    assert not set(old) & set(new)
    assert [lustre.path_of(each) for each in new] == [b"f", b"d"]
    assert (tmp_path / "f").read_bytes() == b"content"
    assert types(lustre, 1) == ["MIGRT", "MIGRT"]
    assert [record.source for record in records(lustre, 1)] == list(old)


def test_other_things_leave_their_records(lustre):
    lustre.write(b"f", b"x")
    lustre.symlink(b"f", b"s")
    lustre.chmod(b"f", 0o600)
    lustre.release(b"f")
    assert types(lustre)[2:] == ["SLINK", "SATTR", "TRUNC", "LYOUT"]
    lustre.setxattr(b"f", b"user.a", b"1")
    assert records(lustre)[-1].attribute == b"user.a"
