# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.exported import damage, export, read, rewrite
from tests.objects import NEEDS_ROOT

from lustack.errors import ConfigurationError
from lustack.exports import table
from lustack.exports.table import FRESH_S, Reader
from lustack.mapping.exports import Exports, ExportsDamagedError, Stage

SERVERS = 65534
"""The user and group of object servers that are not root's."""


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self) -> None:
        self.now_s += FRESH_S


@pytest.fixture
def root(tmp_path) -> Path:
    path = tmp_path / "device"
    path.mkdir()
    return path


@pytest.fixture
def root_fd(root) -> Iterator[int]:
    fd = os.open(root, os.O_PATH)
    yield fd
    os.close(fd)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(said, clock) -> Reader:
    return Reader(said.append, clock)


class TestReader:
    def test_a_device_without_a_table_has_no_exports(self, reader, root_fd, root):
        assert reader.current(root_fd) == Exports()
        assert os.listdir(root) == []

    def test_another_table_is_noticed_when_it_is_time_to_look(self, reader, root_fd, root, tmp_path, clock):
        assert not reader.current(root_fd)
        found = export(root, tmp_path / "x")
        assert not reader.current(root_fd)
        assert reader.fresh() == Exports()
        clock.wait()
        assert reader.fresh() is None
        assert reader.current(root_fd) == Exports([found])

    def test_the_same_table_is_not_read_again(self, reader, root_fd, root, tmp_path, clock):
        export(root, tmp_path / "x")
        found = reader.current(root_fd)
        clock.wait()
        assert reader.current(root_fd) is found

    def test_a_damaged_table_leaves_the_last_good_one_in_force_and_is_told_once(
        self, reader, root_fd, root, tmp_path, clock, said
    ):
        found = export(root, tmp_path / "x")
        reader.current(root_fd)
        damage(root)
        for _ in range(3):
            clock.wait()
            assert reader.current(root_fd) == Exports([found])
        [sentence] = said
        assert "the table of exports is damaged" in sentence
        assert "stay in force" in sentence

    def test_a_mended_table_counts_again(self, reader, root_fd, root, tmp_path, clock):
        found = export(root, tmp_path / "x")
        reader.current(root_fd)
        good = (root / ".lustack" / "exports.json").read_bytes()
        damage(root)
        clock.wait()
        reader.current(root_fd)
        (root / ".lustack" / "exports.json").write_bytes(good.replace(b'"e"', b'"f"'))
        clock.wait()
        assert reader.current(root_fd) == Exports([replace(found, container="f")])

    def test_a_table_that_goes_with_its_device_stays_in_force(self, reader, root_fd, root, tmp_path, clock, said):
        found = export(root, tmp_path / "x")
        reader.current(root_fd)
        (root / ".lustack").rename(root / "away")
        for _ in range(2):
            clock.wait()
            assert reader.current(root_fd) == Exports([found])
        assert said == ["the table of exports is gone; the exports that were known before stay in force"]

    def test_who_never_saw_a_good_table_does_nothing(self, reader, root_fd, root, tmp_path, clock):
        export(root, tmp_path / "x")
        damage(root)
        for _ in range(2):
            with pytest.raises(ExportsDamagedError):
                reader.current(root_fd)

    def test_a_table_that_was_removed_is_damaged_not_empty(self, reader, root_fd, root, tmp_path):
        export(root, tmp_path / "x")
        (root / ".lustack" / "exports.json").unlink()
        with pytest.raises(ExportsDamagedError, match="it is gone"):
            reader.current(root_fd)

    def test_nobody_has_to_listen(self, root_fd, root, tmp_path, clock):
        reader = Reader(monotonic_s=clock)
        export(root, tmp_path / "x")
        good = reader.current(root_fd)
        damage(root)
        clock.wait()
        assert reader.current(root_fd) is good


