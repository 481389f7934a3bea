# SPDX-License-Identifier: Apache-2.0
"""Directories by the handle that their file system has for them, whatever they are called now.

Rule 1: this is the only file that knows the bytes of `struct file_handle`.
Rule 2: a handle is what the kernel gave out; nobody makes or changes one. Opening one needs CAP_DAC_READ_SEARCH.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final, NamedTuple

from lustack.posix.descriptors import proc_path
from lustack.posix.kernel import filesystem_id

# Source: linux/fcntl.h, AT_EMPTY_PATH; linux/exportfs.h, MAX_HANDLE_SZ.
_AT_EMPTY_PATH: Final = 0x1000
_MAX_HANDLE_BYTES: Final = 128
# struct file_handle { u32 handle_bytes; s32 handle_type; u8 f_handle[]; }. Source: linux/fs.h, name_to_handle_at(2).
_HANDLE_HEAD: Final = struct.Struct("=Ii")
_Handle: Final = ctypes.c_char * (_HANDLE_HEAD.size + _MAX_HANDLE_BYTES)
# What open_by_handle_at(2) says of a handle whose inode is gone.
_GONE: Final = frozenset((errno.ESTALE, errno.ENOENT))

_libc = ctypes.CDLL(None, use_errno=True)

_name_to_handle_at = _libc["name_to_handle_at"]
_name_to_handle_at.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_int),
    ctypes.c_int,
)
_name_to_handle_at.restype = ctypes.c_int

_open_by_handle_at = _libc["open_by_handle_at"]
_open_by_handle_at.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
_open_by_handle_at.restype = ctypes.c_int


class Handled(NamedTuple):
    """What the kernel says of a directory.

    Attributes:
        handle: `struct file_handle`, head and all.
        mount: the id of the mount through which it was reached.
    """

    handle: bytes
    mount: int


class Place(NamedTuple):
    """Where a directory is.

    Attributes:
        parent: the handle of the directory that holds it.
        name: its entry there.
    """

    parent: bytes
    name: bytes


def handle_of(dirfd: int, path: bytes = b"") -> Handled:
    """The handle of a directory; an empty path: of `dirfd` itself (O_PATH is enough).

    Raises:
        OSError: EOPNOTSUPP where the file system has no handles, else as name_to_handle_at(2).
    """
    buffer = _Handle()
    _HANDLE_HEAD.pack_into(buffer, 0, _MAX_HANDLE_BYTES, 0)
    mount = ctypes.c_int()
    flags = 0 if path else _AT_EMPTY_PATH
    if _name_to_handle_at(dirfd, path, buffer, ctypes.byref(mount), flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    size_bytes, _ = _HANDLE_HEAD.unpack_from(buffer)
    return Handled(buffer.raw[: _HANDLE_HEAD.size + size_bytes], mount.value)


def open_directory(mount_fd: int, handle: bytes) -> int:
    """Opens the directory that a handle stands for, to be looked at only (O_PATH).

    Args:
        mount_fd: any directory of the mount in which it shall be found; really open, O_PATH is EBADF.
        handle: of the directory.

    Returns:
        a new descriptor, which the caller owns.

    Raises:
        FileNotFoundError: the directory was removed.
        OSError: EPERM without CAP_DAC_READ_SEARCH, else as open_by_handle_at(2).
    """
    fd: int = _open_by_handle_at(mount_fd, handle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if fd >= 0:
        return fd
    code = ctypes.get_errno()
    raise OSError(errno.ENOENT if code in _GONE else code, os.strerror(code))


def directory_key(fd: int) -> bytes:
    """What tells a directory from all others on this machine, as fanotify(7) reports it: file system, then handle."""
    return filesystem_id(fd) + handle_of(fd).handle


def locate(mount_fd: int, handle: bytes) -> Place | None:
    """Where the directory of a handle is now.

    Args:
        mount_fd: as in `open_directory`.
        handle: of the directory.

    Returns:
        None for the topmost directory that this mount shows, and for those that it does not show.

    Raises:
        FileNotFoundError: it was removed.
        OSError: as `open_directory`.
    """
    fd = open_directory(mount_fd, handle)
    try:
        own, above = handle_of(fd), _handle_above(fd)
        if above is None or above.mount != own.mount or above.handle == own.handle:
            return None
        name = _entry_name(fd)
        # After the name: that of a removed directory is another one, with a mark at its end.
        _refuse_removed(fd)
        return Place(above.handle, name)
    finally:
        os.close(fd)


def _handle_above(fd: int) -> Handled | None:
    """The handle of the directory above; None if this one is not below the root of the mount by which it was opened.

    Raises:
        FileNotFoundError: it was removed.
    """
    try:
        return handle_of(fd, b"..")
    except FileNotFoundError:
        # Source: linux fs/namei.c, follow_dotdot: path_connected.
        _refuse_removed(fd)
        return None


def _refuse_removed(fd: int) -> None:
    if os.fstat(fd).st_nlink == 0:
        raise FileNotFoundError(errno.ENOENT, "the directory was removed")


def _entry_name(fd: int) -> bytes:
    try:
        return os.path.basename(os.readlink(proc_path(fd).encode()))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    # A path longer than a page has no text in /proc.
    return entry_of_inode(fd, os.fstat(fd).st_ino)


def entry_of_inode(fd: int, inode: int) -> bytes:
    """The entry with this inode in the directory above another one.

    Raises:
        FileNotFoundError: there is none.
    """
    with os.scandir(proc_path(fd).encode() + b"/..") as entries:
        for entry in entries:
            if entry.inode() == inode:
                return entry.name
    raise FileNotFoundError(errno.ENOENT, "the directory was moved meanwhile")
