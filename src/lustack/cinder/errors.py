# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a volume beyond what Cinder has a name for.

Rule 1: nothing of this leaves the driver; `faults.py` turns it into Cinder's own errors.
"""

from __future__ import annotations

from dataclasses import dataclass

from lustack.errors import LustackError


class VolumeError(LustackError):
    """A volume, or what is recorded of it, is not as it must be."""


@dataclass(eq=False, repr=False)
class CorruptRecordError(VolumeError):
    """The record of a volume's snapshots cannot be read; it is left as it is.

    Attributes:
        path: the record.
        why: what is wrong.
    """

    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path} cannot be understood: {self.why}; nothing was changed: mend it or restore it"


@dataclass(eq=False, repr=False)
class UnknownFormatError(VolumeError):
    """Nobody recorded the format of a volume, and it is never guessed.

    Attributes:
        volume: the volume's id.
    """

    volume: str

    def __str__(self) -> str:
        return (
            f"the format of volume {self.volume} is not recorded; unmanage it and manage it "
            "again, which looks at the file and records what it finds"
        )


@dataclass(eq=False, repr=False)
class ForeignBackingError(VolumeError):
    """A volume's file is backed by a file that is not of the same volume.

    Attributes:
        path: the volume's file.
        backing: what its header names.
    """

    path: str
    backing: str

    def __str__(self) -> str:
        return (
            f"{self.path} is backed by {self.backing!r}, which is no file of this volume: refused. If you trust it, "
            f"make it one file with `qemu-img convert`; if a guest may have written that, restore it from a backup"
        )


@dataclass(eq=False, repr=False)
class SpecError(VolumeError):
    """An extra spec of a volume type says something impossible.

    Attributes:
        key: the extra spec.
        value: what was found.
        allowed: what would be accepted.
    """

    key: str
    value: object
    allowed: str

    def __str__(self) -> str:
        return f"the extra spec {self.key} = {self.value!r} of the volume type must be {self.allowed}"


@dataclass(eq=False, repr=False)
class UnknownShareError(VolumeError):
    """A volume lies on a share that is not configured.

    Attributes:
        share: where the volume lies, as it is recorded.
        configured: the shares that are.
    """

    share: str
    configured: list[str]

    def __str__(self) -> str:
        return (
            f"the share {self.share!r} is not configured: add it to lustre_shares_config; configured are: "
            f"{', '.join(self.configured) or 'none'}"
        )