class TestChanging:
    def test_two_that_change_it_wait_for_each_other(self, root_fd, root, tmp_path):
        found = [export(root, tmp_path / name, container=name) for name in ("x", "y")]
        with table.changing(root_fd) as draft:
            other = threading.Thread(target=rewrite, args=(root, found[0]))
            other.start()
            draft.save(draft.exports.put(replace(found[1], stage=Stage.READY)))
            assert {export.container for export in read(root)} == {"x", "y"}
        other.join()
        assert {*read(root)} == {found[0]}

    def test_the_first_of_two_that_begin_wins(self, root_fd, root):
        (root / ".lustack").mkdir()
        (root / ".lustack" / "exports.json").write_bytes(b"of another one")
        with pytest.raises(ExportsDamagedError), table.changing(root_fd):
            pass
        assert (root / ".lustack" / "exports.json").read_bytes() == b"of another one"
        assert sorted(os.listdir(root / ".lustack")) == ["exports.json", "exports.lock"]

    def test_the_same_table_is_not_written_again(self, root_fd, root, tmp_path):
        export(root, tmp_path / "x")
        before = (root / ".lustack" / "exports.json").stat().st_ino
        with table.changing(root_fd) as draft:
            draft.save(draft.exports)
        assert (root / ".lustack" / "exports.json").stat().st_ino == before

    @pytest.mark.parametrize("mask", [0o022, 0o077])
    def test_servers_can_read_it_whoever_has_written_it(self, root_fd, root, tmp_path, mask):
        # The daemon's unit has a umask that leaves nobody anything, and servers need not be of its user.
        before = os.umask(mask)
        try:
            with table.changing(root_fd):
                assert self._mode(root) == 0o644
            table.finish(root_fd, export(root, tmp_path / "x"))
        finally:
            os.umask(before)
        assert self._mode(root) == 0o644

    @staticmethod
    def _mode(root):
        return (root / ".lustack" / "exports.json").stat().st_mode & 0o777

    def test_only_we_may_read_it(self, root, tmp_path):
        export(root, tmp_path / "x")
        assert (root / ".lustack").stat().st_mode & 0o777 == 0o700


def owners(root: Path) -> set[tuple[int, int]]:
    reserved = root / ".lustack"
    return {(path.stat().st_uid, path.stat().st_gid) for path in (reserved, *reserved.iterdir())}


@NEEDS_ROOT
class TestOwner:
    def test_what_root_makes_before_the_servers_is_of_the_owner_of_the_device(self, root, tmp_path):
        os.chown(root, SERVERS, SERVERS)
        export(root, tmp_path / "x")
        assert owners(root) == {(SERVERS, SERVERS)}

    def test_what_root_makes_after_the_servers_is_of_their_user(self, root, tmp_path):
        for path in (root / ".lustack", root / ".lustack" / "locks"):
            path.mkdir()
            os.chown(path, SERVERS, SERVERS)
        export(root, tmp_path / "x")
        assert owners(root) == {(SERVERS, SERVERS)}

    @pytest.mark.parametrize("name", ["sidecars", "locks", "identity"])
    def test_servers_of_root_keep_what_is_theirs_on_the_device_of_somebody_else(self, root, tmp_path, name):
        os.chown(root, SERVERS, SERVERS)
        (root / ".lustack" / name).mkdir(parents=True)
        export(root, tmp_path / "x")
        assert owners(root) == {(0, 0)}

    def test_what_was_made_for_root_is_handed_over_by_the_same_command(self, root, tmp_path):
        export(root, tmp_path / "x")
        os.chown(root, SERVERS, SERVERS)
        export(root, tmp_path / "y", container="y")
        assert owners(root) == {(SERVERS, SERVERS)}

    def test_servers_of_another_user_can_change_what_root_began(self, root, root_fd, tmp_path):
        os.chown(root, SERVERS, SERVERS)
        found = export(root, tmp_path / "x")
        os.seteuid(SERVERS)
        try:
            table.finish(root_fd, found)
        finally:
            os.seteuid(0)
        assert read(root).get("a", "e").stage is Stage.READY

    def test_a_root_who_may_give_nothing_away_works_on(self, root, root_fd, tmp_path, monkeypatch):
        os.chown(root, SERVERS, SERVERS)
        found = export(root, tmp_path / "x")

        def refuse(fd, uid, gid):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "fchown", refuse)
        table.finish(root_fd, found)
        assert read(root).get("a", "e").stage is Stage.READY

    def test_root_does_not_guess_whose_a_device_is_on_which_others_write(self, root, tmp_path):
        root.chmod(0o1777)
        with pytest.raises(ConfigurationError, match=f"{root}: owner = 'root', .* upload an object first"):
            export(root, tmp_path / "x")
        assert os.listdir(root) == []
        (root / ".lustack" / "locks").mkdir(parents=True)
        export(root, tmp_path / "x")


class TestFinish:
    def test_one_whose_files_are_listed_is_ready(self, root_fd, root, tmp_path):
        found = export(root, tmp_path / "x")
        table.finish(root_fd, found)
        assert read(root).get("a", "e").stage is Stage.READY

    def test_one_that_left_is_forgotten(self, root_fd, root, tmp_path):
        found = replace(export(root, tmp_path / "x"), stage=Stage.LEAVING)
        rewrite(root, found)
        table.finish(root_fd, found)
        assert read(root) == Exports()

    def test_one_that_changed_meanwhile_is_left_alone(self, root_fd, root, tmp_path):
        found = export(root, tmp_path / "x")
        rewrite(root, replace(found, stage=Stage.LEAVING))
        table.finish(root_fd, found)
        assert [each.stage for each in read(root)] == [Stage.LEAVING]
