# SPDX-License-Identifier: Apache-2.0
"""The interfaces of Lustre's client in the kernel: the only file that knows request numbers, structs and attributes.

Rule 1: one function for each call; it fails with the `OSError` of its errno.
Rule 2: measured facts are of Lustre 2.17 with a 6.12 kernel; line numbers are of lustre-release c881f8e.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lustack.lustre import fid
from lustack.lustre.errors import LinkError
from lustack.lustre.fid import FidKey

Ioctl = Callable[[int, int, bytearray], object]

# -- the changelog device: /dev/changelog-<fsname>-MDTxxxx ------------------------------------------------------------

DEVICES: Final = "/dev"
DEVICE_PREFIX: Final = "changelog-"
"""Source: mdc_changelog.c, chlg_class_name."""

# _IOR('f', 233, long), the argument by value. Source: lustre_user.h, OBD_IOC_CHANGELOG_FLAGS; measured 0x800866e9.
_SET_FLAGS: Final = 0x800866E9
FOLLOW: Final = 0x1
"""Wait at the end of the log; it counts only before the first read or poll. Source: CHANGELOG_FLAG_FOLLOW; measured."""

# Source: measured: at most 64 bytes, the number without the name (`cl7`, not `cl7-lustack`).
_CLEAR: Final = "clear:{user}:{index}"


def follow_changelog(device: int) -> None:
    """Makes a device wait for new records at the end of its log, instead of ending."""
    fcntl.ioctl(device, _SET_FLAGS, FOLLOW)


def clear_changelog(device: int, user: str, index: int) -> None:
    """Says that a user needs no record up to an index any more.

    Args:
        device: open for writing.
        user: as `cl7`.
        index: of a record; 0 would clear everything and is refused.

    Raises:
        ValueError: the index is not positive.
        OSError: ENOENT: no such user, or it cleared more already. EINVAL: beyond the end of the log.
    """
    if index <= 0:
        raise ValueError(index)
    os.write(device, _CLEAR.format(user=user, index=index).encode())


# -- identities ------------------------------------------------------------------------------------------------------

FID_DIRECTORY: Final = ".lustre/fid"
"""Below a mount of the whole file system: every inode by its FID, for root only. Hidden from listings (measured)."""

# struct file_handle { u32 handle_bytes; int handle_type; u8 handle[] }. Source: name_to_handle_at(2).
_HANDLE: Final = struct.Struct("=Ii32s")
_HANDLE_BYTES: Final = 32
# Source: llite_nfs.c, FILEID_LUSTRE; measured: 0x97 with 32 bytes, the first 16 are the FID.
_LUSTRE_HANDLE: Final = 0x97
_AT_EMPTY_PATH: Final = 0x1000

# struct getinfo_fid2path { lu_fid; u64 recno; u32 linkno; u32 pathlen; char path[] }: 32 bytes and the path.
# _IOWR('f', 150, long). Source: lustre_user.h, OBD_IOC_FID2PATH; measured 0xc0086696, on the root of a mount only.
_FID2PATH: Final = 0xC0086696
_FID2PATH_HEADER: Final = struct.Struct("<16sQII")
_NO_RECORD: Final = 0xFFFFFFFFFFFFFFFF
_PATH_BYTES: Final = 16384

_libc = ctypes.CDLL(None, use_errno=True)
_name_to_handle_at = _libc["name_to_handle_at"]
_name_to_handle_at.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_int),
    ctypes.c_int,
)


@dataclass(frozen=True)
class Link:
    """One name of an inode.

    Attributes:
        parent: the directory.
        name: in it.
    """

    parent: FidKey
    name: bytes


def handle_of(fd: int) -> tuple[int, bytes]:
    """The file handle of an open inode, O_PATH or not: type and bytes.

    Raises:
        OSError: EOVERFLOW or EOPNOTSUPP: its file system has other handles, or none.
    """
    handle = ctypes.create_string_buffer(_HANDLE.pack(_HANDLE_BYTES, 0, b""), _HANDLE.size)
    mount = ctypes.c_int()
    if _name_to_handle_at(fd, b"", handle, ctypes.byref(mount), _AT_EMPTY_PATH) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    size, kind, content = _HANDLE.unpack(handle.raw)
    return kind, content[:size]


def key_in_handle(kind: int, handle: bytes) -> FidKey | None:
    """The FID in a file handle; None if it is not one of Lustre's."""
    return FidKey(handle[:16]) if kind == _LUSTRE_HANDLE and len(handle) == _HANDLE_BYTES else None


