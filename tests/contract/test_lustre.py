# SPDX-License-Identifier: Apache-2.0
"""What lustack relies on of a Lustre file system: asked of the fake here, of a mounted one in tests/lustre."""

from __future__ import annotations

import os
import time

import pytest

from lustack.lustre import fid
from lustack.lustre.changelog import Decoder
from lustack.lustre.errors import ChangelogIndexError, ChangelogUserError, FidNotFoundError, NotLustreError
from lustack.lustre.fake import FakeLustre
from lustack.lustre.kernel import Link

ODD_NAMES = (b"a b", b"line\nfeed", b"\xff\xfe", "ü".encode(), b"%41", b"s=[x] sp=[y]", b"n" * 255)


class FakeGround:
    """Where the tests of the contract play, on the fake.

    Attributes:
        lustre: what is tested.
        top: an own directory of the test, from the root of the file system.
        mdts: the MDTs.
        patience_s: how long a record may take to be seen.
    """

    patience_s = 0.0

    def __init__(self, root):
        self.lustre = FakeLustre(os.fsencode(root), mdts=2)
        self.users = {mdt: log.register() for mdt, log in self.lustre.logs.items()}
        self.mdts = self.lustre.mdts()
        self.top = b"top"
        self.lustre.mkdir(self.top)
        self.write, self.mkdir, self.rmdir = self.lustre.write, self.lustre.mkdir, self.lustre.rmdir
        self.link, self.unlink, self.rename = self.lustre.link, self.lustre.unlink, self.lustre.rename
        self.truncate = self.lustre.truncate

    def real(self, path):
        return os.path.join(self.lustre.root, path)


