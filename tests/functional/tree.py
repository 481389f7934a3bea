# SPDX-License-Identifier: Apache-2.0
"""What is in a tree, found without the code that is tested: only `lustack.mapping` is believed.

Rule 1: nothing may change meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from lustack.mapping import layout, names

MARKERS = ((layout.SLASH_ATTRIBUTES.data, b"/"), (layout.PLAIN_ATTRIBUTES.data, b""))


def entries(directory: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """Everything below a directory by its path relative to it, each directory before what is in it; but no locks."""
    top = os.fsencode(directory)
    for folder, folders, files in os.walk(top):
        if folder == os.path.join(top, layout.LOCKS):
            # Hundreds of empty files.
            continue
        for entry in sorted((*folders, *files)):
            path = os.path.join(folder, entry)
            yield os.path.relpath(path, top), os.lstat(path)


def objects(container: Path) -> dict[str, list[bytes]]:
    """The names of all objects in the directory of a container, each with its places below it."""
    found: dict[str, list[bytes]] = {}
    for path, status in entries(container):
        for name in _names_of(container, path, status):
            found.setdefault(name, []).append(path)
    return found


def _names_of(container: Path, path: bytes, status: os.stat_result) -> Iterator[str]:
    entry = path.rpartition(b"/")[2]
    try:
        if stat.S_ISREG(status.st_mode):
            yield names.decode(path)
        elif stat.S_ISDIR(status.st_mode) and not names.is_continued(entry):
            # A directory is named as a file in it is, without that file's own part.
            inner = names.decode(path + b"/x").removesuffix("/x")
            for attribute, ending in MARKERS:
                if _is_marker(os.path.join(os.fsencode(container), path), attribute, status):
                    yield inner + ending.decode()
    except names.UnrepresentableNameError:
        return


def _is_marker(path: bytes, attribute: str, status: os.stat_result) -> bool:
    """Whether the attribute was made for this directory; where it overflowed, nobody copied it in these tests."""
    if attribute not in os.listxattr(path):
        return False
    value = os.getxattr(path, attribute)
    return not value.startswith(b"{") or json.loads(value)["stamp"][0] == status.st_ino


def temporary_files(directory: Path) -> list[bytes]:
    """The paths of left-over temporary files."""
    return [path for path, _ in entries(directory) if path.rpartition(b"/")[2].startswith(layout.TEMPORARY_PREFIX)]


def digest(directory: Path) -> str:
    """A value that changes with every name, byte and attribute below a directory."""
    top = os.fsencode(directory)
    found = hashlib.sha256()
    for path, status in entries(directory):
        whole = os.path.join(top, path)
        attributes = {name: os.getxattr(whole, name) for name in sorted(os.listxattr(whole, follow_symlinks=False))}
        found.update(repr((path, status.st_mode, status.st_nlink, status.st_ino, attributes)).encode())
        if stat.S_ISREG(status.st_mode):
            with open(whole, "rb") as file:
                found.update(file.read())
    return found.hexdigest()
