# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.exported import damage, export, read, rewrite
from tests.objects import NEEDS_ROOT

from lustack.errors import ConfigurationError
from lustack.exports import binding
from lustack.exports.binding import Wish
from lustack.exports.roots import open_export
from lustack.mapping.exports import Exports, ExportsDamagedError, Stage


@pytest.fixture
def root(tmp_path) -> Path:
    path = tmp_path / "devices" / "d"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def directory(tmp_path) -> Path:
    path = tmp_path / "projects" / "x"
    path.mkdir(parents=True)
    return path


def refuse(root: Path, path: Path | bytes, *others: Path, container: str = "e") -> str:
    with pytest.raises(ConfigurationError) as caught:
        binding.bind([str(root), *map(str, others)], Wish("a", container, os.fsencode(path)))
    return caught.value.allowed


class TestBind:
    def test_a_directory_becomes_a_container_and_nothing_in_it_is_touched(self, root, directory):
        (directory / "file").write_bytes(b"x")
        before = (directory / "file").stat()
        found = export(root, directory)
        assert read(root) == Exports([found])
        assert (found.path, found.stage) == (os.fsencode(directory), Stage.IMPORTING)
        os.close(open_export(found))
        after = (directory / "file").stat()
        assert (before.st_atime_ns, before.st_ctime_ns) == (after.st_atime_ns, after.st_ctime_ns)
        assert os.listdir(directory) == ["file"]

    def test_the_same_again_changes_nothing(self, root, directory):
        found = export(root, directory)
        assert export(root, directory) == found

    def test_a_directory_that_was_restored_from_a_backup_is_bound_again(self, root, directory):
        found = replace(export(root, directory), stage=Stage.READY)
        rewrite(root, found)
        directory.rename(directory.parent / "old")
        directory.mkdir()
        again = export(root, directory)
        assert again.stage is Stage.IMPORTING
        assert again.mark != found.mark
        assert read(root) == Exports([again])

    def test_one_that_was_leaving_comes_back(self, root, directory):
        export(root, directory)
        binding.release(str(root), "a", "e")
        assert export(root, directory).stage is Stage.IMPORTING

    def test_a_container_is_one_directory(self, root, directory):
        export(root, directory)
        (directory.parent / "y").mkdir()
        assert str(directory) in refuse(root, directory.parent / "y")

    @pytest.mark.parametrize("path", [b"relative", b"/", b"/a/../b", b"/a/"])
    def test_a_path_says_the_same_to_everybody(self, root, path):
        assert "an absolute path" in refuse(root, path)

    def test_a_path_leads_to_a_directory_without_links(self, root, directory):
        (directory / "file").touch()
        (directory / "link").symlink_to(".")
        assert "(No such file or directory)" in refuse(root, directory / "gone")
        assert "(Not a directory)" in refuse(root, directory / "file")
        assert "(Not a directory)" in refuse(root, directory / "link")

    def test_whether_it_is_on_the_file_system_of_the_device_is_noted(self, root, directory):
        assert not export(root, directory).is_foreign

    @NEEDS_ROOT
    def test_another_file_system_is_noted(self, root, mounted):
        assert export(root, mounted("-t", "tmpfs", "tmpfs") / "x").is_foreign

    @NEEDS_ROOT
    def test_a_directory_that_takes_no_mark_is_refused(self, root):
        assert "user.lustack.export" in refuse(root, Path("/proc/self/fdinfo").parent.parent / str(os.getpid()))

    def test_a_failing_file_system_is_no_refusal(self):
        with pytest.raises(OSError, match="No such file") as caught:
            binding._mark(-1, b"/x")
        assert caught.value.errno == errno.ENOENT

    def test_a_damaged_table_is_not_overwritten(self, root, directory):
        export(root, directory)
        damage(root)
        with pytest.raises(ExportsDamagedError):
            export(root, directory, container="f")