class LustreContract:
    """One test for each sentence; a subclass gives the fixture `ground`."""

    def key(self, ground, path):
        fd = os.open(ground.real(path), os.O_PATH | os.O_NOFOLLOW)
        try:
            return ground.lustre.key_of(fd)
        finally:
            os.close(fd)

    def read(self, ground, mdt, index=1):
        """The records from an index on."""
        return list(Decoder().feed(self.read_log(ground, mdt, index)))

    def wait_for(self, ground, since, wanted):
        """The records since some indices, of all MDTs, when those that are wanted are among them; or what there is."""
        until_s = time.monotonic() + ground.patience_s
        while True:
            found = [record for mdt in ground.mdts for record in self.read(ground, mdt, since[mdt] + 1)]
            if wanted(found) or time.monotonic() >= until_s:
                return found
            time.sleep(0.1)

    def read_log(self, ground, mdt, index):
        log = ground.lustre.open_changelog(mdt, index, follow=False)
        raw = b""
        until_s = time.monotonic() + 60
        while (piece := log.read(1.0)) != b"":
            raw += piece or b""
            assert time.monotonic() < until_s, "the log does not end"
        log.close()
        return raw

    def end(self, ground, mdt):
        return max((record.index for record in self.read(ground, mdt)), default=0)

    def happened(self, ground, since, name):
        """The records about a name since some indices, from all MDTs."""

        def about(records):
            return [each for each in records if name in (each.name, each.source_name)]

        return about(self.wait_for(ground, since, about))

    def now(self, ground):
        return {mdt: self.end(ground, mdt) for mdt in ground.mdts}

    # -- identities ---------------------------------------------------------------------------------------------------

    def test_an_identity_tells_the_inode_number(self, ground):
        ground.write(ground.top + b"/f", b"x")
        for path in (ground.top, ground.top + b"/f"):
            assert fid.inode_of(self.key(ground, path)) == os.lstat(ground.real(path)).st_ino

    def test_a_file_is_found_by_all_its_names(self, ground):
        ground.write(ground.top + b"/f", b"x")
        ground.mkdir(ground.top + b"/d")
        ground.link(ground.top + b"/f", ground.top + b"/d/g")
        top, folder = self.key(ground, ground.top), self.key(ground, ground.top + b"/d")
        found = ground.lustre.links(self.key(ground, ground.top + b"/f"))
        assert sorted(found, key=repr) == sorted([Link(top, b"f"), Link(folder, b"g")], key=repr)

    def test_names_may_hold_any_bytes(self, ground):
        top = self.key(ground, ground.top)
        for name in ODD_NAMES:
            ground.write(ground.top + b"/" + name, b"x")
            assert ground.lustre.links(self.key(ground, ground.top + b"/" + name)) == [Link(top, name)]

    def test_a_directory_is_told_from_a_file(self, ground):
        ground.write(ground.top + b"/f", b"x")
        assert ground.lustre.is_directory(self.key(ground, ground.top))
        assert not ground.lustre.is_directory(self.key(ground, ground.top + b"/f"))

    def test_a_renamed_file_keeps_its_identity(self, ground):
        ground.write(ground.top + b"/f", b"x")
        key = self.key(ground, ground.top + b"/f")
        ground.rename(ground.top + b"/f", ground.top + b"/g")
        assert self.key(ground, ground.top + b"/g") == key
        assert [link.name for link in ground.lustre.links(key)] == [b"g"]

    def test_what_is_gone_is_not_found(self, ground):
        ground.write(ground.top + b"/f", b"x")
        key = self.key(ground, ground.top + b"/f")
        ground.unlink(ground.top + b"/f")
        for ask in (ground.lustre.links, ground.lustre.is_directory):
            with pytest.raises(FidNotFoundError):
                ask(key)

    def test_what_is_elsewhere_has_no_identity(self, ground):
        fd = os.open("/proc", os.O_PATH)
        with pytest.raises(NotLustreError):
            ground.lustre.key_of(fd)
        os.close(fd)

    # -- records ------------------------------------------------------------------------------------------------------

    def test_what_happens_to_names_is_recorded(self, ground):
        top = ground.top
        steps = (
            (b"f", lambda: ground.write(top + b"/f", b"x"), "CREAT"),
            (b"d", lambda: ground.mkdir(top + b"/d"), "MKDIR"),
            (b"l", lambda: ground.link(top + b"/f", top + b"/l"), "HLINK"),
            (b"g", lambda: ground.rename(top + b"/f", top + b"/g"), "RENME"),
            (b"g", lambda: ground.unlink(top + b"/g"), "UNLNK"),
            (b"d", lambda: ground.rmdir(top + b"/d"), "RMDIR"),
        )
        for name, step, kind in steps:
            since = self.now(ground)
            step()
            assert [record.type_name for record in self.happened(ground, since, name)] == [kind]

    def test_a_record_names_the_inode_and_its_directory(self, ground):
        for name in ODD_NAMES:
            since = self.now(ground)
            ground.write(ground.top + b"/" + name, b"x")
            (record,) = self.happened(ground, since, name)
            assert record.target == self.key(ground, ground.top + b"/" + name)
            assert record.parent == self.key(ground, ground.top)

    def test_a_closed_file_and_a_cut_one_are_recorded_by_identity(self, ground):
        since = self.now(ground)
        ground.write(ground.top + b"/f", b"content")
        ground.truncate(ground.top + b"/f", 1)
        key = self.key(ground, ground.top + b"/f")

        def is_complete(records):
            return {"CLOSE", "TRUNC"} <= {record.type_name for record in records if record.target == key}

        assert is_complete(self.wait_for(ground, since, is_complete))

    def test_indices_follow_each_other(self, ground):
        for number in range(30):
            ground.write(ground.top + b"/%d" % number, b"x")
        for mdt in ground.mdts:
            indices = [record.index for record in self.read(ground, mdt)]
            assert indices == list(range(indices[0], indices[0] + len(indices))) if indices else True

    # -- reading and clearing -----------------------------------------------------------------------------------------

    def fill(self, ground):
        """An MDT with records that our user has not cleared."""
        since = self.now(ground)
        for number in range(5):
            ground.write(ground.top + b"/%d" % number, b"x")
        for mdt in ground.mdts:
            if self.end(ground, mdt) > since[mdt] + 3:
                return mdt, since[mdt]
        raise AssertionError("nothing was recorded")

    def test_two_readers_see_the_same(self, ground):
        mdt, since = self.fill(ground)
        first, second = (self.read_log(ground, mdt, since + 1) for _ in range(2))
        assert first[:100] == second[:100] != b""

    def test_reading_begins_at_an_index(self, ground):
        mdt, since = self.fill(ground)
        assert self.read(ground, mdt, since + 3)[0].index == since + 3

    def test_a_log_that_ended_is_read_further_by_opening_it_again(self, ground):
        mdt, _ = self.fill(ground)
        end = self.end(ground, mdt)
        self.fill(ground)
        assert self.read(ground, mdt, end + 1)[0].index == end + 1

    def test_what_is_cleared_may_be_cleared_again_but_nothing_else(self, ground):
        mdt, since = self.fill(ground)
        user = ground.users[mdt]
        ground.lustre.clear(mdt, user, since + 2)
        ground.lustre.clear(mdt, user, since + 2)
        with pytest.raises(ChangelogUserError):
            ground.lustre.clear(mdt, user, since + 1)
        with pytest.raises(ChangelogUserError):
            ground.lustre.clear(mdt, "cl99999", since + 2)
        with pytest.raises(ChangelogIndexError):
            ground.lustre.clear(mdt, user, self.end(ground, mdt) + 1_000_000)

    def test_who_follows_gets_what_comes(self, ground):
        mdt, _ = self.fill(ground)
        end = self.end(ground, mdt)
        log = ground.lustre.open_changelog(mdt, end + 1, follow=True)
        self.fill(ground)
        until_s, raw = time.monotonic() + 60, b""
        while not raw and time.monotonic() < until_s:
            raw = log.read(1.0) or b""
        log.close()
        assert next(Decoder().feed(raw)).index > end


class TestFakeLustre(LustreContract):
    @pytest.fixture
    def ground(self, tmp_path):
        return FakeGround(tmp_path)
