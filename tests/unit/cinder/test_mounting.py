# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest
from cinder import exception
from oslo_config import cfg
from tests.unit.cinder.bench import SHARE, Bench

from lustack.brick.client import LustreClient
from lustack.brick.errors import CommandError, MountError, NoAnswerError


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LustreClient.mount_patiently, "__defaults__", (0.0,))


def refuse(stage: Bench, word: str, message: str) -> None:
    """Make commands that have a word fail with a message."""
    run = stage.driver._runner.run

    def refusing(command, **options):
        if word in command:
            raise CommandError(" ".join(command), 1, message)
        return run(command, **options)

    stage.driver._runner.run = refusing


def test_a_share_that_mounts_at_the_third_attempt_is_fine(stage: Bench):
    stage.client.failures = [MountError(SHARE, "not yet"), MountError(SHARE, "not yet")]
    stage.set_up()
    assert stage.driver._mounted_shares == [SHARE]


@pytest.mark.expects_log("Input/output error")
def test_a_share_that_never_mounts_is_named_with_the_option_and_the_reason(stage: Bench):
    stage.client.failures = [MountError(SHARE, "Input/output error")] * 3
    with pytest.raises(exception.VolumeDriverException, match=r"Input/output error \(3 attempts\)"):
        stage.set_up()


@pytest.mark.expects_log("No such file")
def test_one_bad_share_does_not_keep_the_others_from_work_and_is_said_once(stage: Bench, caplog):
    other = "10.0.0.1@tcp:/scratch/gone"
    (stage.root / "shares").write_text(f"{other}\n{SHARE}\n")
    cfg.CONF.set_override("lustre_mount_attempts", 3, "lustre")
    for call in (stage.set_up, stage.driver._update_volume_stats):
        stage.client.failures = [MountError(other, "No such file or directory")] * 3
        call()
    assert stage.driver._mounted_shares == [SHARE]
    assert len([message for message in caplog.messages if "No such file" in message]) == 1
    stage.driver._update_volume_stats()
    assert [pool["pool_name"] for pool in stage.driver._stats["pools"]] == ["scratch/gone", "scratch/volumes"]


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("Failed to lock byte 100: Function not implemented", "flock"),
        ("Could not create: Read-only file system", "read-only"),
        ("Could not create: Permission denied", "nas_secure_file_operations"),
        ("Could not create: Stale file handle", "Stale file handle"),
    ],
)
def test_a_share_that_is_not_fit_says_how_to_mend_it(stage: Bench, message: str, remedy: str, caplog):
    refuse(stage, "create", message)
    stage.driver._say_failing = lambda what, error: stage.driver._failing.update({what: str(error)})
    with pytest.raises(exception.VolumeDriverException, match=remedy):
        stage.set_up()


def test_a_share_where_everybody_may_write_is_refused_before_anything_is_written(stage: Bench, caplog):
    stage.driver._say_failing = lambda what, error: stage.driver._failing.update({what: str(error)})
    stage.share.mkdir(parents=True)
    stage.share.chmod(0o1777)
    refuse(stage, "create", "it was written to")
    with pytest.raises(exception.VolumeDriverException, match=r"everybody may write there \(mode 1777\).*chmod o-w"):
        stage.set_up()
    stage.share.chmod(0o755)


def test_options_that_lose_locks_are_refused(stage: Bench):
    stage.client.find_faults = lambda share: [
        "locks do not reach other nodes: mount with -o flock instead of localflock"
    ]
    stage.driver._say_failing = lambda what, error: stage.driver._failing.update({what: str(error)})
    with pytest.raises(exception.VolumeDriverException, match="localflock"):
        stage.set_up()


def test_a_share_that_does_not_answer_fails_at_once_and_is_not_offered(stage: Bench, caplog):
    stage.set_up()
    volume = stage.create()
    stage.driver._answered_s = dict.fromkeys(stage.driver._answered_s, -100.0)
    stage.driver._say_failing = lambda what, error: stage.driver._failing.update({what: str(error)})

    def hang(command, **options):
        raise NoAnswerError(" ".join(command), 10)

    run, stage.driver._runner.run = stage.driver._runner.run, hang
    with pytest.raises(exception.VolumeDriverException, match="no answer within 10 s"):
        stage.driver.extend_volume(volume, 2)
    stage.driver._update_volume_stats()
    assert stage.driver._stats["pools"] == []
    stage.driver._runner.run = run
    stage.driver._update_volume_stats()
    assert [pool["pool_name"] for pool in stage.driver._stats["pools"]] == ["scratch/volumes"]
    assert stage.driver._failing == {}