class TestOneName:
    def test_files_of_a_device_have_names_already(self, root):
        (root / "a" / "c").mkdir(parents=True)
        for path in (root, root / "a", root / "a" / "c", root / ".lustack"):
            path.mkdir(exist_ok=True)
            assert "outside of the device" in refuse(root, path)

    def test_so_have_those_of_another_device(self, root, tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        assert "outside of the device" in refuse(root, other, other)
        assert "does not hold the device" in refuse(root, root.parent)
        assert "does not hold the device" in refuse(root, root.parent, other)

    def test_exports_do_not_lie_in_each_other(self, root, directory):
        (directory / "in").mkdir()
        export(root, directory)
        assert "which is a/e" in refuse(root, directory / "in", container="f")
        assert "which is a/e" in refuse(root, directory.parent, container="f")
        assert "which is a/e" in refuse(root, directory, container="f")

    def test_nor_in_one_that_is_out_of_reach(self, root, directory):
        export(root, directory)
        directory.rename(directory.parent / "away")
        directory.mkdir()
        assert "which is a/e" in refuse(root, directory, container="f")
        (directory.parent / "y").mkdir()
        assert export(root, directory.parent / "y", container="f")

    def test_nor_in_one_of_another_device(self, root, directory, tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        export(other, directory)
        assert "which is a/e" in refuse(root, directory, other, container="f")

    @NEEDS_ROOT
    def test_a_bind_mount_is_no_other_directory(self, root, directory, mounted):
        (directory / "in").mkdir()
        export(root, directory)
        alias = mounted("--bind", str(directory.parent))
        assert "which is a/e" in refuse(root, alias / "x" / "in", container="f")
        assert "which is a/e" in refuse(root, alias, container="f")
        device = mounted("--bind", str(root))
        assert "outside of the device" in refuse(root, device, container="f")

    def test_files_in_the_directory_of_the_container_would_lose_their_name(self, root, directory):
        (root / "a" / "e").mkdir(parents=True)
        (root / "a" / "e" / "file").touch()
        assert "remove a/e/file" in refuse(root, directory)
        (root / "a" / "e" / "file").unlink()
        assert export(root, directory)


class TestRelease:
    def test_the_directory_stays_as_it_is_without_its_mark(self, root, directory):
        (directory / "file").touch()
        export(root, directory)
        left = binding.release(str(root), "a", "e")
        assert left.stage is Stage.LEAVING
        assert {*read(root)} == {left}
        assert os.listdir(directory) == ["file"]
        assert "user.lustack.export" not in os.listxattr(directory)

    def test_it_can_be_said_twice(self, root, directory):
        export(root, directory)
        export(root, directory.parent / "y", container="f")
        assert binding.release(str(root), "a", "f") == binding.release(str(root), "a", "f")

    def test_one_that_is_out_of_reach_can_be_let_go(self, root, directory):
        export(root, directory)
        directory.rmdir()
        assert binding.release(str(root), "a", "e").stage is Stage.LEAVING

    def test_what_is_none_cannot_be_let_go(self, root):
        with pytest.raises(ConfigurationError, match="export list"):
            binding.release(str(root), "a", "e")


def killed_at(step: int, act) -> bool:
    """Do something in another process, which is killed at one of its steps; whether it came so far."""
    child = os.fork()
    if not child:
        left = step

        def count(event: str, _arguments: tuple) -> None:
            nonlocal left
            left -= event == "open" or event.startswith("os.")
            if left < 0:
                signal.raise_signal(signal.SIGKILL)

        sys.settrace(None)  # what measures coverage opens files, too
        sys.addaudithook(count)
        act()
        signal.raise_signal(signal.SIGUSR1)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) == signal.SIGKILL


class TestKilled:
    """Wherever it is killed, the same call goes on; before that everybody sees all or nothing."""

    def test_bind(self, root, directory):
        step = 0
        while killed_at(step, lambda: export(root, directory)):
            assert [each.path for each in read(root)] in ([], [os.fsencode(directory)])
            found = export(root, directory)
            os.close(open_export(found))
            assert {*read(root)} == {found}
            rewrite(root)
            step += 1
        assert step > 10
        assert not list(root.rglob("*.json.*"))

    def test_bind_for_the_first_time(self, root, directory, tmp_path):
        step = 0
        while killed_at(step, lambda: export(root, directory)):
            assert [each.path for each in read(root)] in ([], [os.fsencode(directory)])
            os.close(open_export(export(root, directory)))
            shutil.rmtree(root / ".lustack")
            step += 1
        assert step > 10

    def test_release(self, root, directory):
        step = 0
        export(root, directory)
        while killed_at(step, lambda: binding.release(str(root), "a", "e")):
            assert [each.path for each in read(root)] == [os.fsencode(directory)]
            assert binding.release(str(root), "a", "e").stage is Stage.LEAVING
            export(root, directory)
            step += 1
        assert step > 5


def test_what_an_export_hides_is_found(root, directory):
    export(root, directory)
    assert binding.find_file(str(root), "a", "e") is None
    (root / "a" / "e" / "late").mkdir(parents=True)
    assert binding.find_file(str(root), "a", "e") == b"a/e/late"


@pytest.fixture
def mounted(tmp_path):
    """Mount at a new directory; unmounted after the test."""
    places: list[Path] = []

    def mount(*arguments: str) -> Path:
        places.append(tmp_path / f"mount{len(places)}")
        places[-1].mkdir()
        subprocess.run(["mount", *arguments, str(places[-1])], check=True)
        return places[-1]

    yield mount
    for place in reversed(places):
        subprocess.run(["umount", str(place)], check=True)
