# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from dataclasses import dataclass, field

import pytest
from tests.listings import KEY, POLICY, InlineExecutor

from lustack.mapping import layout
from lustack.sync import fsck as fsck_module
from lustack.sync.errors import StoppedError, SwiftUnavailableError
from lustack.sync.fsck import Fsck, Options
from lustack.sync.plan import Wanted, put
from lustack.sync.problems import Kind
from lustack.sync.sinks.fake import FakeContainer
from lustack.sync.sinks.protocol import ContainerKey, Presence
from lustack.sync.state import Scope
from lustack.sync.world import World

OLD_S = time.time() - 30 * 86_400


@dataclass
class Ear:
    problems: list = field(default_factory=list)
    progress: list = field(default_factory=list)

    def on_problem(self, problem):
        self.problems.append(problem)

    def on_progress(self, where, names):
        self.progress.append((where, names))


def world_of(playground):
    return World(playground.settings, (POLICY,), playground.sink, playground.state, playground.clock, InlineExecutor())


def check(playground, scope=Scope(), ear=None, stop=None, **options):
    given = Options(**{"settle_s": 0.0, **options})
    return Fsck(world_of(playground), given, ear or Ear(), stop or threading.Event()).run(scope)


def found(playground, scope=Scope(), **options):
    """Kind, path and whether it is mended, of everything."""
    ear = Ear()
    check(playground, scope, ear, **options)
    base = str(playground.root)
    return sorted((str(each.kind), each.path.replace(base, "R"), each.is_repaired) for each in ear.problems)


def give_row(playground, name, key=KEY):
    row = put(name, Wanted(1, "t", "e", "1500000000.00000"), 1_600_000_000 * 10**9)
    playground.sink.containers[key].merge(row)


def test_a_true_listing_is_clean(playground):
    playground.write("a")
    playground.compare()
    ear = Ear()
    progress = check(playground, ear=ear)
    assert (progress.names, progress.containers, progress.summary.kinds, progress.failures) == (1, 1, {}, [])
    assert ear.progress[-1] == ("a/c", 1)


def test_every_kind_of_drift_is_found_and_mended(playground):
    for name in ("same", "wrong", "new"):
        playground.write(name)
    playground.compare(prefix="same")
    give_row(playground, "wrong")
    give_row(playground, "gone")
    drifts = [("extra-row", "a/c/gone"), ("missing-row", "a/c/new"), ("wrong-row", "a/c/wrong")]
    assert found(playground) == [(*each, False) for each in drifts]
    assert playground.listed() == ["gone", "same", "wrong"]
    assert found(playground, repair=True) == [(*each, True) for each in drifts]
    assert playground.listed() == ["new", "same", "wrong"]
    assert found(playground) == []


def test_what_is_being_written_is_no_drift(playground):
    playground.write("o")
    playground.compare()
    (playground.container / "o").write_bytes(b"longer")

    class Daemon(Ear):
        def on_progress(self, where, names):
            playground.compare()

    ear = Daemon()
    check(playground, ear=ear)
    assert ear.problems == []


def test_files_that_are_left_out_of_listings_are_no_drift(playground):
    playground.write("o.tmp")
    give_row(playground, "o.tmp")
    assert found(playground) == [("extra-row", "a/c/o.tmp", False)]


def test_a_difference_must_last(playground):
    playground.write("o")
    started_s = time.monotonic()
    assert found(playground, settle_s=0.3) == [("missing-row", "a/c/o", False)]
    assert time.monotonic() - started_s >= 0.3


def test_a_file_that_never_rests_is_a_note(playground, monkeypatch):
    playground.write("o")
    size = [1]
    judge = fsck_module.Relook.judge

    def write_and_judge(self, device, suspects):
        size[0] += 1
        playground.write("o", b"x" * size[0])
        return judge(self, device, suspects)

    monkeypatch.setattr(fsck_module.Relook, "judge", write_and_judge)
    assert found(playground) == [("moving", "a/c/o", False)]


def test_only_what_was_asked_for_is_checked(playground):
    playground.write("a/x")
    playground.write("b/x")
    (playground.container / "link").symlink_to("x")
    playground.write("a%file")
    playground.write(".lustack.tmp.0123456789abcdef")
    os.utime(playground.container / ".lustack.tmp.0123456789abcdef", (OLD_S, OLD_S))
    assert found(playground, Scope("a", "c", "b/")) == [("missing-row", "a/c/b/x", False)]


