# SPDX-License-Identifier: Apache-2.0
"""What an event costs the engine of the daemon itself: no servers, the container server's answers are made up.

    python bench/sync_cost.py [--files 20000] [--containers 4] [--rounds 5] [--at DIR]

The same events as in `sync_throughput.py`, created and closed for each file, over real files; everything up to the
bytes that a server would get. Quick, and steadier than with servers: for comparing one version with another. Prints the
least and the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bench_serving import load
from sync_throughput import Tree

from lustack.mapping import layout
from lustack.sync.clock import Clock
from lustack.sync.engine import Engine, Parts
from lustack.sync.events import NameChanged
from lustack.sync.garbage import collect_seldom
from lustack.sync.plan import SentRow
from lustack.sync.recent import RecentSink
from lustack.sync.reconcile import Tally
from lustack.sync.settings import Settings
from lustack.sync.sinks.http import Answer, Connections, Node, Request
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.sinks.rings import Policy, Rings
from lustack.sync.sinks.swift import SwiftSink
from lustack.sync.sources.fake import FakeSource
from lustack.sync.sources.protocol import Batch, Position
from lustack.sync.state import State

BATCH = 2000
PAUSE_S = 0.005
LIMIT_S = 120
DEVICE = "device"


class NoServer(Connections):
    """Every container exists and takes everything."""

    def ask(self, node: Node, request: Request, *, is_spare: bool = False) -> Answer:
        """See `Connections`."""
        del node, request, is_spare
        return Answer(204, {"x-backend-put-timestamp": "0000000001.00000"}, b"")


class Idle:
    """Has nothing to say; see `Watcher`."""

    def on_pulse(self, key: ContainerKey, name: str, tally: Tally) -> None:
        """See `Watcher`."""

    def on_difference(self, key: ContainerKey, row: SentRow) -> None:
        """See `Watcher`."""

    def on_unhashed(self, key: ContainerKey, name: str) -> None:
        """See `Watcher`."""

    def is_stopped(self) -> bool:
        """See `Watcher`."""
        return False


class Burst(FakeSource):
    """Gives its events once there are any, and waits a while where nothing happens."""

    def read(self, timeout_s: float) -> Batch | None:
        """See `Source`."""
        found = super().read(timeout_s)
        if found is None:
            time.sleep(min(timeout_s, PAUSE_S))
        return found


def fail(error: Exception) -> None:
    """Nothing may go wrong."""
    raise error


def measure(base: Path, state: State, events: Sequence[NameChanged]) -> float:
    """Microseconds of CPU for each event."""
    policy = Policy(0, "files", DEVICE)
    node = [Node("127.0.0.1", 1, "sda", 0)]
    rings = Rings(lambda *_: node, lambda *_: node, (policy,), 10_000)
    clock = Clock(state)
    sink = RecentSink(SwiftSink(rings, NoServer()), clock.now_ns())
    settings = Settings(devices=str(base), state_dir=str(base), hash_bytes_per_s=0)
    parts = Parts(settings, [policy], state, sink, clock, Idle(), lambda *_: None, fail)
    engine = Engine(parts)
    engine.start()
    source = Burst(most=BATCH)
    source.open(None)
    try:
        state.set_position(source.name, Position("0"))
        engine.add(policy, source)
        started_s = time.process_time()
        source.happen(*events)
        limit_s = time.monotonic() + LIMIT_S
        while source.acknowledged < len(events):
            assert engine.failure is None, "a thread failed"
            assert time.monotonic() < limit_s, "not all events were acknowledged"
            time.sleep(0.02)
        used_s = time.process_time() - started_s
    finally:
        engine.stop()
    assert sink.rows >= len({event.path for event in events})
    return used_s / len(events) * 1e6


def main() -> None:
    """Measures some rounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--containers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at", type=Path, default=None, help="a directory on the file system to measure")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.at) as directory:
        base = Path(directory)
        root = base / DEVICE
        reserved = root / layout.RESERVED.decode()
        reserved.mkdir(parents=True)
        events = Tree(root / "AUTH_test", "n", wanted.containers, wanted.files).make()
        collect_seldom()
        found = []
        for number in range(wanted.rounds):
            with closing(State(str(base / f"state{number}"))) as state:
                state.set_device(0, reserved.stat().st_ino)
                found.append(measure(base, state, events))
        print(f"{min(found):.2f} µs/event at least, {statistics.median(found):.2f} in the median, load {load()}")


if __name__ == "__main__":
    main()
