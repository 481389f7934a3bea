# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import threading
import time

import pytest
from tests.waiting import LIMIT_S
from tests.watching import FakeKernel, entry_event, event, rename_event

from lustack.mapping.names import RelPath
from lustack.posix.fanotify import CREATE, MODIFY, ONDIR, Q_OVERFLOW, RENAME
from lustack.sync.errors import DeviceMissingError
from lustack.sync.events import NameChanged, TreeChanged, TreeMoved
from lustack.sync.sources import fanotify, polled
from lustack.sync.sources.fanotify import FanotifySource, LinuxKernel
from lustack.sync.sources.protocol import Position, SourceLostError, SourceUnavailableError
from lustack.sync.sources.roots import Root


@pytest.fixture
def kernel():
    kernel = FakeKernel()
    yield kernel
    kernel.close()


@pytest.fixture
def source(kernel):
    source = FanotifySource("fanotify", [Root("/root")], is_local=True, gather_s=0.001, kernel=kernel)
    source.open(None)
    yield source
    source.close()


def test_what_the_kernel_reports_is_read(source, kernel):
    kernel.places["dir"] = ("root", b"d")
    kernel.happen(entry_event(CREATE, "dir", b"name"), entry_event(MODIFY, "root", b"other", "2"))
    batch = source.read(1)
    assert batch.events == [
        NameChanged(b"d/name", is_open=True, is_new=True),
        NameChanged(b"other", is_open=True),
    ]
    source.acknowledge(batch.position)


def test_a_directory_that_moves_is_reported_with_both_names(source, kernel):
    kernel.happen(rename_event(RENAME | ONDIR, ("root", b"old"), ("root", b"new"), "dir"))
    assert source.read(1).events == [TreeMoved(b"old", b"new")]


def test_what_concerns_nobody_does_not_end_the_waiting(source, kernel):
    kernel.happen(entry_event(CREATE, "root", b".lustack.tmp.1"))
    kernel.happen(entry_event(CREATE, "root", b"name"))
    assert [each.path for each in source.read(1).events] == [b"name"]
    assert source.read(0) is None


def test_positions_are_different_and_worth_nothing_later(source, kernel):
    positions = []
    for name in (b"a", b"b"):
        kernel.happen(entry_event(CREATE, "root", name))
        positions.append(source.read(1).position)
    assert len(set(positions)) == 2
    with pytest.raises(SourceLostError, match="before it was opened"):
        source.open(positions[-1])
    assert source.read(0) is None


def test_an_overflow_is_a_loss_until_it_is_opened_again(source, kernel):
    kernel.happen(entry_event(CREATE, "root", b"a"), event(Q_OVERFLOW))
    for _ in range(2):
        with pytest.raises(SourceLostError, match="ran over"):
            source.read(1)
    kernel.close()
    source.open(None)
    assert source.read(0) is None


def test_while_more_is_waiting_nothing_is_gathered_and_nothing_called_new(source, kernel, monkeypatch):
    monkeypatch.setattr(fanotify, "_READ_BYTES", fanotify._EVENT_BYTES + 100)
    kernel.happen(entry_event(CREATE, "root", b"n" * 200))
    kernel.happen(entry_event(CREATE, "root", b"m"))
    source._gather_s = 0.05
    first = source.read(1)
    source._gather_s, started_s = LIMIT_S, time.monotonic()
    second = source.read(1)
    assert time.monotonic() - started_s < LIMIT_S
    assert not first.events[0].is_new
    assert second.events[0].is_new


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(polled, "_CHECK_S", 0.0)


