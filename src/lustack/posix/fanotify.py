# SPDX-License-Identifier: Apache-2.0
"""fanotify(7): the kernel reports what happens to the entries of whole file systems.

Rule 1: this is the only file that knows the numbers and bytes of fanotify. Source of all: linux/fanotify.h, Linux 6.1.
Rule 2: a directory is named by its key: the id of its file system and its handle, as `handles.directory_key` makes it.

The kernel merges unread events about the same entry of the same file; the merged one stays where the first of them was
in the queue. So two events need not be in the order in which things happened, and one can stand for many.

A read gives events one after the other:

| offset | size | field                                                                        |
|--------|------|------------------------------------------------------------------------------|
| 0      | 4    | length of this event, with its records                                       |
| 4      | 2    | version, reserved                                                            |
| 6      | 2    | length of this head: 24                                                      |
| 8      | 8    | mask                                                                         |
| 16     | 8    | descriptor (none), pid                                                       |
| 24     |      | records, each: type (1), padding (1), length (2), file system id (8),        |
|        |      | `struct file_handle`, and for types 2, 10, 12 the name with a NUL and padding |
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final, NamedTuple

MODIFY: Final = 0x00000002
ATTRIB: Final = 0x00000004
CLOSE_WRITE: Final = 0x00000008
CREATE: Final = 0x00000100
DELETE: Final = 0x00000200
Q_OVERFLOW: Final = 0x00004000
RENAME: Final = 0x10000000
ONDIR: Final = 0x40000000
"""Source: linux/fanotify.h:9-33."""

WANTED: Final = MODIFY | ATTRIB | CLOSE_WRITE | CREATE | DELETE | RENAME | ONDIR

# FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_MARKS. Source: linux/fanotify.h:40-53.
_INIT: Final = 0x01 | 0x02 | 0x20
_UNLIMITED_QUEUE: Final = 0x10
# FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_NAME | FAN_REPORT_TARGET_FID; the last needs Linux 5.17.
# Source: linux/fanotify.h:59-68.
_REPORT: Final = 0x0200 | 0x0400 | 0x0800 | 0x1000
# FAN_MARK_ADD | FAN_MARK_ONLYDIR | FAN_MARK_FILESYSTEM. Source: linux/fanotify.h:76-92.
_MARK: Final = 0x01 | 0x08 | 0x0100

_HEAD: Final = struct.Struct("=I4xQ8x")
_HEAD_SIZE: Final = 24
# struct fanotify_event_info_fid up to the bytes of the handle: type, length, size of the handle.
_RECORD: Final = struct.Struct("=BxH8xI")
# From the beginning of a record to its key, and to the bytes of the handle, which follow the handle's own head.
_KEY: Final = 4
_HANDLE: Final = 20
_TYPE_FID: Final = 1
_TYPE_OLD: Final = 10
_TYPE_NEW: Final = 12
"""Source: linux/fanotify.h:140-149."""

_libc = ctypes.CDLL(None, use_errno=True)

_fanotify_init = _libc["fanotify_init"]
_fanotify_init.argtypes = (ctypes.c_uint, ctypes.c_uint)
_fanotify_init.restype = ctypes.c_int

_fanotify_mark = _libc["fanotify_mark"]
_fanotify_mark.argtypes = (ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p)
_fanotify_mark.restype = ctypes.c_int


class Change(NamedTuple):
    """One event.

    Attributes:
        mask: what happened: bits from above.
        directory: key of the directory that holds the entry; of the old one after RENAME. Empty if the kernel told only
            which file it was (a link more or less), or nothing at all (Q_OVERFLOW).
        name: the entry; `.` for the directory itself.
        target: key of the file or directory that the entry stands for; empty where `name` is `.`.
        new_directory: after RENAME, key of the directory to which it went.
        new_name: after RENAME, the entry there.
    """

    mask: int
    directory: bytes = b""
    name: bytes = b""
    target: bytes = b""
    new_directory: bytes = b""
    new_name: bytes = b""


def start(*, is_unlimited: bool = True) -> int:
    """A new group, which reports nothing yet.

    Args:
        is_unlimited: unread events may take any amount of kernel memory; else Q_OVERFLOW takes the place of the rest.

    Returns:
        a descriptor that does not block, which the caller owns: to poll, and to read events from.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN, EINVAL before Linux 5.17, EMFILE, ENOSYS.
    """
    flags = _INIT | _REPORT | (_UNLIMITED_QUEUE if is_unlimited else 0)
    fd: int = _fanotify_init(flags, os.O_RDONLY | os.O_CLOEXEC)
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "fanotify_init")
    return fd


def watch_filesystem(group: int, dirfd: int) -> None:
    """Lets a group report everything in the file system of a directory, through whatever mount it is done.

    Args:
        group: from `start`.
        dirfd: the directory, readable or O_PATH.

    Raises:
        OSError: ENODEV, EXDEV or EOPNOTSUPP where the file system has no id or no handles, ENOSPC.
    """
    if _fanotify_mark(group, _MARK, WANTED, dirfd, b".") != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "fanotify_mark")


def count_watched(group: int) -> int:
    """How many file systems a group still watches; one that is unmounted for good is not watched any more."""
    with open(f"/proc/self/fdinfo/{group}", "rb") as lines:
        # Source: proc_pid_fdinfo(5), "fanotify sdev:... mflags:... mask:... ignored_mask:...".
        return sum(line.startswith(b"fanotify sdev:") for line in lines)


def parse(buffer: bytes) -> list[Change]:
    """The events that one read gave."""
    found: list[Change] = []
    # Half the price of calling the class, for what there may be half a million of in a second.
    add, new = found.append, tuple.__new__
    head, record, size = _HEAD.unpack_from, _RECORD.unpack_from, len(buffer)
    start = 0
    while start < size:
        length, mask = head(buffer, start)
        at, end = start + _HEAD_SIZE, start + length
        start = end
        if mask & RENAME:
            add(_parse_rename(mask, buffer, at, end))
            continue
        directory = name = target = b""
        while at < end:
            kind, record_length, handle_bytes = record(buffer, at)
            tail = at + _HANDLE + handle_bytes
            if kind == _TYPE_FID:
                target = buffer[at + _KEY : tail]
            else:
                directory = buffer[at + _KEY : tail]
                name = buffer[tail : buffer.index(0, tail)]
            at += record_length
        add(new(Change, (mask, directory, name, target, b"", b"")))
    return found


def _parse_rename(mask: int, buffer: bytes, at: int, end: int) -> Change:
    sides = {}
    while at < end:
        kind, record_length, handle_bytes = _RECORD.unpack_from(buffer, at)
        tail = at + _HANDLE + handle_bytes
        name = b"" if kind == _TYPE_FID else buffer[tail : buffer.index(0, tail)]
        sides[kind] = (buffer[at + _KEY : tail], name)
        at += record_length
    old, new, target = (sides.get(kind, (b"", b"")) for kind in (_TYPE_OLD, _TYPE_NEW, _TYPE_FID))
    return Change(mask, *old, target[0], *new)
