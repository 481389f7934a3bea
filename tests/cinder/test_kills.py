# SPDX-License-Identifier: Apache-2.0
"""cinder-volume or cinder-backup is killed at some step of each long operation, and started again.

Afterwards every volume reads what a guest wrote, or is in an error state that `doc/volumes.md`, section 7, heals; when
all is deleted, no file is left.

Rule 1: each operation is run once to count its steps, then in each case with a kill at one of them; which, and at which
    moment, comes from the name of the case and a fixed seed.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tests.cinder.api import Cinder
from tests.cinder.cases import HELD, OPERATIONS, Case, Operation, find_copies, heal, is_at_rest, verify
from tests.cinder.killing import MOMENTS, Killer
from tests.cinder.stand import TIMEOUT_S, wait_for

pytestmark = pytest.mark.timeout(TIMEOUT_S)

# How many changes of the database before the end of a migration the earliest kill is.
MOST_LEFT = 9
QUICK = {("delete snapshot", 0), ("clone", 0)}


def files(cinder: Cinder) -> set[str]:
    shares = [cinder.stand.share(name) for name in ("raw", "qcow2")]
    return {f"{share.name}/{path.name}" for share in shares for path in share.iterdir()} | {
        path.name for path in (cinder.stand.state / "conversion").iterdir() if not is_cinders_own(path)
    }


def is_cinders_own(path: Path) -> bool:
    """Whether a kill of Cinder leaves this whatever the driver: an empty file that it only tries qemu-img with.

    Source: cinder 29.0.0, image_utils.py, fetch_to_volume_format.
    """
    return path.name.startswith("image_download_") and path.stat().st_size == 0


def prepare(case: Case, operation: Operation) -> None:
    case.set_up()
    operation.prepare(case)


def rehearse(case: Case, killer: Killer, operation: Operation) -> int:
    """How many steps an operation has; it is undone."""
    prepare(case, operation)
    killer.arm("volume")
    operation.ask(case)
    wait_for(lambda: is_at_rest(case), "the rehearsal is over")
    steps = killer.count()
    heal(case, operation)
    verify(case)
    return steps


def choose_cases() -> list[Any]:
    """Each operation with each kind of volume in turn; most are `long`."""
    return [
        pytest.param(name, seed, kind, marks=() if (name, seed) in QUICK else pytest.mark.long)
        for name, operation in OPERATIONS.items()
        for seed, kind in enumerate(operation.cases)
    ]


@pytest.fixture(scope="module")
def rehearsed() -> dict[tuple[str, str], int]:
    """How many steps the operations have on each kind of volume, as far as they were run."""
    return {}


@pytest.mark.parametrize(("name", "seed", "kind"), choose_cases())
def test_nothing_is_lost_when_the_volume_service_is_killed(
    cinder: Cinder, killer: Killer, rehearsed: dict[tuple[str, str], int], name: str, seed: int, kind: str
):
    before = files(cinder)
    case, operation = Case(cinder, kind), OPERATIONS[name]
    choose = random.Random(f"{name}-{seed}-{kind}")
    if (name, kind) not in rehearsed:
        rehearsed[name, kind] = rehearse(case, killer, operation)
    steps = rehearsed[name, kind]
    assert steps > 0
    prepare(case, operation)
    at, moment = choose.randrange(steps) + 1, choose.choice(MOMENTS)
    print(f"{name} {kind}: killed {moment} step {at} of {steps}")
    killer.arm("volume", at, moment)
    operation.ask(case)
    wait_for(lambda: killer.has_killed("volume") or is_at_rest(case), "it is killed")
    if killer.has_killed("volume"):
        killer.restart("volume")
    heal(case, operation)
    verify(case)
    assert files(cinder) <= before


@pytest.fixture(scope="module")
def changes(cinder: Cinder, killer: Killer) -> int:
    """How many times a migration changes volumes in the database."""
    # What was started before there was a killer does not count.
    killer.kill("volume")
    killer.restart("volume")
    case = Case(cinder, "raw")
    case.volume = cinder.create(1, "raw")
    killer.arm_database()
    case.api.volumes.retype(case.volume, "qcow2", "on-demand")
    wait_for(lambda: cinder.moved(case.volume, "qcow2") and not find_copies(case), "the migration is over")
    found = killer.count_changes()
    cinder.gone(case.volume)
    assert found > MOST_LEFT
    return found


# The last ones; the copy is deleted in the last of them, and it is swapped with the volume before.
@pytest.mark.parametrize(
    "left", [6, *(pytest.param(left, marks=pytest.mark.long) for left in (1, 2, 3, 4, 5, 7, 8, 9))]
)
def test_a_migration_that_ends_between_two_changes_of_the_database_is_healed(
    cinder: Cinder, killer: Killer, changes: int, left: int
):
    before = files(cinder)
    case = Case(cinder, "raw")
    case.volume = cinder.create(1, "raw")
    cinder.write(case.volume, 0x41, 0)
    killer.arm_database(changes - left)
    case.api.volumes.retype(case.volume, "qcow2", "on-demand")
    wait_for(lambda: killer.has_killed("volume"), "it is killed")
    killer.restart("volume")
    heal(case, OPERATIONS["migrate"])
    cinder.check(case.volume)
    cinder.holds(case.volume, (0x41, 0))
    cinder.snapshot_and_back(case.volume)
    cinder.gone(case.volume)
    assert files(cinder) == before


def chunks(cinder: Cinder) -> set[str]:
    return {str(path) for path in cinder.stand.share("backups").rglob("*") if path.is_file()}


def views() -> set[str]:
    with open("/proc/self/mounts") as lines:
        return {line for line in lines if "/lustack-raw-" in line}


# How often a kill may come when all is done: the tests are asked for the state of the work only now and then.
TOO_LATE = 4


def cut_backup(case: Case, killer: Killer, count: int, *, incremental: bool = False) -> bool:
    """Kill the service when a backup has so many chunks; whether it was still being made. It is gone afterwards."""
    cinder, before = case.cinder, chunks(case.cinder)
    cut = case.api.backups.create(case.volume.id, name="cut", incremental=incremental)
    wait_for(lambda: len(chunks(cinder) - before) >= count, f"{count} chunks are written")
    killer.kill("backup")
    killer.restart("backup")
    wait_for(lambda: case.api.backups.get(cut.id).status in {"error", "available"}, "the backup is in error")
    was_cut = case.api.backups.get(cut.id).status == "error"
    cinder.volume(case.volume)
    cinder.gone(case.api.backups.get(cut.id))
    assert chunks(cinder) == before
    return was_cut


def cut_restore(case: Case, killer: Killer, whole: Any, blocks: int) -> Any:
    """Kill the service when so many blocks of a new volume are restored.

    Returns:
        The volume, which is to be restored again; None if it was restored already.
    """
    target = case.cinder.create(1, case.kind)
    path = case.cinder.active_path(target)
    limit = path.stat().st_blocks + blocks
    case.api.restores.restore(whole.id, target.id)
    wait_for(lambda: path.stat().st_blocks >= limit, f"{limit} blocks are restored")
    killer.kill("backup")
    killer.restart("backup")
    wait_for(
        lambda: case.api.volumes.get(target.id).status in {"error_restoring", "available"}, "the volume is in error"
    )
    was_cut = case.api.volumes.get(target.id).status == "error_restoring"
    case.cinder.look(whole)
    if was_cut:
        case.api.volumes.reset_state(target, "available")
        return target
    case.cinder.gone(target)
    return None


def restore_and_delete(case: Case, killer: Killer, backups: list[Any], blocks: int) -> None:
    """Restore the last backup with a kill in between; then everything is deleted.

    Args:
        case: whose.
        killer: kills the service.
        backups: of the volume.
        blocks: how many are restored before the kill.
    """
    cinder = case.cinder
    tried = (cut_restore(case, killer, backups[-1], blocks) for _ in range(TOO_LATE))
    target = next(found for found in tried if found is not None)
    cinder.restore(case.api.backups.get(backups[-1].id), target)
    for each in (case.volume, target):
        cinder.check(each)
        cinder.holds(each, *case.held)
    cinder.gone(case.snapshot, target, case.volume, *(case.api.backups.get(each.id) for each in reversed(backups)))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 6))])
def test_nothing_is_lost_when_the_backup_service_is_killed(cinder: Cinder, killer: Killer, seed: int):
    kind, choose = ("qcow2", "raw")[seed % 2], random.Random(seed)
    before, chunks_before, views_before = files(cinder), chunks(cinder), views()
    case = Case(cinder, kind)
    case.set_up()
    count, blocks = choose.randrange(1, 12), choose.randrange(1, 8 << 11)  # half of the data at most
    assert any(cut_backup(case, killer, count) for _ in range(TOO_LATE))
    restore_and_delete(case, killer, [cinder.backup(case.volume)], blocks)
    wait_for(lambda: views() <= views_before, "nothing is shown any more")
    assert files(cinder) <= before
    assert chunks(cinder) == chunks_before


@pytest.mark.long
@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_nothing_is_lost_when_the_backup_service_is_killed_at_what_changed_since(
    cinder: Cinder, killer: Killer, kind: str
):
    choose = random.Random(kind)
    before, chunks_before, views_before = files(cinder), chunks(cinder), views()
    case = Case(cinder, kind)
    case.set_up()
    backups = [cinder.backup(case.volume)]
    # Each in a chunk of its own.
    changed = tuple((0x44, offset_mib) for offset_mib in range(70, 700, 70))
    for pattern, offset_mib in changed:
        cinder.write(case.volume, pattern, offset_mib)
    case.held = (*HELD, *changed)
    count, blocks = choose.randrange(1, len(changed)), choose.randrange(1, 8 << 11)
    assert any(cut_backup(case, killer, count, incremental=True) for _ in range(TOO_LATE))
    backups.append(cinder.backup(case.volume, incremental=True))
    restore_and_delete(case, killer, backups, blocks)
    wait_for(lambda: views() <= views_before, "nothing is shown any more")
    assert files(cinder) <= before
    assert chunks(cinder) == chunks_before
