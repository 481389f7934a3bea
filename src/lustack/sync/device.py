# SPDX-License-Identifier: Apache-2.0
"""One device as the daemon sees it: its root, whether it is the right one, and the directories of containers.

Rule 1: `.lustack` at the root is the identity of the file system. A mount point whose file system is gone has none,
or, if somebody made it there meanwhile, one with another inode. Without the right one no row is deleted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from lustack.exports.roots import Root, list_roots, open_export, takes_trusted
from lustack.exports.table import Reader
from lustack.mapping import layout, names
from lustack.mapping.exports import Export, Exports, ExportsDamagedError
from lustack.mapping.names import UnrepresentableNameError
from lustack.posix.errors import explain
from lustack.posix.tree import open_beneath, open_root
from lustack.posix.xattrs import AttributeStore, Sidecars
from lustack.sync.errors import DeviceMissingError, OtherUserError
from lustack.sync.observe import NOTHING_THERE, Directory, Observer

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
        observer: looks at objects in the device itself.
        reader: of the exports.
    """

    path: str
    root: Directory
    mark: int | None
    observer: Observer
    reader: Reader = field(default_factory=Reader)

    @property
    def exports(self) -> Exports:
        """Which containers are directories somewhere else.

        Raises:
            ExportsDamagedError: nobody knows.
        """
        return self.reader.current(self.root.fd)

    def strangers(self) -> list[OtherUserError]:
        """What is wrong with the user of the object servers: they have made the locks, and nobody else does."""
        try:
            fd = open_beneath(self.root.fd, layout.LOCKS, _SEARCH)
        except OSError:
            # No server has ever worked here, or nobody may look.
            return []
        try:
            owner, user = os.fstat(fd).st_uid, os.geteuid()
        finally:
            os.close(fd)
        does_agree = agrees(owner, user, trusted=self.observer.trusted)
        return [] if does_agree else [OtherUserError(self.path, owner, user)]

    def roots(self) -> list[Root]:
        """Every directory whose files are objects: this device's root, and those of its exports."""
        return list_roots(self.path, self.exports)

    def accounts(self) -> list[Found]:
        """The directories of accounts, in the order of names, and accounts that have exports only."""
        found = {each.name: each for each in self._children(b"", names.decode_account)}
        for account in self.exports.accounts():
            found.setdefault(account, Found(account, names.account_path(account)))
        return sorted(found.values(), key=lambda each: each.name)

    def containers(self, account: str) -> list[Found]:
        """The directories of an account's containers, in the order of names; hidden ones and exports, too."""
        path = names.account_path(account)
        found = {each.name: each for each in self._children(path, names.decode_container)}
        for each in self._children(layout.HIDDEN_CONTAINERS + b"/" + path, names.decode_container):
            if each.name.startswith("\0"):
                found[each.name] = each
        for name in self.exports.containers(account):
            found[name] = Found(name, names.container_path(account, name))
        return sorted(found.values(), key=lambda each: each.name)

    def observer_of(self, account: str, container: str) -> Observer:
        """What looks at the objects of a container.

        Raises:
            ExportMissingError: its directory is on another file system, and not there.
        """
        export = self.exports.get(account, container)
        if export is None or not export.is_foreign:
            return self.observer
        path = layout.foreign_sidecars_path(account, container)
        sidecars = Sidecars(lambda: open_beneath(self.root.fd, path, _SEARCH))
        fd = open_export(export)
        try:
            return replace(self.observer, store=AttributeStore(sidecars), trusted=takes_trusted(fd))
        finally:
            os.close(fd)

    def open_container(self, account: str, container: str) -> Directory | None:
        """The directory of a container, which the caller closes; None if there is none.

        Raises:
            ExportMissingError: the container is an export whose directory is not there.
        """
        export = self.exports.get(account, container)
        if export is not None:
            return open_exported(export)
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


def agrees(owner: int, user: int, *, trusted: bool) -> bool:
    """Whether object servers of a user believe what another one believes.

    Args:
        owner: who runs the servers.
        user: the other one.
        trusted: whether that one believes system metadata only in `trusted.*`, which is for root, where there is any.
    """
    return owner == 0 if trusted else owner != 0 or user == 0


def open_exported(export: Export) -> Directory:
    """The directory of an export, which the caller closes.

    Raises:
        ExportMissingError: it is not there.
    """
    fd = open_export(export)
    try:
        return Directory.open(fd, b"")
    finally:
        os.close(fd)


@contextmanager
def open_device(path: str, excluded: re.Pattern[bytes] | None = None) -> Iterator[Device]:
    """Opens a device.

    Args:
        path: of its root.
        excluded: see `Observer`.

    Raises:
        DeviceMissingError: its root is not there, or the table of its exports is damaged.
    """
    try:
        root_fd = open_root(path)
    except OSError as error:
        raise DeviceMissingError(path, explain(error)) from error
    try:
        root = Directory.open(root_fd, b"")
        try:
            yield _checked(_device(path, root, excluded))
        finally:
            root.close()
    finally:
        os.close(root_fd)


def _checked(device: Device) -> Device:
    """A device whose containers are known."""
    try:
        _ = device.exports
    except ExportsDamagedError as error:
        raise DeviceMissingError(device.path, str(error)) from error
    return device


def _device(path: str, root: Directory, excluded: re.Pattern[bytes] | None) -> Device:
    sidecars = Sidecars(lambda: open_beneath(root.fd, layout.SIDECARS, _SEARCH))
    store = AttributeStore(sidecars)
    try:
        fd = open_beneath(root.fd, layout.RESERVED, _SEARCH)
    except FileNotFoundError:
        return Device(path, root, None, Observer(store, os.geteuid() == 0, excluded))
    try:
        return Device(path, root, os.fstat(fd).st_ino, Observer(store, takes_trusted(fd), excluded))
    finally:
        os.close(fd)
