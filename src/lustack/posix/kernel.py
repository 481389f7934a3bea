# SPDX-License-Identifier: Apache-2.0
"""The system calls that Python does not offer, and nothing else.

Rule 1: this is the only file of `lustack.posix` that knows system call numbers and the bytes of structs; what watches
    file systems has files of its own (`fanotify`, `inotify`, `handles`).
Rule 2: a call fails with the `OSError` of its errno; EINTR is called again, as Python itself does (PEP 475).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from typing import Final

RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
"""Source: linux/openat2.h:26-32."""

LUSTRE_SUPER_MAGIC: Final = 0x0BD00BD0
"""`f_type` of a Lustre client mount. Source: measured, statfs(2) on Lustre 2.17."""

# struct open_how { u64 flags; u64 mode; u64 resolve; }. Source: linux/openat2.h, openat2(2).
_OPEN_HOW: Final = struct.Struct("=QQQ")
# One number on every architecture but alpha. Source: asm-generic/unistd.h, __NR_openat2.
_NR_OPENAT2: Final = 437
# Likewise. Source: scripts/syscall.tbl, listxattrat; Linux 6.13.
_NR_LISTXATTRAT: Final = 465
# Source: linux/fcntl.h.
_AT_SYMLINK_NOFOLLOW: Final = 0x100
# Source: linux/falloc.h:5, fallocate(2).
_FALLOC_FL_KEEP_SIZE: Final = 0x01
# struct statfs is 120 bytes on 64-bit Linux; f_type is its first field, the magic fits 32 bits. Source:
# statfs(2).
_Statfs: Final = ctypes.c_char * 256
_F_TYPE: Final = struct.Struct("=I")
# f_fsid: two ints after seven longs. Source: asm-generic/statfs.h, struct statfs.
_F_FSID: Final = struct.Struct("=56x8s")

# Source: malloc.h; mallopt(3).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
# Source: linux/fs.h, SYNC_FILE_RANGE_WRITE; sync_file_range(2).
_SYNC_FILE_RANGE_WRITE: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)

_openat2 = _libc["syscall"]
_openat2.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
_openat2.restype = ctypes.c_long

# Without `argtypes`, and from a library that keeps no errno: two thirds of the price, for each file of a tree. Then
# numbers are passed as int; those of this call are small, and the kernel takes all but the first as such.
_listxattrat = ctypes.CDLL(None)["syscall"]
_listxattrat.restype = ctypes.c_long

_fallocate = _libc["fallocate"]
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_fallocate.restype = ctypes.c_int

_sync_file_range = _libc["sync_file_range"]
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_sync_file_range.restype = ctypes.c_int

_fstatfs = _libc["fstatfs"]
_fstatfs.argtypes = (ctypes.c_int, ctypes.c_char_p)
_fstatfs.restype = ctypes.c_int


# Only glibc has them. Source: malloc_trim(3), mallopt(3).
_malloc_trim = getattr(_libc, "malloc_trim", int)
_mallopt = getattr(_libc, "mallopt", max)


def trim_heap() -> bool:
    """Give memory that is free and was not given back yet to the kernel; whether there was any."""
    return bool(_malloc_trim(0))


def keep_heap(free_bytes: int, mapped_bytes: int) -> None:
    """Let the allocator of this process keep free memory for the next one who asks.

    Otherwise 128 KiB at the end of the heap go back to the kernel, and each page that comes again is a fault.

    Args:
        free_bytes: at the end of a heap, which it keeps.
        mapped_bytes: pieces from this size on are mapped, and unmapped when they are free.
    """
    _mallopt(_M_TRIM_THRESHOLD, free_bytes)
    _mallopt(_M_MMAP_THRESHOLD, mapped_bytes)


def openat2(dirfd: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """Open below a descriptor, restricted by `resolve`; the path must hold no NUL (C would end it there).

    Returns:
        a new descriptor, which is close-on-exec only if `flags` say so.

    Raises:
        OSError: with the errno of the kernel. ENOSYS: the kernel is older than 5.6.
    """
    how = _OPEN_HOW.pack(flags, mode, resolve)
    while True:
        fd: int = _openat2(_NR_OPENAT2, dirfd, path, how, 24)
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code), path)


def may_have_attributes(dirfd: int, entry: bytes) -> bool:
    """Whether a directory entry may have extended attributes; links are not followed.

    Half the price of listing them by a path through /proc, where the kernel is 6.13 or later. An older one does not
    know, so the answer is yes, as it is whenever anything is wrong.

    Args:
        dirfd: readable directory.
        entry: its name; it must hold no NUL.
    """
    found: int = _listxattrat(_NR_LISTXATTRAT, dirfd, entry, _AT_SYMLINK_NOFOLLOW, None, 0)
    return found != 0


def fallocate_keep_size(fd: int, size_bytes: int) -> None:
    """Reserve the first `size_bytes` of a file without changing its length; never emulated by writing.

    Raises:
        OSError: EOPNOTSUPP where the file system cannot, ENOSPC or EDQUOT where there is no room.
    """
    call_again_when_interrupted(lambda: _fallocate(fd, _FALLOC_FL_KEEP_SIZE, 0, size_bytes))


def start_writeback(fd: int, start: int, length: int) -> None:
    """Ask the kernel to begin writing a part of a file to its disk, without waiting for it.

    A hint: makes nothing durable, and what the file system says about it does not matter.
    """
    _sync_file_range(fd, start, length, _SYNC_FILE_RANGE_WRITE)


def filesystem_type(fd: int) -> int:
    """The `f_type` of the file system behind a descriptor (O_PATH is enough), as fstatfs(2) tells it."""
    buffer = _Statfs()
    call_again_when_interrupted(lambda: _fstatfs(fd, buffer))
    return int(_F_TYPE.unpack_from(buffer)[0])


def filesystem_id(fd: int) -> bytes:
    """The 8 bytes of `f_fsid` of the file system behind a descriptor (O_PATH is enough); all zero where it has none."""
    buffer = _Statfs()
    call_again_when_interrupted(lambda: _fstatfs(fd, buffer))
    found: bytes = _F_FSID.unpack_from(buffer)[0]
    return found


def call_again_when_interrupted(call: Callable[[], int]) -> None:
    """Make a call that answers 0 or sets errno, again as long as errno is EINTR.

    Raises:
        OSError: with the errno that the call left.
    """
    while call() != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
