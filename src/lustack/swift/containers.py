# SPDX-License-Identifier: Apache-2.0
"""The directory of a container: made with it, and removed with it when nothing is left in it."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lustack.mapping import layout, names
from lustack.posix.tree import make_directories, open_beneath, open_root, proc_path, remove_directories
from lustack.posix.xattrs import Sidecars
from lustack.swift.placement import is_marked

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


def make(root: str, path: bytes) -> None:
    """Makes the directory of a container; idempotent.

    Args:
        root: the device root.
        path: `names.container_path`.

    Raises:
        OSError: the file system refuses.
    """
    with _opened(root) as root_fd:
        os.close(open_or_make(root_fd, path))


def open_or_make(root_fd: int, path: bytes) -> int:
    """Opens a directory of objects, and makes what is missing of it.

    Args:
        root_fd: the device root.
        path: below it; the reserved directory is for us alone.

    Returns:
        A readable descriptor, which the caller owns.

    Raises:
        OSError: as `make_directories`.
    """
    if path.startswith(layout.HIDDEN_CONTAINERS + b"/"):
        os.close(make_directories(root_fd, layout.HIDDEN_CONTAINERS, mode=0o700))
    return make_directories(root_fd, path, on_created=mark_made)


def mark_made(fd: int) -> None:
    """Notes on a directory that Swift made it, so that Swift may remove it when it is empty."""
    with suppress(OSError):
        os.setxattr(fd, layout.ATTRIBUTE_MADE, b"1")


def is_made(fd: int) -> bool:
    """Whether Swift made this directory (O_PATH is enough)."""
    return layout.ATTRIBUTE_MADE in os.listxattr(proc_path(fd))


def first_object(root: str, path: bytes) -> bytes | None:
    """Something in a container that is neither a bare directory nor ours, None if there is nothing.

    Args:
        root: the device root.
        path: `names.container_path`.

    Returns:
        Its path below the container; that of a directory marker ends in a slash.

    Raises:
        OSError: the file system refuses.
    """
    with _opened(root) as root_fd:
        for entry, is_directory in _entries(root_fd, path):
            below = entry[len(path) + 1 :]
            if is_directory and _is_marker(root_fd, entry):
                return below + b"/"
            if not is_directory and not _is_ours(entry):
                return below
    return None


def remove(root: str, path: bytes) -> None:
    """Removes the directories of a container and left-over temporary files in them; then the account's if it may go.

    Args:
        root: the device root.
        path: `names.container_path`.

    Raises:
        OSError: something is in it after all, or the file system refuses.
    """
    with _opened(root) as root_fd:
        directories = [path]
        for entry, is_directory in _entries(root_fd, path):
            if is_directory:
                directories.append(entry)
            elif _is_ours(entry):
                _remove_entry(root_fd, entry, is_directory=False)
        for directory in reversed(directories):
            _remove_entry(root_fd, directory, is_directory=True)
        remove_directories(root_fd, path.rpartition(b"/")[0], is_made)


@contextmanager
def _opened(root: str) -> Iterator[int]:
    fd = open_root(root)
    try:
        yield fd
    finally:
        os.close(fd)


def _entries(root_fd: int, path: bytes) -> Iterator[tuple[bytes, bool]]:
    """Everything below a directory, each directory before what is in it; nothing if it does not exist."""
    pending = [path]
    while pending:
        directory = pending.pop()
        for entry, is_directory in _list(root_fd, directory):
            child = directory + b"/" + entry
            if is_directory:
                pending.append(child)
            yield child, is_directory


def _list(root_fd: int, directory: bytes) -> list[tuple[bytes, bool]]:
    try:
        fd = open_beneath(root_fd, directory, _DIRECTORY)
    except FileNotFoundError:
        return []
    try:
        with os.scandir(fd) as found:
            return [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in found]
    finally:
        os.close(fd)


def _remove_entry(root_fd: int, path: bytes, *, is_directory: bool) -> None:
    parent, _, entry = path.rpartition(b"/")
    with suppress(FileNotFoundError):
        fd = open_beneath(root_fd, parent, _DIRECTORY)
        try:
            if is_directory:
                os.rmdir(entry, dir_fd=fd)
            else:
                os.unlink(entry, dir_fd=fd)
        finally:
            os.close(fd)


def _is_marker(root_fd: int, path: bytes) -> bool:
    sidecars = Sidecars(lambda: open_beneath(root_fd, layout.SIDECARS, os.O_PATH | os.O_DIRECTORY))
    try:
        fd = open_beneath(root_fd, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        return any(is_marked(sidecars, fd, each) for each in (layout.SLASH_ATTRIBUTES, layout.PLAIN_ATTRIBUTES))
    finally:
        os.close(fd)


def _is_ours(path: bytes) -> bool:
    return names.is_reserved(path.rpartition(b"/")[2])
