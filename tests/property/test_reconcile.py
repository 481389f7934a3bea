# SPDX-License-Identifier: Apache-2.0
"""Jobs, Swift and crashes at random: afterwards one comparison makes the listing equal to the tree.

The random walk changes the tree as jobs do, and tree and listing as Swift does, with updates that come late, twice or
never. Comparisons run in between; servers fail and the daemon dies at any request. At rest the listing must be what
each file says of itself, nothing may be left over, and running again must change nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.listings import KEY, Playground, Timer

from lustack.mapping.metadata import timestamp_text
from lustack.sync.clock import Clock
from lustack.sync.errors import SyncError
from lustack.sync.plan import SentRow, Wanted, is_same
from lustack.sync.state import Scope, State
from lustack.sync.survey import Options
from lustack.sync.walk import Walk

PATHS = ["a", "a/b", "a/c/d", "b", "b%file", "c", "c/x", "c/y", "é", "50%"]
paths = st.sampled_from(PATHS)
objects = st.sampled_from([path for path in PATHS if not path.endswith("%file")])
bodies = st.sampled_from([b"", b"1", b"22"])


class Listing(RuleBasedStateMachine):
    """The random walk."""

    @initialize()
    def begin(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.playground = Playground(self.base)
        self.playground.settings = replace(self.playground.settings, batch_rows=2)
        self.late: list[SentRow] = []

    def teardown(self) -> None:
        if hasattr(self, "playground"):
            try:
                self.at_rest_the_listing_is_the_tree()
            finally:
                self.playground.close()
                shutil.rmtree(self.base)

    @rule(name=paths, body=bodies)
    def a_job_writes(self, name: str, body: bytes) -> None:
        with contextlib.suppress(OSError):
            self.playground.write(name, body)

    @rule(name=paths, at_s=st.integers(1_000_000_000, 1_700_000_000))
    def a_job_sets_the_time(self, name: str, at_s: int) -> None:
        with contextlib.suppress(OSError):
            os.utime(self.playground.container / name, (at_s, at_s))

    @rule(name=paths)
    def a_job_removes(self, name: str) -> None:
        path = self.playground.container / name
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    @rule(old=paths, new=paths)
    def a_job_renames(self, old: str, new: str) -> None:
        with contextlib.suppress(OSError):
            (self.playground.container / old).rename(self.playground.container / new)

    @rule(name=objects, body=bodies, fate=st.sampled_from(["at once", "late", "never"]))
    def swift_puts(self, name: str, body: bytes, fate: str) -> None:
        timestamp = timestamp_text(self.playground.timer())
        try:
            self.playground.put(name, body, timestamp)
        except OSError:
            return
        etag = self._wanted()[name].etag
        self._update(SentRow(name, timestamp, len(body), "text/plain", etag, timestamp), fate)

    @rule(name=objects, fate=st.sampled_from(["at once", "late", "never"]))
    def swift_deletes(self, name: str, fate: str) -> None:
        timestamp = timestamp_text(self.playground.timer())
        try:
            (self.playground.container / name).unlink()
        except OSError:
            return
        self._update(SentRow(name, timestamp, 0, "application/deleted", "noetag", ""), fate)

    def _update(self, row: SentRow, fate: str) -> None:
        if fate == "at once":
            self.playground.sink.containers[KEY].merge(row)
        elif fate == "late":
            self.late.append(row)

    @rule()
    def the_updater_runs(self) -> None:
        for row in self.late:
            self.playground.sink.containers[KEY].merge(row)
        self.late.clear()

    @rule(after=st.integers(0, 12), restart=st.booleans())
    def the_daemon_compares_until_something_fails(self, after: int, restart: bool) -> None:
        sink, count = self.playground.sink, [after]
        real = {name: getattr(sink, name) for name in ("list_rows", "send", "get_state")}

        def failing(name):
            def call(*arguments):
                count[0] -= 1
                if count[0] < 0:
                    raise SyncError
                found = real[name](*arguments)
                if count[0] == 0 and name == "send":
                    # The server did it, but the answer was lost.
                    raise SyncError
                return found

            return call

        for name in real:
            setattr(sink, name, failing(name))
        with contextlib.suppress(SyncError):
            self.playground.survey().run(Scope(), Options())
        for name, method in real.items():
            setattr(sink, name, method)
        if restart:
            self.playground.state.close()
            self.playground.state = State(str(self.base / "state" / "sync.sqlite"))
            self.playground.clock = Clock(self.playground.state, self.playground.timer, lambda _: None)

    @rule(hours=st.integers(-3, 3))
    def somebody_sets_the_clock(self, hours: int) -> None:
        timer = self.playground.timer
        self.playground.timer = Timer(timer.now_ns + hours * 3600 * 10**9)
        self.playground.clock._now_ns = self.playground.timer

    @rule()
    def at_rest_the_listing_is_the_tree(self) -> None:
        self.the_updater_runs()
        # The clock has caught up with everything that was stamped: until then a row may be one from the future.
        latest_s = max((float(row.timestamp[:16]) for row in self._rows().values()), default=0.0)
        self.playground.timer.now_ns = max(self.playground.timer.now_ns, int((latest_s + 1) * 1e9))
        report = self.playground.survey().run(Scope(), Options(resume=False))
        assert report.errors == report.notes == []
        assert report.tally.left == report.tally.withheld == 0
        shown, wanted = self.playground.sink.containers[KEY].shown(), self._wanted()
        assert set(shown) == set(wanted)
        for name, each in wanted.items():
            assert is_same(each, shown[name]), name
        again = self.playground.survey().run(Scope(), Options(resume=False)).tally
        assert (again.put, again.deleted, again.same) == (0, 0, len(wanted))

    @invariant()
    def nothing_stays_open(self) -> None:
        assert len(os.listdir("/proc/self/fd")) < 200

    def _rows(self) -> dict[str, SentRow]:
        return self.playground.sink.containers[KEY].rows

    def _wanted(self) -> dict[str, Wanted]:
        with self.playground.device() as device, self.playground.directory() as directory:
            now_ns = self.playground.timer.now_ns
            found = {name: device.observer.observe(name, places, now_ns) for name, places in Walk(directory)}
        return {name: wanted for name, wanted in found.items() if wanted is not None}


TestListing = Listing.TestCase
TestListing.settings = settings(max_examples=settings.default.max_examples // 2, stateful_step_count=30)
