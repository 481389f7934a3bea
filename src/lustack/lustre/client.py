# SPDX-License-Identifier: Apache-2.0
"""A Lustre file system as this machine has mounted it.

Rule 1: nothing is forked; all of it is descriptors, attributes and ioctls.
Rule 2: devices are opened non-blocking and polled: one that is held while the file system is unmounted would block a
    read for ever (measured).
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from lustack.lustre import fid, kernel
from lustack.lustre.errors import (
    ChangelogError,
    ChangelogIndexError,
    ChangelogUserError,
    FidNotFoundError,
    LinkError,
    LustreError,
    NotLustreError,
)
from lustack.lustre.fid import FidKey
from lustack.lustre.kernel import Link
from lustack.lustre.mounts import Mount, find_mount, parse_mounts
from lustack.lustre.protocol import READ_BYTES

_MOUNTS: Final = "/proc/self/mounts"
# Source: measured: no such inode (any more), as .lustre/fid and FID2PATH say it.
_NOTHING_THERE: Final = frozenset({errno.ENOENT, errno.ESTALE, errno.EINVAL})
_MOST_LINKS: Final = 65_000
"""Source: measured, LINK_MAX."""


class WholeMountError(LustreError):
    """The root of a Lustre file system is mounted nowhere here, only a directory of it.

    Attributes:
        path: where something of it is mounted.
        fsname: its name.
    """

    def __init__(self, path: str, fsname: str) -> None:
        super().__init__(path, fsname)
        self.path = path
        self.fsname = fsname

    def __str__(self) -> str:
        return (
            f"{self.path} is a directory of the Lustre file system {self.fsname}, and identities of files are only "
            f"found from its root: mount the whole of it somewhere too, for root only"
        )


class DeviceChangelog:
    """See `lustack.lustre.protocol.Changelog`."""

    def __init__(self, mdt: str, device: str, index: int, *, follow: bool) -> None:
        """Opens a device.

        Raises:
            ChangelogError: it cannot be opened now.
        """
        self._mdt = mdt
        with _errors_named(mdt):
            self._fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with _errors_named(mdt):
                if follow:
                    kernel.follow_changelog(self._fd)
                if index > 1:
                    os.lseek(self._fd, index, os.SEEK_SET)
        except BaseException:
            self.close()
            raise
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def read(self, timeout_s: float) -> bytes | None:
        """See `Changelog`."""
        if not self._poll.poll(max(0.0, timeout_s) * 1000):
            return None
        with _errors_named(self._mdt):
            try:
                return os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                return None

    def close(self) -> None:
        """See `Changelog`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Client:
    """See `lustack.lustre.protocol.Lustre`."""

    def __init__(self, fsname: str, point: str, devices: str = kernel.DEVICES) -> None:
        """Knows a mount of a whole file system.

        Args:
            fsname: name of the file system.
            point: where its root is mounted.
            devices: directory of the changelog devices.
        """
        self.fsname = fsname
        self.point = point
        self._devices = devices
        self._root = os.fsencode(point)

    def mdts(self) -> tuple[str, ...]:
        """See `Lustre`."""
        prefix = f"{kernel.DEVICE_PREFIX}{self.fsname}-MDT"
        cut = len(kernel.DEVICE_PREFIX)
        return tuple(sorted(name[cut:] for name in os.listdir(self._devices) if name.startswith(prefix)))

    def open_changelog(self, mdt: str, index: int, *, follow: bool) -> DeviceChangelog:
        """See `Lustre`."""
        return DeviceChangelog(mdt, self._device(mdt), index, follow=follow)

    def clear(self, mdt: str, user: str, index: int) -> None:
        """See `Lustre`."""
        with _errors_named(mdt):
            device = os.open(self._device(mdt), os.O_WRONLY | os.O_CLOEXEC)
            try:
                kernel.clear_changelog(device, user, index)
            except OSError as error:
                # Source: measured: ENOENT: no such user, or a lower index than before; EINVAL: beyond the end.
                if error.errno == errno.ENOENT:
                    raise ChangelogUserError(mdt, user, index) from None
                if error.errno == errno.EINVAL:
                    raise ChangelogIndexError(mdt, index) from None
                raise
            finally:
                os.close(device)

    def links(self, key: bytes) -> list[Link]:
        """See `Lustre`."""
        with _fid_named(key), suppress(LinkError):
            try:
                return kernel.parse_links(os.getxattr(self._by_fid(key), kernel.LINKS, follow_symlinks=False))
            except OSError as error:
                if error.errno not in (errno.ENODATA, errno.EACCES, errno.EPERM):
                    raise
        return self._links_by_path(key)

    def is_directory(self, key: bytes) -> bool:
        """See `Lustre`."""
        with _fid_named(key):
            return stat.S_ISDIR(os.lstat(self._by_fid(key)).st_mode)

    def key_of(self, fd: int) -> FidKey:
        """See `Lustre`."""
        return key_of(fd)

    def _device(self, mdt: str) -> str:
        return os.path.join(self._devices, kernel.DEVICE_PREFIX + mdt)

    def _by_fid(self, key: bytes) -> bytes:
        return b"/".join((self._root, kernel.FID_DIRECTORY.encode(), kernel.fid_name(key)))

    def _links_by_path(self, key: bytes) -> list[Link]:
        """The second way: slower, but without a limit to the number of names."""
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with _fid_named(key):
                return [self._link(path) for path in paths_of(root, key) if path]
        finally:
            os.close(root)

    def _link(self, path: bytes) -> Link:
        directory, _, name = path.rpartition(b"/")
        fd = os.open(self._root + b"/" + directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return Link(key_of(fd), name)
        finally:
            os.close(fd)


def paths_of(root_fd: int, key: bytes, ioctl: kernel.Ioctl | None = None) -> Iterator[bytes]:
    """Every path of an inode, from the root of the file system.

    Args:
        root_fd: the root of a mount of the whole file system, open for reading.
        key: the FID.
        ioctl: makes the calls; None: the kernel.

    Raises:
        OSError: ENOENT: no inode has this FID.
    """
    extra = () if ioctl is None else (ioctl,)
    for link in range(_MOST_LINKS):
        path, following = kernel.path_of(root_fd, key, link, *extra)
        yield path
        if following == link:
            return


def key_of(fd: int) -> FidKey:
    """The FID of an open inode, O_PATH or not.

    Raises:
        NotLustreError: it is not on Lustre.
    """
    try:
        key = kernel.key_in_handle(*kernel.handle_of(fd))
    except OSError as error:
        if error.errno not in (errno.EOVERFLOW, errno.EOPNOTSUPP):
            raise
        key = None
    if key is None:
        raise NotLustreError(f"/proc/self/fd/{fd}")
    return key


def read_mounts(path: str = _MOUNTS) -> list[Mount]:
    """The Lustre mounts of this machine."""
    with open(path, "rb") as lines:
        return parse_mounts(line.rstrip(b"\n") for line in lines)


def connect(path: str, mounts: list[Mount] | None = None) -> Client:
    """The file system that a path is on.

    Args:
        path: anything on it.
        mounts: of this machine; None: ask.

    Raises:
        NotLustreError: it is on another file system.
        WholeMountError: only a directory of it is mounted here.
    """
    known = read_mounts() if mounts is None else mounts
    found = find_mount(known, os.fsencode(os.path.realpath(path)))
    if found is None:
        raise NotLustreError(path)
    # The mount that the path is on comes first: paths below another one of the same file system begin elsewhere.
    for mount in (found, *known):
        if mount.share.source == found.share.source and not mount.share.subdirectory:
            return Client(mount.share.fsname, os.fsdecode(mount.point))
    raise WholeMountError(path, found.share.fsname)


@contextmanager
def _errors_named(mdt: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ChangelogError(mdt, error.strerror or str(error)) from error


@contextmanager
def _fid_named(key: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise
        raise FidNotFoundError(fid.render(key)) from error
