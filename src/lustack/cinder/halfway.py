# SPDX-License-Identifier: Apache-2.0
"""What is true of a migration that was cut off: which files the volume is, and what format they have.

Cinder swaps the volume and the copy, which is a volume of its own until then, in these steps (cinder 29.0.0,
volume/manager.py, migrate_volume_completion; objects/volume.py, finish_volume_migration), each one a transaction:

    1. the copy is given the location of the volume     3. the volume is given the host and the type of the copy
    2. the volume is given the location of the copy     4. the copy is given the host of the volume, and is deleted

Formats are swapped before 1, or before the host in 3 and 4.

Rule 1: decides only; no file is touched.
Rule 2: what the volume's location names is the volume: whatever was written to it since was written there.
Rule 3: formats are not guessed: both are recorded, and what is decided is which of the two files each is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Formats = Mapping[str, str]
"""What is recorded with a volume: `format` of the active file, `base_format` of the bottom of its chain."""


@dataclass(frozen=True)
class Row:
    """A volume as Cinder has recorded it.

    Attributes:
        id: of the volume.
        name_id: what its files are named after.
        host: host, back end and pool.
        pool: where its location is; empty: it has none.
        formats: of its files.
    """

    id: str
    name_id: str
    host: str
    pool: str
    formats: Formats = field(default_factory=dict)

    @property
    def host_pool(self) -> str:
        """The pool that its host is."""
        return self.host.partition("#")[2]


@dataclass(frozen=True)
class Place:
    """What there is where the files of a volume would be.

    Attributes:
        exists: there is a file with the name of the volume.
        may_be_qcow2: it begins as a qcow2 file does; a guest can write that into a raw one.
        has_overlay: another file is the active one.
    """

    exists: bool
    may_be_qcow2: bool = False
    has_overlay: bool = False


def is_swapped(volume: Row, copy: Row) -> bool:
    """Whether the location of a volume is that of the copy: step 2 is done.

    Args:
        volume: what is migrated.
        copy: what it becomes; step 4 is not done.
    """
    if volume.name_id == copy.id:
        return True
    if volume.pool != copy.host_pool:
        return False
    # A copy in the same pool keeps its name. So the volume came here from another one, and has the copy's host or not.
    return volume.host_pool != copy.host_pool or copy.pool not in {"", copy.host_pool}


def say_deletion(copy_id: str, *, has_newer: bool) -> str:
    """What is left to do with a copy.

    Args:
        copy_id: of the copy.
        has_newer: a guest had written to it, and was then started again on the other file.
    """
    if has_newer:
        return (
            "its copy holds what a guest wrote before it was started again on the file of before; when nobody needs "
            f"that: cinder delete {copy_id}"
        )
    return f"its copy is to be deleted: cinder delete {copy_id}"


def choose_formats(mine: Formats, others: Formats, here: Place, there: Place) -> Formats | None:
    """The formats of a volume's files.

    Args:
        mine: what is recorded with it.
        others: what is recorded with the other of the two.
        here: its files.
        there: the other's files.

    Returns:
        One of the two; None: both are possible, or none is.
    """
    # Where the other has no file, it is not yet made, and nothing was swapped.
    if _say(mine) == _say(others) or not there.exists:
        return mine
    is_right = _fits(mine, here) and _fits(others, there)
    is_wrong = _fits(others, here) and _fits(mine, there)
    if is_right == is_wrong:
        return None
    return mine if is_right else others


def find_bottom(formats: Formats) -> str | None:
    """The format of the bottom of a chain; None: nobody recorded it."""
    return formats.get("base_format", formats.get("format"))


def _say(formats: Formats) -> tuple[str | None, str | None]:
    return formats.get("format"), find_bottom(formats)


def _fits(formats: Formats, place: Place) -> bool:
    bottom = find_bottom(formats)
    if bottom == "qcow2" and not place.may_be_qcow2:
        return False
    return formats.get("format") == ("qcow2" if place.has_overlay else bottom)
