# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import resource
import shutil
from dataclasses import replace

import pytest
from tests.exported import export, read, rewrite
from tests.listings import KEY, POLICY

from lustack.exports.errors import ExportMissingError
from lustack.mapping.exports import Exports, Stage
from lustack.sync.device import Device
from lustack.sync.errors import (
    DeviceMissingError,
    MassDeletionError,
    OtherUserError,
    StoppedError,
    SwiftUnavailableError,
    UnreadableError,
)
from lustack.sync.plan import Wanted, put
from lustack.sync.reconcile import Tally
from lustack.sync.sinks.fake import FakeContainer
from lustack.sync.sinks.protocol import ContainerKey, Presence
from lustack.sync.state import Cursor, Scope
from lustack.sync.survey import Options, Survey
from lustack.sync.walk import Findings


def run(playground, scope=Scope(), **options):
    return playground.survey().run(scope, Options(**options))


def give_rows(container, *names):
    for name in names:
        container.merge(put(name, Wanted(1, "t", "e", "1500000000.00000"), 1_600_000_000 * 10**9))


def test_every_container_of_the_device_is_compared(playground):
    playground.write("o")
    report = run(playground)
    assert (report.containers, report.tally, report.errors, report.notes) == (
        1,
        Tally(files=1, put=1, unhashed=1),
        [],
        [],
    )
    assert playground.listed() == ["o"]


def test_containers_that_only_swift_knows_are_compared_too(playground):
    other = ContainerKey("a", "other")
    playground.sink.containers[other] = FakeContainer()
    give_rows(playground.sink.containers[other], "o")
    report = run(playground)
    assert report.containers == 2
    assert playground.listed(other) == []


def test_a_dry_run_can_be_a_job_too(playground):
    playground.write("o")

    class Jobs:
        done = ()

        def begin(self, scope):
            return Cursor()

        def advance(self, scope, cursor):
            self.done = (*self.done, cursor.name)

        def finish(self, scope):
            self.done = (*self.done, "finished")

    playground.timer.step_ns = 3 * 10**9
    survey, jobs = playground.survey(), Jobs()
    report = survey.run(Scope(), Options(dry_run=True, jobs=jobs))
    assert survey.report is report
    assert jobs.done == ("o", "finished")
    assert playground.listed() == []


def test_devices_and_findings_can_look_closer(playground):
    playground.write(b"\xff")
    devices, keys = [], []

    def inspect(device):
        devices.append(device.path)
        return device

    def findings(key):
        keys.append(key)
        return Findings()

    tools = replace(playground.tools, inspect=inspect, findings=findings)
    report = Survey(playground.settings, [POLICY], playground.state, tools).run(Scope(), Options())
    assert (report.unlistable, devices, keys) == (1, [str(playground.root)], [KEY])


def test_a_new_directory_becomes_a_container(playground):
    new = ContainerKey("a", "new")
    (playground.root / "a" / "new").mkdir()
    (playground.root / "a" / "new" / "o").touch()
    report = run(playground)
    assert report.adopted == 1
    assert playground.listed(new) == ["o"]


@pytest.mark.parametrize("name", ["n" * 257, "\0hidden"])
def test_a_directory_that_can_be_no_new_container_is_left_alone(playground, name):
    from lustack.mapping import names

    (playground.root / os.fsdecode(names.container_path("a", name))).mkdir(parents=True)
    report = run(playground)
    assert report.adopted == 0
    assert report.notes == [(f"a/{name}", "never heard of in Swift, but there is a directory")]


def test_directories_become_no_containers_where_the_operator_does_not_want_it(playground):
    (playground.root / "a" / "new").mkdir()
    playground.settings = replace(playground.settings, adopt_containers=False)
    assert run(playground).adopted == 0
    assert ContainerKey("a", "new") not in playground.sink.containers


