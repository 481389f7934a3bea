# SPDX-License-Identifier: Apache-2.0
"""The long operations of Cinder that a kill may cut off, and how an administrator heals what is left.

Rule 1: what heals is what `doc/volumes.md`, section 7, says, and nothing else.
Rule 2: bytes are compared with what a guest wrote; what a snapshot froze, with the file as it was before.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cinderclient import exceptions
from tests.cinder.api import Cinder
from tests.cinder.stand import wait_for

Patterns = tuple[tuple[int, int], ...]
# What a volume holds: pattern and MiB. The snapshot is older than the last of them.
HELD: Patterns = ((0x41, 0), (0x42, 30), (0x43, 700))
FROZEN = (*HELD[:2], (0, 700))
# What is written when there is a second snapshot already.
LATER: Patterns = ((0x44, 800),)
# What an image holds that takes the place of all that.
IMAGE: Patterns = ((0x51, 0), (0, 30), (0x52, 500), (0, 700))


@dataclass
class Case:
    """A volume, and what an operation works on.

    Attributes:
        volume: the one whose bytes must stay.
        snapshot: of it.
        made: what the operation makes, as the API names it.
        others: volumes and snapshots that must stay, too.
        held: what a guest reads in the volume afterwards.
        copied: what it reads in what is made.
        digest: of what the snapshot froze.
        source: what is to be managed.
        left: ids that a file of the volume may be named after that Cinder does not know.
    """

    cinder: Cinder
    kind: str
    volume: Any = None
    snapshot: Any = None
    image_id: str = ""
    made: list[Any] = field(default_factory=list)
    others: list[Any] = field(default_factory=list)
    held: Patterns = HELD
    copied: Patterns = ()
    digest: str = ""
    source: str = ""
    left: list[str] = field(default_factory=list)

    def set_up(self) -> None:
        self.made, self.others, self.held, self.copied, self.left = [], [], HELD, (), []
        self.volume = self.cinder.create(1, self.kind)
        self.cinder.write(self.volume, 0x41, 0)
        self.cinder.write(self.volume, 0x42, 30, 16)
        self.snapshot = self.cinder.snapshot(self.volume, "kept")
        self.cinder.write(self.volume, 0x43, 700)
        self.digest = digest(self.cinder.frozen_path(self.volume, self.snapshot))

    def drop_snapshot(self) -> None:
        self.cinder.gone(self.snapshot)
        self.snapshot = None

    @property
    def api(self) -> Any:
        return self.cinder.api

    @property
    def host(self) -> str:
        backend = "raw" if self.kind == "encrypted" else self.kind
        return f"stand@{backend}#lfs/{backend}"

    @property
    def other_type(self) -> str:
        return {"raw": "raw-qcow2", "qcow2": "qcow2-raw"}.get(self.kind, self.kind)


def digest(path: Path) -> str:
    """Of what is in a file, and where."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        begin, size = 0, path.stat().st_size
        while begin < size:
            try:
                begin = os.lseek(file.fileno(), begin, os.SEEK_DATA)
            except OSError:  # there is nothing more
                break
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            found.update(f"{begin} {end} ".encode() + os.pread(file.fileno(), end - begin, begin))
            begin = end
    return found.hexdigest()


# The operations: what is there before, and a request, with what is known of its result.


@dataclass(frozen=True)
class Operation:
    """What may be cut off.

    Attributes:
        ask: sends the request.
        prepare: changes the volume with one snapshot before.
        kinds: of volumes.
        count: how many cases there are of these.
        encrypted: and of encrypted volumes.
    """

    ask: Callable[[Case], None]
    prepare: Callable[[Case], None] = lambda case: None
    kinds: tuple[str, ...] = ("raw", "qcow2")
    count: int = 8
    encrypted: int = 0

    @property
    def cases(self) -> list[str]:
        """The kind of volume of each case."""
        return [self.kinds[seed % len(self.kinds)] for seed in range(self.count)] + ["encrypted"] * self.encrypted


def snapshot(case: Case) -> None:
    case.made.append(case.api.volume_snapshots.create(case.volume.id, name="cut"))


