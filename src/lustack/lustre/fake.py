# SPDX-License-Identifier: Apache-2.0
"""A Lustre file system over a plain directory: its files are real, its identities and changelogs are made here.

Rule 1: every method does to the directory what its name says, and records what a real MDT was seen to record
    (tests/lustre/recordings). What is done to the directory behind its back is not recorded: so changes get lost.
Rule 2: a FID tells the real inode number, as on Lustre, so that who compares `st_ino` with a FID is right here too.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from lustack.lustre.changelog import LAST_LINK, Record, Type
from lustack.lustre.errors import FidNotFoundError, NotLustreError
from lustack.lustre.fake_log import FakeChangelog, FakeLog
from lustack.lustre.fid import NO_FID, Fid, FidKey, render
from lustack.lustre.kernel import Link

_VERSION: Final = 0x1000
_LOCAL_NID: Final = bytes(6) + b"\x09" + bytes(17)
"""0@lo. Source: recorded."""

# The lower bits of CLOSE are those of the open. Source: recorded: create, and open for writing.
_CREATED: Final = 0x242
_WRITTEN: Final = 0x2
# Flags of the TRUNC record of `lfs hsm_release`, and of other records. Source: recorded.
_RELEASED: Final = 0xF
_TRUNCATED: Final = 0xE
_TIMES: Final = 0x7


class FakeLustre:
    """See `lustack.lustre.protocol.Lustre`. Thread-safe. Paths are bytes below the root.

    Attributes:
        root: the directory.
        logs: the changelogs by MDT.
        clock_ns: tells the time of records.
        resolved: how often names or types were asked for by FID: the slow part of a real one.
    """

    def __init__(
        self, root: bytes, mdts: int = 1, fsname: str = "lustre", clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """Takes a directory with what is in it."""
        self.root = root
        self.logs = {f"{fsname}-MDT{index:04x}": FakeLog(f"{fsname}-MDT{index:04x}") for index in range(mdts)}
        self.clock_ns = clock_ns
        self.resolved = 0
        self._lock = threading.RLock()
        self._generations: dict[int, int] = {}
        self._links: dict[FidKey, list[Link]] = {}
        self._homes: dict[FidKey, tuple[str, ...]] = {}
        self._left_over = NO_FID
        self._spoken: dict[FidKey, int] = {}
        self._adopt(b"", NO_FID)

    # -- what the protocol says ---------------------------------------------------------------------------------------

    def mdts(self) -> tuple[str, ...]:
        """See `Lustre`."""
        return tuple(self.logs)

    def open_changelog(self, mdt: str, index: int, *, follow: bool) -> FakeChangelog:
        """See `Lustre`."""
        return self.logs[mdt].open(index, follow=follow)

    def clear(self, mdt: str, user: str, index: int) -> None:
        """See `Lustre`."""
        self.logs[mdt].clear(user, index)

    def links(self, key: bytes) -> list[Link]:
        """See `Lustre`."""
        with self._lock:
            self.resolved += 1
            found = self._links.get(FidKey(key))
            if found is None:
                raise FidNotFoundError(render(key))
            return list(found)

    def is_directory(self, key: bytes) -> bool:
        """See `Lustre`."""
        with self._lock:
            links = self.links(key)
            return not links or os.path.isdir(self._real(self.path_of(key)))

    def key_of(self, fd: int) -> FidKey:
        """See `Lustre`."""
        return self._key(os.fstat(fd).st_ino, f"/proc/self/fd/{fd}")

    # -- what happens in the tree -------------------------------------------------------------------------------------

    def create(self, path: bytes) -> FidKey:
        """Makes an empty file that stays open; `close` ends that."""
        with self._entry(path) as (parent, name):
            os.close(os.open(self._real(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
            key = self._born(path, Link(parent, name), self._mdt_of(parent, name))
            self._log(self._homes[key][0], _record(Type.CREAT, key, parent, name))
            return key

    def close(self, key: FidKey, flags: int = _CREATED) -> None:
        """The last descriptor that could write is closed. The record comes from the MDT of the inode."""
        with self._lock:
            self._log(self._homes.get(key, self.mdts())[0], _record(Type.CLOSE, key, self._left_over, b"", flags))

    def write(self, path: bytes, content: bytes, *, is_close_lost: bool = False) -> FidKey:
        """Writes a file as a job does: makes it if needed, writes, closes.

        Args:
            path: of the file.
            content: all of it.
            is_close_lost: the MDT crashed before the record of the close was on disk.
        """
        is_new = not os.path.lexists(self._real(path))
        key = self.create(path) if is_new else self.key_at(path)
        with open(self._real(path), "wb") as file:
            file.write(content)
        if not is_close_lost:
            self.close(key, _CREATED if is_new else _WRITTEN)
        return key

    def truncate(self, path: bytes, size_bytes: int) -> None:
        """Changes a file's size by its path."""
        os.truncate(self._real(path), size_bytes)
        self._inode_record(path, Type.TRUNC, _TRUNCATED)

    def utime(self, path: bytes, mtime_ns: int) -> None:
        """Sets times. Nothing is recorded of an inode that has a record since some were purged (mdd_object.c:1034)."""
        os.utime(self._real(path), ns=(mtime_ns, mtime_ns))
        with self._lock:
            key = self.key_at(path)
            if self._spoken.get(key) != self.logs[self._homes[key][0]].purges:
                self._inode_record(path, Type.MTIME, _TIMES)

    def chmod(self, path: bytes, mode: int) -> None:
        """Sets the mode."""
        os.chmod(self._real(path), mode)
        self._inode_record(path, Type.SATTR, 0)

    def setxattr(self, path: bytes, name: bytes, value: bytes) -> None:
        """Sets an attribute."""
        os.setxattr(self._real(path), name, value, follow_symlinks=False)
        with self._lock:
            key = self.key_at(path)
            self._log(self._homes[key][0], replace(_record(Type.XATTR, key, NO_FID), attribute=name))

    def release(self, path: bytes) -> None:
        """HSM takes the data away; what the file contains does not change."""
        self._inode_record(path, Type.TRUNC, _RELEASED)
        self._inode_record(path, Type.LYOUT, 0)

    def mkdir(self, path: bytes, *mdts: int) -> FidKey:
        """Makes a directory.

        Args:
            path: of the directory.
            mdts: where it lives; several: striped; none: where its parent lives.
        """
        with self._entry(path) as (parent, name):
            os.mkdir(self._real(path))
            known = self.mdts()
            homes = tuple(known[index] for index in mdts) or (self._mdt_of(parent, name),)
            key = self._born(path, Link(parent, name), *homes)
            self._log(homes[0], _record(Type.MKDIR, key, parent, name))
            return key

    def rmdir(self, path: bytes) -> None:
        """Removes an empty directory. The record comes from its own MDT."""
        with self._entry(path) as (parent, name):
            key = self.key_at(path)
            os.rmdir(self._real(path))
            self._log(self._homes[key][0], _record(Type.RMDIR, key, parent, name, LAST_LINK))
            self._died(key, Link(parent, name))

    def link(self, old: bytes, new: bytes) -> None:
        """Gives a file another name."""
        with self._entry(new) as (parent, name):
            os.link(self._real(old), self._real(new), follow_symlinks=False)
            key = self.key_at(old)
            self._links[key].append(Link(parent, name))
            self._log(self._mdt_of(parent, name), _record(Type.HLINK, key, parent, name))

    def unlink(self, path: bytes) -> None:
        """Takes a name from a file."""
        with self._entry(path) as (parent, name):
            key = self.key_at(path)
            os.unlink(self._real(path))
            flags = self._died(key, Link(parent, name))
            self._log(self._mdt_of(parent, name), _record(Type.UNLNK, key, parent, name, flags))

    def symlink(self, target: bytes, path: bytes) -> None:
        """Makes a symbolic link."""
        with self._entry(path) as (parent, name):
            os.symlink(target, self._real(path))
            mdt = self._mdt_of(parent, name)
            self._log(mdt, _record(Type.SLINK, self._born(path, Link(parent, name), mdt), parent, name))

    def rename(self, old: bytes, new: bytes) -> None:
        """Renames. One record, from the MDT of the target; none if both names are of one inode."""
        with self._entry(old) as (old_parent, old_name), self._entry(new) as (parent, name):
            key = self.key_at(old)
            victim = self.key_at(new) if os.path.lexists(self._real(new)) else NO_FID
            os.rename(self._real(old), self._real(new))
            if victim == key:
                return
            flags = 0 if victim == NO_FID else self._died(victim, Link(parent, name))
            self._links[key].remove(Link(old_parent, old_name))
            self._links[key].append(Link(parent, name))
            self._log(
                self._mdt_of(parent, name),
                replace(
                    _record(Type.RENME, victim, parent, name, flags),
                    source=key,
                    source_parent=old_parent,
                    source_name=old_name,
                ),
            )

    def migrate(self, path: bytes, mdt: int) -> FidKey:
        """Moves the inode of a file or an empty directory to another MDT: it gets another identity."""
        with self._entry(path) as (parent, name):
            old = self.key_at(path)
            aside = self._real(path) + b".migrated"
            os.rename(self._real(path), aside)
            if os.path.isdir(aside):
                os.mkdir(self._real(path))
            else:
                with open(aside, "rb") as source, open(self._real(path), "wb") as target:
                    target.write(source.read())
            key = self._born(path, Link(parent, name), self.mdts()[mdt])
            (os.rmdir if os.path.isdir(aside) else os.unlink)(aside)
            self._died(old, Link(parent, name))
            self._log(
                self.mdts()[mdt],
                replace(_record(Type.MIGRT, key, parent, name), source=old, source_parent=parent, source_name=name),
            )
            return key

    # -- identities ---------------------------------------------------------------------------------------------------

    def key_at(self, path: bytes) -> FidKey:
        """The FID of what has a name."""
        return self._key(os.lstat(self._real(path)).st_ino, os.fsdecode(path))

    def path_of(self, key: bytes) -> bytes:
        """A path of an inode."""
        parts: list[bytes] = []
        links = self._links[FidKey(key)]
        while links:
            parts.append(links[0].name)
            links = self._links[links[0].parent]
        return b"/".join(reversed(parts))

    def _key(self, inode: int, where: str) -> FidKey:
        key = Fid(inode, self._generations.get(inode, 0), 0).key
        if key not in self._links:
            raise NotLustreError(where)
        return key

    def _real(self, path: bytes) -> bytes:
        return os.path.join(self.root, path)

    @contextmanager
    def _entry(self, path: bytes) -> Iterator[tuple[FidKey, bytes]]:
        folder, _, name = path.rpartition(b"/")
        with self._lock:
            yield self.key_at(folder), name

    def _adopt(self, path: bytes, parent: FidKey) -> None:
        name = path.rpartition(b"/")[2]
        key = self._born(path, Link(parent, name) if path else None, self.mdts()[0])
        if os.path.isdir(self._real(path)) and not os.path.islink(self._real(path)):
            for entry in sorted(os.listdir(self._real(path))):
                self._adopt(os.path.join(path, entry), key)

    def _born(self, path: bytes, link: Link | None, *homes: str) -> FidKey:
        inode = os.lstat(self._real(path)).st_ino
        key = Fid(inode, self._generations.get(inode, 0), 0).key
        if key in self._links and link is not None:
            self._links[key].append(link)
            return key
        # A number that was used before is another inode now.
        self._generations[inode] = self._generations.get(inode, -1) + 1
        key = Fid(inode, self._generations[inode], 0).key
        self._links[key] = [] if link is None else [link]
        self._homes[key] = homes
        return key

    def _died(self, key: FidKey, link: Link) -> int:
        """An inode loses a name. Returns the flags of the record."""
        self._links[key].remove(link)
        if self._links[key]:
            return 0
        del self._links[key]
        return LAST_LINK

    def _mdt_of(self, parent: FidKey, name: bytes) -> str:
        homes = self._homes[parent]
        return homes[sum(name) % len(homes)]

    # -- records ------------------------------------------------------------------------------------------------------

    def _inode_record(self, path: bytes, kind: Type, flags: int) -> None:
        with self._lock:
            key = self.key_at(path)
            self._log(self._homes[key][0], _record(kind, key, self._links[key][0].parent, b"", flags))

    def _log(self, mdt: str, record: Record) -> None:
        """Writes a record, with what all records have."""
        common = {"time_ns": self.clock_ns(), "uid": os.geteuid(), "gid": os.getegid(), "nid": _LOCAL_NID}
        self.logs[mdt].append(replace(record, **common))  # type: ignore[arg-type]
        self._spoken[record.target] = self.logs[mdt].purges
        # What the next CLOSE shows for a parent is left over from another record.
        self._left_over = record.parent


def _record(kind: Type, target: FidKey, parent: FidKey, name: bytes = b"", flags: int = 0) -> Record:
    return Record(0, kind, _VERSION | flags, 0, target, parent, name)
