# SPDX-License-Identifier: Apache-2.0
"""The files of one volume: where they are, which is active, what format each has.

Rule 1: decides only; no file is touched.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from lustack.cinder.images import Image
from lustack.cinder.record import SUFFIX, Record


@dataclass(frozen=True)
class VolumeFiles:
    """The files of a volume.

    Attributes:
        directory: where its share is mounted.
        name: name of the volume.
        record: what is recorded of its snapshots; None: it never had one.
        bottom_format: format of the file at the bottom of its chain, as Cinder recorded it.
    """

    directory: str
    name: str
    record: Record | None
    bottom_format: str

    @property
    def active(self) -> str:
        """Name of the file that is written to."""
        return self.recorded.active

    @property
    def recorded(self) -> Record:
        """What is recorded, or what that amounts to when nothing is: one file."""
        return Record(self.name) if self.record is None else self.record

    @property
    def record_path(self) -> str:
        """Where the record is."""
        return self.path(self.name + SUFFIX)

    def path(self, name: str) -> str:
        """Where a file is."""
        return os.path.join(self.directory, name)

    def find_format(self, name: str) -> str:
        """What a file is: qcow2 when it began with a snapshot, else what is recorded for the bottom."""
        return self.bottom_format if self.recorded.find_snapshot(name) is None else "qcow2"

    def image(self, name: str, key: str | None = None, depth: int = 0) -> Image:
        """A file as what commands need to know of it.

        Args:
            name: of the file.
            key: path of its passphrase.
            depth: how many files are below it.
        """
        return Image(self.path(name), self.find_format(name), key, depth)