def delete_snapshot(case: Case) -> None:
    case.api.volume_snapshots.delete(case.snapshot)
    case.made.append(case.snapshot)


def add_snapshot(case: Case) -> None:
    case.others.append(case.cinder.snapshot(case.volume, "upper"))
    case.cinder.write(case.volume, *LATER[0])
    case.held = HELD + LATER


def clone(case: Case) -> None:
    case.made.append(case.api.volumes.create(2, source_volid=case.volume.id, volume_type=case.kind))
    case.copied = case.held


def from_snapshot(case: Case) -> None:
    case.made.append(case.api.volumes.create(2, snapshot_id=case.snapshot.id, volume_type=case.other_type))
    case.copied = FROZEN


def linked(case: Case) -> None:
    case.made.append(case.api.volumes.create(2, snapshot_id=case.snapshot.id, volume_type=f"{case.kind}-linked"))
    case.copied = FROZEN


def thick(case: Case) -> None:
    case.made.append(case.api.volumes.create(2, volume_type=f"{case.kind}-thick"))
    case.copied = ((0, 0), (0, 2047))


def give_image(case: Case) -> None:
    # Cinder makes images of encrypted volumes as they are only.
    case.image_id = case.image_id or case.cinder.upload(case.volume, "raw" if case.kind == "encrypted" else "qcow2")


def give_raw_image(case: Case) -> None:
    case.image_id = case.image_id or case.cinder.upload(case.volume, "raw")


def give_cached_image(case: Case) -> None:
    give_image(case)
    if not case.cinder.is_cached(case.image_id):
        case.cinder.gone(case.cinder.create(2, case.kind, imageRef=case.image_id))
    assert case.cinder.is_cached(case.image_id)


def image(case: Case) -> None:
    case.made.append(case.api.volumes.create(2, imageRef=case.image_id, volume_type=case.kind))
    case.copied = case.held


def upload(case: Case) -> None:
    disk_format = "raw" if case.kind == "encrypted" else "qcow2"
    case.api.volumes.upload_to_image(case.volume, False, "image", "bare", disk_format, "private", False)


def give_other_image(case: Case) -> None:
    case.image_id = case.image_id or case.cinder.make_image(*(each for each in IMAGE if each[0]))


def give_other_image_to_a_plain_one(case: Case) -> None:
    give_other_image(case)
    case.drop_snapshot()


def give_other_image_to_a_linked_one(case: Case) -> None:
    give_other_image(case)
    prepare_linked(case)


def reimage(case: Case) -> None:
    case.api.volumes.reimage(case.volume, case.image_id)
    case.held = IMAGE


def extend(case: Case) -> None:
    case.api.volumes.extend(case.volume, case.api.volumes.get(case.volume.id).size + 1)


def revert(case: Case) -> None:
    case.api.volumes.revert_to_snapshot(case.volume, case.snapshot)
    case.held = FROZEN


def migrate(case: Case) -> None:  # Cinder moves no volume with snapshots
    case.api.volumes.retype(case.volume, "qcow2" if case.kind == "raw" else "raw", "on-demand")


def retype(case: Case) -> None:
    case.api.volumes.retype(case.volume, f"{case.kind}-thick", "never")


def prepare_linked(case: Case) -> None:
    """The volume is a linked one, and its source is among the others."""
    source = case.volume
    case.volume = case.cinder.create(1, f"{case.kind}-linked", snapshot_id=case.snapshot.id)
    case.cinder.gone(case.snapshot)
    case.snapshot = None
    case.cinder.write(case.volume, *HELD[-1])
    case.others.append(source)


def prepare_copy_to_delete(case: Case) -> None:
    case.made.append(case.cinder.create(2, f"{case.kind}-linked", snapshot_id=case.snapshot.id))


def prepare_chain_to_delete(case: Case) -> None:
    whole = case.cinder.create(1, case.kind)
    case.made = [case.cinder.snapshot(whole), case.cinder.snapshot(whole), whole]


def delete(case: Case) -> None:
    case.api.volumes.delete(case.made[-1], cascade=len(case.made) > 1)


def unmanage(case: Case) -> None:
    case.api.volumes.unmanage(case.volume)


def leave_file(case: Case) -> None:
    case.drop_snapshot()
    unmanage(case)
    await_file(case)


