# SPDX-License-Identifier: Apache-2.0
"""inotify(7): the kernel reports what happens in single directories, also to those who are not root.

Rule 1: this is the only file that knows the numbers and bytes of inotify. Source of all: linux/inotify.h, Linux 6.1.

A read gives events one after the other, in the order in which they happened; only one that is the same as the last
unread one is left out:

| offset | size | field                                                    |
|--------|------|----------------------------------------------------------|
| 0      | 4    | watch, -1 if the queue ran over                          |
| 4      | 4    | mask                                                     |
| 8      | 4    | cookie: the same in both halves of a move                |
| 12     | 4    | length of the name, with its padding                     |
| 16     |      | name, NUL to its end; nothing for the directory itself   |
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final, NamedTuple

from lustack.posix.descriptors import proc_path

MODIFY: Final = 0x00000002
ATTRIB: Final = 0x00000004
CLOSE_WRITE: Final = 0x00000008
MOVED_FROM: Final = 0x00000040
MOVED_TO: Final = 0x00000080
CREATE: Final = 0x00000100
DELETE: Final = 0x00000200
UNMOUNT: Final = 0x00002000
Q_OVERFLOW: Final = 0x00004000
IGNORED: Final = 0x00008000
ISDIR: Final = 0x40000000
"""Source: linux/inotify.h:30-58."""

# What is asked for, and IN_ONLYDIR. Source: linux/inotify.h:53.
_WANTED: Final = MODIFY | ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | 0x01000000
_HEAD: Final = struct.Struct("=iIII")

_libc = ctypes.CDLL(None, use_errno=True)

_inotify_init1 = _libc["inotify_init1"]
_inotify_init1.argtypes = (ctypes.c_int,)
_inotify_init1.restype = ctypes.c_int

_inotify_add_watch = _libc["inotify_add_watch"]
_inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_inotify_add_watch.restype = ctypes.c_int

_inotify_rm_watch = _libc["inotify_rm_watch"]
_inotify_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)
_inotify_rm_watch.restype = ctypes.c_int


class Notice(NamedTuple):
    """One event.

    Attributes:
        watch: the number of the watch.
        mask: what happened: bits from above.
        cookie: the same in both halves of a move.
        name: the entry; empty for the directory itself.
    """

    watch: int
    mask: int
    cookie: int
    name: bytes


def start() -> int:
    """A new instance, which watches nothing yet.

    Returns:
        a descriptor that does not block, which the caller owns: to poll, and to read events from.

    Raises:
        OSError: EMFILE, the user has too many of them.
    """
    fd: int = _inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise _error("inotify_init1")
    return fd


def watch_directory(instance: int, dirfd: int) -> int:
    """Watches the entries of an open directory (O_PATH is enough), whatever it is called.

    Returns:
        the number of the watch; the same for the same directory.

    Raises:
        OSError: ENOSPC, the user may not watch more; EACCES, it may not be read.
    """
    watch: int = _inotify_add_watch(instance, proc_path(dirfd).encode(), _WANTED)
    if watch < 0:
        raise _error("inotify_add_watch")
    return watch


def forget_directory(instance: int, watch: int) -> bool:
    """Ends a watch.

    Returns:
        whether there was one.
    """
    return bool(_inotify_rm_watch(instance, watch) == 0)


def parse(buffer: bytes) -> list[Notice]:
    """The events that one read gave."""
    found = []
    at, size = 0, len(buffer)
    while at < size:
        watch, mask, cookie, length = _HEAD.unpack_from(buffer, at)
        at += _HEAD.size
        found.append(Notice(watch, mask, cookie, buffer[at : at + length].rstrip(b"\0")))
        at += length
    return found


def _error(call: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), call)
