# SPDX-License-Identifier: Apache-2.0
"""One device as the daemon sees it: its root, whether it is the right one, and the directories of containers.

Rule 1: `.lustack` at the root is the identity of the file system. A mount point whose file system is gone has none,
or, if somebody made it there meanwhile, one with another inode. Without the right one no row is deleted.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lustack.mapping import layout, names
from lustack.mapping.names import UnrepresentableNameError
from lustack.posix.tree import open_beneath, open_root, proc_path
from lustack.posix.xattrs import AttributeStore, Sidecars
from lustack.sync.errors import DeviceMissingError
from lustack.sync.observe import NOTHING_THERE, Directory, Observer

_PROBE = "trusted.lustack.probe"
_SEARCH = os.O_PATH | os.O_DIRECTORY


@dataclass(frozen=True)
class Found:
    """A directory that stands for an account or a container.

    Attributes:
        name: of the account or container.
        path: below the device root.
    """

    name: str
    path: bytes


@dataclass(frozen=True)
class Device:
    """An open device.

    Attributes:
        path: the root, as it was configured.
        root: the open root.
        mark: the inode of the reserved directory, None where there is none.
        observer: looks at objects.
    """

    path: str
    root: Directory
    mark: int | None
    observer: Observer

    def accounts(self) -> list[Found]:
        """The directories of accounts, in the order of names."""
        return sorted(self._children(b"", names.decode_account), key=lambda each: each.name)

    def containers(self, account: str) -> list[Found]:
        """The directories of an account's containers, in the order of names; hidden ones too."""
        path = names.account_path(account)
        found = [*self._children(path, names.decode_container)]
        hidden = self._children(layout.HIDDEN_CONTAINERS + b"/" + path, names.decode_container)
        found += (each for each in hidden if each.name.startswith("\0"))
        return sorted(found, key=lambda each: each.name)

    def open_container(self, account: str, container: str) -> Directory | None:
        """The directory of a container, which the caller closes; None if there is none."""
        try:
            return Directory.open(self.root.fd, names.container_path(account, container))
        except OSError as error:
            if error.errno not in NOTHING_THERE:
                raise
            return None

    def _children(self, path: bytes, decode: Callable[[bytes], str]) -> Iterator[Found]:
        """The directories below one that decode to a name; what does not is none of ours."""
        for entry in self._directories(path, b""):
            try:
                name = decode(entry)
            except UnrepresentableNameError:
                continue
            yield Found(name, path + b"/" + entry if path else entry)

    def _directories(self, path: bytes, cut: bytes) -> Iterator[bytes]:
        """Entries that are directories, cut ones joined by a slash."""
        try:
            directory = Directory.open(self.root.fd, path)
        except OSError as error:
            if error.errno in NOTHING_THERE:
                return
            raise
        try:
            with os.scandir(directory.proc) as entries:
                found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        finally:
            directory.close()
        for entry in found:
            if names.is_continued(entry) and len(cut) <= names.MAX_OBJECT_NAME_BYTES:
                yield from self._directories(path + b"/" + entry if path else entry, cut + entry + b"/")
            else:
                yield cut + entry


@contextmanager
def open_device(path: str, excluded: re.Pattern[bytes] | None = None) -> Iterator[Device]:
    """Opens a device.

    Args:
        path: of its root.
        excluded: see `Observer`.

    Raises:
        DeviceMissingError: its root is not there.
    """
    try:
        root_fd = open_root(path)
    except OSError as error:
        raise DeviceMissingError(path, error.strerror or str(error)) from error
    try:
        root = Directory.open(root_fd, b"")
        try:
            yield _device(path, root, excluded)
        finally:
            root.close()
    finally:
        os.close(root_fd)


def _device(path: str, root: Directory, excluded: re.Pattern[bytes] | None) -> Device:
    sidecars = Sidecars(lambda: open_beneath(root.fd, layout.SIDECARS, _SEARCH))
    store = AttributeStore(sidecars)
    try:
        fd = open_beneath(root.fd, layout.RESERVED, _SEARCH)
    except FileNotFoundError:
        return Device(path, root, None, Observer(store, os.geteuid() == 0, excluded))
    try:
        return Device(path, root, os.fstat(fd).st_ino, Observer(store, can_write_trusted(fd), excluded))
    finally:
        os.close(fd)


def can_write_trusted(fd: int) -> bool:
    """Whether this process can write `trusted.*` attributes: then system metadata counts only there.

    Args:
        fd: of a directory that is ours.
    """
    try:
        os.setxattr(proc_path(fd), _PROBE, b"1")
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP):
            return False
        raise
    return True
