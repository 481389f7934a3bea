# SPDX-License-Identifier: Apache-2.0
"""The bytes of changelog records, as a device gives them -> values.

    offset size  field                                    (source: lustre_user.h:2093-2192, all little-endian)
         0    2  length of the name
         2    2  flags: the upper four bits say what follows, the lower twelve depend on the type
         4    4  type
         8    8  index
        16    8  index before, never set
        24    8  time: seconds << 30 | nanoseconds
        32   16  target: the inode that it is about
        48   16  parent: the directory of the name
      then, if the flags say so: 32 bytes source and its old parent (rename), 32 bytes job, 8 bytes extra flags
      then, if the extra flags say so: 16 bytes uid and gid, 24 bytes NID, 4 bytes open mode, 256 bytes attribute name
      then the name; of a rename the new name, NUL, the old name. Nothing is between two records.

Rule 1: any bytes lead to records or to `RecordError`, in time that is linear in their number.
Rule 2: types nobody knows yet are records as others; so are flags, as long as the sizes still add up.
Rule 3: the parent counts only where there is a name. Source: mdd_object.c, mdd_changelog_data_store_by_fid(): without
    a name it may be left over from another record (measured: 29 of 65 CLOSE records).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from lustack.lustre.errors import RecordError
from lustack.lustre.fid import FidKey


class Type(IntEnum):
    """What happened. Source: lustre_user.h:1901-1930; the names are those of `lfs changelog`."""

    MARK = 0
    CREAT = 1
    MKDIR = 2
    HLINK = 3
    SLINK = 4
    MKNOD = 5
    UNLNK = 6
    RMDIR = 7
    RENME = 8
    RNMTO = 9
    OPEN = 10
    CLOSE = 11
    LYOUT = 12
    TRUNC = 13
    SATTR = 14
    XATTR = 15
    HSM = 16
    MTIME = 17
    CTIME = 18
    ATIME = 19
    MIGRT = 20
    FLRW = 21
    RESYNC = 22
    GXATR = 23
    NOPEN = 24


HAS_SOURCE: Final = 0x2000
HAS_JOB: Final = 0x4000
HAS_EXTRA: Final = 0x8000
"""Source: lustre_user.h, CLF_RENAME, CLF_JOBID, CLF_EXTRA_FLAGS; 0x1000 is CLF_VERSION, which every record has."""

LAST_LINK: Final = 0x1
"""In the flags of UNLNK, RMDIR and RENME: the (overwritten) inode is gone. Source: CLF_UNLINK_LAST."""

HAS_IDS: Final = 0x1
HAS_NID: Final = 0x2
HAS_MODE: Final = 0x4
HAS_ATTRIBUTE: Final = 0x8
NID_IS_BIG: Final = 0x10
KNOWN_EXTRA: Final = 0x1F
"""Source: lustre_user.h, CLFE_UIDGID, CLFE_NID, CLFE_OPEN, CLFE_XATTR, CLFE_NID_BE."""

HEADER: Final = struct.Struct("<HHIQQQ16s16s")
HEADER_SIZE: Final = 64
SOURCE_SIZE: Final = 32
JOB_SIZE: Final = 32
EXTRA_SIZE: Final = 8
LARGEST_RECORD: Final = HEADER_SIZE + SOURCE_SIZE + JOB_SIZE + EXTRA_SIZE + 16 + 24 + 4 + 256 + 2 * 255 + 1
"""Bytes. A device answers a smaller buffer with 0, as if the log were at its end (measured)."""

_LONGEST_NAME: Final = 2 * 255 + 1
_NANOSECONDS_BITS: Final = 30
_NS: Final = 1_000_000_000
_EXTENSIONS: Final = ((HAS_IDS, 16), (HAS_NID, 24), (HAS_MODE, 4), (HAS_ATTRIBUTE, 256))
# The NID has 8 bytes and padding to 24: the C struct is not packed (measured).
_IDS: Final = struct.Struct("<QQ")
_U64: Final = struct.Struct("<Q")
_MODE: Final = struct.Struct("<I")


def _extension_size(kind: int) -> int:
    """Bytes between the header and the name, by flags >> 13 | extra flags << 3."""
    size = sum(size for bit, size in _EXTENSIONS if kind >> 3 & bit) if kind & 4 else 0
    return size + (kind & 1) * SOURCE_SIZE + (kind >> 1 & 1) * JOB_SIZE + (kind >> 2 & 1) * EXTRA_SIZE


_EXTRA_AT: Final = tuple(HEADER_SIZE + (kind & 1) * SOURCE_SIZE + (kind >> 1 & 1) * JOB_SIZE for kind in range(8))
_NAME_AT: Final = tuple(HEADER_SIZE + _extension_size(kind) for kind in range(256))


def scan(buffer: bytes) -> Iterator[tuple[int, int, int, int, bytes, bytes, int, bytes]]:
    """The records in a buffer, as quick as Python can.

    Yields:
        type, flags, index, time as the record has it (only equality means something), target, parent, the offset of
        the source and its old parent or 0, name as the record has it.

    Raises:
        RecordError: the buffer does not hold whole records.
    """
    unpack, name_at, extra_at = HEADER.unpack_from, _NAME_AT, _EXTRA_AT
    at, end = 0, len(buffer)
    try:
        while at < end:
            length, flags, kind, index, _, time, target, parent = unpack(buffer, at)
            shape = flags >> 13
            if shape & 4:
                shape |= (buffer[at + extra_at[shape]] & 0xF) << 3
            name = at + name_at[shape]
            after = name + length
            if length > _LONGEST_NAME or after > end:
                raise RecordError(at, "it does not end where the bytes end")
            source = at + HEADER_SIZE if flags & HAS_SOURCE else 0
            yield kind, flags, index, time, target, parent, source, buffer[name:after]
            at = after
    except (struct.error, IndexError):
        raise RecordError(at, "it is cut off") from None


@dataclass(frozen=True)
class Record:
    """All that a record says.

    Attributes:
        index: in the log of its MDT.
        kind: see `Type`; may be a number that it does not have.
        flags: the upper four bits say what the record holds, the meaning of the others depends on the type.
        time_ns: since 1970.
        target: the inode.
        parent: the directory of the name; counts only if there is a name.
        name: without a slash, any other bytes; empty where the record has none.
        source: what was renamed, None if nothing was.
        source_parent: its old directory.
        source_name: its old name.
        job: text that says which job did it.
        uid: of who did it.
        gid: of who did it.
        nid: the client that did it, as the 24 bytes of the record.
        nid_is_big: whether the NID is in the form for large addresses.
        mode: the flags of an open.
        attribute: the name of an extended attribute.
        size_bytes: of the record.
    """

    index: int
    kind: int
    flags: int
    time_ns: int
    target: FidKey
    parent: FidKey
    name: bytes
    source: FidKey | None = None
    source_parent: FidKey | None = None
    source_name: bytes | None = None
    job: bytes | None = None
    uid: int | None = None
    gid: int | None = None
    nid: bytes | None = None
    nid_is_big: bool = False
    mode: int | None = None
    attribute: bytes | None = None
    size_bytes: int = 0

    @property
    def type_name(self) -> str:
        """As `lfs changelog` says it; an unknown one is `TYPE99`."""
        return type_name(self.kind)


def type_name(kind: int) -> str:
    """A type as `lfs changelog` says it; an unknown one is `TYPE99`."""
    return Type(kind).name if kind in Type.__members__.values() else f"TYPE{kind}"


def time_ns(time: int) -> int:
    """The time of a record as nanoseconds since 1970. Source: lfs.c:12543."""
    return (time >> _NANOSECONDS_BITS) * _NS + (time & ((1 << _NANOSECONDS_BITS) - 1))


class Decoder:
    """Bytes in pieces of any size -> records.

    Attributes:
        unknown: how often something was met that nobody knows yet, by what it is.
    """

    def __init__(self) -> None:
        self.unknown: Counter[str] = Counter()
        self._rest = b""
        self._before = 0

    def feed(self, piece: bytes) -> Iterator[Record]:
        """The records that are whole now.

        Raises:
            RecordError: these are no records.
        """
        buffer, at = self._rest + piece, 0
        try:
            while (size := record_size(buffer, at)) is not None:
                yield self._read(buffer, at, size)
                at += size
        except RecordError as error:
            raise RecordError(self._before + error.offset, error.why) from None
        finally:
            self._rest = buffer[at:]
            self._before += at

    def finish(self) -> None:
        """Nothing follows.

        Raises:
            RecordError: a record was not whole.
        """
        if self._rest:
            raise RecordError(self._before, "it is cut off")

    def _read(self, buffer: bytes, at: int, size: int) -> Record:
        record = read_record(buffer, at, size)
        if record.kind not in Type.__members__.values():
            self.unknown[record.type_name] += 1
        if _extra_flags(buffer, at) & ~KNOWN_EXTRA:
            self.unknown["extra flags"] += 1
        return record


def record_size(buffer: bytes, at: int) -> int | None:
    """The size in bytes of the record at an offset; None if it is not whole.

    Raises:
        RecordError: it is none.
    """
    if len(buffer) - at < HEADER_SIZE:
        return None
    length, flags, *_ = HEADER.unpack_from(buffer, at)
    if length > _LONGEST_NAME:
        raise RecordError(at, f"its name would have {length} bytes")
    shape = flags >> 13
    if shape & 4:
        if len(buffer) - at < _EXTRA_AT[shape & 3] + EXTRA_SIZE:
            return None
        shape |= (_extra_flags(buffer, at) & 0xF) << 3
    size = _NAME_AT[shape] + length
    return size if len(buffer) - at >= size else None


def read_record(buffer: bytes, at: int, size: int) -> Record:
    """The record at an offset, with all that it says.

    Args:
        buffer: holds the whole record.
        at: where it begins.
        size: see `record_size`.
    """
    length, flags, kind, index, _, time, target, parent = HEADER.unpack_from(buffer, at)
    name = buffer[at + size - length : at + size]
    fields: dict[str, object] = {}
    if flags & HAS_SOURCE:
        keys = buffer[at + HEADER_SIZE : at + HEADER_SIZE + SOURCE_SIZE]
        name, _, old = name.partition(b"\0")
        fields |= {"source": FidKey(keys[:16]), "source_parent": FidKey(keys[16:]), "source_name": old}
    if flags & HAS_JOB:
        before = at + HEADER_SIZE + (SOURCE_SIZE if flags & HAS_SOURCE else 0)
        fields["job"] = buffer[before : before + JOB_SIZE].split(b"\0", 1)[0]
    fields |= _read_extensions(buffer, at)
    record = Record(index, kind, flags, time_ns(time), FidKey(target), FidKey(parent), name)
    return _with(record, size, fields)


def _with(record: Record, size: int, fields: dict[str, object]) -> Record:
    values = {**record.__dict__, **fields, "size_bytes": size}
    return Record(**values)


def _read_extensions(buffer: bytes, at: int) -> dict[str, object]:
    extra = _extra_flags(buffer, at)
    (flags,) = struct.unpack_from("<H", buffer, at + 2)
    place = at + _EXTRA_AT[flags >> 13 & 3] + EXTRA_SIZE
    fields: dict[str, object] = {}
    for bit, size in _EXTENSIONS:
        if extra & bit:
            fields |= _READERS[bit](buffer[place : place + size])
            place += size
    if extra & HAS_NID:
        fields["nid_is_big"] = bool(extra & NID_IS_BIG)
    return fields


def _extra_flags(buffer: bytes, at: int) -> int:
    (flags,) = struct.unpack_from("<H", buffer, at + 2)
    if not flags & HAS_EXTRA:
        return 0
    (extra,) = _U64.unpack_from(buffer, at + _EXTRA_AT[flags >> 13 & 3])
    return int(extra)


def _read_ids(piece: bytes) -> dict[str, object]:
    uid, gid = _IDS.unpack(piece)
    return {"uid": uid, "gid": gid}


def _read_nid(piece: bytes) -> dict[str, object]:
    return {"nid": piece}


def _read_mode(piece: bytes) -> dict[str, object]:
    return {"mode": _MODE.unpack(piece)[0]}


def _read_attribute(piece: bytes) -> dict[str, object]:
    return {"attribute": piece.split(b"\0", 1)[0]}


_READERS: Final = {HAS_IDS: _read_ids, HAS_NID: _read_nid, HAS_MODE: _read_mode, HAS_ATTRIBUTE: _read_attribute}


def render_record(record: Record) -> bytes:
    """The inverse of `read_record`; `size_bytes` does not count."""
    shape, extra = record.flags & 0x1FFF, 0
    ids, nid, mode = b"", record.nid or b"", b""
    if record.uid is not None and record.gid is not None:
        ids, extra = _IDS.pack(record.uid, record.gid), extra | HAS_IDS
    if record.nid is not None:
        extra |= HAS_NID | (NID_IS_BIG if record.nid_is_big else 0)
    if record.mode is not None:
        mode, extra = _MODE.pack(record.mode), extra | HAS_MODE
    attribute = b"" if record.attribute is None else record.attribute.ljust(256, b"\0")
    extra |= 0 if record.attribute is None else HAS_ATTRIBUTE
    name, source, job = record.name, b"", b""
    if record.source is not None:
        name, source = name + b"\0" + (record.source_name or b""), record.source + (record.source_parent or bytes(16))
    if record.job is not None:
        job = record.job.ljust(JOB_SIZE, b"\0")
    shape |= (HAS_SOURCE if source else 0) | (HAS_JOB if job else 0) | (HAS_EXTRA if extra else 0)
    time = record.time_ns // _NS << _NANOSECONDS_BITS | record.time_ns % _NS
    header = HEADER.pack(len(name), shape, record.kind, record.index, 0, time, record.target, record.parent)
    extras = (_U64.pack(extra) + ids + nid + mode + attribute) if extra else b""
    return header + source + job + extras + name