def test_a_container_that_goes_meanwhile_is_nothing(playground):
    playground.write("o")

    class Deleter(Ear):
        def on_progress(self, where, names):
            playground.sink.containers[KEY].presence = Presence.DELETED

    ear = Deleter()
    check(playground, ear=ear, settle_s=0.01)
    assert ear.problems == []


def test_a_directory_that_swift_never_heard_of_can_be_adopted(playground):
    (playground.root / "a" / "new").mkdir()
    (playground.root / "a" / "new" / "o").touch()
    assert found(playground) == [("directory-without-container", "a/new", False)]
    assert found(playground, repair=True) == [("directory-without-container", "a/new", True)]
    assert playground.listed(ContainerKey("a", "new")) == ["o"]
    assert found(playground) == []


def test_directories_of_deleted_and_of_foreign_containers_are_found(playground):
    playground.sink.containers[KEY].presence = Presence.DELETED
    (playground.root / "a" / "silver").mkdir()
    playground.sink.containers[ContainerKey("a", "silver")] = FakeContainer(policy_index=7)
    (playground.root / "users").mkdir()
    assert found(playground, repair=True) == [
        ("directory-without-account", "users", False),
        ("directory-without-container", "a/c", False),
        ("directory-without-container", "a/silver", False),
    ]


def test_what_was_put_right_meanwhile_is_not_reported(playground):
    (playground.root / "a" / "new").mkdir()

    class Maker(Ear):
        def on_progress(self, where, names):
            if where == "a/z":
                playground.sink.containers[ContainerKey("a", "new")] = FakeContainer()
                shutil.rmtree(playground.root / "a" / "other")

    (playground.root / "a" / "other").mkdir()
    playground.sink.containers[ContainerKey("a", "z")] = FakeContainer()
    ear = Maker()
    check(playground, ear=ear)
    assert [str(each.kind) for each in ear.problems] == ["container-without-directory"]


def test_a_missing_directory_and_its_rows_are_found(playground):
    give_row(playground, "gone")
    shutil.rmtree(playground.container)
    assert found(playground) == [("container-without-directory", "a/c", False), ("extra-row", "a/c/gone", False)]


@pytest.mark.parametrize("loss", ["mount", "directory"])
def test_what_vanishes_during_a_check_is_not_believed_to_be_gone(playground, loss):
    """The file system is gone, or much of it: nothing is drift, and no row is deleted."""
    for number in range(5):
        playground.write(f"{number}", b"new")
        give_row(playground, f"{number}")
    playground.state.set_device(POLICY.index, (playground.root / ".lustack").stat().st_ino)

    class Unmounter(Ear):
        def on_progress(self, where, names):
            lost = playground.root if loss == "mount" else playground.container
            if lost.exists():
                lost.rename(playground.base / "lost")
                playground.container.parent.mkdir(parents=True, exist_ok=True)
                if loss == "mount":
                    playground.container.mkdir()
                    (playground.root / ".lustack").mkdir()

    ear = Unmounter()
    check(playground, Scope("a"), ear=ear, repair=True, settle_s=0.01)
    assert ear.problems == []
    assert len(playground.listed()) == 5


def test_a_device_that_is_missing_is_said(playground):
    shutil.rmtree(playground.root)
    progress = check(playground)
    [(sentence, is_retryable)] = progress.failures
    assert "cannot be used" in sentence
    assert is_retryable


def test_litter_is_found_and_removed(playground):
    temporary = playground.write(".lustack.tmp.0123456789abcdef")
    assert found(playground) == []
    playground.settings = settings_with(playground, sweep_age_s=-1000.0)
    place = "R/a/c/.lustack.tmp.0123456789abcdef"
    assert found(playground) == [("old-temporary", place, False)]
    assert found(playground, repair=True) == [("old-temporary", place, True)]
    assert not temporary.exists()