@pytest.mark.parametrize(
    ("attribute", "value", "why"),
    [
        ("keys", {"/root": "another"}, "another directory"),
        ("count", 0, "unmounted"),
        ("trouble", FileNotFoundError(errno.ENOENT, "gone"), "opened any more: gone"),
    ],
)
def test_a_root_that_is_not_what_it_was_is_a_loss(source, kernel, impatient, attribute, value, why):
    assert source.read(0) is None
    setattr(kernel, attribute, value)
    with pytest.raises(SourceLostError, match=why):
        source.read(0)


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "/root"), DeviceMissingError),
        (PermissionError(errno.EPERM, "not permitted"), SourceUnavailableError),
    ],
)
def test_what_cannot_be_opened_says_why(kernel, trouble, expected):
    kernel.trouble = trouble
    source = FanotifySource("fanotify", [Root("/root")], is_local=True, kernel=kernel)
    with pytest.raises(expected):
        source.open(None)
    assert source.read(0) is None


def test_file_systems_that_cannot_be_told_apart_are_not_watched(kernel):
    kernel.count = 2
    with pytest.raises(SourceUnavailableError, match="id of another"):
        FanotifySource("fanotify", [Root("/root")], is_local=True, kernel=kernel).open(None)


def test_an_event_from_a_file_system_that_nobody_asked_for_concerns_nobody(source, kernel):
    kernel.happen(entry_event(CREATE, "root", b"name").replace(b"fsid-of8", b"fsid-of9"))
    assert source.read(0.01) is None


def test_closing_it_elsewhere_ends_the_waiting(source):
    timer = threading.Timer(0.05, source.close)
    timer.start()
    started_s = time.monotonic()
    assert source.read(LIMIT_S) is None
    assert time.monotonic() - started_s < LIMIT_S
    timer.join()


def test_it_says_what_it_promises(kernel):
    source = FanotifySource("name", [Root("/root")], is_local=False, gather_s=0.02, kernel=kernel)
    promised = source.guarantees
    assert (source.name, promised.complete, promised.across_hosts) == ("name", False, False)
    assert promised.latency_s == pytest.approx(0.04)


EXPORT = Root("/exported", RelPath(b"a/c"))


def test_an_export_that_is_not_there_is_left_out(kernel):
    source = FanotifySource("fanotify", [Root("/root"), EXPORT], is_local=True, gather_s=0, kernel=kernel)
    source.open(None)
    kernel.happen(entry_event(CREATE, "root", b"name"))
    assert [each.path for each in source.read(1).events] == [b"name"]
    assert source.guarantees.across_hosts
    source.close()


@pytest.mark.expects_log(r"does not see all that happens in /exported \(no handles\)")
def test_an_export_whose_file_system_cannot_be_watched_is_said(kernel):
    kernel.keys["/exported"] = "exported"
    kernel.refused = {"/exported": OSError(errno.EOPNOTSUPP, "no handles")}
    source = FanotifySource("fanotify", [Root("/root"), EXPORT], is_local=True, gather_s=0, kernel=kernel)
    source.open(None)
    assert not source.guarantees.across_hosts
    source.close()


@pytest.mark.parametrize(("directories", "expected"), [(100, b"d0/again"), (2, b"elsewhere/again")])
def test_a_directory_that_was_forgotten_is_asked_for_again(kernel, directories, expected):
    source = FanotifySource(
        "fanotify", [Root("/root")], is_local=True, gather_s=0, kernel=kernel, directories=directories
    )
    source.open(None)
    try:
        for number in range(5):
            kernel.places[f"dir{number}"] = ("root", b"d%d" % number)
            kernel.happen(entry_event(CREATE, f"dir{number}", b"name"))
            assert [each.path for each in source.read(LIMIT_S).events] == [b"d%d/name" % number]
        kernel.places["dir0"] = ("root", b"elsewhere")
        kernel.happen(entry_event(CREATE, "dir0", b"again"))
        assert [each.path for each in source.read(LIMIT_S).events] == [expected]
    finally:
        source.close()


def test_a_directory_through_which_others_are_asked_for_that_is_gone_is_a_loss(source, kernel):
    kernel.happen(entry_event(CREATE, "somewhere", b"name"))
    kernel.trouble = OSError(errno.ESTALE, "gone", "/root")
    with pytest.raises(SourceLostError, match="gone"):
        source.read(1)


