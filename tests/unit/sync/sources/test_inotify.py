# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import threading

import pytest

from lustack.mapping.names import RelPath
from lustack.sync.errors import DeviceMissingError
from lustack.sync.events import NameChanged, TreeChanged
from lustack.sync.sources import polled, watches
from lustack.sync.sources.inotify import InotifySource
from lustack.sync.sources.protocol import SourceLostError, SourceUnavailableError
from lustack.sync.sources.roots import Root
from lustack.sync.sources.watches import LinuxKernel


class Scarce(LinuxKernel):
    """So many watches, and no more."""

    def __init__(self, limit):
        self.limit = limit

    def watch(self, instance, dirfd):
        number = super().watch(instance, dirfd)
        if number > self.limit:
            self.forget(instance, number)
            raise OSError(errno.ENOSPC, "No space left on device")
        return number


@pytest.fixture
def top(tmp_path):
    (tmp_path / "top" / "d").mkdir(parents=True)
    return tmp_path / "top"


@pytest.fixture
def start(top):
    sources = []

    def start(**options):
        source = InotifySource("inotify", [Root(str(top))], is_local=True, gather_s=0.001, **options)
        sources.append(source)
        source.open(None)
        return source

    yield start
    for source in sources:
        source.close()


def test_what_happens_is_read(start, top):
    source = start()
    (top / "d" / "f").write_bytes(b"content")
    assert source.read(1).events == [NameChanged(b"d/f")]
    assert source.read(0) is None


def test_a_directory_that_left_is_reported_soon(start, top, tmp_path):
    source = start()
    os.rename(top / "d", tmp_path / "elsewhere")
    assert source.read(5).events == [TreeChanged(b"d")]


@pytest.mark.expects_log(r"1 directories are watched, but not b'd' \(No space left on device\)")
def test_trees_without_watches_are_said_once_and_reported_again_and_again(start, top):
    source = start(kernel=Scarce(1), rescan_s=0.01)
    for _ in range(2):
        assert source.read(5).events == [TreeChanged(b"d")]
    (top / "f").write_bytes(b"")
    assert NameChanged(b"f") in source.read(5).events


@pytest.mark.expects_log("or with everything else if there are many")
def test_too_many_trees_without_watches_are_left_to_comparisons(start, top, monkeypatch):
    monkeypatch.setattr(watches, "_MOST_UNWATCHED", 1)
    (top / "e").mkdir()
    source = start(kernel=Scarce(1), rescan_s=0.0)
    assert source.read(0) is None
    assert not source.guarantees.across_hosts


def test_a_root_without_a_watch_cannot_be_used(start):
    with pytest.raises(SourceUnavailableError, match="No space left"):
        start(kernel=Scarce(0))


def test_a_root_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(DeviceMissingError, match="absent"):
        InotifySource("inotify", [Root(str(tmp_path / "absent"))], is_local=True).open(None)


def test_a_root_that_is_another_directory_is_a_loss(start, top, tmp_path, monkeypatch):
    monkeypatch.setattr(polled, "_CHECK_S", 0.0)
    source = start()
    assert source.read(0) is None
    os.rename(top, tmp_path / "elsewhere")
    with pytest.raises(SourceLostError, match="opened any more"):
        source.read(0)
    source.close()
    top.mkdir()
    source.open(None)
    os.rename(top, tmp_path / "elsewhere2")
    top.mkdir()
    with pytest.raises(SourceLostError, match="another directory"):
        source.read(0)


def test_an_unmounted_file_system_is_a_loss(mount):
    top = mount("-t", "tmpfs", "none")
    source = InotifySource("inotify", [Root(str(top))], is_local=True)
    source.open(None)
    assert os.system(f"umount {top}") == 0
    with pytest.raises(SourceLostError, match="unmounted"):
        source.read(5)
    source.close()
    assert os.system(f"mount -t tmpfs none {top}") == 0


def test_exports_come_and_go_while_it_is_open(start, top, tmp_path):
    exported = tmp_path / "exported"
    exported.mkdir()
    source = start()
    roots = [Root(str(top)), Root(str(exported), RelPath(b"x/y")), Root(str(tmp_path / "absent"), RelPath(b"x/z"))]
    update(source, roots)
    (exported / "f").write_bytes(b"")
    assert source.read(5).events == [NameChanged(b"x/y/f")]
    update(source, roots[:1])
    (exported / "f").write_bytes(b"")
    (top / "f").write_bytes(b"")
    assert source.read(5).events == [NameChanged(b"f")]


@pytest.mark.expects_log(r"does not see all that happens in \S+/exported \(No space left on device\)")
def test_an_export_without_a_watch_is_said(start, top, tmp_path):
    (tmp_path / "exported").mkdir()
    source = start(kernel=Scarce(2))
    update(source, [Root(str(top)), Root(str(tmp_path / "exported"), RelPath(b"x/y"))])
    assert not source.guarantees.across_hosts


def update(source, roots):
    thread = threading.Thread(target=source.watch, args=(roots,))
    thread.start()
    while thread.is_alive():
        source.read(0.01)


def test_a_batch_that_fills_the_buffer_is_followed_by_the_next_at_once(start, top):
    source = start()
    for number in range(600):
        (top / f"{'n' * 200}{number}").write_bytes(b"")
    assert len(source.read(1).events) < 600
    assert source._is_behind
    while source.read(0) is not None:
        pass
    assert not source._is_behind


def test_an_overflow_is_a_loss(start, top):
    source = start()
    # Source: /proc/sys/fs/inotify/max_queued_events, 16 384 by default.
    for name in ("a", "b"):
        (top / name).write_bytes(b"")
    with open("/proc/sys/fs/inotify/max_queued_events") as limit:
        for number in range(int(limit.read())):
            os.utime(top / "ab"[number % 2])
    with pytest.raises(SourceLostError, match="ran over"):
        list(iter(lambda: source.read(0), None))