def test_a_container_that_swift_does_not_want_is_reported(playground):
    (playground.root / "a" / "new").mkdir()
    has_account = playground.sink.has_account
    playground.sink.has_account = lambda account: has_account(account) and not playground.sink.accounts.clear()
    report = run(playground)
    assert report.notes == [
        ("a/new", "PUT a/new: refused with status 404"),
        ("a/new", "never heard of in Swift, but there is a directory"),
    ]


def test_a_deleted_container_never_comes_back(playground):
    playground.write("o")
    playground.sink.containers[KEY].presence = Presence.DELETED
    report = run(playground)
    assert report.notes == [("a/c", "deleted in Swift, but there is a directory")]
    assert playground.sink.containers[KEY].rows == {}


def test_a_deleted_container_without_a_directory_is_nothing(playground):
    playground.sink.containers[KEY].presence = Presence.DELETED
    playground.container.rmdir()
    assert run(playground, Scope("a", "c")).notes == []
    assert run(playground, Scope("a", "unheard")).notes == []


def test_rows_that_came_too_late_are_removed_from_a_deleted_container(playground):
    container = playground.sink.containers[KEY]
    container.presence = Presence.DOOMED
    give_rows(container, "late")
    playground.write("o")
    report = run(playground)
    assert report.notes == [("a/c", "deleted in Swift, but its directory holds files")]
    assert playground.listed() == []
    assert (report.tally.deleted, report.tally.withheld, report.errors) == (1, 1, [])


def test_a_container_of_another_policy_is_left_alone(playground):
    playground.sink.containers[KEY].policy_index = 7
    playground.sink.containers[ContainerKey("a", "without")] = FakeContainer(policy_index=7)
    report = run(playground)
    assert report.notes == [("a/c", "belongs to storage policy 7, but there is a directory")]


def test_an_account_that_swift_does_not_know_is_left_alone(playground):
    (playground.root / "users" / "home").mkdir(parents=True)
    (playground.root / ".snapshots" / "x").mkdir(parents=True)
    assert run(playground).notes == [("users", "Swift has no such account")]


def test_an_account_that_is_gone_on_both_sides_is_nothing(playground):
    run(playground)
    shutil.rmtree(playground.root / "a")
    playground.sink.accounts.clear()
    assert run(playground).notes == []


def test_a_container_that_is_deleted_meanwhile_is_reported(playground):
    playground.write("o")
    list_rows = playground.sink.list_rows

    def delete_first(key, marker, prefix):
        playground.sink.containers[key].presence = Presence.DELETED
        return list_rows(key, marker, prefix)

    playground.sink.list_rows = delete_first
    assert run(playground).notes == [("a/c", "the container a/c is gone")]


def test_an_account_that_lost_its_directory_is_still_looked_after(playground):
    playground.write("o")
    run(playground)
    shutil.rmtree(playground.root / "a")
    assert run(playground).tally.deleted == 1
    assert playground.listed() == []


def test_what_a_user_removed_goes_however_much_it_is(playground):
    playground.settings = replace(playground.settings, missing_rows=2)
    for number in range(5):
        playground.write(f"{number}")
    run(playground)
    shutil.rmtree(playground.container)
    playground.container.mkdir()
    assert run(playground).tally.deleted == 5


def test_many_rows_do_not_go_with_a_directory_until_a_human_insists(playground):
    playground.settings = replace(playground.settings, missing_rows=2)
    for number in range(5):
        playground.write(f"{number}")
    run(playground)
    shutil.rmtree(playground.container)
    report = run(playground)
    assert [type(error) for error in report.errors] == [MassDeletionError]
    assert "5 objects would vanish" in str(report.errors[0])
    assert len(playground.listed()) == 5
    assert run(playground, force=True).tally.deleted == 5


