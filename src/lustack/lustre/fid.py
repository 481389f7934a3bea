# SPDX-License-Identifier: Apache-2.0
"""The identity of an inode on Lustre.

Rule 1: in tables and hot paths a FID is its 16 bytes as records hold them (little-endian), called a key; `Fid` is for
people and for kernel interfaces that want the parts.
"""

from __future__ import annotations

import re
import struct
from typing import Final, NamedTuple, NewType

from lustack.lustre.errors import FidSyntaxError

FidKey = NewType("FidKey", bytes)
"""offset 0 u64 sequence, 8 u32 oid, 12 u32 version; little-endian. Source: lustre_user.h, struct lu_fid."""

NO_FID: Final = FidKey(bytes(16))
"""What records hold where there is no inode."""

_KEY: Final = struct.Struct("<QII")
_BIG_ENDIAN: Final = struct.Struct(">QII")
_TEXT: Final = re.compile(r"\[?0x([0-9a-fA-F]{1,16}):0x([0-9a-fA-F]{1,8}):0x([0-9a-fA-F]{1,8})\]?")
# Sequences of inodes that an ldiskfs from before FIDs made. Source: lustre_fid.h, FID_SEQ_IGIF, FID_SEQ_IGIF_MAX.
_FIRST_OLD: Final = 12
_LAST_OLD: Final = 0xFFFFFFFF


class Fid(NamedTuple):
    """A FID in its parts."""

    sequence: int
    oid: int
    version: int

    def __str__(self) -> str:
        return f"[{self.sequence:#x}:{self.oid:#x}:{self.version:#x}]"

    @property
    def key(self) -> FidKey:
        """Its bytes, as records hold them."""
        return FidKey(_KEY.pack(*self))


def from_key(key: bytes) -> Fid:
    """The FID in 16 little-endian bytes.

    Raises:
        FidSyntaxError: they are not 16.
    """
    return _unpacked(_KEY, key)


def from_big_endian(key: bytes) -> Fid:
    """The FID in 16 big-endian bytes, as attributes on disk hold it.

    Raises:
        FidSyntaxError: they are not 16.
    """
    return _unpacked(_BIG_ENDIAN, key)


def to_big_endian(fid: Fid) -> bytes:
    """The inverse of `from_big_endian`."""
    return _BIG_ENDIAN.pack(*fid)


def parse(text: str) -> Fid:
    """The FID that a text names, with or without brackets.

    Raises:
        FidSyntaxError: it names none.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise FidSyntaxError(text)
    return Fid(*(int(part, 16) for part in found.groups()))


def render(key: bytes) -> str:
    """A key as people write it: `[0x200000402:0x1:0x0]`."""
    return str(from_key(key))


def inode_of(key: bytes) -> int:
    """`st_ino` of the inode with this FID, on a 64-bit client.

    Source: lustre_fid.h, fid_flatten64(); measured: [0x200000402:0xf03:0x0] is 144115205289283331.
    """
    sequence, oid, _ = _KEY.unpack(key)
    if _FIRST_OLD <= sequence <= _LAST_OLD:
        return int(sequence)
    flat = ((sequence << 24) + ((sequence >> 24) & 0xFFFFFF0000) + oid) & 0xFFFFFFFFFFFFFFFF
    return int(flat or oid)


def _unpacked(form: struct.Struct, key: bytes) -> Fid:
    try:
        return Fid(*form.unpack(key))
    except struct.error:
        raise FidSyntaxError(key) from None
