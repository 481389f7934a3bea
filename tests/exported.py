# SPDX-License-Identifier: Apache-2.0
"""Directories that are exported, shared by several kinds of tests."""

from __future__ import annotations

import os
from pathlib import Path

from lustack.exports import binding, table
from lustack.exports.binding import Wish
from lustack.exports.roots import opened_device
from lustack.mapping.exports import Export, Exports


def export(root: Path, directory: Path, account: str = "a", container: str = "e") -> Export:
    """Bind a directory, which is made if it is not there, to a container of a device."""
    directory.mkdir(parents=True, exist_ok=True)
    return binding.bind([str(root)], Wish(account, container, os.fsencode(directory)))


def rewrite(root: Path, *exports: Export) -> None:
    """Replace the table of a device."""
    with opened_device(str(root)) as root_fd, table.changing(root_fd) as draft:
        draft.save(Exports(exports))


def read(root: Path) -> Exports:
    """The table of a device."""
    with opened_device(str(root)) as root_fd:
        return table.load(root_fd)


def damage(root: Path) -> None:
    """Leave half a table, as nobody but a broken disk does."""
    (root / ".lustack" / "exports.json").write_bytes(b'{"version": 1, "exp')