def test_a_lost_mount_changes_nothing_whatever_is_written_below_its_mount_point(playground):
    playground.write("o")
    run(playground)
    playground.root.rename(playground.base / "mounted")
    playground.write("stray")
    (playground.root / "a" / "new").mkdir()
    report = run(playground)
    assert [type(error) for error in report.errors] == [DeviceMissingError]
    assert "is the file system mounted?" in str(report.errors[0])
    assert playground.listed() == ["o"]
    assert list(playground.sink.containers) == [KEY]
    shutil.rmtree(playground.root)
    report = run(playground)
    assert [type(error) for error in report.errors] == [DeviceMissingError]
    assert playground.listed() == ["o"]
    (playground.base / "mounted").rename(playground.root)
    assert run(playground).errors == []


def test_a_mount_that_is_lost_for_good_is_given_up_by_a_human(playground):
    playground.write("o")
    run(playground)
    shutil.rmtree(playground.root)
    playground.write("new")
    assert run(playground, force=True).errors == []
    assert playground.listed() == ["new"]


def test_another_file_system_in_its_place_changes_nothing(playground):
    playground.write("o")
    run(playground)
    playground.root.rename(playground.base / "mounted")
    (playground.root / ".lustack").mkdir(parents=True)
    playground.write("stray")
    report = run(playground)
    assert [type(error) for error in report.errors] == [DeviceMissingError]
    assert playground.listed() == ["o"]
    assert run(playground, force=True).errors == []
    assert playground.listed() == ["stray"]
    assert playground.state.device(POLICY.index) == (playground.root / ".lustack").stat().st_ino


def test_a_device_that_is_new_gets_rows_before_it_has_an_identity(playground):
    (playground.root / ".lustack").rmdir()
    playground.write("o")
    assert run(playground).errors == []
    assert playground.listed() == ["o"]
    (playground.container / "o").unlink()
    assert [type(error) for error in run(playground).errors] == [MassDeletionError]


def test_a_dry_run_leaves_no_trace(playground):
    playground.write("o")
    (playground.root / "a" / "new").mkdir()
    report = run(playground, dry_run=True)
    assert (report.tally.put, report.adopted) == (1, 1)
    assert playground.listed() == []
    assert playground.state.device(POLICY.index) is None
    assert playground.state.accounts(POLICY.index) == set()


def test_only_what_is_asked_for_is_compared(playground):
    for name in ("p/1", "q"):
        playground.write(name)
    (playground.root / "a" / "d").mkdir()
    assert run(playground, Scope("a", "c", "p/")).tally.put == 1
    assert run(playground, Scope("a")).adopted == 1
    assert run(playground, Scope("nobody")).notes == [("nobody", "Swift has no such account")]


def test_what_was_interrupted_goes_on(playground):
    for container in "cde":
        (playground.root / "a" / container).mkdir(exist_ok=True)
        for name in ("1", "2"):
            (playground.root / "a" / container / name).touch()
    scope = Scope()
    playground.state.begin(scope)
    playground.state.advance(scope, Cursor(0, "a", "d", "1"))
    assert run(playground).tally.files == 3
    assert run(playground).tally.files == 6


def test_what_was_interrupted_begins_anew_if_asked(playground):
    playground.write("o")
    playground.state.begin(Scope())
    playground.state.advance(Scope(), Cursor(0, "a", "c", "zzz"))
    assert run(playground, resume=False).tally.files == 1


def test_a_cursor_in_an_account_or_policy_skips_those_before(playground):
    playground.write("o")
    playground.sink.accounts.add("b")
    (playground.root / "b").mkdir()
    playground.state.begin(Scope())
    playground.state.advance(Scope(), Cursor(0, "b", "", ""))
    assert run(playground).tally.files == 0
    playground.state.begin(Scope())
    playground.state.advance(Scope(), Cursor(5, "", "", ""))
    assert run(playground).tally.files == 0