def test_what_cannot_be_read_at_the_end_is_said_in_a_sentence(playground, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    playground.write("o")
    playground.sink.containers.pop(KEY)
    monkeypatch.setattr(fsck_module.Sweeper, "sweep", fail)
    monkeypatch.setattr(Fsck, "_directories", fail)
    progress = check(playground)
    assert progress.failures == [
        ("the directory of a/c cannot be read: Input/output error", False),
        (f"the device {playground.root} cannot be used: Input/output error", True),
    ]
    assert check(playground).failures == progress.failures


def settings_with(playground, **options):
    from dataclasses import replace

    return replace(playground.settings, **options)


def make_lock(playground, name):
    path = playground.root / os.fsdecode(layout.lock_path(layout.object_hash(*KEY, name)))
    path.parent.mkdir(exist_ok=True)
    path.touch()


def test_twins_get_their_place_back_and_are_listed(playground):
    playground.write("a%file")
    playground.write("d%dir/o")
    playground.write("kept%file")
    make_lock(playground, "a")
    make_lock(playground, "d")
    twins = [("stale-twin", f"R/a/c/{name}", False) for name in ("a%file", "d%dir", "kept%file")]
    rows = [("missing-row", f"a/c/{name}", False) for name in ("a", "d/o", "kept")]
    assert found(playground) == [*rows, *twins]
    # Where nobody has ever used a lock, a twin stays one.
    mended = [(kind, path, path != "R/a/c/kept%file") for kind, path, _ in (*rows, *twins)]
    assert found(playground, repair=True) == mended
    assert (playground.container / "a").exists()
    assert (playground.container / "d" / "o").exists()
    assert playground.listed() == ["a", "d/o", "kept"]
    assert found(playground) == twins[2:]


def test_an_interrupted_check_goes_on_and_counts_nothing_twice(playground):
    for number in range(700):
        playground.write(f"{number:03}")
    playground.write(b"0\xff")

    playground.timer.step_ns = 3 * 10**9

    def interrupt_at(names):
        stop = threading.Event()

        class Impatient(Ear):
            def on_progress(self, where, count):
                if count >= names:
                    stop.set()

        fsck = Fsck(world_of(playground), Options(settle_s=0.0), Impatient(), stop)
        with pytest.raises(StoppedError):
            fsck.run(Scope())

    interrupt_at(256)
    interrupt_at(512)
    progress = check(playground)
    assert progress.names >= 700
    counts = {kind: each.count for kind, each in progress.summary.kinds.items()}
    assert counts == {Kind.MISSING_ROW: 700, Kind.UNLISTABLE: 1}
    again = check(playground)
    assert again.summary.kinds[Kind.MISSING_ROW].count == 700


def test_a_check_that_was_interrupted_at_its_end_only_does_the_rest(playground):
    playground.write("o")
    (playground.root / "users").mkdir()
    stop = threading.Event()

    class Late(Ear):
        def on_progress(self, where, names):
            stop.set()

    playground.sink.failures = 0
    with pytest.raises(StoppedError):
        check(playground, ear=Late(), stop=stop, settle_s=60.0)
    ear = Ear()
    progress = check(playground, ear=ear)
    assert ear.progress == []
    assert {str(kind) for kind in progress.summary.kinds} == {"missing-row", "directory-without-account"}


def test_one_can_begin_anew(playground):
    playground.write("o")
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        check(playground, stop=stop, settle_s=60.0)
    ear = Ear()
    check(playground, ear=ear, resume=False)
    assert ear.progress


def test_many_suspects_wait_before_there_are_more(playground, monkeypatch):
    monkeypatch.setattr(fsck_module, "_MOST_SUSPECTS", 2)
    for number in range(5):
        playground.write(f"{number}")
    assert len(found(playground, settle_s=0.01)) == 5


def test_names_are_compared_at_a_rate(playground):
    for number in range(30):
        playground.write(f"{number:02}")
    playground.compare()
    started_s = time.monotonic()
    # Thirty are free: what was not used in the second before.
    check(playground, names_per_s=20)
    assert time.monotonic() - started_s > 0.4


def test_a_server_that_is_away_ends_it_until_it_is_called_again(playground):
    playground.write("o")
    playground.sink.failures = 1
    with pytest.raises(SwiftUnavailableError):
        check(playground)
    assert found(playground) == [("missing-row", "a/c/o", False)]