def await_file(case: Case) -> None:
    """The volume is not Cinder's any more, and its file is offered."""
    wait_for(lambda: look_up(case.volume) is None, "the volume is left behind")
    case.left.append(case.volume.id)
    offered = [each for each in case.api.volumes.list_manageable(case.host, detailed=True) if each.safe_to_manage]
    names = [each.reference["source-name"] for each in offered]
    (case.source,) = [name for name in names if name.rpartition("/volume-")[2] in case.left]


def manage(case: Case) -> None:
    case.volume = case.api.volumes.manage(case.host, {"source-name": case.source}, name="back", volume_type=case.kind)


def leave_snapshot(case: Case) -> None:
    case.api.volume_snapshots.unmanage(case.snapshot)
    wait_for(lambda: look_up(case.snapshot) is None, "the snapshot is not Cinder's any more")
    offered = case.api.volume_snapshots.list_manageable(case.host, detailed=True)
    (mine,) = [each for each in offered if each.source_reference["source-name"].endswith(case.volume.id)]
    assert mine.safe_to_manage
    case.source = mine.reference["source-name"]


def manage_snapshot(case: Case) -> None:
    case.snapshot = case.api.volume_snapshots.manage(case.volume.id, {"source-name": case.source}, "back")


OPERATIONS = {
    "snapshot": Operation(snapshot, encrypted=2),
    "delete snapshot": Operation(delete_snapshot, encrypted=2),
    "delete lower snapshot": Operation(delete_snapshot, add_snapshot, encrypted=2),
    "clone": Operation(clone, encrypted=2),
    "from snapshot": Operation(from_snapshot, encrypted=2),
    "linked": Operation(linked),
    "thick": Operation(thick, count=4),
    "image": Operation(image, give_image, encrypted=2),
    "raw image": Operation(image, give_raw_image, count=2),
    "cached image": Operation(image, give_cached_image, kinds=("qcow2",), count=3),
    "upload": Operation(upload, encrypted=2),
    "reimage": Operation(reimage, give_other_image, encrypted=4),
    "reimage plain": Operation(reimage, give_other_image_to_a_plain_one, encrypted=4),
    "reimage linked": Operation(reimage, give_other_image_to_a_linked_one, count=4),
    "extend": Operation(extend, encrypted=2),
    "revert": Operation(revert, encrypted=2),
    "migrate": Operation(migrate, Case.drop_snapshot),
    "retype": Operation(retype, Case.drop_snapshot, kinds=("raw",), count=3),
    "delete linked": Operation(delete, prepare_copy_to_delete, count=4),
    "delete chain": Operation(delete, prepare_chain_to_delete, count=4, encrypted=1),
    "unmanage": Operation(unmanage, prepare_linked),
    "manage": Operation(manage, leave_file),
    "manage snapshot": Operation(manage_snapshot, leave_snapshot, count=4, encrypted=1),
}
# As the API shows them: a volume that is being managed is `creating`.
BUSY = {
    "creating",
    "deleting",
    "downloading",
    "uploading",
    "extending",
    "reverting",
    "retyping",
    "migrating",
    "unmanaging",
}


def look_up(thing: Any) -> Any:
    """A volume or a snapshot as it is now, None when it is gone."""
    try:
        return thing.manager.get(thing.id)
    except exceptions.NotFound:
        return None


def find(case: Case) -> list[Any]:
    """The volume, its snapshot, and what the operation makes, as they are now; snapshots first."""
    things = {thing.id: thing for thing in (case.volume, case.snapshot, *case.made) if thing is not None}
    found = [here for thing in things.values() if (here := look_up(thing)) is not None]
    return sorted(found, key=lambda thing: thing.manager is case.api.volumes)


def is_at_rest(case: Case) -> bool:
    found = find(case)
    is_moving = any(getattr(thing, "migration_status", None) not in {None, "success", "error"} for thing in found)
    return not is_moving and all(thing.status not in BUSY for thing in found)


# Section 7 of doc/volumes.md.


