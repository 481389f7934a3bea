# SPDX-License-Identifier: Apache-2.0
"""What is recorded beside a volume: which file is active, and which file began with which snapshot.

    volume-1 <- volume-1.aaaa <- volume-1.bbbb        {"active": "volume-1.bbbb",
                                                       "aaaa": "volume-1.aaaa", "bbbb": "volume-1.bbbb"}
    What snapshot aaaa saw is in the file that backs volume-1.aaaa. Cinder's other drivers write the same.

    volume-2 <- volume-2.linked                       {"active": "volume-2.linked", "linked": "volume-2.linked"}
    A copy that shares a file (see `linking`): volume-2 is another name of volume-1, which is only read from then on.

Rule 1: decides only; no file is touched.
Rule 2: a file that began with a snapshot is qcow2. The bottom of the chain has the format that Cinder recorded.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from lustack.cinder.errors import CorruptRecordError

SUFFIX = ".info"
LINKED = "linked"
"""In the place of a snapshot's id, of the file that is on top of one that is another volume's, too."""
_KEPT = "kept-"
_ACTIVE = "active"


@dataclass(frozen=True)
class Record:
    """The files of a volume with snapshots.

    Attributes:
        active: name of the file that is written to.
        snapshots: by snapshot id, the name of the file that began with it.
    """

    active: str
    snapshots: Mapping[str, str] = field(default_factory=dict)

    def with_snapshot(self, snapshot_id: str, name: str) -> Record:
        """The record after a snapshot: a new file is active."""
        return Record(name, {**self.snapshots, snapshot_id: name})

    def without_snapshot(self, snapshot_id: str, *, active: str | None = None) -> Record:
        """The record after a snapshot is gone.

        Args:
            snapshot_id: which.
            active: the file that is active now, if another.
        """
        rest = {key: name for key, name in self.snapshots.items() if key != snapshot_id}
        return Record(active or self.active, rest)

    def with_file(self, snapshot_id: str, name: str) -> Record:
        """The record after another file took the place of the one that began with a snapshot."""
        return Record(self.active, {**self.snapshots, snapshot_id: name})

    def with_id(self, snapshot_id: str, new_id: str) -> Record:
        """The record after a snapshot was given another id."""
        return Record(
            self.active, {new_id if key == snapshot_id else key: name for key, name in self.snapshots.items()}
        )

    def with_kept(self, snapshot_id: str) -> Record:
        """The record after a snapshot is gone whose file stays, since what is below must not be written to."""
        return self.with_id(snapshot_id, _KEPT + snapshot_id)

    @property
    def ids(self) -> list[str]:
        """The ids of its snapshots, without what stands in their place."""
        return sorted(key for key in self.snapshots if key != LINKED and not key.startswith(_KEPT))

    @property
    def is_layered_for_good(self) -> bool:
        """Whether there are files below the active one that stay when its last snapshot is deleted."""
        return len(self.ids) < len(self.snapshots)

    def find_snapshot(self, name: str) -> str | None:
        """The id of the snapshot that a file began with, or what stands in its place."""
        return next((key for key, file in self.snapshots.items() if file == name), None)

    def find_left_out(self, chain: Collection[str]) -> str | None:
        """The id of a snapshot whose file is not in the chain: it was merged into another, and that is not recorded.

        Args:
            chain: names of the files that the active one consists of.
        """
        return next((key for key, file in self.snapshots.items() if file not in chain), None)

    def render(self) -> str:
        """As it is written."""
        return json.dumps({_ACTIVE: self.active, **self.snapshots}, indent=1, sort_keys=True)


def parse(text: str | bytes, path: str, volume_name: str) -> Record:
    """The record that a text holds.

    Args:
        text: what was read.
        path: where; for the message of the error.
        volume_name: every name in it must be one of the volume's own files.

    Raises:
        CorruptRecordError: it holds none.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise CorruptRecordError(path, str(error)) from error
    if not isinstance(found, dict) or _ACTIVE not in found:
        raise CorruptRecordError(path, "it names no active file")
    for key, name in found.items():
        if not isinstance(name, str) or not is_own_file(name, volume_name):
            raise CorruptRecordError(path, f"{key} = {name!r} is no file of the volume")
    active = found.pop(_ACTIVE)
    return Record(active, found)


def is_own_file(name: str, volume_name: str) -> bool:
    """Whether a name (not a path) is one of a volume's files: its own name, or that with a dot and more."""
    return "/" not in name and (name == volume_name or name.startswith(volume_name + "."))
