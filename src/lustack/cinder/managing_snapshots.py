# SPDX-License-Identifier: Apache-2.0
"""The part of the driver that lets Cinder forget snapshots, and takes them back.

A snapshot is a place in the chain of its volume. What Cinder forgets stays where it is: its file, and its line in the
volume's record, under the id that it had. By that id it is taken back.

Rule 1: only the record changes, in one step, so that a guest may use the volume meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

from cinder import coordination, exception
from cinder.volume import volume_utils

from lustack.cinder.faults import translated
from lustack.cinder.files import VolumeFiles
from lustack.cinder.images import GIB
from lustack.cinder.record import SUFFIX, Record
from lustack.cinder.snapshots import SnapshotMixin

_LOCK: Final = "{self.driver_prefix}-{snapshot.volume.id}"


class SnapshotManagingMixin(SnapshotMixin):
    """Manages snapshots that are there; a part of `LustreDriver`."""

    # What the other parts of the driver provide.
    _mounted_shares: list[str]

    def unmanage_snapshot(self, snapshot: Any) -> None:
        """Let Cinder forget a snapshot: it stays as it is."""

    @translated
    @coordination.synchronized(_LOCK)
    def manage_existing_snapshot(self, snapshot: Any, existing_ref: dict[str, str]) -> None:
        """Give a snapshot that is recorded with its volume another id.

        Raises:
            ManageExistingInvalidReference: none is recorded so, or Cinder has it.
        """
        files, known = self._find_forgotten(snapshot, existing_ref)
        self._write_record(files, files.recorded.with_id(known, snapshot.id))

    @translated
    def manage_existing_snapshot_get_size(self, snapshot: Any, existing_ref: dict[str, str]) -> int:
        """The size, GiB, that the volume had then.

        Raises:
            ManageExistingInvalidReference: none is recorded so, or Cinder has it.
        """
        files, known = self._find_forgotten(snapshot, existing_ref)
        return self._measure(files.path(files.recorded.snapshots[known]), files.name)

    @translated
    def get_manageable_snapshots(
        self,
        cinder_snapshots: list[Any],
        marker: str,
        limit: int,
        offset: int,
        sort_keys: list[str],
        sort_dirs: list[str],
    ) -> list[dict[str, Any]]:
        """The snapshots that are recorded with volumes, and whether Cinder has them.

        Raises:
            VolumeDriverException: a record cannot be read.
        """
        known = {snapshot.id for snapshot in cinder_snapshots}
        listed = [
            self._describe_snapshot(
                address, path, snapshot_id, recorded.snapshots[snapshot_id], is_known=snapshot_id in known
            )
            for address in self._mounted_shares
            for path, recorded in self._list_records(self._get_mount_point_for_share(address))
            for snapshot_id in recorded.ids
        ]
        found: list[dict[str, Any]] = volume_utils.paginate_entries_list(
            listed, marker, limit, offset, sort_keys, sort_dirs
        )
        return found

    def _find_forgotten(self, snapshot: Any, reference: dict[str, str]) -> tuple[VolumeFiles, str]:
        """The files of a snapshot's volume, and the id of the snapshot that is to be taken back."""
        self._ensure_share_mounted(snapshot.volume.provider_location)
        files = self._files(snapshot.volume)
        name = reference.get("source-name", "")
        free = [each for each in files.recorded.ids if not self._has(snapshot, each)]
        if name not in free:
            reason = f"`source-name` must be the id that a snapshot of the volume had; there are {free}"
            raise exception.ManageExistingInvalidReference(existing_ref=reference, reason=reason)
        return files, name

    def _has(self, snapshot: Any, snapshot_id: str) -> bool:
        """Whether Cinder has a snapshot."""
        try:
            self._look_at_snapshot(snapshot.obj_context.elevated(), snapshot_id)
        except exception.SnapshotNotFound:
            return False
        return True

    def _list_records(self, directory: str) -> Iterator[tuple[str, Record]]:
        """The record of each volume in a share that has one, and where it is."""
        out, _ = self._run("find", directory, "-maxdepth", "1", "-type", "f", "-name", f"*{SUFFIX}", "-printf", "%p\\n")
        for path in sorted(out.splitlines()):
            found = self._read_record(path, os.path.basename(path).removesuffix(SUFFIX))
            if found is not None:
                yield path, found

    def _describe_snapshot(
        self, address: str, record_path: str, snapshot_id: str, file: str, *, is_known: bool
    ) -> dict[str, Any]:
        directory, name = os.path.split(record_path.removesuffix(SUFFIX))
        return {
            "reference": {"source-name": snapshot_id},
            "size": self._measure(os.path.join(directory, file), name),
            "safe_to_manage": not is_known,
            "reason_not_safe": "it is a snapshot already" if is_known else None,
            "cinder_id": snapshot_id if is_known else None,
            "extra_info": None,
            "source_reference": {"source-name": f"{address}/{name}"},
        }

    def _measure(self, path: str, volume_name: str) -> int:
        """How large the volume was when a file began with a snapshot, GiB: what is below it says so."""
        layers = self._images.inspect(path, "qcow2", volume_name)
        return -(-layers[:2][-1].size_bytes // GIB)
