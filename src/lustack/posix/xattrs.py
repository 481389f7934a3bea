# SPDX-License-Identifier: Apache-2.0
"""Blobs of any size as extended attributes; what the file system has no room for lies in a sidecar.

Rule 1: a value is the blob itself, unless it begins with `REFERENCE_PREFIX`: then it names a sidecar, and
    anything but a well-formed name of an undamaged sidecar is a `CorruptAttributeError`. Nothing is ever
    erased for it.
Rule 2: new before old. A sidecar is durable before an attribute refers to it, and an old one is removed only
    after the attribute that referred to it was replaced durably. A crash leaves at most a sidecar nobody
    refers to.
Rule 3: `cp -a` and `mv` carry attributes to other files, and owners of files can write what they like. So a
    sidecar says for which inode and attribute it was made, in a place that only we can write: another file
    may read it (a copy keeps its metadata), but only the file it was made for replaces or removes it.
Rule 4: descriptors may be O_PATH: on Lustre an open costs many times an attribute, which needs none.

Value of an attribute that overflowed: `REFERENCE_PREFIX`; 32 hexadecimal digits, the identifier.
File of a sidecar: 64 hexadecimal digits, the SHA-256 of all after the newline; newline; payload.
Payload written by `AttributeStore`: inode number in decimal; space; attribute name; newline; blob.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from lustack.posix import atomic, tree
from lustack.posix.errors import CorruptAttributeError, CorruptSidecarError, XattrUnsupportedError

REFERENCE_PREFIX: Final = b"\0lustack-sidecar/1 "
"""How a value begins that names a sidecar; the digit is the version of the format."""

LARGEST_VALUE_BYTES: Final = 65536
"""No file system of Linux takes a longer value. Source: linux/limits.h, XATTR_SIZE_MAX."""

RETIRED_SUFFIX: Final = b".old"
"""Behind the identifier of a sidecar that was put aside because nobody seemed to refer to it."""

_IDENTIFIER: Final = re.compile(rb"[0-9a-f]{32}")
_IDENTIFIER_BYTES: Final = 16
_REFERENCE_LENGTH: Final = len(REFERENCE_PREFIX) + 2 * _IDENTIFIER_BYTES
_DIGEST_LENGTH: Final = 64
# What a file system says when the value is, or all values together are, more than it can hold.
# Source: setxattr(2); ext4 and Lustre ENOSPC, the kernel's common part E2BIG, some ERANGE.
_TOO_BIG: Final = frozenset((errno.ENOSPC, errno.E2BIG, errno.ERANGE))


class Sidecars:
    """Blobs in files of their own, each with a random identifier: `<its first 2 digits>/<identifier>`.

    A sidecar is never changed. Thread-safe, also between processes and nodes.
    """

    def __init__(self, open_directory: Callable[[], int]) -> None:
        """Remember where they are; nothing is touched yet.

        Args:
            open_directory: gives a new descriptor (O_PATH is enough) of the directory, which is closed here
                after each operation.
        """
        self._open_directory = open_directory

    def create(self, blob: bytes) -> bytes:
        """Store a blob durably.

        Returns:
            its identifier, 32 hexadecimal digits.
        """
        identifier = secrets.token_hex(_IDENTIFIER_BYTES).encode()
        digest = hashlib.sha256(blob).hexdigest().encode()
        with self._directory() as top:
            folder = tree.make_directories(top, identifier[:2], mode=0o700)
            try:
                atomic.replace_file(folder, identifier, digest + b"\n" + blob)
            finally:
                os.close(folder)
        return identifier

    def read(self, identifier: bytes) -> bytes:
        """The blob of an identifier.

        Raises:
            CorruptSidecarError: there is none, or it is damaged.
        """
        path = _sidecar_path(identifier)
        try:
            with self._directory() as top:
                content = _read_or_restore(top, path)
        except FileNotFoundError as err:
            raise CorruptSidecarError(identifier, "is missing") from err
        blob = content[_DIGEST_LENGTH + 1 :]
        if content[: _DIGEST_LENGTH + 1] != hashlib.sha256(blob).hexdigest().encode() + b"\n":
            raise CorruptSidecarError(identifier, "is damaged: its checksum is another")
        return blob

    def remove(self, identifier: bytes) -> None:
        """Remove a sidecar; it is fine if it is gone. Not synced: one that comes back in a crash is litter.

        Raises:
            CorruptSidecarError: this cannot be an identifier.
        """
        path = _sidecar_path(identifier)
        with self._directory() as top, contextlib.suppress(FileNotFoundError):
            folder = tree.open_beneath(top, path[:2], os.O_PATH | os.O_DIRECTORY)
            try:
                os.unlink(identifier, dir_fd=folder)
            finally:
                os.close(folder)

    def retire(self, identifier: bytes) -> None:
        """Put a sidecar aside; it is fine if it is gone. Whoever reads it later brings it back.

        Raises:
            CorruptSidecarError: this cannot be an identifier.
        """
        path = _sidecar_path(identifier)
        with self._directory() as top, contextlib.suppress(FileNotFoundError):
            _rename(top, path, identifier, identifier + RETIRED_SUFFIX)

    @contextlib.contextmanager
    def _directory(self) -> Iterator[int]:
        fd = self._open_directory()
        try:
            yield fd
        finally:
            os.close(fd)


def _sidecar_path(identifier: bytes) -> bytes:
    if not _IDENTIFIER.fullmatch(identifier):
        raise CorruptSidecarError(identifier, "does not exist: this is not an identifier")
    return identifier[:2] + b"/" + identifier


def _read_or_restore(top: int, path: bytes) -> bytes:
    try:
        return _read_whole(top, path)
    except FileNotFoundError:
        identifier = path.rpartition(b"/")[2]
        _rename(top, path, identifier + RETIRED_SUFFIX, identifier)
    return _read_whole(top, path)


def _rename(top: int, path: bytes, old: bytes, new: bytes) -> None:
    folder = tree.open_beneath(top, path.rpartition(b"/")[0], os.O_PATH | os.O_DIRECTORY)
    try:
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


def _read_whole(dirfd: int, path: bytes) -> bytes:
    fd = tree.open_beneath(dirfd, path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with open(fd, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(fd)


class AttributeStore:
    """Reads and writes attributes; writers of the same attribute must exclude each other."""

    def __init__(self, sidecars: Sidecars | None) -> None:
        """Remember where overflow goes.

        Args:
            sidecars: None: blobs that do not fit are refused, and sidecars of others cannot be read.
        """
        self._sidecars = sidecars

    def read(self, fd: int, name: str) -> bytes | None:
        """The blob of an attribute.

        Args:
            fd: of the file or directory; O_PATH is enough.
            name: of the attribute, with its `user.` or `trusted.`.

        Returns:
            None if there is no such attribute, or we may not see it (`trusted.` without CAP_SYS_ADMIN).

        Raises:
            CorruptAttributeError: the value names a sidecar that is not there or not what was written.
            XattrUnsupportedError: the file system has no such attributes.
        """
        value = _get(fd, name)
        if value is None or not value.startswith(REFERENCE_PREFIX):
            return value
        return self._resolve(name, value)[1]

    def write(self, fd: int, name: str, blob: bytes) -> None:
        """Set an attribute. It is durable after the next fsync of the file, its sidecar at once.

        Args:
            fd: of the file or directory; O_PATH is enough.
            name: of the attribute, with its `user.` or `trusted.`.
            blob: any bytes.

        Raises:
            OSError: ENOSPC or EDQUOT: no room; E2BIG: it does not fit and there are no sidecars. The old
                value stays.
            XattrUnsupportedError: the file system has no such attributes.
        """
        old = self.sidecar_of(fd, name)
        if not (_fits(blob) and _set_if_room(fd, name, blob)):
            self._overflow(fd, name, blob)
        self._remove_replaced(fd, old)

    def remove(self, fd: int, name: str) -> None:
        """Remove an attribute and its sidecar; it is fine if there is none.

        Raises:
            XattrUnsupportedError: the file system has no such attributes.
        """
        old = self.sidecar_of(fd, name)
        _delete(fd, name)
        self._remove_replaced(fd, old)

    def sidecar_of(self, fd: int, name: str) -> bytes | None:
        """The sidecar that belongs to this file and has to go with it.

        Returns:
            its identifier for `Sidecars.remove`; None if the value has none, or none that was made for this
            inode.

        Raises:
            XattrUnsupportedError: the file system has no such attributes.
        """
        value = _get(fd, name)
        if value is None or not value.startswith(REFERENCE_PREFIX):
            return None
        try:
            label, _ = self._resolve(name, value)
        except CorruptAttributeError:
            return None
        return value[len(REFERENCE_PREFIX) :] if label == _label(fd, name) else None

    def _resolve(self, name: str, value: bytes) -> tuple[bytes, bytes]:
        """The label and the blob of the sidecar that a value names."""
        if self._sidecars is None:
            raise CorruptAttributeError(name, "it names a sidecar, and there are none here")
        try:
            payload = self._sidecars.read(value[len(REFERENCE_PREFIX) :])
        except CorruptSidecarError as err:
            raise CorruptAttributeError(name, str(err)) from err
        label, _, blob = payload.partition(b"\n")
        if label.partition(b" ")[2] != name.encode():
            raise CorruptAttributeError(name, "it names a sidecar that was made for another attribute")
        return label, blob

    def _overflow(self, fd: int, name: str, blob: bytes) -> None:
        if self._sidecars is None:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG), name)
        identifier = self._sidecars.create(_label(fd, name) + b"\n" + blob)
        try:
            _set(fd, name, REFERENCE_PREFIX + identifier)
        except BaseException:
            self._sidecars.remove(identifier)
            raise

    def _remove_replaced(self, fd: int, sidecar: bytes | None) -> None:
        if sidecar is None or self._sidecars is None:
            return
        real = tree.reopen(fd, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.fsync(real)
        finally:
            os.close(real)
        self._sidecars.remove(sidecar)


def choose_present(fd: int, names: Iterable[str], list_all: Callable[[str], list[str]] = os.listxattr) -> list[str]:
    """Those of some attributes that a file may have, told by one system call.

    Args:
        fd: of the file or directory; O_PATH is enough.
        names: with their `user.` or `trusted.`.
        list_all: does what `os.listxattr` does.
    """
    try:
        listed = list_all(tree.proc_path(fd))
    except OSError as err:
        if err.errno not in _TOO_BIG:
            raise
        # A file can have more than a list holds, 64 KiB. Source: listxattr(2).
        return list(names)
    return [name for name in names if name in listed]


def _label(fd: int, name: str) -> bytes:
    return b"%d %s" % (os.fstat(fd).st_ino, name.encode())


def _fits(blob: bytes) -> bool:
    """Whether a blob may be a value as it is; one that looks like a reference may not."""
    return len(blob) <= LARGEST_VALUE_BYTES and not blob.startswith(REFERENCE_PREFIX)


def _set_if_room(fd: int, name: str, blob: bytes) -> bool:
    """Set an attribute; False if it is too big, and a reference to a sidecar is smaller."""
    try:
        _set(fd, name, blob)
    except OSError as err:
        if err.errno in _TOO_BIG and len(blob) > _REFERENCE_LENGTH:
            return False
        raise
    return True


def _set(fd: int, name: str, value: bytes) -> None:
    try:
        os.setxattr(tree.proc_path(fd), name, value)
    except OSError as err:
        _name_unsupported(fd, err)
        raise


def _get(fd: int, name: str) -> bytes | None:
    try:
        return os.getxattr(tree.proc_path(fd), name)
    except OSError as err:
        if err.errno == errno.ENODATA:
            return None
        _name_unsupported(fd, err)
        raise


def _delete(fd: int, name: str) -> None:
    try:
        os.removexattr(tree.proc_path(fd), name)
    except OSError as err:
        if err.errno == errno.ENODATA:
            return
        _name_unsupported(fd, err)
        raise


def _name_unsupported(fd: int, err: OSError) -> None:
    if err.errno == errno.EOPNOTSUPP:
        raise XattrUnsupportedError(os.readlink(tree.proc_path(fd))) from err
