# SPDX-License-Identifier: Apache-2.0
"""Sidecars that nobody refers to: a plain `rm` of a file leaves the one that held its metadata.

A sidecar says for which inode and attribute it was made. A walk over the whole tree meets every inode; a sidecar whose
inode it did not meet, or whose inode refers to another one, is an orphan.

Rule 1: a file that is renamed during the walk may be missed. So an orphan is only put aside: whoever reads it brings it
back; it goes for good when it is still an orphan after it lay there for long.
Rule 2: after a walk that could not see everything nothing is an orphan.
Rule 3: what cannot be parsed stays.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from lustack.mapping import layout
from lustack.posix.tree import open_beneath, proc_path
from lustack.posix.xattrs import REFERENCE_PREFIX, RETIRED_SUFFIX, Sidecars
from lustack.sync.device import Device
from lustack.sync.observe import Directory

_NAME = re.compile(rb"([0-9a-f]{32})(" + re.escape(RETIRED_SUFFIX) + rb")?")
_LABEL = re.compile(rb"[0-9a-f]{64}\n([0-9]{1,20}) ([!-~]{1,255})\n")
"""How a sidecar begins. Source: lustack.posix.xattrs."""

_LABEL_BYTES = 512
_SEARCH = os.O_PATH | os.O_DIRECTORY


class Sidecar(NamedTuple):
    """An old sidecar.

    Attributes:
        identifier: of it.
        attribute: that it was made for.
        is_retired: whether it was put aside.
        base: path below the device root of where the sidecars of its file system lie.
    """

    identifier: bytes
    attribute: str
    is_retired: bool
    base: bytes = layout.SIDECARS

    @property
    def path(self) -> bytes:
        """Below the device root."""
        suffix = RETIRED_SUFFIX if self.is_retired else b""
        return b"/".join((self.base, self.identifier[:2], self.identifier + suffix))


@dataclass
class Orphans:
    """Old sidecars of a device; those that are met in use are no orphans. Not thread-safe.

    Attributes:
        age_s: how old a sidecar must be.
        retired_age_s: how long it must have been put aside before it goes for good.
        now_s: the time.
        base: path below the device root of the sidecars.
    """

    age_s: float
    retired_age_s: float
    now_s: Callable[[], float] = time.time
    base: bytes = layout.SIDECARS
    _by_inode: dict[int, list[Sidecar]] = field(default_factory=dict)
    _is_whole: bool = True

    def load(self, device: Device) -> None:
        """Finds what is old, before the tree is walked."""
        self._by_inode, self._is_whole = {}, True
        for folder in _names(device, self.base):
            path = self.base + b"/" + folder
            for name in _names(device, path):
                found = _NAME.fullmatch(name)
                if found is not None:
                    self._consider(device, path + b"/" + name, found[1], is_retired=found[2] is not None)

    def meet(self, directory: Directory, entry: os.DirEntry[bytes]) -> None:
        """The walk met an entry."""
        waiting = self._by_inode.get(entry.inode())
        if waiting is not None:
            self._by_inode[entry.inode()] = [each for each in waiting if not self._is_used(directory, entry.name, each)]

    def miss(self, error: OSError) -> None:
        """The walk could not see something."""
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            self._is_whole = False

    def found(self) -> list[Sidecar]:
        """The orphans, after the tree was walked."""
        return [each for waiting in self._by_inode.values() for each in waiting] if self._is_whole else []

    def _consider(self, device: Device, path: bytes, identifier: bytes, *, is_retired: bool) -> None:
        with suppress(OSError):
            fd = open_beneath(device.root.fd, path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                status = os.fstat(fd)
                age_s = self.now_s() - max(status.st_mtime, status.st_ctime)
                label = _LABEL.match(os.read(fd, _LABEL_BYTES)) if stat.S_ISREG(status.st_mode) else None
            finally:
                os.close(fd)
            if label is not None and age_s > (self.retired_age_s if is_retired else self.age_s):
                sidecar = Sidecar(identifier, label[2].decode(), is_retired, self.base)
                self._by_inode.setdefault(int(label[1]), []).append(sidecar)

    def _is_used(self, directory: Directory, entry: bytes, sidecar: Sidecar) -> bool:
        """Whether an entry refers to a sidecar; one that cannot be asked does."""
        try:
            fd = open_beneath(directory.fd, entry, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            self.miss(error)
            return True
        try:
            return os.getxattr(proc_path(fd), sidecar.attribute) == REFERENCE_PREFIX + sidecar.identifier
        except OSError as error:
            return error.errno not in (errno.ENODATA, errno.EOPNOTSUPP)
        finally:
            os.close(fd)


def collect(device: Device, sidecar: Sidecar) -> None:
    """Puts an orphan aside, or removes it if it was put aside before."""
    sidecars = Sidecars(lambda: open_beneath(device.root.fd, sidecar.base, _SEARCH))
    if not sidecar.is_retired:
        sidecars.retire(sidecar.identifier)
        return
    directory, _, name = sidecar.path.rpartition(b"/")
    with suppress(FileNotFoundError), closing(Directory.open(device.root.fd, directory)) as folder:
        os.unlink(name, dir_fd=folder.fd)


def _names(device: Device, path: bytes) -> Iterator[bytes]:
    with suppress(FileNotFoundError), closing(Directory.open(device.root.fd, path)) as directory:
        yield from os.listdir(directory.proc)
