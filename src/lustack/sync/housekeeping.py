# SPDX-License-Identifier: Apache-2.0
"""Removes what crashes and deletions leave behind: old temporary files, tombstones, sidecars, empty hidden directories.

Rule 1: only names of exactly our form, only regular files, and only by age of their last change.
Rule 2: the file is looked at again directly before it goes; a tombstone goes under the lock of its object.
Rule 3: at most half of the time is spent working, so that a big tree does not slow down everything else.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from lustack.exports.errors import ExportMissingError
from lustack.mapping import layout
from lustack.mapping.exports import Export
from lustack.posix.tree import open_beneath
from lustack.sync.device import Device, open_exported
from lustack.sync.errors import StoppedError
from lustack.sync.observe import Directory
from lustack.sync.orphans import Orphans, collect

_TEMPORARY = re.compile(re.escape(layout.TEMPORARY_PREFIX) + rb"[0-9a-f]{16}")
"""Source: lustack.posix.atomic."""

_TOMBSTONE = re.compile(rb"[0-9a-f]{32}")
_BURST_S = 0.05


@dataclass
class Swept:
    """What was removed.

    Attributes:
        temporaries: temporary files.
        tombstones: marks of deleted objects.
        directories: hidden directories.
        sidecars: sidecars that were put aside, or removed after that.
    """

    temporaries: int = 0
    tombstones: int = 0
    directories: int = 0
    sidecars: int = 0


class Litter(NamedTuple):
    """One thing that is to go.

    Attributes:
        kind: the name of its count in `Swept`.
        path: of it.
    """

    kind: str
    path: str


class Sweeper:
    """Sweeps devices. Not thread-safe."""

    def __init__(
        self,
        sweep_age_s: float,
        tombstone_age_s: float,
        wait: Callable[[float], bool],
        now_s: Callable[[], float] = time.time,
        *,
        tell: Callable[[Litter], None] = lambda _litter: None,
        dry_run: bool = False,
    ) -> None:
        """Remembers what is old.

        Args:
            sweep_age_s: of temporary files.
            tombstone_age_s: of tombstones.
            wait: waits so many seconds; true if it is time to stop.
            now_s: the time.
            tell: is told of each thing that goes.
            dry_run: whether everything stays.
        """
        self._tell = tell
        self._dry_run = dry_run
        self._sweep_age_s = sweep_age_s
        self._tombstone_age_s = tombstone_age_s
        self._wait = wait
        self._now_s = now_s
        self._busy_since_s = 0.0

    def sweep(self, device: Device) -> Swept:
        """Removes what is old.

        Raises:
            OSError: the file system fails.
            StoppedError: it is time to stop.
        """
        swept = Swept()
        self._busy_since_s = time.monotonic()
        orphans = self._orphans(device, layout.SIDECARS)
        self._sweep_tree(device.root, swept, orphans)
        for export in device.exports.bound():
            self._sweep_export(device, export, swept, orphans)
        self._sweep_orphans(device, swept, orphans)
        self._sweep_tombstones(device, swept)
        self._sweep_hidden(device, swept)
        self._sweep_fence(device, swept)
        return swept

    def _orphans(self, device: Device, base: bytes) -> Orphans:
        orphans = Orphans(self._sweep_age_s, self._tombstone_age_s, self._now_s, base)
        orphans.load(device)
        return orphans

    def _sweep_export(self, device: Device, export: Export, swept: Swept, orphans: Orphans) -> None:
        """Its files may refer to the sidecars of the device; those on another file system have their own."""
        try:
            directory = open_exported(export)
        except ExportMissingError as error:
            orphans.miss(error)
            return
        with closing(directory):
            if not export.is_foreign:
                self._sweep_tree(directory, swept, orphans)
                return
            own = self._orphans(device, layout.foreign_sidecars_path(*export.key))
            self._sweep_tree(directory, swept, own)
            self._sweep_orphans(device, swept, own)

    def _sweep_tree(self, root: Directory, swept: Swept, orphans: Orphans) -> None:
        pending = [b""]
        while pending:
            path = pending.pop()
            for directory, entry in _entries(root, path, orphans.miss):
                orphans.meet(directory, entry)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path + b"/" + entry.name if path else entry.name)
                elif _TEMPORARY.fullmatch(entry.name):
                    swept.temporaries += self._remove_old("temporaries", directory, entry.name, self._sweep_age_s)
            self._rest()

    def _sweep_orphans(self, device: Device, swept: Swept, orphans: Orphans) -> None:
        for sidecar in orphans.found():
            swept.sidecars += 1
            self._tell(Litter("sidecars", f"{device.path}/{os.fsdecode(sidecar.path)}"))
            if not self._dry_run:
                collect(device, sidecar)

    def _sweep_tombstones(self, device: Device, swept: Swept) -> None:
        for folder in [entry.name for _, entry in _entries(device.root, layout.TOMBSTONES)]:
            for directory, entry in _entries(device.root, layout.TOMBSTONES + b"/" + folder):
                if _TOMBSTONE.fullmatch(entry.name):
                    swept.tombstones += self._remove_tombstone(device, directory, entry.name)
            self._rest()

    def _sweep_hidden(self, device: Device, swept: Swept) -> None:
        for top, entry in _entries(device.root, layout.HIDDEN_CONTAINERS):
            # Who makes one just now makes it again: lustack.posix.tree.make_directories.
            with suppress(OSError):
                if not self._dry_run:
                    os.rmdir(entry.name, dir_fd=top.fd)
                    swept.directories += 1

    def _sweep_fence(self, device: Device, swept: Swept) -> None:
        """Everybody may put things there, and all but nonces, which the daemon removes, is litter whatever it is."""
        for directory, entry in _entries(device.root, layout.FENCE):
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if self._now_s() - max(status.st_mtime, status.st_ctime) <= self._sweep_age_s:
                    continue
                if not self._dry_run:
                    remove = os.rmdir if stat.S_ISDIR(status.st_mode) else os.unlink
                    remove(entry.name, dir_fd=directory.fd)
                swept.temporaries += 1
                self._tell(Litter("temporaries", f"{device.path}/{os.fsdecode(layout.FENCE + b'/' + entry.name)}"))
            self._rest()

    def _remove_tombstone(self, device: Device, directory: Directory, name: bytes) -> bool:
        if not self._is_old(directory, name, self._tombstone_age_s):
            return False
        with suppress(FileNotFoundError), locked(device, name.decode()):
            return self._remove_old("tombstones", directory, name, self._tombstone_age_s)
        return False

    def _remove_old(self, kind: str, directory: Directory, name: bytes, age_s: float) -> bool:
        if not self._is_old(directory, name, age_s):
            return False
        path = os.fsdecode(os.readlink(directory.proc[:-1]) + b"/" + name)
        with suppress(FileNotFoundError):
            if not self._dry_run:
                os.unlink(name, dir_fd=directory.fd)
            self._tell(Litter(kind, path))
            return True
        return False

    def _is_old(self, directory: Directory, name: bytes, age_s: float) -> bool:
        try:
            status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        changed_s = max(status.st_mtime, status.st_ctime)
        return stat.S_ISREG(status.st_mode) and self._now_s() - changed_s > age_s

    def _rest(self) -> None:
        busy_s = time.monotonic() - self._busy_since_s
        if busy_s >= _BURST_S:
            if self._wait(busy_s):
                raise StoppedError
            self._busy_since_s = time.monotonic()


@contextmanager
def locked(device: Device, key: str) -> Iterator[None]:
    """Holds the lock of an object for the time of a block, as the object servers do.

    Args:
        device: where it is.
        key: its `layout.object_hash`.

    Raises:
        FileNotFoundError: there is no lock; nobody has ever used one here.
    """
    lock = open_beneath(device.root.fd, layout.lock_path(key), os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _ignore(_error: OSError) -> None:
    """What happens when a directory is gone or may not be entered."""


def _entries(
    root: Directory, path: bytes, miss: Callable[[OSError], None] = _ignore
) -> Iterator[tuple[Directory, os.DirEntry[bytes]]]:
    """What is in a directory below another one; nothing if it is gone or may not be entered."""
    try:
        with closing(Directory.open(root.fd, path)) as directory:
            for entry in os.scandir(directory.proc):
                yield directory, entry
    except OSError as error:
        miss(error)