def test_whoever_is_stopped_goes_on_later(playground):
    for number in range(10):
        playground.write(f"{number}")
    playground.settings = replace(playground.settings, batch_rows=2)
    playground.notebook.stop_after = 2
    with pytest.raises(StoppedError):
        run(playground)
    reached = playground.state.begin(Scope()).name
    assert reached
    assert playground.listed()[-1] == reached
    playground.notebook.stop_after = 10**9
    assert run(playground).tally.files == 9 - int(reached)


def test_a_long_comparison_saves_where_it_is(playground):
    playground.timer.step_ns = 10**9
    playground.write("o")
    playground.sink.containers[ContainerKey("a", "z")] = FakeContainer()
    send = playground.sink.list_rows

    def fail_later(key, marker, prefix):
        if key.container == "z":
            raise SwiftUnavailableError("GET", [])
        return send(key, marker, prefix)

    playground.sink.list_rows = fail_later
    with pytest.raises(SwiftUnavailableError):
        run(playground)
    assert playground.state.begin(Scope()) == Cursor(0, "a", "z", "")


def test_a_long_dry_run_saves_nothing(playground):
    playground.timer.step_ns = 10**9
    playground.write("o")
    run(playground, dry_run=True)
    assert playground.state.begin(Scope()) == Cursor()


