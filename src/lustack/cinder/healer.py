# SPDX-License-Identifier: Apache-2.0
"""Heals a volume whose migration was cut off, in Cinder's database: `lustack volume heal`.

Rule 1: what is right is decided in `halfway`; no file is changed, and a volume is given no other bytes than those that
    its location names.
Rule 2: only what an administrator has put into `error` is touched, so no service is working on it.
Rule 3: where a guest has gone on with the copy, what was the volume loses its name (`retiring`), and Nova finds the
    copy by the attachment that it knows (`attachments`): a server that starts again sees no old bytes.
Rule 4: cut off itself, it can be asked again: files are renamed first, and the database is written in one transaction.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cinder import context, exception, objects
from cinder.common import config
from cinder.db import api as db
from oslo_concurrency import processutils

from lustack.brick.client import LustreClient
from lustack.cinder import attachments, halfway, retiring
from lustack.cinder.files import VolumeFiles
from lustack.cinder.halfway import Formats, Place, Row
from lustack.cinder.images import Images
from lustack.cinder.looking import find_active, look_at_files, read_record
from lustack.cinder.served import ServedShare
from lustack.errors import LustackError
from lustack.lustre.mounts import parse_share

_UNDER_WAY: Final = frozenset({"starting", "migrating", "completing"})
# What says where a volume is served; Cinder swaps it in one step.
_SERVED: Final = ("host", "cluster_name", "availability_zone", "service_uuid")


@dataclass(eq=False, repr=False)
class NotHealedError(LustackError):
    """A volume is left as it is.

    Attributes:
        volume: its id.
        why: what is in the way, with the remedy.
    """

    volume: str
    why: str

    def __str__(self) -> str:
        return f"volume {self.volume} is left as it is: {self.why}"


def heal(
    volume_id: str, shares: Sequence[ServedShare], image_format: str | None = None, known_id: str | None = None
) -> list[str]:
    """Make a volume usable again whose migration was cut off.

    Args:
        volume_id: of the volume.
        shares: those of this host.
        image_format: of the volume's file; None: it follows from what is recorded.
        known_id: of the attachment that Nova knows; None: that too.

    Returns:
        What is left to do, in sentences.

    Raises:
        NotHealedError: it is refused, and nothing was recorded; says why.
    """
    asking = context.get_admin_context()
    try:
        volume = objects.Volume.get_by_id(asking, volume_id)
    except exception.VolumeNotFound as error:
        raise NotHealedError(volume_id, "there is no such volume; `cinder list --all-tenants` has them all") from error
    copies = objects.VolumeList.get_all(asking, filters={"migration_status": f"target:{volume_id}"})
    replaced = [] if copies else attachments.find_replaced(asking, volume, known_id)
    _refuse(volume, copies, is_known=bool(replaced))
    healing = [Healing(volume, copy, shares, image_format, known_id) for copy in copies]
    left: list[str] = _record(asking, volume, [(each, each.prepare()) for each in healing], replaced)
    return left


@db.main_context_manager.writer
def _record(
    asking: Any, volume: Any, decided: Sequence[tuple[Healing, Plan]], replaced: Sequence[tuple[str, str]]
) -> list[str]:
    """Write what is true into Cinder's database, in one transaction; returns what is left to do."""
    is_used = bool(replaced) or any(each.volume_attachment for each in (volume, *(each.copy for each, _ in decided)))
    left = [sentence for healing, plan in decided for sentence in healing.record(asking, plan)]
    for kept, gone in replaced:
        attachments.keep(asking, kept, gone, volume.id, has_switched=True)
    used = {"status": "in-use", "attach_status": "attached"}
    unused = {"status": "available", "attach_status": "detached"}
    volume.update({**(used if is_used else unused), "migration_status": None})
    volume.save()
    return left


def _refuse(volume: Any, copies: Sequence[Any], *, is_known: bool) -> None:
    if volume.status != "error":
        why = f"its status is {volume.status}; when no service works on it: cinder reset-state --state error"
        raise NotHealedError(volume.id, why)
    if len(copies) > 1:
        listed = ", ".join(copy.id for copy in copies)
        raise NotHealedError(
            volume.id, f"it has more than one copy: {listed}; `cinder delete` those of other migrations"
        )
    if not copies and not is_known and volume.migration_status not in _UNDER_WAY:
        why = (
            "no migration of it was cut off; if it is whole: cinder reset-state --state available (or in-use); "
            "where Nova has another attachment than Cinder, say which with --attachment"
        )
        raise NotHealedError(volume.id, why)


