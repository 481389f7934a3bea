# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import mmap
import os
import time
from contextlib import closing
from dataclasses import replace

import pytest
from tests.listings import KEY

from lustack.mapping import layout, metadata
from lustack.mapping.metadata import DataLayer, MetaLayer, Stamp
from lustack.posix.xattrs import REFERENCE_PREFIX
from lustack.sync.errors import StoppedError
from lustack.sync.hasher import Hasher, Outcome, Pace, Site, is_written
from lustack.sync.observe import Place


def now_ns():
    """An hour from now: every file is quiet."""
    return time.time_ns() + 3600 * 10**9


def hasher(pace=None, **options):
    return Hasher(3.0, pace or Pace(10**12, lambda _seconds: False), **{"now_ns": now_ns, **options})


def hash_it(playground, name="o", with_=None):
    with playground.device() as device, closing(Site(device, KEY)) as site:
        return (with_ or hasher()).hash(site, name)


def view(playground, name="o"):
    with playground.device() as device:
        fd = os.open(playground.container / name, os.O_PATH)
        try:
            return device.observer.view(name, fd, layout.FILE_ATTRIBUTES, now_ns())
        finally:
            os.close(fd)


def md5(body):
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def test_the_md5_of_a_file_becomes_known(playground):
    body = b"0123456789" * 200_000
    playground.write("o", body)
    assert view(playground).etag is None
    assert hash_it(playground) is Outcome.HASHED
    assert view(playground).etag == md5(body)
    assert view(playground).origin.value == "posix"
    assert hash_it(playground) is Outcome.KNOWN


def test_a_change_makes_it_unknown_again(playground):
    path = playground.write("o", b"one")
    hash_it(playground)
    path.write_bytes(b"another")
    assert view(playground).etag is None
    assert hash_it(playground) is Outcome.HASHED
    assert view(playground).etag == md5(b"another")


@pytest.mark.parametrize(
    "value", [b"garbage", REFERENCE_PREFIX + b"0" * 32, b'{"version":2,"stamp":[1,2,3,null],"headers":{}}']
)
def test_metadata_that_cannot_be_read_is_not_written_over(playground, value):
    path = playground.write("o", b"body")
    os.setxattr(path, layout.FILE_ATTRIBUTES.data, value)
    assert hash_it(playground) is Outcome.DAMAGED
    assert os.getxattr(path, layout.FILE_ATTRIBUTES.data) == value


def test_metadata_of_a_clock_that_is_ahead_is_not_written_over(playground):
    playground.put("o", b"body", "9000000000.00000", **{"X-Object-Meta-Color": "blue"})
    assert hash_it(playground) is Outcome.DAMAGED
    assert hash_it(playground, with_=hasher(now_ns=lambda: 9_000_000_001 * 10**9)) is Outcome.KNOWN


def test_what_the_owner_said_stays_and_what_described_other_bytes_goes(playground):
    path = playground.put(
        "o", b"body", "1600000000.00000", **{"X-Object-Meta-Color": "blue", "X-Static-Large-Object": "True"}
    )
    path.write_bytes(b"changed by a job")
    before = view(playground).merged()
    assert hash_it(playground) is Outcome.HASHED
    after = view(playground).merged()
    assert after["ETag"] == md5(b"changed by a job")
    assert after["X-Object-Meta-Color"] == before["X-Object-Meta-Color"] == "blue"
    assert after["Content-Type"] == before["Content-Type"] == "text/plain"
    assert "X-Static-Large-Object" not in after
    assert not any(key.startswith("X-Object-Sysmeta") for key in after)


def test_a_content_type_that_nobody_said_is_not_kept(playground):
    path = playground.write("o.txt", b"one")
    hash_it(playground, "o.txt")
    path.write_bytes(b"another")
    assert hash_it(playground, "o.txt") is Outcome.HASHED
    path.rename(playground.container / "o.html")
    assert view(playground, "o.html").data["Content-Type"] == "text/html"


def test_what_post_wrote_stays(playground):
    path = playground.write("o", b"body")
    post = MetaLayer(path.stat().st_ino, {"X-Timestamp": "1600000000.00000", "X-Object-Meta-A": "b"})
    blob = metadata.render_meta(post, None, trusted=False).meta
    os.setxattr(path, layout.FILE_ATTRIBUTES.meta, blob)
    hash_it(playground)
    assert view(playground).merged()["X-Object-Meta-A"] == "b"


def test_a_file_that_has_just_changed_is_not_read(playground):
    playground.write("o")
    assert hash_it(playground, with_=hasher(now_ns=time.time_ns)) is Outcome.BUSY


def test_a_file_that_is_open_for_writing_is_not_read(playground):
    path = playground.write("o")
    with path.open("ab"):
        assert hash_it(playground) is Outcome.BUSY
    assert hash_it(playground) is Outcome.HASHED


def test_a_file_that_is_mapped_for_writing_is_not_read(playground):
    path = playground.write("o", b"x" * 4096)
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    assert hash_it(playground) is Outcome.BUSY
    mapped.close()


def test_where_leases_do_not_work_nobody_is_taken_for_a_writer():
    # A lease is for regular files; a directory is refused with EINVAL (fcntl(2)).
    fd = os.open("/", os.O_RDONLY)
    assert not is_written(fd)
    os.close(fd)


