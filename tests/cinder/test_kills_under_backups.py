# SPDX-License-Identifier: Apache-2.0
"""cinder-volume is killed while cinder-backup waits for it: for a copy of a snapshot, for a connection, for a deletion.

Afterwards the backup is whole or in error, nobody has lost a byte, and after the commands of `doc/volumes.md`,
section 7, no temporary volume, file or mount is left.

Rule 1: which command of cinder-volume the kill comes at is said by what it does; which number that is, a run without a
    kill tells before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.cinder.api import Cinder
from tests.cinder.cases import FROZEN, HELD, Case, all_volumes, digest, look_up
from tests.cinder.killing import Killer
from tests.cinder.stand import TIMEOUT_S, wait_for

pytestmark = [pytest.mark.timeout(TIMEOUT_S), pytest.mark.long]

# How long cinder-backup waits for an answer, as it does by default; the stand's other services wait longer.
PATIENCE_S = 60
# What cinder-volume runs when it copies a snapshot, when it is asked for a connection, and when it deletes a volume.
COPY = ("lustack.cinder.copier", "qemu-img convert")
CONNECT = ("qemu-img info",)
DELETE = ("rm -f",)


@pytest.fixture(scope="module", autouse=True)
def patience(cinder: Cinder, killer: Killer) -> Iterator[None]:
    """cinder-backup gives up soon."""
    start_again(killer, {"OS_DEFAULT__RPC_RESPONSE_TIMEOUT": str(PATIENCE_S)})
    yield
    start_again(killer, {})


def start_again(killer: Killer, more: dict[str, str]) -> None:
    """Start cinder-backup again, with more in its environment."""
    stand = killer.stand
    environment = stand.environment
    killer.kill("backup")
    stand.environment = {**environment, **more}
    try:
        killer.restart("backup")
    finally:
        stand.environment = environment


@dataclass(frozen=True)
class Traces:
    """What may be left of a backup or a restore."""

    files: frozenset[str]
    mounts: frozenset[str]
    ids: frozenset[str]


def find_mounts(cinder: Cinder) -> frozenset[str]:
    with open("/proc/self/mounts") as lines:
        points = [line.split(" ")[1] for line in lines]
    return frozenset(point for point in points if point.startswith(f"{cinder.stand.root}/") or "/lustack-raw-" in point)


def find_traces(cinder: Cinder) -> Traces:
    shares = [cinder.stand.share(name) for name in ("raw", "qcow2", "backups")]
    files = {str(path) for share in shares for path in share.rglob("*") if path.is_file()}
    lists = (cinder.api.volumes, cinder.api.volume_snapshots, cinder.api.backups)
    ids = {each.id for manager in lists for each in manager.list(search_opts={"all_tenants": 1})}
    return Traces(frozenset(files), find_mounts(cinder), frozenset(ids))


def find_step(killer: Killer, words: tuple[str, ...]) -> int:
    """The number of the last command that has one of these words."""
    lines = killer.log.read_text().splitlines()
    return max(number for number, line in enumerate(lines, 1) if any(word in line for word in words))


def rehearse(killer: Killer, work: Callable[[], Any], words: tuple[str, ...]) -> int:
    """Do a work; the step of it that has one of these words."""
    killer.arm("volume")
    work()
    killer.count()
    return find_step(killer, words)


def rehearse_backup(case: Case, killer: Killer, words: tuple[str, ...], snapshot: Any = None) -> int:
    """Make a backup; the step of it that has one of these words."""
    return rehearse(killer, lambda: case.cinder.gone(make_backup(case, snapshot)), words)


def cut(case: Case, killer: Killer, ask: Callable[[], Any], at: int, moment: str) -> Any:
    """Ask for something, and kill cinder-volume at a step of it; what was answered."""
    killer.arm("volume", at, moment)
    asked = ask()
    wait_for(lambda: killer.has_killed("volume"), "it is killed")
    killer.restart("volume")
    return asked


def find_temporary(case: Case) -> list[Any]:
    """What Cinder copies a snapshot into to back it up."""
    return [each for each in all_volumes(case) if each.name == f"backup-vol-{case.volume.id}"]


def ask_for_backup(case: Case, snapshot: Any = None) -> Any:
    made = case.api.backups.create(case.volume.id, snapshot_id=snapshot and snapshot.id, name="cut")
    return case.api.backups.get(made.id)


def make_backup(case: Case, snapshot: Any = None) -> Any:
    made = case.cinder.look(ask_for_backup(case, snapshot))
    wait_for(lambda: not find_temporary(case), "what was copied for it is gone")
    return made


def await_end(case: Case, backup: Any) -> str:
    """Wait until cinder-backup has ended a backup by itself; its status."""
    wait_for(lambda: case.api.backups.get(backup.id).status != "creating", "cinder-backup has ended it")
    return case.api.backups.get(backup.id).status


def check_backup(case: Case, backup: Any, held: tuple[tuple[int, int], ...]) -> None:
    """A backup holds what it was made of, and goes."""
    target = case.cinder.create(1, case.kind)
    case.cinder.restore(case.api.backups.get(backup.id), target)
    case.cinder.check(target)
    case.cinder.holds(target, *held)
    case.cinder.gone(target, case.api.backups.get(backup.id))


def end(case: Case, before: Traces) -> None:
    """The volume and its snapshot are what they were, and usable; they go, and nothing is left."""
    cinder = case.cinder
    cinder.look(case.snapshot)
    cinder.volume(case.volume)
    cinder.check(case.volume)
    cinder.holds(case.volume, *case.held)
    assert digest(cinder.frozen_path(case.volume, case.snapshot)) == case.digest
    cinder.snapshot_and_back(case.volume)
    cinder.gone(case.snapshot, case.volume)
    wait_for(lambda: find_mounts(cinder) <= before.mounts, "nothing is shown any more")
    assert find_traces(cinder) == before


# Section 7 of doc/volumes.md.


def heal(case: Case, backup: Any) -> None:
    """What an administrator does to a backup that stays `creating`, and to what was to be backed up."""
    api = case.api
    api.backups.reset_state(backup, "error")
    wait_for(lambda: api.backups.get(backup.id).status == "error", "the backup is in error")
    case.cinder.gone(api.backups.get(backup.id))
    if api.volumes.get(case.volume.id).status == "backing-up":
        api.volumes.reset_state(case.volume, "available")
    if api.volume_snapshots.get(case.snapshot.id).status == "backing-up":
        api.volume_snapshots.reset_state(case.snapshot, "available")


def heal_temporary(case: Case) -> None:
    """What an administrator does to a copy that nobody backs up any more."""
    for each in find_temporary(case):
        case.api.volumes.reset_state(each, "error")
        case.cinder.gone(each)


def begin(cinder: Cinder, kind: str) -> tuple[Traces, Case]:
    """What there is, and then a volume with a snapshot."""
    before, case = find_traces(cinder), Case(cinder, kind)
    case.set_up()
    return before, case


@pytest.mark.parametrize(("kind", "moment"), [("raw", "during"), ("qcow2", "together")])
def test_a_backup_whose_snapshot_was_being_copied_when_the_volume_service_was_killed_is_healed(
    cinder: Cinder, killer: Killer, kind: str, moment: str
):
    before, case = begin(cinder, kind)
    at = rehearse_backup(case, killer, COPY, case.snapshot)
    backup = cut(case, killer, lambda: ask_for_backup(case, case.snapshot), at, moment)
    # Nobody works on it any more, nobody knows, and nothing says whose the copy is but its name.
    (copy,) = find_temporary(case)
    assert (case.api.backups.get(backup.id).status, copy.status) == ("creating", "creating")
    heal(case, backup)
    heal_temporary(case)
    check_backup(case, make_backup(case, case.snapshot), FROZEN)
    end(case, before)


@pytest.mark.parametrize(("kind", "moment", "of_snapshot"), [("raw", "before", False), ("qcow2", "together", True)])
def test_a_backup_that_waits_for_a_connection_when_the_volume_service_is_killed_ends_in_error_by_itself(
    cinder: Cinder, killer: Killer, kind: str, moment: str, of_snapshot: bool
):
    before, case = begin(cinder, kind)
    snapshot = case.snapshot if of_snapshot else None
    at = rehearse_backup(case, killer, CONNECT, snapshot)
    backup = cut(case, killer, lambda: ask_for_backup(case, snapshot), at, moment)
    assert await_end(case, backup) == "error"
    case.cinder.gone(case.api.backups.get(backup.id))
    check_backup(case, make_backup(case, snapshot), FROZEN if of_snapshot else HELD)
    end(case, before)


@pytest.mark.parametrize(("kind", "moment"), [("raw", "before"), ("qcow2", "after")])
def test_a_backup_is_whole_when_the_volume_service_is_killed_while_it_deletes_what_was_copied_for_it(
    cinder: Cinder, killer: Killer, kind: str, moment: str
):
    before, case = begin(cinder, kind)
    at = rehearse_backup(case, killer, DELETE, case.snapshot)
    backup = cut(case, killer, lambda: ask_for_backup(case, case.snapshot), at, moment)
    assert await_end(case, backup) == "available"
    assert [each.status for each in find_temporary(case)] == ["backing-up"]
    heal_temporary(case)
    check_backup(case, backup, FROZEN)
    end(case, before)


@pytest.mark.parametrize(("kind", "moment"), [("raw", "during"), ("qcow2", "before")])
def test_a_backup_that_was_being_restored_when_the_volume_service_was_killed_is_restored_again(
    cinder: Cinder, killer: Killer, kind: str, moment: str
):
    before, case = begin(cinder, kind)
    backup, target = make_backup(case), cinder.create(1, kind)
    restore = lambda: cinder.api.restores.restore(backup.id, target.id)  # noqa: E731
    at = rehearse(killer, lambda: cinder.restore(backup, target), CONNECT)
    cut(case, killer, restore, at, moment)
    wait_for(lambda: look_up(target).status != "restoring-backup", "cinder-backup has ended it")
    assert look_up(target).status == "error_restoring"
    cinder.look(backup)
    cinder.api.volumes.reset_state(target, "available")
    cinder.restore(backup, target)
    cinder.check(target)
    cinder.holds(target, *HELD)
    cinder.gone(target, cinder.api.backups.get(backup.id))
    end(case, before)
