# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lustack.cinder import copier

MIB = 1 << 20
SIZE = 6 * MIB
# Offsets with data: the beginning, one that is not aligned and longer than a piece, the end.
PLACES = ((0, 1), (MIB + 4096, 2 * MIB), (SIZE - 4096, 4096))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copier, "_PIECE_BYTES", 256 << 10)
    monkeypatch.setattr(copier, "_BLOCK_BYTES", 96 << 10)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    with path.open("wb") as file:
        file.truncate(SIZE)
        for offset, length in PLACES:
            file.seek(offset)
            file.write(os.urandom(length))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def failing(real: Callable[..., Any], number: int, is_bad: Callable[..., bool] = lambda *words: True) -> object:
    """A system call that fails where it is said."""

    def call(*words: Any) -> Any:
        if is_bad(*words):
            raise OSError(number, os.strerror(number))
        return real(*words)

    return call


def can_be_direct(path: Path) -> bool:
    """Whether the file system has direct writes: older ones in memory have not."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT))
    except OSError:
        return False
    return True


def test_a_copy_holds_the_same_bytes_in_as_little_room(source: Path, target: Path):
    copier.copy(str(source), str(target), SIZE, 0o660)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o660
    # A block more at each edge, at most, and what the file system needs to find them.
    assert target.stat().st_blocks <= source.stat().st_blocks + 64


def test_a_copy_may_be_larger_and_replaces_what_was_there(source: Path, target: Path):
    target.write_bytes(b"x" * (2 * SIZE))
    inode = target.stat().st_ino
    copier.copy(str(source), str(target), SIZE + MIB, 0o666)
    assert target.read_bytes() == source.read_bytes() + bytes(MIB)
    assert target.stat().st_ino == inode  # where Lustre placed it


def test_a_copy_that_would_cut_bytes_off_is_refused(source: Path, target: Path):
    with pytest.raises(OSError, match="larger than 1048576 bytes") as caught:
        copier.copy(str(source), str(target), MIB, 0o666)
    assert caught.value.errno == errno.EFBIG
    assert not target.exists()


def test_a_source_that_is_all_hole_is_copied(tmp_path: Path, target: Path):
    source = tmp_path / "empty"
    with source.open("wb") as file:
        file.truncate(MIB)
    copier.copy(str(source), str(target), MIB, 0o666)
    assert target.read_bytes() == bytes(MIB)
    assert target.stat().st_blocks == 0


def test_bytes_are_written_directly_where_the_file_system_allows_it(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[tuple[bool, int, int]] = []
    real = os.pwrite
    is_possible = can_be_direct(target)

    def write(fd: int, content: memoryview, position: int) -> int:
        is_direct = bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)
        seen.append((is_direct, position % 4096, len(content) % 4096))
        return real(fd, content, position)

    monkeypatch.setattr(os, "pwrite", write)
    copier.copy(str(source), str(target), SIZE, 0o666)
    assert set(seen) == {(is_possible, 0, 0)}
    assert target.read_bytes() == source.read_bytes()


def test_where_it_does_not_the_copy_is_made_nevertheless(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        fcntl, "fcntl", failing(fcntl.fcntl, errno.EINVAL, lambda fd, number, *_: number == fcntl.F_SETFL)
    )
    copier.copy(str(source), str(target), SIZE, 0o666)
    assert target.read_bytes() == source.read_bytes()


def test_where_it_wants_other_multiples_the_rest_is_not_written_directly(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
):
    def is_bad(fd: int, *_: int) -> bool:
        return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)

    monkeypatch.setattr(os, "pwrite", failing(os.pwrite, errno.EINVAL, is_bad))
    copier.copy(str(source), str(target), SIZE, 0o666)
    assert target.read_bytes() == source.read_bytes()


def test_a_write_that_is_not_possible_in_any_way_fails(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "pwrite", failing(os.pwrite, errno.EINVAL))
    with pytest.raises(OSError, match="Invalid argument"):
        copier.copy(str(source), str(target), SIZE, 0o666)


def test_a_write_that_is_cut_off_goes_on_where_it_was(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, content, position: real(fd, content[:4096], position))
    copier.copy(str(source), str(target), SIZE, 0o666)
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(("source_size", "target_size"), [(SIZE - 5000, SIZE), (SIZE - 5000, SIZE - 3), (5, 5)])
def test_sizes_may_be_odd(source: Path, target: Path, source_size: int, target_size: int):
    os.truncate(source, source_size)
    copier.copy(str(source), str(target), target_size, 0o666)
    assert target.read_bytes() == source.read_bytes() + bytes(target_size - source_size)


def test_what_the_file_system_shares_is_not_copied(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch):
    def share(writing: int, number: int, reading: int) -> int:
        assert number == 0x40049409  # FICLONE
        os.pwrite(writing, os.pread(reading, SIZE, 0), 0)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", share)
    monkeypatch.setattr(os, "preadv", failing(os.preadv, errno.EIO))
    copier.copy(str(source), str(target), SIZE + MIB, 0o666)
    assert target.read_bytes() == source.read_bytes() + bytes(MIB)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY])
def test_what_it_does_not_share_is_copied(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    monkeypatch.setattr(fcntl, "ioctl", failing(fcntl.ioctl, number))
    copier.copy(str(source), str(target), SIZE, 0o666)
    assert target.read_bytes() == source.read_bytes()


def test_an_error_while_it_is_shared_is_one(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fcntl, "ioctl", failing(fcntl.ioctl, errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        copier.copy(str(source), str(target), SIZE, 0o666)


def test_it_is_synced_when_all_is_there(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[bytes] = []
    real = os.fsync

    def sync(fd: int) -> None:
        seen.append(target.read_bytes())
        real(fd)

    monkeypatch.setattr(os, "fsync", sync)
    copier.copy(str(source), str(target), SIZE, 0o666)
    assert seen == [source.read_bytes()]


def test_when_a_piece_fails_the_copy_fails_and_the_rest_is_not_tried(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
):
    copied: list[int] = []

    def is_bad(fd: int, content: memoryview, position: int) -> bool:
        copied.append(position)
        return True

    monkeypatch.setattr(os, "pwrite", failing(os.pwrite, errno.ENOSPC, is_bad))
    with pytest.raises(OSError, match="No space left"):
        copier.copy(str(source), str(target), SIZE, 0o666)
    assert len(copied) <= copier._WORKERS


def test_a_source_that_becomes_shorter_is_noticed(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "preadv", lambda *words: 0)
    with pytest.raises(OSError, match="became shorter"):
        copier.copy(str(source), str(target), SIZE, 0o666)


def test_a_source_that_cannot_be_searched_for_holes_fails(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "lseek", failing(os.lseek, errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        copier.copy(str(source), str(target), SIZE, 0o666)


def test_links_are_not_followed(source: Path, tmp_path: Path, target: Path):
    link = tmp_path / "link"
    link.symlink_to(source)
    for words in ((link, target), (source, link)):
        with pytest.raises(OSError, match="symbolic links") as caught:
            copier.copy(*map(str, words), SIZE, 0o666)
        assert caught.value.errno == errno.ELOOP
    assert len(source.read_bytes()) == SIZE


def test_the_program_copies(source: Path, target: Path):
    command = [sys.executable, "-P", "-m", "lustack.cinder.copier", str(source), str(target), str(SIZE), "660"]
    subprocess.run(command, check=True)
    assert target.read_bytes() == source.read_bytes()
    assert copier.main([str(source), str(target), str(SIZE), "666"]) == 0
    assert target.stat().st_mode & 0o777 == 0o666


def test_the_program_says_what_is_wrong(source: Path, target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert copier.main([]) == 2
    assert "usage: lustack-copy" in capsys.readouterr().err
    assert copier.main([str(tmp_path / "none"), str(target), "1", "660"]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/none: No such file or directory\n"


def test_errors_that_name_no_file_name_the_target(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(os, "fsync", failing(os.fsync, errno.EDQUOT))
    assert copier.main([str(source), str(target), str(SIZE), "660"]) == 1
    assert capsys.readouterr().err == f"{target}: Disk quota exceeded\n"


def test_root_may_run_it_through_the_filter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    command = copier.render_command("/a", "/b", 4096, 0o660, is_for_root=True)
    assert command == ["lustack-copy", "/a", "/b", "4096", "660"]
    filters = Path(__file__).parents[3] / "etc/cinder/rootwrap.d/lustack.filters"
    assert "lustack-copy: CommandFilter, lustack-copy, root" in filters.read_text().splitlines()
