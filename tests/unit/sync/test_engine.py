# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from tests.listings import POLICY
from tests.unit.sync.test_board import changed
from tests.waiting import wait_for

from lustack.mapping.names import RelPath
from lustack.sync.engine import Engine, Parts
from lustack.sync.errors import StateError
from lustack.sync.events import TreeChanged
from lustack.sync.recent import RecentSink
from lustack.sync.sources.fake import FakeSource
from lustack.sync.sources.protocol import Guarantees
from lustack.sync.state import Scope


@pytest.fixture
def trouble():
    return []


@pytest.fixture
def engine(playground, trouble):
    sink = RecentSink(playground.sink, playground.timer())
    parts = Parts(
        playground.settings,
        [POLICY],
        playground.state,
        sink,
        playground.clock,
        playground.notebook,
        lambda key, names: [playground.notebook.on_unhashed(key, each) for each in names],
        trouble.append,
    )
    found = Engine(parts)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def source(engine, playground):
    source = FakeSource(most=100)
    engine.add(POLICY, source)
    wait_for(engine.wants_tree)
    playground.state.set_device(0, (playground.root / ".lustack").stat().st_ino)
    entry = engine.begin_tree()
    playground.state.finish(Scope(owner="daemon"))
    engine.end_tree(entry, is_done=True)
    return source


def test_names_and_trees_are_listed_by_its_threads(engine, source, playground):
    playground.write("x")
    playground.write("d/y")
    source.happen(changed("a/c/x"), TreeChanged(RelPath(b"a/c/d")))
    wait_for(lambda: playground.listed() == ["d/y", "x"])
    wait_for(lambda: source.acknowledged == 2)
    assert engine.lag_s() == 0.0
    assert not engine.wants_tree()
    assert sorted(playground.notebook.unhashed) == ["d/y", "x"]


def test_who_waits_may_pass(engine, source, playground):
    nonce = playground.root / ".lustack" / "fence" / ("f" * 32)
    nonce.parent.mkdir()
    nonce.touch()
    source.happen(changed(b".lustack/fence/" + b"f" * 32))
    wait_for(lambda: not nonce.exists())


def test_on_a_device_that_is_away_nobody_passes(engine, playground, trouble):
    playground.root.rename(playground.base / "away")
    engine.let_pass(POLICY, [b"f" * 32])
    assert len(trouble) == 1


def test_what_waits_has_a_lag(engine, source, playground):
    playground.sink.failures = 10**6
    source.happen(changed("a/c/x"))
    wait_for(lambda: engine.lag_s() > 0.0)


def test_a_comparison_that_failed_is_wanted_again(engine):
    engine.end_tree(engine.begin_tree(), is_done=False)
    assert engine.wants_tree()


def test_comparisons_are_only_a_net_where_every_device_is_watched_completely(engine):
    assert not engine.is_net_enough()
    engine.add(POLICY, FakeSource("near", Guarantees(complete=True, across_hosts=False, latency_s=0.0)))
    assert not engine.is_net_enough()
    engine.add(POLICY, FakeSource("far"))
    assert engine.is_net_enough()


def test_a_memory_that_fails_does_not_stop_the_clock_of_the_engine(engine, playground, monkeypatch):
    def fail(_latest_ns):
        raise StateError("sync.sqlite", "the disk is full")

    monkeypatch.setattr(playground.state, "raise_latest", fail)
    playground.timer.now_ns += 10**10
    playground.clock.now_ns()
    engine.tick()
    assert engine.failure is None