@dataclass(frozen=True)
class Plan:
    """What is true of a volume and its copy.

    Attributes:
        changes: of the volume's row.
        changes_of_copy: of the copy's row.
        formats: of the volume's files.
        formats_of_copy: of the copy's files.
        is_over: the volume is what the copy was.
    """

    changes: Mapping[str, Any]
    changes_of_copy: Mapping[str, Any]
    formats: Formats
    formats_of_copy: Formats
    is_over: bool


class Healing:
    """One volume, and the copy that it was to become."""

    def __init__(
        self,
        volume: Any,
        copy: Any,
        shares: Sequence[ServedShare],
        image_format: str | None = None,
        known_id: str | None = None,
    ) -> None:
        self.volume = volume
        self.copy = copy
        self._shares = shares
        self._image_format = image_format
        self._known_id = known_id

    def prepare(self) -> Plan:
        """Find out what is true, and rename what was the volume if Nova may have recorded its name.

        Raises:
            NotHealedError: that cannot be found out, or not done; no row was changed.
        """
        mine, other = _describe(self.volume), _describe(self.copy)
        is_swapped = halfway.is_swapped(mine, other)
        is_over = is_swapped or self._is_over_for_nova(mine, other)
        changes = self._finish(mine, other, is_swapped=is_swapped) if is_over else self._go_back(mine, other)
        formats = self._choose_formats(mine.formats, other.formats, *changes)
        others = mine.formats if formats is other.formats else other.formats
        if is_over and self._is_used:
            self._retire(*changes, halfway.find_bottom(others))
            changes[1]["_name_id"] = self._retired
        return Plan(*changes, formats, others, is_over)

    def record(self, asking: Any, plan: Plan) -> list[str]:
        """Make the rows of the copy and of the attachments say what is true, and that of the volume but for its status.

        Args:
            asking: the context of the transaction.
            plan: what is true.

        Returns:
            What is left to do, in sentences.
        """
        # Nova had completed its attachment, see attachments.was_switched.
        has_newer = self.copy.status == "in-use" and not plan.is_over
        self.volume.update(plan.changes)
        _set_formats(self.volume, plan.formats)
        self.copy.update({**plan.changes_of_copy, "status": "error", "attach_status": "detached"})
        self.copy.migration_status = None
        _set_formats(self.copy, plan.formats_of_copy)
        self.copy.save()
        left = self._join_attachments(asking, has_switched=plan.is_over)
        return [*left, halfway.say_deletion(self.copy.id, has_newer=has_newer)]

    @property
    def _is_used(self) -> bool:
        return bool(self.volume.volume_attachment or self.copy.volume_attachment) or self._was_switched

    @property
    def _was_switched(self) -> bool:
        found: bool = attachments.was_switched(self.volume.obj_context, self.volume, self.copy)
        return found

    @property
    def _retired(self) -> str:
        return retiring.name_id_of(self.copy.id)

    def _retire(
        self, changes: Mapping[str, Any], changes_of_copy: Mapping[str, Any], bottom_format: str | None
    ) -> None:
        """Give what was the volume a name that only the copy's row knows, or is about to.

        Raises:
            NotHealedError: a guest has it open, or it cannot be renamed.
        """
        share, name_id = self._find_place(self.copy, changes_of_copy)
        path = _path_of(*self._find_place(self.volume, changes))
        if _path_of(share, name_id) == path:
            raise NotHealedError(self.volume.id, f"its copy has the same file, {path}: who has changed the database?")
        if self._is_written_to(share, name_id) or self._is_written_to(share, self._retired):
            why = (
                f"a guest was started again on {_path_of(share, name_id)}, which it had left for {path}, and each "
                "holds what the other does not: to go on with the latter, stop the server and ask again"
            )
            raise NotHealedError(self.volume.id, why)
        name, new_name = (config.CONF.volume_name_template % each for each in (name_id, self._retired))
        files = VolumeFiles(share.point, name, read_record(share.point, name), bottom_format or "raw")
        try:
            retiring.rename(files, new_name, processutils.execute)
        except OSError as error:
            why = f"what it was cannot be renamed, which root or Cinder's user may do: {error}"
            raise NotHealedError(self.volume.id, why) from error

    def _join_attachments(self, asking: Any, *, has_switched: bool) -> list[str]:
        """Leave the volume the attachment that Nova knows, which tells it where the disk is."""
        known = {each.instance_uuid: each.id for each in self.volume.volume_attachment}
        left = []
        for attachment in self.copy.volume_attachment:
            server = attachment.instance_uuid
            kept = known.get(server) or attachments.find_deleted(asking, self.volume.id, server, self._known_id)
            if kept is not None:
                attachments.keep(asking, kept, attachment.id, self.volume.id, has_switched=has_switched)
                continue
            attachment.volume_id = self.volume.id
            attachment.save()
            left.append(
                f"the attachment that Nova knows is not in Cinder's database any more: detach the volume of server "
                f"{server} and attach it again: openstack server remove volume, cinder attachment-delete "
                f"{attachment.id}, openstack server add volume"
            )
        return left

    def _is_over_for_nova(self, mine: Row, other: Row) -> bool:
        """Whether a guest uses the copy by now.

        Raises:
            NotHealedError: nobody knows.
        """
        if not self._is_used:
            return False
        share = self._find_share(_find_backend(mine.host), mine.pool)
        if self._look(share, self._retired).exists:
            return True
        uses_mine = self._is_written_to(share, mine.name_id)
        uses_other = self._is_written_to(self._find_share(_find_backend(other.host), other.host_pool), other.name_id)
        if uses_mine and uses_other:
            why = "Nova is copying it still, or died doing so: virsh blockjob SERVER DISK --abort, on the server's node"
            raise NotHealedError(self.volume.id, why)
        # Cinder completes what Nova has done; a guest that was started again since on the file of before is there.
        is_told = self.volume.migration_status == "completing" or self._was_switched or self._is_said_to_be_over()
        if uses_mine or uses_other or is_told:
            return not uses_mine
        why = "its server does not run, so that nobody knows which of the two files is the newer: detach it first"
        if not self.volume.volume_attachment:
            ids = " ".join(each.id for each in self.copy.volume_attachment)
            why = (
                "its server does not run, and Nova has deleted its attachment: where Nova has the volume still, the "
                "guest had gone on with the copy: say with --attachment which Nova has; where it was detached: "
                f"cinder attachment-delete {ids}, and ask again"
            )
        raise NotHealedError(self.volume.id, why)

    def _is_said_to_be_over(self) -> bool:
        """Whether Nova is known to have an attachment of a server that it has deleted, as it does after the switch."""
        servers = [each.instance_uuid for each in self.copy.volume_attachment] if self._known_id else []
        asking = self.volume.obj_context
        return any(attachments.find_deleted(asking, self.volume.id, each, self._known_id) for each in servers)

    def _is_written_to(self, share: ServedShare, name_id: str) -> bool:
        """Whether a guest writes to the files that have the name of a volume."""
        self._look(share, name_id)  # refuses what is not mounted, or not ours to read
        active = os.path.join(share.point, find_active(share.point, config.CONF.volume_name_template % name_id))
        try:
            return os.path.exists(active) and Images(processutils.execute).is_locked(active)
        except processutils.ProcessExecutionError as error:
            raise NotHealedError(
                self.volume.id, f"{active} cannot be opened, as root or Cinder's user: {error.stderr}"
            ) from error

    def _go_back(self, mine: Row, other: Row) -> tuple[dict[str, Any], dict[str, Any]]:
        """The volume is what it was; the copy is to be deleted, under the name that it has."""
        share = self._find_share(_find_backend(other.host), other.host_pool)
        was_renamed = (
            other.host_pool != mine.pool
            and not self._look(share, other.id).exists
            and self._look(share, self.volume.id).exists
        )
        changes = {"provider_location": share.address, "_name_id": self.volume.id if was_renamed else None}
        if self.copy.encryption_key_id == self.volume.encryption_key_id:
            # Cinder deletes the key with the copy, but it is the volume's.
            changes["encryption_key_id"] = None
        return {}, changes

    def _finish(self, mine: Row, other: Row, *, is_swapped: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """The volume is the copy; what it was is to be deleted."""
        served = {name: self.copy[name] for name in _SERVED}
        served_before = {name: self.volume[name] for name in _SERVED}
        changes = {**served, "volume_type_id": self.copy.volume_type_id}
        changes_of_copy = {**served_before, "_name_id": self.copy["_name_id"] or self.volume.id}
        if not is_swapped:
            share = self._find_share(_find_backend(other.host), other.host_pool)
            changes |= {"_name_id": self.copy.id, "provider_location": share.address}
            changes_of_copy |= {"_name_id": mine.name_id, "provider_location": self.volume.provider_location}
        elif mine.host == other.host and mine.host_pool != other.pool:
            # The volume has the host of the copy already, and nobody has that of the volume any more.
            share = self._find_share("", other.pool)
            changes_of_copy["host"] = f"{other.host.partition('@')[0]}@{share.backend}#{share.pool}"
        return changes, changes_of_copy

    def _choose_formats(
        self, mine: Formats, others: Formats, changes: Mapping[str, Any], changes_of_copy: Mapping[str, Any]
    ) -> Formats:
        where, where_copy = self._find_place(self.volume, changes), self._find_place(self.copy, changes_of_copy)
        # What was the volume has its other name, where this was cut off.
        here, there = self._look(*where), self._look(*where_copy)
        there = there if there.exists else self._look(where_copy[0], self._retired)
        if not here.exists:
            why = f"its file is to be {_path_of(*where)}, and is not there: move it there, or restore it, and ask again"
            raise NotHealedError(self.volume.id, why)
        found = halfway.choose_formats(mine, others, here, there)
        wanted = "say which with --format"
        if self._image_format is not None:
            found = next((each for each in (mine, others) if halfway.find_bottom(each) == self._image_format), None)
            wanted = f"--format {self._image_format} is neither of what is recorded"
        if found is None:
            raise NotHealedError(self.volume.id, f"{_path_of(*where)} may be raw or qcow2: {wanted}")
        return found

    def _find_place(self, row: Any, changed: Mapping[str, Any]) -> tuple[ServedShare, str]:
        """The share of a volume's files, and what they are named after, when its row is changed."""
        found = {name: changed.get(name, row[name]) for name in ("host", "provider_location", "_name_id")}
        share = self._find_share(_find_backend(found["host"]), parse_share(found["provider_location"]).identity)
        return share, found["_name_id"] or row.id

    def _find_share(self, backend: str, pool: str) -> ServedShare:
        """The share that is a pool.

        Args:
            backend: whose; empty: anybody's.
            pool: the name of the pool.

        Raises:
            NotHealedError: it is another host's.
        """
        for share in self._shares:
            if share.pool == pool and backend in {"", share.backend}:
                return share
        raise NotHealedError(self.volume.id, f"no back end {backend} of this host has the pool {pool}: ask on its host")

    def _look(self, share: ServedShare, name_id: str) -> Place:
        if not LustreClient("", os.path.dirname(share.point)).is_mounted(share.point):
            raise NotHealedError(
                self.volume.id, f"{share.address} is not mounted at {share.point}: start cinder-volume"
            )
        try:
            return look_at_files(*os.path.split(_path_of(share, name_id)))
        except PermissionError as error:
            raise NotHealedError(
                self.volume.id, f"{error.filename} cannot be read: ask as root or Cinder's user"
            ) from error


def _path_of(share: ServedShare, name_id: str) -> str:
    return os.path.join(share.point, config.CONF.volume_name_template % name_id)


def _find_backend(host: str) -> str:
    return host.partition("@")[2].partition("#")[0]


def _describe(volume: Any) -> Row:
    location = volume.provider_location
    pool = parse_share(location).identity if location else ""
    known = volume.admin_metadata or {}
    formats = {key: known[key] for key in ("format", "base_format") if key in known}
    return Row(volume.id, volume.name_id, volume.host, pool, formats)


def _set_formats(volume: Any, formats: Formats) -> None:
    rest = {key: value for key, value in volume.admin_metadata.items() if key not in {"format", "base_format"}}
    volume.admin_metadata = rest | dict(formats)
