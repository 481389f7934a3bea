# SPDX-License-Identifier: Apache-2.0
"""Removes objects, and the directories that only they needed."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lustack.mapping import layout, names
from lustack.posix.atomic import remove_file, sync_directory
from lustack.posix.tree import open_beneath, proc_path, remove_directories, reopen

if TYPE_CHECKING:
    from lustack.mapping.names import Step
    from lustack.swift.device import Home
    from lustack.swift.placement import Found, Key

_MARKERS = (layout.SLASH_ATTRIBUTES.data, layout.PLAIN_ATTRIBUTES.data)


def remove_place(home: Home, found: Found) -> None:
    """Makes an object no object any more, durably. The caller holds its lock.

    Args:
        home: of its container.
        found: the object.
    """
    if found.place.is_marker:
        fd = reopen(found.fd, os.O_RDONLY | os.O_DIRECTORY)
        try:
            home.attributes.remove(fd, found.place.attributes)
            os.fsync(fd)
        finally:
            os.close(fd)
        return
    sidecars = sidecars_of(home, found)
    fd = open_beneath(home.fd, found.place.directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        remove_file(fd, found.place.entry)
    finally:
        os.close(fd)
    for identifier in sidecars:
        home.sidecars.remove(identifier)


def sidecars_of(home: Home, found: Found) -> list[bytes]:
    """The sidecars that go when the name of a file goes: none while it has another name."""
    return home.attributes.sidecars(found.fd, found.place.attributes) if found.status.st_nlink == 1 else []


def tidy(home: Home, key: Key, directory: bytes) -> None:
    """After an object has gone: removes the directories that a PUT made, and gives twins their plain place back.

    Nothing here matters for correctness, so whatever the file system refuses stays as it is. The caller holds no
    lock: each twin is moved under its own.

    Args:
        home: of its container.
        key: the object that has gone.
        directory: the directory that it was in, or was.
    """
    with suppress(OSError):
        container_fd = open_beneath(home.fd, home.path, os.O_PATH | os.O_DIRECTORY)
        try:
            remove_directories(container_fd, directory[len(home.path) + 1 :], _may_remove)
            if layout.ATTRIBUTE_TWINS in os.listxattr(proc_path(container_fd)):
                _restore_twins(home, key, container_fd)
        finally:
            os.close(container_fd)


def _may_remove(fd: int) -> bool:
    """Whether a PUT made this directory, and it is no marker."""
    present = set(os.listxattr(proc_path(fd)))
    return layout.ATTRIBUTE_MADE in present and present.isdisjoint(_MARKERS)


def _restore_twins(home: Home, key: Key, container_fd: int) -> None:
    """What stood in the way of a twin may have been this object, or one of its directories."""
    prefix = key.name
    while prefix:
        if not prefix.endswith("/"):
            other = replace(key, name=prefix)
            with suppress(OSError), home.lock(other):
                _restore(container_fd, prefix)
        prefix = prefix.rpartition("/")[0]


def _restore(container_fd: int, name: str) -> None:
    *above, as_directory = names.directory_steps(name)
    as_file = names.steps(name)[-1]
    if as_file.plain != as_directory.plain or b"/" in as_file.twin + as_directory.twin:
        return
    fd = open_beneath(container_fd, b"/".join(step.plain for step in above), os.O_RDONLY | os.O_DIRECTORY)
    try:
        _move_if_free(fd, as_file, as_directory)
    finally:
        os.close(fd)


def _move_if_free(fd: int, as_file: Step, as_directory: Step) -> None:
    with suppress(FileNotFoundError):
        os.stat(as_file.plain, dir_fd=fd, follow_symlinks=False)
        return
    try:
        # A link, because a rename would replace what a job creates at this very moment.
        os.link(as_file.twin, as_file.plain, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
        os.unlink(as_file.twin, dir_fd=fd)
    except FileNotFoundError:
        os.rename(as_directory.twin, as_directory.plain, src_dir_fd=fd, dst_dir_fd=fd)
    sync_directory(fd)
