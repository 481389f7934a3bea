# SPDX-License-Identifier: Apache-2.0
"""cinder-volume or cinder-backup is killed at some step of each long operation, and started again.

Afterwards every volume reads what a guest wrote, or is in an error state that `doc/volumes.md`, section 7, heals; when
all is deleted, no file is left.

Rule 1: each operation is run once to count its steps, then in each case with a kill at one of them; which, and at which
    moment, comes from the name of the case and a fixed seed.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cinderclient import exceptions
from tests.cinder.api import Cinder
from tests.cinder.killing import MOMENTS, Killer
from tests.cinder.stand import TIMEOUT_S, wait_for

pytestmark = pytest.mark.timeout(TIMEOUT_S)

SEEDS = range(8)
# How many changes of the database before the end of a migration the earliest kill is.
MOST_LEFT = 9
QUICK = {("delete snapshot", 0), ("clone", 0)}
# What the volume holds: pattern and MiB.
HELD = ((0x41, 0), (0x42, 30), (0x43, 700))


@dataclass
class Case:
    """A volume, and what an operation works on.

    Attributes:
        volume: the one whose bytes must stay.
        made: what the operation makes, as the API names it.
    """

    cinder: Cinder
    kind: str
    volume: Any = None
    snapshot: Any = None
    image_id: str = ""
    made: list[Any] = field(default_factory=list)

    def set_up(self) -> None:
        self.volume = self.cinder.create(1, self.kind)
        self.cinder.write(self.volume, 0x41, 0)
        self.cinder.write(self.volume, 0x42, 30, 16)
        self.snapshot = self.cinder.snapshot(self.volume, "kept")
        self.cinder.write(self.volume, 0x43, 700)

    @property
    def api(self) -> Any:
        return self.cinder.api

    @property
    def other_type(self) -> str:
        return f"{self.kind}-{'qcow2' if self.kind == 'raw' else 'raw'}"


# The operations: each sends its request, and says by what it is known to be over.


def snapshot(case: Case) -> None:
    case.made.append(case.api.volume_snapshots.create(case.volume.id, name="cut"))


def delete_snapshot(case: Case) -> None:
    case.api.volume_snapshots.delete(case.snapshot)
    case.made.append(case.snapshot)


def clone(case: Case) -> None:
    case.made.append(case.api.volumes.create(2, source_volid=case.volume.id, volume_type=case.kind))


def from_snapshot(case: Case) -> None:
    case.made.append(case.api.volumes.create(2, snapshot_id=case.snapshot.id, volume_type=case.other_type))


def linked(case: Case) -> None:
    case.made.append(case.api.volumes.create(2, snapshot_id=case.snapshot.id, volume_type=f"{case.kind}-linked"))


def image(case: Case) -> None:
    case.made.append(case.api.volumes.create(2, imageRef=case.image_id, volume_type=case.kind))


def upload(case: Case) -> None:
    case.api.volumes.upload_to_image(case.volume, False, "image", "bare", "qcow2", "private", False)


def extend(case: Case) -> None:
    case.api.volumes.extend(case.volume, case.api.volumes.get(case.volume.id).size + 1)


def revert(case: Case) -> None:
    case.api.volumes.revert_to_snapshot(case.volume, case.snapshot)


def migrate(case: Case) -> None:
    case.api.volumes.retype(case.volume, "qcow2" if case.kind == "raw" else "raw", "on-demand")


OPERATIONS = {
    "snapshot": snapshot,
    "delete snapshot": delete_snapshot,
    "clone": clone,
    "from snapshot": from_snapshot,
    "linked": linked,
    "image": image,
    "upload": upload,
    "extend": extend,
    "revert": revert,
    "migrate": migrate,
}
BUSY = ("creating", "deleting", "downloading", "uploading", "extending", "reverting", "retyping", "migrating")


def look_up(thing: Any) -> Any:
    """A volume or a snapshot as it is now, None when it is gone."""
    try:
        return thing.manager.get(thing.id)
    except exceptions.NotFound:
        return None


def find(case: Case) -> list[Any]:
    """The volume and what the operation makes, as they are now."""
    return [found for thing in (case.volume, *case.made) if (found := look_up(thing)) is not None]


def is_at_rest(case: Case) -> bool:
    found = find(case)
    is_moving = any(getattr(thing, "migration_status", None) not in {None, "success", "error"} for thing in found)
    return not is_moving and all(thing.status not in BUSY for thing in found)


# Section 7 of doc/volumes.md.


def heal(case: Case) -> None:
    """What an administrator does to what is not `available`."""
    heal_migration(case)
    for thing in find(case):
        if thing.manager is case.api.volume_snapshots:
            heal_snapshot(case, thing)
        elif thing.id == case.volume.id:
            heal_volume(case, thing)
        elif thing.status != "available":
            thing.manager.reset_state(thing, "error")
            case.cinder.gone(thing)
    leave_behind(case)


def heal_snapshot(case: Case, thing: Any) -> None:
    if thing.status != "available":
        case.api.volume_snapshots.reset_state(thing, "error")
    case.cinder.gone(thing)


def heal_volume(case: Case, thing: Any) -> None:
    if thing.status != "available":
        was = thing.status
        case.api.volumes.reset_state(thing, "available")
        if was == "extending":
            case.api.volumes.extend(thing, thing.size + 1)
        if was == "reverting":
            case.api.volume_snapshots.reset_state(case.snapshot, "available")
            case.api.volumes.revert_to_snapshot(thing, case.snapshot)
    case.cinder.volume(case.volume)


def heal_migration(case: Case) -> None:
    """Cinder swaps a volume and its copy in several steps."""
    volume = look_up(case.volume)
    copies = [each for each in all_volumes(case) if each.migration_status == f"target:{volume.id}"]
    if not copies and volume.migration_status in {None, "success"}:
        return
    case.api.volumes.reset_state(volume, "error")
    program = Path(sys.executable).parent / "lustack"
    command = [program, "volume", "heal", volume.id, "--config-file", case.cinder.stand.etc / "cinder.conf"]
    done = subprocess.run(command, env=case.cinder.stand.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert [f"cinder delete {each.id}" in done.stdout for each in copies] == [True] * len(copies)
    case.cinder.gone(*copies)


def all_volumes(case: Case) -> list[Any]:
    return case.api.volumes.list(search_opts={"all_tenants": 1})


def find_copies(case: Case) -> list[Any]:
    """What a migration makes, and what it has replaced."""
    return [each for each in all_volumes(case) if (each.migration_status or "").startswith(("target:", "deleting"))]


def leave_behind(case: Case) -> None:
    """What a migration has replaced is a volume of its own until it is deleted."""
    for thing in all_volumes(case):
        if thing.migration_status == "deleting":
            with contextlib.suppress(exceptions.NotFound):  # Cinder is about to delete it itself
                case.api.volumes.reset_state(thing, "error", migration_status="none")
                case.cinder.gone(thing)


def verify(case: Case, *, is_reverted: bool) -> None:
    """Nothing is lost, everything works, and nothing is left over in the end."""
    cinder = case.cinder
    for pattern, offset in HELD[: 2 if is_reverted else 3]:
        cinder.holds(case.volume, (pattern, offset))
    cinder.check(case.volume, may_leak=True)
    connector = {"host": "nova", "ip": "127.0.0.1", "initiator": None}
    case.api.volumes.initialize_connection(case.volume, connector)
    case.api.volumes.terminate_connection(case.volume, connector)
    for thing in find(case):
        if thing.id != case.volume.id and thing.manager is case.api.volumes:
            cinder.check(thing)
            cinder.gone(thing)
    if case.snapshot and look_up(case.snapshot):
        cinder.gone(case.snapshot)
    cinder.snapshot_and_back(case.volume, may_leak=True)
    for pattern, offset in HELD[: 2 if is_reverted else 3]:
        cinder.holds(case.volume, (pattern, offset))
    cinder.gone(case.volume)
    forget_image(case)


def forget_image(case: Case) -> None:
    """Delete the volume that Cinder keeps to make others of an image."""
    for thing in all_volumes(case):
        if thing.name == f"image-{case.image_id}":
            if thing.status != "available":
                thing.manager.reset_state(thing, "error")
            case.cinder.gone(thing)


@pytest.fixture(scope="module")
def killer(cinder: Cinder) -> Iterator[Killer]:
    killer = Killer(cinder.stand)
    yield killer
    killer.count()


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


def prepare(case: Case, operation: Any) -> None:
    case.set_up()
    if operation is image:
        case.image_id = case.image_id or case.cinder.upload(case.volume, "qcow2")
    if operation is migrate:  # Cinder moves no volume with snapshots
        case.cinder.gone(case.snapshot)
        case.snapshot = None


def rehearse(case: Case, killer: Killer, operation: Any) -> int:
    """How many steps an operation has; it is undone."""
    prepare(case, operation)
    killer.arm("volume")
    operation(case)
    wait_for(lambda: is_at_rest(case), "the rehearsal is over")
    steps = killer.count()
    heal(case)
    verify(case, is_reverted=operation is revert)
    case.made.clear()
    return steps


def choose_cases() -> list[Any]:
    """Each operation with each seed, raw and qcow2 in turn; most are `long`."""
    cases = [(name, seed) for name in OPERATIONS for seed in SEEDS]
    return [
        pytest.param(name, seed, ("raw", "qcow2")[seed % 2], marks=() if (name, seed) in QUICK else pytest.mark.long)
        for name, seed in cases
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
    operation(case)
    wait_for(lambda: killer.has_killed("volume") or is_at_rest(case), "it is killed")
    if killer.has_killed("volume"):
        killer.restart("volume")
    heal(case)
    verify(case, is_reverted=operation is revert)
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
    heal(case)
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


def cut_backup(case: Case, killer: Killer, count: int) -> bool:
    """Kill the service when a backup has so many chunks; whether it was still being made. It is gone afterwards."""
    cinder, before = case.cinder, chunks(case.cinder)
    cut = case.api.backups.create(case.volume.id, name="cut")
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


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 6))])
def test_nothing_is_lost_when_the_backup_service_is_killed(cinder: Cinder, killer: Killer, seed: int):
    kind, choose = ("qcow2", "raw")[seed % 2], random.Random(seed)
    before, chunks_before, views_before = files(cinder), chunks(cinder), views()
    case = Case(cinder, kind)
    case.set_up()
    count, blocks = choose.randrange(1, 12), choose.randrange(1, 8 << 11)  # half of the data at most
    assert any(cut_backup(case, killer, count) for _ in range(TOO_LATE))
    whole = cinder.backup(case.volume)
    tried = (cut_restore(case, killer, whole, blocks) for _ in range(TOO_LATE))
    target = next(found for found in tried if found is not None)
    cinder.restore(case.api.backups.get(whole.id), target)
    for each in (case.volume, target):
        cinder.check(each)
        cinder.holds(each, *HELD)
    wait_for(lambda: views() <= views_before, "nothing is shown any more")
    cinder.gone(case.snapshot, target, case.volume, case.api.backups.get(whole.id))
    assert files(cinder) <= before
    assert chunks(cinder) == chunks_before
