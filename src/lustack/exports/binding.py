# SPDX-License-Identifier: Apache-2.0
"""What an administrator does: binds a directory to a container, and lets it go again.

Rule 1: everything is checked before anything is written, under the lock of the table.
Rule 2: one file has at most one name. So an exported directory lies in no device and in no other export, and holds
none of them; and the container's own directory below the device must be empty.
Rule 3: nothing in the directory is moved, read or removed. It gets one attribute, its mark.
Rule 4: each step can be repeated: killed anywhere, the same call goes on.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from lustack.errors import ConfigurationError
from lustack.exports import table
from lustack.exports.roots import open_export, opened_device
from lustack.mapping import layout, names
from lustack.mapping.exports import Export, Exports, Stage, is_below, is_plain
from lustack.posix.descriptors import Position
from lustack.posix.tree import open_absolute, open_beneath, reopen

_SEARCH = os.O_PATH | os.O_DIRECTORY
_MARK_BYTES = 16
_WHERE = "lustack export"
# What setxattr(2) says where this process, or nobody, may set an attribute of users.
_NOT_MARKED = frozenset({errno.EPERM, errno.EACCES, errno.EROFS, errno.EOPNOTSUPP, errno.ENOSPC, errno.EDQUOT})

_Node = tuple[int, int]
"""Device and inode of a directory."""


@dataclass(frozen=True)
class Wish:
    """What an administrator wants.

    Attributes:
        account: account name.
        container: container name.
        path: of the directory.
    """

    account: str
    container: str
    path: bytes


def bind(devices: Sequence[str], wish: Wish) -> Export:
    """Makes a directory a container of the first device; an export that is as wished stays as it is.

    Args:
        devices: the device roots; the export belongs to the first.
        wish: what to bind.

    Returns:
        The export as it is in the table now.

    Raises:
        ConfigurationError: this cannot be an export.
        ExportsDamagedError: the table of a device is damaged.
        OSError: a file system fails.
    """
    with opened_device(devices[0]) as root_fd, _directory(wish.path) as fd, table.changing(root_fd) as draft:
        old = draft.exports.get(wish.account, wish.container)
        if old is not None and old.path != wish.path:
            bound = f"a container that is no export; {os.fsdecode(old.path)} is bound to it"
            raise ConfigurationError(_WHERE, "CONTAINER", wish.container, bound)
        if old is not None and _is_same(old):
            return old
        _refuse_overlap(devices, wish, fd, draft.exports)
        _refuse_files(root_fd, wish)
        status = os.fstat(fd)
        is_foreign = status.st_dev != os.fstat(root_fd).st_dev
        export = Export(wish.account, wish.container, wish.path, _mark(fd, wish.path), status.st_ino, is_foreign)
        draft.save(draft.exports.put(export))
        return export


def release(device: str, account: str, container: str) -> Export:
    """Lets the directory of a container go: it stays as it is, and its listing must be emptied.

    Args:
        device: the device root.
        account: account name.
        container: container name.

    Returns:
        The export as it is in the table now.

    Raises:
        ConfigurationError: this container is no export.
        ExportsDamagedError: the table is damaged.
        OSError: the file system fails.
    """
    with opened_device(device) as root_fd, table.changing(root_fd) as draft:
        draft.save(draft.exports.at_stage(account, container, Stage.LEAVING))
        for export in draft.exports:
            if export.key == (account, container):
                _unmark(export)
                return export
    raise ConfigurationError(_WHERE, "CONTAINER", f"{account}/{container}", "one that `lustack export list` shows")


def find_file(device: str, account: str, container: str) -> bytes | None:
    """Something in the own directory of a container, which an export of it hides; None if there is nothing.

    Args:
        device: the device root.
        account: account name.
        container: container name.

    Returns:
        Its path below the device root.
    """
    with opened_device(device) as root_fd:
        return first_entry(root_fd, names.container_path(account, container))


def first_entry(root_fd: int, path: bytes) -> bytes | None:
    """Something in a directory, None if nothing is in it, or it does not exist.

    Args:
        root_fd: the device root.
        path: below it.

    Returns:
        Its path below the device root.
    """
    try:
        fd = open_beneath(root_fd, path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        entries: Iterable[str] = os.listdir(fd)
    finally:
        os.close(fd)
    return next((path + b"/" + os.fsencode(entry) for entry in entries), None)


def _is_same(export: Export) -> bool:
    """Whether the exported directory is still the one that was bound."""
    try:
        os.close(open_export(export))
    except OSError:
        return False
    return True


@contextmanager
def _directory(path: bytes) -> Iterator[int]:
    if not is_plain(path):
        raise _refused(path, "an absolute path without `.`, `..`, `//` and a slash at its end")
    try:
        fd = open_absolute(path)
    except OSError as error:
        raise _refused(path, f"a directory without a symbolic link in its path ({error.strerror})") from error
    try:
        yield fd
    finally:
        os.close(fd)


def _refuse_overlap(devices: Sequence[str], wish: Wish, fd: int, exports: Exports) -> None:
    """One file has at most one name.

    Directories are compared, not only paths: a bind mount has another path.
    """
    above = _ancestors(fd)
    for device in devices:
        with opened_device(device) as root_fd:
            if _node(root_fd) in above:
                raise _refused(wish.path, f"outside of the device {device}: files in there have names already")
            if _node(fd) in _ancestors(root_fd):
                raise _refused(wish.path, f"a directory that does not hold the device {device}")
            known = exports if device == devices[0] else table.load(root_fd)
        for other in known.bound():
            if other.key != (wish.account, wish.container) and _overlaps(wish.path, fd, above, other):
                is_what = f"neither in nor above {os.fsdecode(other.path)}, which is {'/'.join(other.key)}"
                raise _refused(wish.path, is_what)


def _overlaps(path: bytes, fd: int, above: set[_Node], other: Export) -> bool:
    if is_below(path, other.path) or is_below(other.path, path):
        return True
    with suppress(OSError):
        other_fd = open_export(other)
        try:
            return _node(other_fd) in above or _node(fd) in _ancestors(other_fd)
        finally:
            os.close(other_fd)
    return False


def _ancestors(fd: int) -> set[_Node]:
    """A directory and all above it."""
    found: set[_Node] = set()
    with closing(Position(fd)) as position:
        while _node(position.fd) not in found:
            found.add(_node(position.fd))
            position.move(os.open(b"..", _SEARCH | os.O_CLOEXEC, dir_fd=position.fd))
    return found


def _node(fd: int) -> _Node:
    status = os.fstat(fd)
    return (status.st_dev, status.st_ino)


def _refuse_files(root_fd: int, wish: Wish) -> None:
    """What is in the container's own directory would lose its name."""
    found = first_entry(root_fd, names.container_path(wish.account, wish.container))
    if found is not None:
        allowed = f"a container without a directory of its own; remove {os.fsdecode(found)} below the device first"
        raise ConfigurationError(_WHERE, "CONTAINER", wish.container, allowed)


def _mark(fd: int, path: bytes) -> str:
    """Gives a directory a new mark, durably: the table must not name one that a crash takes away."""
    mark = secrets.token_hex(_MARK_BYTES)
    try:
        real = reopen(fd, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.setxattr(real, layout.ATTRIBUTE_EXPORT, mark.encode("ascii"))
            os.fsync(real)
        finally:
            os.close(real)
    except OSError as error:
        if error.errno not in _NOT_MARKED:
            raise
        raise _refused(path, f"one that takes the attribute {layout.ATTRIBUTE_EXPORT} ({error.strerror})") from error
    return mark


def _unmark(export: Export) -> None:
    with suppress(OSError):
        fd = open_export(export)
        try:
            real = reopen(fd, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.removexattr(real, layout.ATTRIBUTE_EXPORT)
            finally:
                os.close(real)
        finally:
            os.close(fd)


def _refused(path: bytes, allowed: str) -> ConfigurationError:
    return ConfigurationError(_WHERE, "PATH", os.fsdecode(path), allowed)