def path_of(root_fd: int, key: bytes, link: int, ioctl: Ioctl = fcntl.ioctl) -> tuple[bytes, int]:
    """A path of an inode, from the root of the file system.

    Args:
        root_fd: the root of a mount, open for reading.
        key: the FID.
        link: which of its names, from 0; beyond the last it is the first again.
        ioctl: makes the call.

    Returns:
        the path without a slash at the beginning, and the number of the next name: the same as `link` at the last.

    Raises:
        OSError: ENOENT: no inode has this FID. EXDEV: the descriptor is not the root of a mount.
    """
    request = bytearray(_FID2PATH_HEADER.pack(key, _NO_RECORD, link, _PATH_BYTES) + bytes(_PATH_BYTES))
    ioctl(root_fd, _FID2PATH, request)
    *_, after, _ = _FID2PATH_HEADER.unpack_from(request)
    return bytes(request[_FID2PATH_HEADER.size :]).split(b"\0", 1)[0], after


# -- all names of an inode: the attribute trusted.link ----------------------------------------------------------------

LINKS: Final = "trusted.link"
"""Readable by root. At most about 4 KiB of names are in it. Source: lustre_linkea.h:26."""

# struct link_ea_header: u32 magic, u32 count, u64 size, u32 time of an overflow, u32 padding; native order.
# struct link_ea_entry: u16 size (big-endian), lu_fid (big-endian), name. Source: lustre_user.h; measured.
_LINKS_HEADER: Final = struct.Struct("<IIQII")
_LINKS_MAGIC: Final = 0x11EAF1DF
_LINK_SIZE: Final = struct.Struct(">H")
_LINK_HEADER_SIZE: Final = 18


def parse_links(value: bytes) -> list[Link]:
    """All names in a `trusted.link` attribute.

    Raises:
        LinkError: it is damaged, or names were left out because there are too many.
    """
    if len(value) < _LINKS_HEADER.size:
        raise LinkError(f"it has only {len(value)} bytes")
    magic, count, _, overflow, _ = _LINKS_HEADER.unpack_from(value)
    if magic != _LINKS_MAGIC:
        raise LinkError(f"it begins with {magic:#x}")
    links = list(_split_links(value))
    if len(links) != count or overflow:
        raise LinkError(f"it holds {len(links)} names, {'some' if overflow else count - len(links)} are missing")
    return links


def render_links(links: list[Link]) -> bytes:
    """The inverse of `parse_links`."""
    entries = b"".join(
        _LINK_SIZE.pack(_LINK_HEADER_SIZE + len(link.name)) + fid.to_big_endian(fid.from_key(link.parent)) + link.name
        for link in links
    )
    return _LINKS_HEADER.pack(_LINKS_MAGIC, len(links), _LINKS_HEADER.size + len(entries), 0, 0) + entries


def _split_links(value: bytes) -> list[Link]:
    links, at = [], _LINKS_HEADER.size
    while at < len(value):
        entry = value[at : at + _LINK_SIZE.size]
        size = _LINK_SIZE.unpack(entry)[0] if len(entry) == _LINK_SIZE.size else 0
        if size < _LINK_HEADER_SIZE or at + size > len(value):
            raise LinkError(f"the name at byte {at} would have {size - _LINK_HEADER_SIZE} bytes")
        parent = fid.from_big_endian(value[at + _LINK_SIZE.size : at + _LINK_HEADER_SIZE])
        links.append(Link(parent.key, value[at + _LINK_HEADER_SIZE : at + size]))
        at += size
    return links


def fid_name(key: bytes) -> bytes:
    """The entry of an inode in `FID_DIRECTORY`. Source: as lhsmtool_posix opens it (measured)."""
    return fid.render(key).strip("[]").encode()