class TestLinux:
    """The real kernel."""

    @pytest.fixture
    def top(self, mount):
        top = mount("-t", "tmpfs", "none")
        (top / "d").mkdir()
        (top / "exported").mkdir()
        return top

    @pytest.fixture
    def source(self, top):
        roots = [Root(str(top / "d")), Root(str(top / "exported"), RelPath(b"a/c"))]
        source = FanotifySource("fanotify", roots, is_local=True)
        source.open(None)
        yield source
        source.close()

    def test_several_roots_in_one_file_system_are_told_apart(self, source, top):
        for name in ("d/1", "exported/2", "3"):
            (top / name).write_bytes(b"")
        assert sorted(each.path for each in source.read(5).events) == [b"1", b"a/c/2"]

    def test_a_root_may_be_a_directory_of_another_mount(self, top, mount):
        (top / "beside" / "inner").mkdir(parents=True)
        bound = mount("--bind", str(top / "d"))
        source = FanotifySource("fanotify", [Root(str(bound))], is_local=True)
        source.open(None)
        for number in range(3):
            (top / "beside" / "inner" / str(number)).write_bytes(b"")
            assert source.read(0) is None
        assert len(source._watching._directories._passed) == 0
        (top / "d" / "1").write_bytes(b"")
        (bound / "2").write_bytes(b"")
        assert [each.path for each in source.read(5).events] == [b"1", b"2"]
        os.rename(top / "beside", top / "d" / "in")
        (bound / "in" / "inner" / "f").write_bytes(b"")
        assert source.read(5).events == [TreeChanged(b"in"), NameChanged(b"in/inner/f", is_new=True)]
        source.close()

    def test_nothing_keeps_the_file_system_from_being_unmounted(self, source, top, impatient):
        assert os.system(f"umount {top}") == 0
        assert os.system(f"mount -t tmpfs none {top}") == 0
        (top / "d").mkdir()
        (top / "exported").mkdir()
        with pytest.raises(SourceLostError):
            source.read(1)

    def test_a_root_that_is_not_there_is_missing(self, top):
        with pytest.raises(DeviceMissingError, match="absent"):
            FanotifySource("fanotify", [Root(str(top / "absent"))], is_local=True).open(None)

    def test_the_group_is_closed_when_a_root_cannot_be_watched(self):
        source = FanotifySource("fanotify", [Root("/proc/self")], is_local=True, kernel=LinuxKernel())
        with pytest.raises(SourceUnavailableError):
            source.open(Position("") or None)

    def test_exports_come_and_go_while_it_is_open(self, source, top, mount):
        other = mount("-t", "tmpfs", "none")
        roots = [Root(str(top / "d")), Root(str(other), RelPath(b"x/y"))]
        thread = threading.Thread(target=source.watch, args=(roots,))
        thread.start()
        while thread.is_alive():
            source.read(0.01)
        for directory in (other, top / "exported", top / "d"):
            (directory / "f").write_bytes(b"")
        found = [each.path for each in source.read(5).events]
        assert sorted(found) == [b"f", b"x/y/f"]

    def test_an_export_that_is_unmounted_is_a_loss_and_the_rest_goes_on(self, top, mount, impatient):
        other = mount("-t", "tmpfs", "none")
        roots = [Root(str(top / "d")), Root(str(other / "e"), RelPath(b"x/y"))]
        (other / "e").mkdir()
        source = FanotifySource("fanotify", roots, is_local=True)
        source.open(None)
        assert source.read(0) is None
        assert os.system(f"umount {other}") == 0
        with pytest.raises(SourceLostError, match="unmounted"):
            source.read(0)
        source.open(None)
        (top / "d" / "f").write_bytes(b"")
        assert [each.path for each in source.read(5).events] == [b"f"]
        source.close()
        assert os.system(f"mount -t tmpfs none {other}") == 0

    def test_directories_are_not_gone_because_the_way_to_them_is(self, tmp_path):
        with pytest.raises(OSError, match="No such file") as caught:
            LinuxKernel().locate(str(tmp_path / "absent"), b"")
        assert caught.value.errno == errno.ESTALE