def test_an_account_that_cannot_be_read_does_not_stop_the_others(playground):
    playground.sink.accounts.add("b")
    (playground.root / "b" / "d").mkdir(parents=True)
    has_account = playground.sink.has_account
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def has_account_and_no_descriptors(account):
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        if account == "a":
            lowest_free = os.dup(0)
            os.close(lowest_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
        return has_account(account)

    playground.sink.has_account = has_account_and_no_descriptors
    try:
        report = run(playground)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [str(error) for error in report.errors] == ["the directory of a cannot be read: Too many open files"]
    assert report.adopted == 1


def test_a_container_that_cannot_be_walked_does_not_stop_the_others(playground):
    other = ContainerKey("a", "other")
    playground.sink.containers[other] = FakeContainer()
    (playground.root / "a" / "other").mkdir()
    list_rows = playground.sink.list_rows

    def fail_once(key, marker, prefix):
        if key == KEY:
            raise OSError(errno.EIO, "Input/output error")
        return list_rows(key, marker, prefix)

    playground.sink.list_rows = fail_once
    report = run(playground)
    [error] = report.errors
    assert str(error).startswith("the directory of a/c cannot be read: Input/output error: see what the kernel says")
    assert report.containers == 2


def test_a_container_that_cannot_be_opened_does_not_stop_the_others(playground):
    playground.write("o")
    (playground.root / "a" / "b").mkdir()

    class Stubborn(Survey):
        def _take_turn(self, turn, limits, tools, where):
            if turn.key.container == "b":
                device = turn.device
                turn = replace(turn, device=replace(device, root=Broken(device.root)))
            super()._take_turn(turn, limits, tools, where)

    class Broken:
        def __init__(self, root):
            self.fd = os.open(root.proc, os.O_RDONLY)
            os.close(self.fd)

    survey = Stubborn(playground.settings, [POLICY], playground.state, playground.tools)
    report = survey.run(Scope(), Options())
    assert [type(error) for error in report.errors] == [UnreadableError]
    assert playground.listed() == ["o"]


def test_what_cannot_be_an_object_is_reported_with_its_place(playground):
    playground.write(b"\xff")
    report = run(playground)
    assert report.unlistable == 1
    assert report.samples == [("a/c/\udcff", "its bytes are not UTF-8")]


def test_notes_are_bounded(playground):
    for number in range(120):
        (playground.root / f"unknown{number}").mkdir()
    assert len(run(playground).notes) == 100


class TestExports:
    KEY = ContainerKey("a", "e")

    @pytest.fixture
    def found(self, playground):
        (playground.base / "x" / "run").mkdir(parents=True)
        for name in ("run/b", "a"):
            (playground.base / "x" / name).write_bytes(b"x")
        return export(playground.root, playground.base / "x")

    def stages(self, playground):
        return [each.stage for each in read(playground.root)]

    def test_its_files_are_listed_and_then_it_is_ready(self, playground, found):
        playground.settings = replace(playground.settings, adopt_containers=False)
        report = run(playground)
        assert (report.adopted, report.errors) == (1, [])
        assert playground.listed(self.KEY) == ["a", "run/b"]
        assert self.stages(playground) == [Stage.READY]

    def test_a_part_of_it_does_not_make_it_ready(self, playground, found):
        run(playground, Scope("a", "e", "run/"))
        run(playground, dry_run=True)
        assert self.stages(playground) == [Stage.IMPORTING]

    def test_while_its_directory_is_away_its_rows_stay(self, playground, found):
        run(playground)
        (playground.base / "x").rename(playground.base / "away")
        (playground.base / "x").mkdir()
        report = run(playground, force=True)
        assert [type(error) for error in report.errors] == [ExportMissingError]
        assert playground.listed(self.KEY) == ["a", "run/b"]

    def test_one_on_another_file_system_may_go_away_at_any_moment(self, playground, found):
        rewrite(playground.root, replace(found, is_foreign=True))
        device_of = playground.tools.inspect

        def lose(device):
            open_container = type(device).open_container

            def and_lose(*key):
                directory = open_container(device, *key)
                if key == self.KEY:
                    (playground.base / "x").rename(playground.base / "away")
                return directory

            object.__setattr__(device, "open_container", and_lose)
            return device_of(device)

        survey = Survey(playground.settings, [POLICY], playground.state, replace(playground.tools, inspect=lose))
        report = survey.run(Scope(), Options())
        assert [type(error) for error in report.errors] == [ExportMissingError]

    def test_what_it_hides_is_reported(self, playground, found):
        hidden = playground.root / "a" / "e"
        hidden.mkdir()
        assert run(playground).notes == []
        (hidden / "late").touch()
        assert run(playground).notes == [("a/e", "it is an export, so 'a/e/late' below the device is no object")]
        assert playground.listed(self.KEY) == ["a", "run/b"]
        shutil.rmtree(hidden)
        hidden.symlink_to("c")
        assert run(playground).notes == []

    def test_when_it_is_let_go_its_rows_go_however_many(self, playground, found):
        run(playground)
        playground.settings = replace(playground.settings, missing_rows=0)
        rewrite(playground.root, replace(found, stage=Stage.LEAVING))
        report = run(playground)
        assert report.errors == []
        assert playground.listed(self.KEY) == []
        assert read(playground.root) == Exports()

    @pytest.mark.parametrize("presence", [Presence.DELETED, None])
    def test_when_its_container_went_before_it_is_forgotten(self, playground, found, presence):
        rewrite(playground.root, replace(found, stage=Stage.LEAVING))
        if presence:
            playground.sink.containers[self.KEY] = FakeContainer(presence)
        run(playground, Scope("a", "e"), dry_run=True)
        assert self.stages(playground) == [Stage.LEAVING]
        run(playground, Scope("a", "e"))
        assert read(playground.root) == Exports()

    def test_without_the_identity_of_the_device_nothing_is_deleted(self, playground, found):
        run(playground)
        rewrite(playground.root, replace(found, stage=Stage.LEAVING))
        playground.state.set_device(0, 1)
        report = run(playground)
        assert {type(error) for error in report.errors} == {DeviceMissingError}
        assert self.stages(playground) == [Stage.LEAVING]


def test_object_servers_of_another_user_are_told(playground, monkeypatch):
    playground.write("o")
    monkeypatch.setattr(Device, "strangers", lambda device: [OtherUserError(device.path, 999, 0)])
    report = run(playground)
    assert [type(error) for error in report.errors] == [OtherUserError]
    # The rest is done all the same.
    assert playground.listed() == ["o"]
