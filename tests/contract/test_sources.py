# SPDX-License-Identifier: Apache-2.0
"""What every source of events must do."""

from __future__ import annotations

import pytest

from lustack.mapping.names import RelPath
from lustack.sync.events import NameChanged
from lustack.sync.sources.fake import FakeSource
from lustack.sync.sources.protocol import SourceLostError


class SourceContract:
    """The contract; who implements it makes a source and says how something happens.

    Attributes:
        can_lose: whether the test can make the source lose events.
    """

    can_lose = True

    @pytest.fixture
    def source(self):
        raise NotImplementedError

    def happen(self, source, name):
        """A file with this name changes."""
        raise NotImplementedError

    def lose(self, source):
        """The source loses what was not acknowledged."""
        raise NotImplementedError

    def read_all(self, source):
        found, position = [], None
        while batch := source.read(0.5):
            found += batch.events
            position = batch.position
        return found, position

    def test_what_happens_after_it_was_opened_is_reported(self, source):
        self.happen(source, "before")
        source.open(None)
        for name in "abc":
            self.happen(source, name)
        found, _ = self.read_all(source)
        assert {event.path for event in found} >= {b"a", b"b", b"c"}
        assert NameChanged(RelPath(b"before")) not in found

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
        assert NameChanged(RelPath(b"b")) in found
        assert NameChanged(RelPath(b"a")) not in found

    def test_an_acknowledgement_can_be_repeated_and_never_goes_back(self, source):
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

    def test_a_closed_source_reports_nothing(self, source):
        source.open(None)
        self.happen(source, "a")
        source.close()
        assert source.read(0.1) is None

    def test_a_loss_is_reported(self, source):
        if not self.can_lose:
            pytest.skip("it cannot be made to lose anything here")
        source.open(None)
        self.happen(source, "a")
        _, first = self.read_all(source)
        self.happen(source, "b")
        self.lose(source)
        with pytest.raises(SourceLostError):
            source.read(0.1)
        source.close()
        with pytest.raises(SourceLostError):
            source.open(first)
        source.open(None)
        assert source.read(0.1) is None

    def test_its_name_and_what_it_promises_do_not_change(self, source):
        assert source.name == source.name != ""
        assert source.guarantees == source.guarantees


class TestFakeSource(SourceContract):
    @pytest.fixture
    def source(self):
        return FakeSource()

    def happen(self, source, name):
        source.happen(NameChanged(RelPath(name.encode())))

    def lose(self, source):
        source.forget()
