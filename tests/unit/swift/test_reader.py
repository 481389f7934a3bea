# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

import pytest

from lustack.swift.reader import PosixDiskFileReader

MIB = 1024 * 1024


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


def open_reader(file: Path, *, chunk_bytes: int = 4, keep_cache: bool = False) -> PosixDiskFileReader:
    fd = os.open(file, os.O_RDONLY)
    size = os.fstat(fd).st_size
    return PosixDiskFileReader(fd, size, chunk_bytes=chunk_bytes, cooperative_period=0, keep_cache=keep_cache)


def test_the_body_comes_in_chunks(file):
    assert list(open_reader(file)) == [b"0123", b"4567", b"89"]


@pytest.mark.parametrize("keep_cache", [True, False])
def test_a_long_body_comes_whole_whether_the_cache_keeps_it_or_not(file, keep_cache):
    body = os.urandom(3 * MIB + 5)
    file.write_bytes(body)
    assert b"".join(open_reader(file, chunk_bytes=65536, keep_cache=keep_cache)) == body


def test_a_file_that_grows_ends_at_the_promised_length(file):
    reader = open_reader(file)
    with file.open("ab") as appended:
        appended.write(b"more")
    assert b"".join(reader) == b"0123456789"


def test_a_file_that_grows_while_it_is_sent_ends_at_the_promised_length(file):
    chunks = iter(open_reader(file))
    first = next(chunks)
    with file.open("ab") as appended:
        appended.write(b"more")
    assert first + b"".join(chunks) == b"0123456789"


def test_a_file_that_shrinks_ends_the_body_early(file):
    chunks = iter(open_reader(file))
    first = next(chunks)
    os.truncate(file, 6)
    assert first + b"".join(chunks) == b"012345"


def test_no_ranges_are_no_bytes(file):
    reader = open_reader(file)
    assert list(reader.app_iter_ranges([], "text/plain", "x", 10)) == [b""]
    reader.close()


def test_ranges_take_the_type_and_the_boundary_as_text_too(file):
    body = b"".join(open_reader(file).app_iter_ranges([(0, 1), (8, 10)], "text/plain", "bound", 10))
    assert body.count(b"--bound") == 3
    assert b"bytes 8-9/10\r\n\r\n89\r\n" in body


def test_a_range_beyond_the_end_is_cut(file):
    assert b"".join(open_reader(file).app_iter_range(8, 100)) == b"89"
    assert b"".join(open_reader(file).app_iter_range(None, None)) == b"0123456789"


def test_the_end_of_a_body_closes_the_file(file):
    for send in (
        list,
        lambda reader: list(reader.app_iter_range(0, 3)),
        lambda reader: list(reader.app_iter_ranges([(0, 1), (2, 3)], b"t", b"x", 10)),
    ):
        reader = open_reader(file)
        send(reader)
        assert reader._fd == -1


def test_a_client_that_goes_away_closes_the_file(file):
    reader = open_reader(file)
    chunks = reader.app_iter_range(0, 10)
    next(chunks)
    chunks.close()
    assert reader._fd == -1


def test_what_nobody_reads_is_closed_by_the_collector(file):
    before = os.listdir("/proc/self/fd")
    chunks = open_reader(file).app_iter_range(0, 3)
    assert os.listdir("/proc/self/fd") != before
    chunks.close()
    del chunks
    gc.collect()
    assert os.listdir("/proc/self/fd") == before


def test_a_failing_disk_breaks_the_body_off_and_closes_the_file(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    reader = PosixDiskFileReader(fd, 10, chunk_bytes=4, cooperative_period=0, keep_cache=False)
    with pytest.raises(OSError, match="Is a directory") as caught:
        list(reader)
    assert caught.value.errno == errno.EISDIR
    assert reader._fd == -1


def test_swift_does_not_splice(file):
    reader = open_reader(file)
    assert not reader.can_zero_copy_send()
    reader.close()