@pytest.mark.parametrize("change", ["write", "open"])
def test_a_file_that_changes_while_it_is_read_gets_no_hash(playground, change):
    path = playground.write("o", b"x" * 3_000_000)
    opened = []

    def wait(_seconds):
        if change == "write":
            os.truncate(path, 5)
        elif not opened:
            opened.append(path.open("ab"))
        return False

    assert hash_it(playground, with_=hasher(Pace(10**12, wait))) is Outcome.CHANGED
    assert view(playground).etag is None
    for file in opened:
        file.close()


def test_what_is_gone_is_no_trouble(playground):
    assert hash_it(playground) is Outcome.GONE
    (playground.container / "d").mkdir()
    assert hash_it(playground, "d") is Outcome.GONE
    (playground.container / "d").rmdir()
    playground.container.rmdir()
    assert hash_it(playground) is Outcome.GONE


def test_an_error_of_the_file_system_is_not_hidden(playground):
    playground.write("o")

    class Closed(Hasher):
        def _hash_place(self, device, name, place):
            wrong = replace(place.directory)
            os.close(wrong.fd)
            try:
                return super()._hash_place(device, name, Place(wrong, place.entry))
            finally:
                assert os.open(playground.container, os.O_RDONLY) == wrong.fd

    with pytest.raises(OSError, match="Bad file descriptor"):
        hash_it(playground, with_=Closed(3.0, Pace(1, lambda _seconds: False), now_ns))


def test_a_file_of_somebody_else_is_read_too(playground):
    if os.geteuid() != 0:
        pytest.skip("becoming somebody else needs root")
    path = playground.write("o", b"body")
    for place in (playground.base, *playground.base.parents):
        if place.stat().st_mode & 0o005 != 0o005 and place.owner() == "root" and str(place).startswith("/tmp/"):
            place.chmod(0o755)
    path.chmod(0o666)
    with playground.device() as device, closing(Site(device, KEY)) as site:
        os.seteuid(65534)
        try:
            assert hasher().hash(site, "o") is Outcome.HASHED
        finally:
            os.seteuid(0)


def test_reading_is_paced():
    now_s = [100.0]
    waits = []

    def wait(seconds):
        waits.append(round(seconds, 6))
        now_s[0] += seconds
        return False

    pace = Pace(1000, wait, lambda: now_s[0])
    pace.spend(500)
    pace.spend(500)
    assert sum(waits) == 1.0
    now_s[0] += 100
    pace.spend(500)
    # At most one second of an idle time counts.
    assert waits[-1] == 0.0
    pace.spend(1500)
    assert waits[-1] == 1.0


def test_while_others_have_work_it_takes_a_fifth_of_the_time():
    now_s, waits, busy = [100.0], [], [True]

    def wait(seconds):
        waits.append(round(seconds, 6))
        now_s[0] += seconds
        return False

    pace = Pace(10**9, wait, lambda: now_s[0], lambda: busy[0])
    for _ in range(10):
        now_s[0] += 0.001
        pace.spend(1)
    assert waits == [0.0] * 4 + [0.02] + [0.0] * 4 + [0.02]
    busy[0] = False
    for _ in range(10):
        now_s[0] += 0.001
        pace.spend(1)
    assert waits[10:] == [0.0] * 10


def test_the_directory_of_a_container_stays_open_for_a_moment_only(playground):
    now_s = [100.0]
    path = playground.write("a", b"one")
    with playground.device() as device, closing(Site(device, KEY, lambda: now_s[0])) as site:
        assert hasher().hash(site, "a") is Outcome.HASHED
        assert site.enter() is site.enter()
        path.unlink()
        playground.container.rename(playground.base / "old")
        now_s[0] += 0.2
        assert hasher().hash(site, "a") is Outcome.GONE
        assert site.enter() is None
        playground.write("a", b"another")
        assert hasher().hash(site, "a") is Outcome.GONE
        now_s[0] += 0.2
        assert hasher().hash(site, "a") is Outcome.HASHED
    assert view(playground, "a").etag == md5(b"another")


@pytest.mark.parametrize(("size_bytes", "advised"), [(1000, []), (1024 * 1024 + 1, [(0, 1024 * 1024)])])
def test_a_small_file_is_not_pushed_to_the_disk(playground, monkeypatch, size_bytes, advised):
    found = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _fd, start, length, _advice: found.append((start, length)))
    playground.write("o", b"x" * size_bytes)
    assert hash_it(playground) is Outcome.HASHED
    assert found == advised


def test_whoever_must_stop_stops_in_the_middle_of_a_file(playground):
    playground.write("o", b"x" * 3_000_000)
    with pytest.raises(StoppedError):
        hash_it(playground, with_=hasher(Pace(1000, lambda _seconds: True)))


def test_the_stamp_is_that_of_the_bytes(playground):
    path = playground.write("o", b"body")
    hash_it(playground)
    layer = metadata.parse_data(os.getxattr(path, layout.FILE_ATTRIBUTES.data), None, trusted=False)
    status = path.stat()
    assert layer == DataLayer(Stamp(status.st_ino, 4, status.st_mtime_ns), {"ETag": md5(b"body")})