def heal(case: Case, operation: Operation) -> None:
    """What an administrator does to what is not `available`."""
    heal_migration(case)
    for thing in find(case):
        if thing.id == case.volume.id:
            heal_volume(case, operation, thing)
        elif operation.ask is manage_snapshot:
            heal_snapshot(case, thing)
        elif thing.id in {each.id for each in case.made}:
            remove(case, operation, thing)
    if operation.ask is unmanage:
        await_file(case)
        manage(case)
        case.cinder.volume(case.volume)
    leave_behind(case)


def remove(case: Case, operation: Operation, thing: Any) -> None:
    """What was cut off is deleted; what is whole stays, but for a snapshot and what was to be deleted."""
    if thing.status != "available":
        thing.manager.reset_state(thing, "error")
    elif thing.manager is case.api.volumes and operation.ask is not delete:
        return
    case.cinder.gone(thing)


def heal_snapshot(case: Case, thing: Any) -> None:
    if thing.status != "available":
        case.api.volume_snapshots.reset_state(thing, "error")
        leave_snapshot(case)
        manage_snapshot(case)
        case.cinder.look(case.snapshot)


def heal_volume(case: Case, operation: Operation, thing: Any) -> None:
    if thing.status != "available":
        if operation.ask is manage:
            case.api.volumes.reset_state(thing, "error")
            case.cinder.gone(thing)
            await_file(case)
            manage(case)
        else:
            case.api.volumes.reset_state(thing, "available")
            again = {retype: retype, reimage: reimage_again}.get(operation.ask) or AGAIN.get(thing.status)
            if again is not None:
                again(case)
            if again is unmanage:
                return
    case.cinder.volume(case.volume)


def revert_again(case: Case) -> None:
    case.api.volume_snapshots.reset_state(case.snapshot, "available")
    revert(case)


def reimage_again(case: Case) -> None:
    if case.snapshot or case.others:  # else it is written over where it is
        case.cinder.holds_one_of(case.volume, HELD, IMAGE)
    reimage(case)


# By the status that a volume is left in.
AGAIN = {
    "extending": extend,
    "reverting": revert_again,
    "unmanaging": unmanage,
    "error_unmanaging": unmanage,
}


def heal_migration(case: Case) -> None:
    """Cinder swaps a volume and its copy in several steps."""
    volume = look_up(case.volume)
    copies = [each for each in all_volumes(case) if each.migration_status == f"target:{case.volume.id}"]
    if volume is None or (not copies and volume.migration_status in {None, "success"}):
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


# What is true in the end.


def verify(case: Case) -> None:
    """Nothing is lost, everything works, and nothing is left over in the end."""
    cinder = case.cinder
    cinder.holds(case.volume, *case.held)
    cinder.check(case.volume, may_leak=True)
    if case.kind != "encrypted" or not case.snapshot:
        connect(case)
    for thing in find(case):
        if thing.id != case.volume.id and thing.manager is case.api.volumes:
            cinder.check(thing)
            cinder.holds(thing, *case.copied)
            cinder.gone(thing)
    verify_others(case)
    if case.snapshot and look_up(case.snapshot):
        assert digest(cinder.frozen_path(case.volume, case.snapshot)) == case.digest
        cinder.gone(case.snapshot)
    cinder.snapshot_and_back(case.volume, may_leak=True)
    cinder.holds(case.volume, *case.held)
    cinder.gone(case.volume)
    forget_image(case)


def connect(case: Case) -> None:
    connector = {"host": "nova", "ip": "127.0.0.1", "initiator": None}
    case.api.volumes.initialize_connection(case.volume, connector)
    case.api.volumes.terminate_connection(case.volume, connector)


def verify_others(case: Case) -> None:
    """They have what they had, and go."""
    for thing in case.others:
        if thing.manager is case.api.volumes:
            case.cinder.check(thing, may_leak=True)
            case.cinder.holds(thing, *HELD)
        else:
            case.cinder.saw(case.volume, thing, *HELD)
        case.cinder.gone(thing)


def forget_image(case: Case) -> None:
    """Delete the volume that Cinder keeps to make others of an image."""
    for thing in all_volumes(case):
        if thing.name == f"image-{case.image_id}":
            if thing.status != "available":
                thing.manager.reset_state(thing, "error")
            case.cinder.gone(thing)
