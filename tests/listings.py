# SPDX-License-Identifier: Apache-2.0
"""A device and listings to play with, shared by the tests of the daemon."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lustack.mapping import layout, metadata, names
from lustack.mapping.metadata import DataLayer, Stamp
from lustack.mapping.view import EMPTY_ETAG
from lustack.posix.tree import open_root
from lustack.posix.xattrs import AttributeStore, Sidecars
from lustack.sync.clock import Clock
from lustack.sync.device import Device, open_device
from lustack.sync.observe import Directory
from lustack.sync.plan import SentRow
from lustack.sync.reconcile import Comparison, Limits, Tally, Tools
from lustack.sync.settings import Settings
from lustack.sync.sinks.fake import FakeContainer, FakeSink
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.sinks.rings import Policy
from lustack.sync.state import State
from lustack.sync.survey import Survey

KEY = ContainerKey("a", "c")
POLICY = Policy(0, "gold", "files")
START_NS = 2_000_000_000 * 10**9
"""A time after those of the files that tests make."""


class InlineExecutor(Executor):
    """Does at once what it is given."""

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:  # noqa: BLE001 - a future keeps whatever came
            future.set_exception(error)
        return future


@dataclass
class Notebook:
    """A `Watcher` that writes everything down.

    Attributes:
        rows: that were about to be written.
        unhashed: files without an MD5.
        reached: the last acknowledged name of each pulse.
        stop_after: stops after so many pulses.
    """

    rows: list[SentRow] = field(default_factory=list)
    unhashed: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    stop_after: int = 10**9

    def on_pulse(self, key: ContainerKey, name: str, tally: Tally) -> None:
        self.reached.append(name)

    def on_difference(self, key: ContainerKey, row: SentRow) -> None:
        self.rows.append(row)

    def on_unhashed(self, key: ContainerKey, name: str) -> None:
        self.unhashed.append(name)

    def is_stopped(self) -> bool:
        return len(self.reached) >= self.stop_after


@dataclass
class Timer:
    """A clock that moves when it is told to, or a bit at each look."""

    now_ns: int = START_NS
    step_ns: int = 1_000_000

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns

    def seconds(self) -> float:
        return self() / 1e9


class Playground:
    """One device with files, one Swift in memory."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "node" / POLICY.device
        self.container = self.root / "a" / "c"
        self.container.mkdir(parents=True)
        (self.root / ".lustack").mkdir()
        self.sink = FakeSink(accounts={"a"}, containers={KEY: FakeContainer()})
        self.state = State(str(base / "state" / "sync.sqlite"))
        self.timer = Timer()
        self.clock = Clock(self.state, self.timer)
        self.notebook = Notebook()
        self.settings = Settings(devices=str(base / "node"), state_dir=str(base / "state"))
        self.store = AttributeStore(None)

    def close(self) -> None:
        self.state.close()

    @property
    def tools(self) -> Tools:
        return Tools(self.sink, self.clock, InlineExecutor(), self.notebook, self.timer.seconds)

    def write(self, path: str | bytes, body: bytes = b"x", *, at_s: int | None = None) -> Path:
        """A job writes a file below the container."""
        place = self.container / os.fsdecode(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body)
        if at_s is not None:
            os.utime(place, (at_s, at_s))
        return place

    def put(self, name: str, body: bytes, timestamp: str, **headers: str) -> Path:
        """Swift writes an object at its plain place; its row is not sent."""
        place = self.write(names.encode(name), body)
        status = place.stat()
        etag = metadata.hashlib.md5(body, usedforsecurity=False).hexdigest()
        own = {"X-Timestamp": timestamp, "ETag": etag, "Content-Type": "text/plain", **headers}
        layer = DataLayer(Stamp(status.st_ino, status.st_size, status.st_mtime_ns), own)
        self.set_data(place, layer, layout.FILE_ATTRIBUTES.data)
        return place

    def mark(self, path: Path, attribute: str, timestamp: str = "1600000000.00000") -> None:
        """A directory becomes a marker."""
        headers = {"X-Timestamp": timestamp, "ETag": EMPTY_ETAG, "Content-Type": "application/directory"}
        self.set_data(path, DataLayer(Stamp(path.stat().st_ino, 0, 0), headers), attribute)

    def set_data(self, path: Path, layer: DataLayer, attribute: str) -> None:
        blob = metadata.render_data(layer, trusted=False).data
        fd = os.open(path, os.O_RDONLY)
        try:
            self.store.write(fd, attribute, blob or b"")
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def device(self) -> Iterator[Device]:
        with open_device(str(self.root)) as device:
            yield device

    @contextlib.contextmanager
    def directory(self) -> Iterator[Directory]:
        with self.device() as device:
            directory = device.open_container(*KEY)
            assert directory is not None
            with contextlib.closing(directory):
                yield directory

    @contextlib.contextmanager
    def comparison(self, limits: Limits = Limits()) -> Iterator[Comparison]:
        with self.device() as device, contextlib.ExitStack() as stack:
            directory = device.open_container(*KEY)
            if directory is not None:
                stack.callback(directory.close)
            yield Comparison(KEY, directory, device.observer, self.tools, limits)

    def compare(self, after: str = "", prefix: str = "", limits: Limits = Limits()) -> Tally:
        with self.comparison(limits) as comparison:
            return comparison.run(after, prefix)

    def survey(self) -> Survey:
        return Survey(self.settings, [POLICY], self.state, self.tools)

    def listed(self, key: ContainerKey = KEY) -> list[str]:
        return sorted(self.sink.containers[key].shown())


def sidecar_store(playground: Playground) -> AttributeStore:
    """Attributes of the device, what is too big in sidecars."""
    path = playground.root / os.fsdecode(layout.SIDECARS)
    path.mkdir(mode=0o700, exist_ok=True)
    return AttributeStore(Sidecars(lambda: open_root(str(path))))


@pytest.fixture
def playground(tmp_path: Path) -> Iterator[Playground]:
    with contextlib.closing(Playground(tmp_path)) as found:
        yield found
