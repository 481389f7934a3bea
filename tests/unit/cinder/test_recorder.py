# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lustack.cinder import recorder

RECORD = "volume-1.info"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is done to which file, by the name that the file has then."""
    seen: list[tuple[str, str]] = []

    def watch(name: str, is_first_a_descriptor: bool) -> None:
        real = getattr(os, name)

        def call(first, *rest, **options):
            path = os.readlink(f"/proc/self/fd/{first}") if is_first_a_descriptor else os.fsdecode(first)
            seen.append((name, os.path.basename(path)))
            return real(first, *rest, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "setxattr"):
        watch(name, True)
    watch("rename", False)
    return seen


def test_a_record_appears_with_its_permissions_and_nothing_else_is_left(tmp_path: Path):
    path = tmp_path / RECORD
    path.write_text("old")
    (tmp_path / f"{RECORD}.new").write_text("what a kill left behind, and longer than what comes")
    recorder.replace(os.fsencode(path), b"new", 0o666)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o666
    assert os.listdir(tmp_path) == [RECORD]


def test_elsewhere_than_on_lustre_the_directory_is_synced_after_the_rename(tmp_path: Path, calls: list):
    recorder.replace(os.fsencode(tmp_path / RECORD), b"{}", 0o660)
    assert calls == [("fsync", f"{RECORD}.new"), ("rename", f"{RECORD}.new"), ("fsync", tmp_path.name)]


def test_on_lustre_the_file_is_marked_and_synced_after_the_rename(
    tmp_path: Path, calls: list, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recorder, "is_lustre", lambda fd: True)
    recorder.replace(os.fsencode(tmp_path / RECORD), b"{}", 0o660)
    assert calls[-2:] == [("setxattr", RECORD), ("fsync", RECORD)]
    assert calls.index(("rename", f"{RECORD}.new")) < calls.index(("setxattr", RECORD))


def test_lustre_that_keeps_no_attributes_of_users_is_made_to_commit_by_a_new_file(
    tmp_path: Path, calls: list, monkeypatch: pytest.MonkeyPatch
):
    def refuse(fd: int, *rest: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(recorder, "is_lustre", lambda fd: True)
    monkeypatch.setattr(os, "setxattr", refuse)
    recorder.replace(os.fsencode(tmp_path / RECORD), b"{}", 0o660)
    assert calls[-1] == ("fsync", f"{RECORD}.new")
    assert calls[-1] not in calls[calls.index(("rename", f"{RECORD}.new")) : -1]
    assert os.listdir(tmp_path) == [RECORD]


def test_a_record_that_cannot_be_written_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / RECORD
    path.write_text("old")

    def refuse(*rest: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="No space"):
        recorder.replace(os.fsencode(path), b"new", 0o660)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [RECORD]


def test_elsewhere_than_on_lustre_a_rename_is_made_durable_by_its_directory(tmp_path: Path, calls: list):
    recorder.sync(os.fsencode(tmp_path / "volume-1"))
    assert calls == [("fsync", tmp_path.name)]


@pytest.mark.parametrize("can_mark", [True, False])
def test_on_lustre_a_rename_is_made_durable_by_a_new_file_that_is_gone_then(
    tmp_path: Path, calls: list, monkeypatch: pytest.MonkeyPatch, can_mark: bool
):
    def refuse(fd: int, *rest: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(recorder, "is_lustre", lambda fd: True)
    if not can_mark:
        monkeypatch.setattr(os, "setxattr", refuse)
    (tmp_path / "volume-1").write_text("x")
    recorder.sync(os.fsencode(tmp_path / "volume-1"))
    assert calls[-2:] == [("setxattr" if can_mark else "fsync", calls[-2][1]), ("fsync", "volume-1.new")]
    assert (("setxattr", "volume-1.new") in calls) == can_mark
    assert os.listdir(tmp_path) == ["volume-1"]
    assert os.listxattr(tmp_path / "volume-1") == []


@pytest.mark.parametrize(("number", "is_told"), [(errno.ENOSPC, False), (errno.EDQUOT, False), (errno.EIO, True)])
def test_what_was_renamed_on_a_full_lustre_is_left_to_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_told: bool
):
    def refuse(fd: int, *rest: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(recorder, "is_lustre", lambda fd: True)
    monkeypatch.setattr(os, "setxattr", refuse)
    status = recorder.main(["--sync", str(tmp_path / "volume-1")])
    assert status == int(is_told)
    assert os.listdir(tmp_path) == []


def run(*words: str, content: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "lustack.cinder.recorder", *words]
    return subprocess.run(command, input=content, capture_output=True, text=True, check=False)


def test_the_program_writes_what_it_reads_or_says_why_not(tmp_path: Path):
    path = tmp_path / RECORD
    assert run(str(path), "660", content="{}").returncode == 0
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("{}", 0o660)
    assert run("--sync", str(path)).returncode == 0
    failed = run(str(tmp_path / "gone" / RECORD), "660")
    assert (failed.returncode, "No such file" in failed.stderr) == (1, True)
    wrong = run()
    assert (wrong.returncode, "usage" in wrong.stderr) == (2, True)


def test_the_program_is_named_as_the_filter_of_rootwrap_has_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert recorder.render_command("/x", 0o660, is_for_root=True) == ["lustack-record", "/x", "660"]
    assert recorder.render_sync("/x", is_for_root=True) == ["lustack-record", "--sync", "/x"]
    assert recorder.render_command("/x", 0o666, is_for_root=False)[:1] == [sys.executable]
    filters = Path(__file__).parents[3] / "etc/cinder/rootwrap.d/lustack.filters"
    assert "lustack-record: CommandFilter, lustack-record, root" in filters.read_text().splitlines()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert recorder.render_command("/x", 0o660, is_for_root=True)[:1] == [sys.executable]
