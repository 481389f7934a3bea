# SPDX-License-Identifier: Apache-2.0
"""What every source of events must do."""

from __future__ import annotations

import os

import pytest
from tests.lustres import QUICK, Watched, read_all

from lustack.mapping.names import RelPath
from lustack.sync.events import NameChanged
from lustack.sync.sources.changelogs import ChangelogSources
from lustack.sync.sources.fake import FakeSource
from lustack.sync.sources.fanotify import FanotifySource, LinuxKernel
from lustack.sync.sources.inotify import InotifySource
from lustack.sync.sources.protocol import OLDEST, SourceLostError
from lustack.sync.sources.roots import Root


class SourceContract:
    """The contract; who implements it makes a source and says how something happens.

    It takes one of the two parts about memory, and, where a test can make it lose events, the part about losses.
    """

    @pytest.fixture
    def source(self):
        raise NotImplementedError

    def happen(self, source, name):
        """A file with this name changes."""
        raise NotImplementedError

    def read_all(self, source):
        """The paths of all events, and the last position."""
        found, position = [], None
        while batch := source.read(0.5):
            found += [event.path for event in batch.events]
            position = batch.position
        return found, position

    def test_what_happens_after_it_was_opened_is_reported(self, source):
        self.happen(source, "before")
        source.open(None)
        for name in "abc":
            self.happen(source, name)
        found, _ = self.read_all(source)
        assert set(found) == {b"a", b"b", b"c"}

    def test_an_acknowledgement_can_be_repeated_and_never_goes_back(self, source):
        source.open(None)
        self.happen(source, "a")
        _, first = self.read_all(source)
        self.happen(source, "b")
        _, second = self.read_all(source)
        for position in (second, second, first):
            source.acknowledge(position)
        assert self.read_all(source) == ([], None)

    def test_a_closed_source_reports_nothing(self, source):
        source.open(None)
        self.happen(source, "a")
        source.close()
        assert source.read(0.1) is None

    def test_its_name_and_what_it_promises_do_not_change(self, source):
        assert source.name == source.name != ""
        assert source.guarantees == source.guarantees


class RememberingContract(SourceContract):
    """Of a source that knows what happened while it was closed."""

    def test_what_was_not_acknowledged_is_reported_again(self, source):
        source.open(None)
        self.happen(source, "a")
        _, first = self.read_all(source)
        source.acknowledge(first)
        self.happen(source, "b")
        self.read_all(source)
        source.close()
        source.open(first)
        found, _ = self.read_all(source)
        assert found == [b"b"]

    def test_what_was_acknowledged_is_not_reported_to_who_opens_it_again(self, source):
        source.open(None)
        self.happen(source, "a")
        _, first = self.read_all(source)
        self.happen(source, "b")
        _, second = self.read_all(source)
        for position in (second, second, first):
            source.acknowledge(position)
        source.close()
        source.open(second)
        assert self.read_all(source) == ([], None)

    def test_who_knows_no_position_gets_what_nobody_acknowledged(self, source):
        source.open(None)
        self.happen(source, "a")
        _, first = self.read_all(source)
        source.acknowledge(first)
        self.happen(source, "b")
        source.close()
        source.open(OLDEST)
        self.happen(source, "c")
        found, last = self.read_all(source)
        # More may come: what was acknowledged may be there still, for others.
        assert {b"b", b"c"} <= set(found)
        source.acknowledge(last)
        source.close()
        source.open(last)
        assert self.read_all(source) == ([], None)


class ForgettingContract(SourceContract):
    """Of a source that knows nothing of what happened while it was closed."""

    def test_who_opens_a_source_without_a_memory_again_is_told_so(self, source):
        source.open(None)
        self.happen(source, "a")
        _, first = self.read_all(source)
        source.acknowledge(first)
        source.close()
        with pytest.raises(SourceLostError):
            source.open(first)
        assert source.read(0) is None
        source.open(None)
        assert self.read_all(source) == ([], None)


class LosingContract(SourceContract):
    """Of a source that can be made to lose events."""

    def lose(self, source):
        """The source loses what was not acknowledged."""
        raise NotImplementedError

    def test_a_loss_is_reported(self, source):
        source.open(None)
        self.happen(source, "a")
        _, first = self.read_all(source)
        self.happen(source, "b")
        self.lose(source)
        with pytest.raises(SourceLostError):
            self.read_all(source)
        source.close()
        with pytest.raises(SourceLostError):
            source.open(first)
        source.open(None)
        assert source.read(0.1) is None


class TestFakeSource(RememberingContract, LosingContract):
    @pytest.fixture
    def source(self):
        return FakeSource()

    def happen(self, source, name):
        source.happen(NameChanged(RelPath(name.encode())))

    def lose(self, source):
        source.forget()


class TestInotifySource(ForgettingContract, LosingContract):
    @pytest.fixture
    def source(self, tmp_path):
        source = InotifySource("inotify", [Root(str(tmp_path))], is_local=True)
        source.top = tmp_path
        yield source
        source.close()

    def happen(self, source, name):
        (source.top / name).write_bytes(b"content")

    def lose(self, source):
        # Source: /proc/sys/fs/inotify/max_queued_events, 16 384 by default; the kernel merges only what is equal.
        with open("/proc/sys/fs/inotify/max_queued_events") as limit:
            for number in range(int(limit.read()) + 1):
                os.utime(source.top / "ab"[number % 2])


class TestFanotifySource(ForgettingContract, LosingContract):
    @pytest.fixture
    def source(self, mount):
        top = mount("-t", "tmpfs", "none")
        source = FanotifySource("fanotify", [Root(str(top))], is_local=True, kernel=LinuxKernel(is_unlimited=False))
        source.top = top
        yield source
        source.close()

    def happen(self, source, name):
        (source.top / name).write_bytes(b"content")

    def lose(self, source):
        # Source: /proc/sys/fs/fanotify/max_queued_events, 16 384 by default.
        with open("/proc/sys/fs/fanotify/max_queued_events") as limit:
            for number in range(int(limit.read()) + 1):
                os.close(os.open(source.top / str(number), os.O_CREAT))


class TestChangelogSource(RememberingContract, LosingContract):
    @pytest.fixture
    def source(self, tmp_path):
        watched = Watched(tmp_path)
        source = watched.source()
        source.watched = watched
        yield source
        watched.close()

    def read_all(self, source):
        # Threads of its own read the logs: that a moment goes by without events does not mean that all is read.
        events, last = read_all(source)
        return [event.path for event in events], last and last.position

    def happen(self, source, name):
        source.watched.lustre.write(b"device/" + name.encode(), b"content")

    def lose(self, source):
        log = source.watched.log()
        for index in list(log.records)[-2:]:
            log.drop(index)
        self.happen(source, "later")


class TestChangelogSources(TestChangelogSource):
    @pytest.fixture
    def source(self, tmp_path):
        watched = Watched(tmp_path, mdts=2)
        source = ChangelogSources("changelog:d1", watched.lustre, watched.users, list(watched.roots.values()), QUICK)
        source.watched = watched
        yield source
        source.close()
        watched.close()