def test_a_share_that_hangs_while_it_is_measured_is_left_out(stage: Bench):
    stage.set_up()
    said = []
    stage.driver._say_failing = lambda what, error: said.append(what)

    def hang(share: str) -> None:
        raise NoAnswerError("stat", 10)

    stage.driver._get_capacity_info = hang
    stage.driver._update_volume_stats()
    assert stage.driver._stats["pools"] == []
    assert said == [SHARE]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\udcff\n", "a file of text"),
        ("", "names at least one share"),
        ("nonsense\n", "a share such as"),
        (f"{SHARE}\n1.1.1.1:/scratch/volumes", "another directory"),
    ],
)
def test_a_bad_file_of_shares_is_named_with_its_option(stage: Bench, text: str, message: str):
    (stage.root / "shares").write_text(text, errors="surrogateescape")
    with pytest.raises(exception.VolumeDriverException, match=message) as caught:
        stage.set_up()
    assert "lustre_shares_config" in str(caught.value)


def test_a_file_of_shares_that_is_not_there_is_named(stage: Bench):
    os.unlink(stage.root / "shares")
    with pytest.raises(exception.VolumeDriverException, match="No such file"):
        stage.set_up()


@pytest.mark.expects_log("the list of shares")
def test_a_file_of_shares_that_goes_bad_later_changes_nothing(stage: Bench):
    stage.set_up()
    (stage.root / "shares").write_text("nonsense\n")
    stage.driver._update_volume_stats()
    assert stage.driver._mounted_shares == [SHARE]


@pytest.mark.expects_log("the list of shares")
def test_a_file_of_shares_that_goes_bad_is_said_each_time_it_does(stage: Bench, caplog: pytest.LogCaptureFixture):
    stage.set_up()
    for text in ("nonsense\n", f"{SHARE}\n") * 2:
        (stage.root / "shares").write_text(text)
        for _ in range(2):
            stage.driver._update_volume_stats()
    assert sum("nonsense" in record.getMessage() for record in caplog.records) == 2


def test_one_share_can_be_named_by_two_options(stage: Bench):
    cfg.CONF.set_override("nas_host", "10.0.0.7@tcp", "lustre")
    cfg.CONF.set_override("nas_share_path", "/scratch/volumes", "lustre")
    stage.set_up()
    assert stage.driver._mounted_shares == ["10.0.0.7@tcp:/scratch/volumes"]


def test_a_share_that_was_added_since_is_found(stage: Bench):
    stage.set_up()
    new = "10.0.0.1@tcp:/scratch/more"
    (stage.root / "shares").write_text(f"{SHARE}\n{new}\n")
    stage.driver._ensure_share_mounted(new)
    assert len(stage.client.mounted) == 2


def test_a_driver_that_was_not_set_up_reads_its_shares_when_it_needs_them(stage: Bench):
    stage.driver._ensure_share_mounted(SHARE)
    assert stage.client.mounted == {str(stage.share)}


@pytest.mark.parametrize("program", ["mount.lustre", "qemu-img"])
def test_a_missing_program_is_named_with_its_package(
    stage: Bench, monkeypatch: pytest.MonkeyPatch, program: str, tmp_path: Path
):
    monkeypatch.setattr("shutil.which", lambda name, path=None: None if name == program else name)
    with pytest.raises(exception.VolumeDriverException, match=f"{program} is not installed"):
        stage.set_up()


@pytest.mark.parametrize(("operations", "who"), [("true", [False]), ("false", [True]), ("auto", [True, False])])
def test_a_share_is_tried_as_who_will_use_it(
    tmp_path: Path, coordinated: None, programs: Path, operations: str, who: list[bool]
):
    stage = Bench(tmp_path, nas_secure_file_operations=operations)
    stage.driver._is_voldb_empty_at_startup = True  # so that `auto` comes to mean true
    run, tried = stage.driver._runner.run, []

    def watching(command, *, as_root=False, **options):
        if "create" in command:
            tried.append(as_root)
        return run(command, as_root=as_root, **options)

    stage.driver._runner.run = watching
    stage.set_up()
    stage.driver._update_volume_stats()
    assert tried == who
