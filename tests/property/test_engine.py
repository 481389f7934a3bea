# SPDX-License-Identifier: Apache-2.0
"""The engine as a random walk: jobs and Swift change a real tree, the daemon does one step at a time, and dies at any.

At rest the listings must say what the files say; nothing that was acknowledged may be missing from them; and looking at
everything once more must change nothing. What a source reports is what a real one does: every change, perhaps late,
never too early, and more than once after a crash.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.engines import EXCLUDE, Steps
from tests.listings import KEY, Playground, Timer

from lustack.mapping.metadata import timestamp_text
from lustack.mapping.names import RelPath
from lustack.sync.book import LOST, TREE
from lustack.sync.clock import Clock
from lustack.sync.device import open_device
from lustack.sync.events import Event, NameChanged, TreeChanged, TreeMoved
from lustack.sync.exclusion import compile_globs
from lustack.sync.plan import SentRow, Wanted, is_same
from lustack.sync.sinks.fake import FakeContainer
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.sources.fake import FakeSource
from lustack.sync.state import Job, Scope, State
from lustack.sync.survey import Options
from lustack.sync.walk import Walk

OTHER = ContainerKey("a", "other")
KEYS = (KEY, OTHER)
PATHS = ["c/a", "c/a/b", "c/a/c/d", "c/b", "c/b%file", "c/d/x", "c/d/y", "c/x.tmp", "c/50%", "other/a", "other/d/x"]
DIRECTORIES = ["c/a", "c/d", "c/new", "other/d", "other/e/f"]
OBJECTS = [path for path in PATHS if not path.endswith("%file")]
paths, directories, objects = st.sampled_from(PATHS), st.sampled_from(DIRECTORIES), st.sampled_from(OBJECTS)
bodies = st.sampled_from([b"", b"1", b"22"])
MEMORY = st.sampled_from([3000, 10**6])


class Walking(RuleBasedStateMachine):
    """The random walk."""

    @initialize(memory_bytes=MEMORY)
    def begin(self, memory_bytes: int) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.playground = Playground(self.base)
        self.root = self.playground.root / "a"
        (self.root / "other").mkdir()
        self.playground.sink.containers[OTHER] = FakeContainer()
        self.late: list[tuple[ContainerKey, SentRow]] = []
        self.highest_ns = 0
        self.is_net_needed = False
        self.memory_bytes = memory_bytes
        self.source = FakeSource(most=3)
        self._start()

    def _start(self) -> None:
        # What comes later than the comparison, for a name that nobody watched, is mended by the next one.
        self.is_net_needed |= bool(self.late)
        since_ns = self.playground.clock.now_ns()
        self.steps = Steps(self.playground, self.source, memory_bytes=self.memory_bytes, since_ns=since_ns)
        self.steps.begin()

    def teardown(self) -> None:
        if hasattr(self, "playground"):
            try:
                self.at_rest_the_listings_are_the_tree()
            finally:
                self.playground.close()
                shutil.rmtree(self.base)

    def _happen(self, *events: Event) -> None:
        self.source.happen(*events)

    def _changed(self, path: str, **flags: bool) -> None:
        self._happen(NameChanged(RelPath(b"a/" + path.encode()), **flags))

    def _make_above(self, path: str) -> None:
        above = Path(path).parent
        for each in reversed([above, *above.parents]):
            if str(each) != "." and not (self.root / each).exists():
                (self.root / each).mkdir()
                self._changed(str(each), is_directory=True)

    def _keep_links(self, path: str) -> None:
        """Nobody writes to a file with several names: no local source of events knows the others."""
        with contextlib.suppress(FileNotFoundError):
            if (self.root / path).stat(follow_symlinks=False).st_nlink > 1:
                (self.root / path).unlink()

    @rule(path=paths, body=bodies, is_closed=st.booleans(), is_said=st.booleans())
    def a_job_writes(self, path: str, body: bytes, is_closed: bool, is_said: bool) -> None:
        with contextlib.suppress(OSError):
            self._make_above(path)
            is_new = is_said and not os.path.lexists(self.root / path)
            self._keep_links(path)
            (self.root / path).write_bytes(body)
            self._changed(path, is_new=is_new, is_open=True)
            if is_closed:
                self._changed(path)

    @rule(path=paths)
    def a_job_removes_a_file(self, path: str) -> None:
        with contextlib.suppress(OSError):
            (self.root / path).unlink()
            self._changed(path)

    @rule(path=directories)
    def a_job_removes_a_tree(self, path: str) -> None:
        place = self.root / path
        if place.is_dir():
            for folder, inner, files in os.walk(place, topdown=False):
                relative = os.path.relpath(folder, self.root)
                for name in files:
                    os.unlink(os.path.join(folder, name))
                    self._changed(f"{relative}/{name}")
                for name in inner:
                    os.rmdir(os.path.join(folder, name))
                    self._changed(f"{relative}/{name}", is_directory=True)
            place.rmdir()
            self._changed(path, is_directory=True)

    @rule(old=paths, new=paths)
    def a_job_renames_a_file(self, old: str, new: str) -> None:
        if (self.root / old).is_file():
            with contextlib.suppress(OSError):
                (self.root / old).rename(self.root / new)
                self._changed(old)
                self._changed(new)

    @rule(old=directories, new=directories)
    def a_job_renames_a_directory(self, old: str, new: str) -> None:
        with contextlib.suppress(OSError):
            if not (self.root / old).is_dir() or old == new:
                return
            (self.root / old).rename(self.root / new)
            self._happen(TreeMoved(RelPath(b"a/" + old.encode()), RelPath(b"a/" + new.encode())))

    @rule(old=paths, new=paths)
    def a_job_links(self, old: str, new: str) -> None:
        with contextlib.suppress(OSError):
            os.link(self.root / old, self.root / new, follow_symlinks=False)
            self._changed(new)

    @rule(path=paths)
    def a_job_makes_something_else(self, path: str) -> None:
        with contextlib.suppress(OSError):
            os.mknod(self.root / path, stat.S_IFSOCK | 0o600)
            self._changed(path, is_new=True)

    @rule(path=directories)
    def a_source_says_less(self, path: str) -> None:
        self._happen(TreeChanged(RelPath(b"a/" + path.encode())))

    @rule(path=objects, body=bodies, fate=st.sampled_from(["at once", "late", "never"]))
    def swift_puts(self, path: str, body: bytes, fate: str) -> None:
        timestamp = timestamp_text(self.playground.timer())
        container, _, name = path.partition("/")
        playground = self.playground
        playground.container = self.root / container
        try:
            self._make_above(path)
            self._keep_links(path)
            playground.put(name, body, timestamp)
        except OSError:
            return
        finally:
            playground.container = self.root / "c"
        self._changed(path)
        key = ContainerKey("a", container)
        wanted = self._wanted(key)[name]
        self._update(key, SentRow(name, timestamp, len(body), "text/plain", wanted.etag, timestamp), fate)

    @rule(path=objects, fate=st.sampled_from(["at once", "late", "never"]))
    def swift_deletes(self, path: str, fate: str) -> None:
        timestamp = timestamp_text(self.playground.timer())
        container, _, name = path.partition("/")
        try:
            (self.root / path).unlink()
        except OSError:
            return
        self._changed(path)
        row = SentRow(name, timestamp, 0, "application/deleted", "noetag", "")
        self._update(ContainerKey("a", container), row, fate)

    def _update(self, key: ContainerKey, row: SentRow, fate: str) -> None:
        if fate == "at once":
            self.playground.sink.containers[key].merge(row)
        elif fate == "late":
            self.late.append((key, row))

    @rule()
    def the_updater_runs(self) -> None:
        for key, row in self.late:
            self.playground.sink.containers[key].merge(row)
        self.late.clear()

    @rule()
    def the_daemon_reads(self) -> None:
        self.steps.read()

    @rule()
    def the_daemon_sends(self) -> None:
        self.steps.send()

    @rule(failures=st.integers(1, 3))
    def the_daemon_sends_in_vain(self, failures: int) -> None:
        self.playground.sink.failures = failures
        self.steps.send()
        self.steps.do_job()
        self.playground.sink.failures = 0

    @rule()
    def the_daemon_does_a_job(self) -> None:
        self.steps.do_job()

    @rule(seconds=st.sampled_from([1.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.steps.now.s += seconds

    @precondition(lambda self: self.source._next)
    @rule()
    def the_source_loses_what_was_not_acknowledged(self) -> None:
        self.is_net_needed |= bool(self.late)
        self.source.forget()
        self.steps.reader._reopen("lost")
        self.steps.compare()

    @rule(is_answered=st.booleans())
    def the_daemon_dies(self, is_answered: bool) -> None:
        if not is_answered:
            # The rows arrive, and nobody hears of it.
            with self.steps.board.locked():
                container = self.steps.board.dirty.take(self.steps.now.s)
                if container is not None:
                    self.steps.sender._send(container, container.swap(1000))
        self.source.close()
        self.playground.state.close()
        self.playground.state = State(str(self.base / "state" / "sync.sqlite"))
        self.playground.clock = Clock(self.playground.state, self.playground.timer, lambda _: None)
        self._start()

    @rule(hours=st.integers(-3, 3))
    def somebody_sets_the_clock(self, hours: int) -> None:
        timer = self.playground.timer
        self.highest_ns = max(self.highest_ns, timer.now_ns)
        # What is stamped in the future is believed when that has come; no event says so.
        self.is_net_needed |= hours < 0
        self.playground.timer = Timer(timer.now_ns + hours * 3600 * 10**9)
        self.playground.clock._now_ns = self.playground.timer

    @rule()
    def at_rest_the_listings_are_the_tree(self) -> None:
        latest_s = max((float(row.timestamp[:16]) for key in KEYS for row in self._rows(key).values()), default=0.0)
        late_s = max((float(row.timestamp[:16]) for _, row in self.late), default=0.0)
        timer = self.playground.timer
        timer.now_ns = max(timer.now_ns, self.highest_ns, int((max(latest_s, late_s) + 1) * 1e9))
        self.the_updater_runs()
        if self.is_net_needed:
            self.steps.board.ask([Job(TREE, LOST)])
        self.is_net_needed = False
        for _ in range(len(self.source.events)):
            self.steps.read()
        self.steps.rest()
        assert (self.source._next, self.steps.reader.windows.count()) == (len(self.source.events), 0)
        assert self.playground.state.jobs("events") == []
        for key in KEYS:
            shown, wanted = self.playground.sink.containers[key].shown(), self._wanted(key)
            assert set(shown) == set(wanted), key
            for name, each in wanted.items():
                assert is_same(each, shown[name]), name
        report = self.playground.survey().run(Scope(), Options(resume=False))
        assert (report.tally.put, report.tally.deleted) == (0, 0)

    @invariant()
    def nothing_stays_open(self) -> None:
        assert len(os.listdir("/proc/self/fd")) < 200

    def _rows(self, key: ContainerKey) -> dict[str, SentRow]:
        return self.playground.sink.containers[key].rows

    def _wanted(self, key: ContainerKey) -> dict[str, Wanted]:
        with open_device(str(self.playground.root), compile_globs(EXCLUDE)) as device:
            directory = device.open_container(*key)
            assert directory is not None
            with contextlib.closing(directory):
                now_ns = self.playground.timer.now_ns
                found = {name: device.observer.observe(name, places, now_ns) for name, places in Walk(directory)}
        return {name: wanted for name, wanted in found.items() if wanted is not None}


TestWalking = Walking.TestCase
TestWalking.settings = settings(max_examples=settings.default.max_examples // 2, stateful_step_count=30)
