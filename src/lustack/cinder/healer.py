# SPDX-License-Identifier: Apache-2.0
"""Heals a volume whose migration was cut off, in Cinder's database: `lustack volume heal`.

Rule 1: what is right is decided in `halfway`; no file is changed, and a volume is given no other bytes than those that
    its location names.
Rule 2: only what an administrator has put into `error` is touched, so no service is working on it.
Rule 3: cut off itself, it can be asked again: the status of the volume goes last, and that of the copy after it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cinder import context, exception, objects
from cinder.common import config
from oslo_concurrency import processutils

from lustack.brick.client import LustreClient
from lustack.cinder import halfway, witness
from lustack.cinder.halfway import Formats, Place, Row
from lustack.cinder.images import Image, Images
from lustack.cinder.record import SUFFIX, parse
from lustack.errors import LustackError
from lustack.lustre.mounts import parse_share

_UNDER_WAY: Final = frozenset({"starting", "migrating", "completing"})
# What says where a volume is served; Cinder swaps it in one step.
_SERVED: Final = ("host", "cluster_name", "availability_zone", "service_uuid")
_MAGIC: Final = b"QFI\xfb"  # Source: QEMU, docs/interop/qcow2.txt


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


@dataclass(frozen=True)
class ServedShare:
    """A share of a back end of this host.

    Attributes:
        backend: the back end's name.
        address: as it is recorded with volumes.
        point: where it is mounted.
    """

    backend: str
    address: str
    point: str

    @property
    def pool(self) -> str:
        """Name of its pool."""
        return parse_share(self.address).identity


def configure(arguments: Sequence[str]) -> list[ServedShare]:
    """Read the configuration of cinder-volume.

    Args:
        arguments: `--config-file FILE`, as for cinder-volume.

    Returns:
        The shares of all back ends of ours.
    """
    objects.register_all()
    conf = config.CONF
    conf(list(arguments), project="cinder")
    seen = [witness.look_at_backend(name) for name in conf.enabled_backends or ()]
    return [
        ServedShare(backend["name"], share["address"], share["point"])
        for backend in seen
        if backend["is_ours"]
        for share in backend["shares"]
    ]


def heal(volume_id: str, shares: Sequence[ServedShare], image_format: str | None = None) -> list[str]:
    """Make a volume usable again whose migration was cut off.

    Args:
        volume_id: of the volume.
        shares: those of this host.
        image_format: of the volume's file; None: it follows from what is recorded.

    Returns:
        What is left to do, as commands.

    Raises:
        NotHealedError: it is refused, and nothing was changed; says why.
    """
    asking = context.get_admin_context()
    try:
        volume = objects.Volume.get_by_id(asking, volume_id)
    except exception.VolumeNotFound as error:
        raise NotHealedError(volume_id, "there is no such volume; `cinder list --all-tenants` has them all") from error
    copies = objects.VolumeList.get_all(asking, filters={"migration_status": f"target:{volume_id}"})
    _refuse(volume, copies)
    for copy in copies:
        Healing(volume, copy, shares, image_format).run()
    is_used = any(each.volume_attachment for each in (volume, *copies))
    used = {"status": "in-use", "attach_status": "attached"}
    unused = {"status": "available", "attach_status": "detached"}
    volume.update({**(used if is_used else unused), "migration_status": None})
    volume.save()
    for copy in copies:
        copy.update({"status": "error", "attach_status": "detached", "migration_status": None})
        copy.save()
    return [f"cinder delete {copy.id}" for copy in copies]


def _refuse(volume: Any, copies: Sequence[Any]) -> None:
    if volume.status != "error":
        why = f"its status is {volume.status}; when no service works on it: cinder reset-state --state error"
        raise NotHealedError(volume.id, why)
    if len(copies) > 1:
        listed = ", ".join(copy.id for copy in copies)
        raise NotHealedError(
            volume.id, f"it has more than one copy: {listed}; `cinder delete` those of other migrations"
        )
    if not copies and volume.migration_status not in _UNDER_WAY:
        raise NotHealedError(
            volume.id, "no migration of it was cut off; if it is whole: cinder reset-state --state available"
        )


class Healing:
    """One volume, and the copy that it was to become."""

    def __init__(self, volume: Any, copy: Any, shares: Sequence[ServedShare], image_format: str | None) -> None:
        self.volume = volume
        self.copy = copy
        self._shares = shares
        self._image_format = image_format

    def run(self) -> None:
        """Make the two rows say what is true; their statuses stay.

        Raises:
            NotHealedError: that cannot be found out, and nothing was changed.
        """
        mine, other = _describe(self.volume), _describe(self.copy)
        is_swapped = halfway.is_swapped(mine, other)
        is_over = is_swapped or self._is_over_for_nova(mine, other)
        changes = self._finish(mine, other, is_swapped=is_swapped) if is_over else self._go_back(mine, other)
        formats = self._choose_formats(mine.formats, other.formats, *changes)
        self.volume.update(changes[0])
        _set_formats(self.volume, formats)
        self.volume.save()
        self.copy.update(changes[1])
        self.copy.save()
        self._join_attachments(is_over=is_over)

    def _join_attachments(self, *, is_over: bool) -> None:
        """Leave the volume the attachment that Nova knows, which tells it where the disk is."""
        known = {each.instance_uuid: each for each in self.volume.volume_attachment}
        for attachment in self.copy.volume_attachment:
            kept = known.get(attachment.instance_uuid)
            if kept is None:
                attachment.volume_id = self.volume.id
                attachment.save()
                continue
            if is_over:
                kept.connection_info = attachment.connection_info
                kept.save()
            attachment.destroy()

    def _is_over_for_nova(self, mine: Row, other: Row) -> bool:
        """Whether a guest uses the copy by now.

        Raises:
            NotHealedError: nobody knows.
        """
        if not self.volume.volume_attachment and not self.copy.volume_attachment:
            return False
        if self.volume.migration_status == "completing":
            return True
        uses_mine = self._is_written_to(mine, mine.pool)
        uses_other = self._is_written_to(other, other.host_pool)
        if uses_mine and uses_other:
            why = "Nova is copying it still, or died doing so: virsh blockjob SERVER DISK --abort, on the server's node"
            raise NotHealedError(self.volume.id, why)
        if uses_mine == uses_other:
            why = "its server does not run, so that nobody knows which of the two files is the newer: detach it first"
            raise NotHealedError(self.volume.id, why)
        return uses_other

    def _is_written_to(self, row: Row, pool: str) -> bool:
        """Whether a guest writes to the files that have the name of a volume."""
        share = self._find_share(_find_backend(row.host), pool)
        if not self._look(share, row.name_id).exists:
            return False
        active = _find_active(share.point, config.CONF.volume_name_template % row.name_id)
        try:
            image = Image(os.path.join(share.point, active), row.formats.get("format", "raw"))
            return Images(processutils.execute).is_written_to(image)
        except processutils.ProcessExecutionError as error:
            raise NotHealedError(self.volume.id, f"{active} cannot be opened: {error.stderr}") from error

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
        places, paths = [], []
        for row, changed in ((self.volume, changes), (self.copy, changes_of_copy)):
            location = changed.get("provider_location", row.provider_location)
            host = changed.get("host", row.host)
            share = self._find_share(_find_backend(host), parse_share(location).identity)
            name_id = changed.get("_name_id", row["_name_id"]) or row.id
            places.append(self._look(share, name_id))
            paths.append(_path_of(share, name_id))
        if not places[0].exists:
            why = f"its file is to be {paths[0]}, and is not there: move it there, or restore it, and ask again"
            raise NotHealedError(self.volume.id, why)
        found = halfway.choose_formats(mine, others, *places)
        wanted = "say which with --format"
        if self._image_format is not None:
            found = next((each for each in (mine, others) if halfway.find_bottom(each) == self._image_format), None)
            wanted = f"--format {self._image_format} is neither of what is recorded"
        if found is None:
            raise NotHealedError(self.volume.id, f"{paths[0]} may be raw or qcow2: {wanted}")
        return found

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


def look_at_files(directory: str, name: str) -> Place:
    """What there is of a volume.

    Args:
        directory: where its share is mounted.
        name: of the volume.

    Raises:
        CorruptRecordError: its record cannot be read.
        PermissionError: its files cannot be.
    """
    active = _find_active(directory, name)
    # Without a file of that name the active one is the bottom: everything was pulled into it.
    for bottom in (name, active):
        with contextlib.suppress(FileNotFoundError), open(os.path.join(directory, bottom), "rb") as file:
            return Place(exists=True, may_be_qcow2=file.read(len(_MAGIC)) == _MAGIC, has_overlay=bottom != active)
    return Place(exists=False)


def _path_of(share: ServedShare, name_id: str) -> str:
    return os.path.join(share.point, config.CONF.volume_name_template % name_id)


def _find_active(directory: str, name: str) -> str:
    """The name of the file that is written to."""
    path = os.path.join(directory, name + SUFFIX)
    try:
        with open(path, "rb") as record:
            return parse(record.read(), path, name).active
    except FileNotFoundError:
        return name


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
