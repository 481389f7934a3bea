# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.objects import no_thread_pool

from lustack.swift.device import Device
from lustack.swift.reader import PosixDiskFileReader, Source


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


@pytest.fixture(autouse=True)
def pool() -> Iterator[None]:
    with no_thread_pool():
        yield


def open_reader(path: Path, size: int | None = None) -> PosixDiskFileReader:
    fd = os.open(path, os.O_RDONLY)
    source = Source(Device(str(path)).looks.line(), fd)
    return PosixDiskFileReader(source, os.fstat(fd).st_size if size is None else size, chunk_bytes=4)


def test_the_body_comes_in_chunks(file):
    assert list(open_reader(file)) == [b"0123", b"4567", b"89"]


def test_few_bytes_need_no_file():
    source = Source(Device("/nowhere").looks.line(), -1, b"0123456789")
    assert list(PosixDiskFileReader(source, 10, chunk_bytes=4)) == [b"0123", b"4567", b"89"]
    source.close()


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
    ):
        reader = open_reader(file)
        send(reader)
        assert reader._source.fd == -1


def test_the_end_of_several_ranges_is_where_the_server_closes_them(file):
    reader = open_reader(file)
    document = reader.app_iter_ranges([(0, 1), (2, 3)], b"t", b"x", 10)
    assert b"0" in list(document)
    document.close()
    assert reader._source.fd == -1


def test_a_client_that_goes_away_closes_the_file(file):
    reader = open_reader(file)
    chunks = reader.app_iter_range(0, 10)
    next(chunks)
    chunks.close()
    assert reader._source.fd == -1


def test_what_nobody_reads_is_closed_by_the_collector(file):
    before = os.listdir("/proc/self/fd")
    chunks = open_reader(file).app_iter_range(0, 3)
    assert os.listdir("/proc/self/fd") != before
    del chunks
    gc.collect()
    assert os.listdir("/proc/self/fd") == before


def test_a_failing_disk_breaks_the_body_off_and_closes_the_file(tmp_path):
    reader = open_reader(tmp_path, 10)
    with pytest.raises(OSError, match="Is a directory") as caught:
        list(reader)
    assert caught.value.errno == errno.EISDIR
    reader.close()
    assert reader._source.fd == -1


def test_swift_does_not_splice(file):
    reader = open_reader(file)
    assert not reader.can_zero_copy_send()
    reader.close()
