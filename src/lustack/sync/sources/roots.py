# SPDX-License-Identifier: Apache-2.0
"""Which directories a source watches, and which names below them it reports.

A base is what stands before the name of an entry in its path: empty at the root of the device, else with a slash at its
end. None stands for a directory whose entries concern nobody.

Rule 1: what is ours is not reported: temporary files, and `.lustack` at the root of the device, of which only the
containers that Swift hides and the nonces of `lustack sync wait` are worth an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lustack.mapping import layout
from lustack.mapping.names import RelPath

LONGEST_BASE: Final = 3 * (1024 + 256 + 256) + 2 * len(layout.HIDDEN_CONTAINERS)
"""Bytes of the longest path that can lead to an object: every byte of the names of account, container and object may
take three. Source: swift/common/constraints.py."""

_RESERVED_BASE: Final = layout.RESERVED + b"/"
_REPORTED_RESERVED: Final = frozenset(
    path.removeprefix(_RESERVED_BASE) for path in (layout.HIDDEN_CONTAINERS, layout.FENCE)
)

_EMPTY: Final = RelPath(b"")


@dataclass(frozen=True)
class Root:
    """A directory that is watched with all that is in it.

    Attributes:
        path: where it is.
        prefix: what its path is for whoever gets the events; empty for the root of the device.
    """

    path: str
    prefix: RelPath = _EMPTY

    @property
    def base(self) -> bytes:
        """Of its entries."""
        return self.prefix + b"/" if self.prefix else b""


def child_base(base: bytes | None, name: bytes) -> bytes | None:
    """The base of the entries of a directory `name` whose own base is this."""
    if base is None or len(base) + len(name) >= LONGEST_BASE:
        return None
    if base == _RESERVED_BASE and name not in _REPORTED_RESERVED:
        return None
    return base + name + b"/"


def directory_path(base: bytes | None, name: bytes) -> RelPath | None:
    """The path by which a directory is reported; None if it is not."""
    return own_path(child_base(base, name))


def own_path(base: bytes | None) -> RelPath | None:
    """The path by which the directory with this base is reported; None if it is not."""
    return None if not base or base == _RESERVED_BASE else RelPath(base[:-1])


def is_ours(base: bytes, name: bytes) -> bool:
    """Whether an entry that is no directory is one of ours."""
    return name.startswith(layout.TEMPORARY_PREFIX) or base == _RESERVED_BASE
