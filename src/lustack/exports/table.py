# SPDX-License-Identifier: Apache-2.0
"""The table of exports of one device: one small file below `.lustack`, read by every process on every node.

Rule 1: it is replaced as a whole, durably, under a lock. Who reads needs no lock.
Rule 2: a reader looks at most every `FRESH_S` seconds whether there is another one; that costs one stat.
Rule 3: a table that is damaged, or gone, is no empty table: the last good one stays in force and somebody is told.
Who never saw a good one does nothing at all: an upload would be put in the wrong place. The file of the lock, made
after the first table, says that there was one.
Rule 4: what root makes here belongs to the user of the servers, who else could not work with it: to the owner of
`.lustack`, and that to the owner of the device until a server has worked there.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lustack.errors import ConfigurationError
from lustack.mapping import layout
from lustack.mapping.exports import Export, Exports, ExportsDamagedError, Stage, parse, render
from lustack.posix.atomic import TemporaryFile, sync_rename, write_all
from lustack.posix.tree import make_directories, open_beneath, proc_path

FRESH_S = 0.25
"""So old may be what a reader says."""

_NAME = os.path.basename(layout.EXPORTS)
_MODE = 0o644
_OTHERS_WRITE = 0o022
# What commands and the daemon make in `.lustack`, whoever they are.
_OURS = {os.path.basename(path) for path in (layout.EXPORTS, layout.EXPORTS_LOCK, layout.FENCE)}

_Identity = tuple[int, int, int, int]


class Reader:
    """The table, as fresh as `FRESH_S`. Thread-safe: two threads may at worst both read it."""

    def __init__(
        self, warn: Callable[[str], None] = lambda _: None, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Reads nothing yet.

        Args:
            warn: takes a sentence when a damaged table is left aside; once for each.
            monotonic_s: a clock that never goes back.
        """
        self._warn = warn
        self._monotonic_s = monotonic_s
        self._looked_s = -FRESH_S
        self._good: Exports | None = None
        self._seen: _Identity | None = None

    def current(self, root_fd: int) -> Exports:
        """The exports in force.

        Args:
            root_fd: the device root; O_PATH is enough.

        Raises:
            ExportsDamagedError: the table is damaged, and this reader never saw a good one.
            OSError: the file system fails.
        """
        found = self.fresh()
        if found is None:
            now_s = self._monotonic_s()
            found = self._good = self._look(root_fd, self._good)
            self._looked_s = now_s
        return found

    def fresh(self) -> Exports | None:
        """The exports in force without a look at the file system; None if it is time to look."""
        return self._good if self._monotonic_s() - self._looked_s < FRESH_S else None

    def _look(self, root_fd: int, good: Exports | None) -> Exports:
        seen = _identify(root_fd)
        if seen == self._seen and good is not None:
            return good
        try:
            found = load(root_fd)
        except ExportsDamagedError as error:
            if good is None:
                raise
            return self._keep(good, seen, str(error))
        if good and seen is None:
            return self._keep(good, seen, "the table of exports is gone")
        self._seen = seen
        return found

    def _keep(self, good: Exports, seen: _Identity | None, why: str) -> Exports:
        self._seen = seen
        self._warn(f"{why}; the exports that were known before stay in force")
        return good


def load(root_fd: int) -> Exports:
    """The table as it is now; an empty one where there never was a file.

    Raises:
        ExportsDamagedError: it is damaged.
        OSError: the file system fails.
    """
    try:
        fd = open_beneath(root_fd, layout.EXPORTS, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        if _exists(root_fd, layout.EXPORTS_LOCK):
            raise ExportsDamagedError("it is gone") from None
        return Exports()
    with open(fd, "rb") as file:
        return parse(file.read())


class Draft:
    """The table while it is locked: nobody else changes it.

    Attributes:
        exports: what is in it.
    """

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self.exports = load(root_fd)

    def save(self, exports: Exports) -> None:
        """Replaces the table, durably; the same one is not written again."""
        if exports == self.exports:
            return
        fd = open_beneath(self._root_fd, layout.RESERVED, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with _written(fd, exports) as temporary:
                temporary.publish(_NAME)
        finally:
            os.close(fd)
        self.exports = exports


@contextmanager
def changing(root_fd: int) -> Iterator[Draft]:
    """Locks the table, also against other nodes. Blocks while somebody else has it.

    Args:
        root_fd: the device root; `.lustack` is made if it is not there.

    Raises:
        ConfigurationError: no server has ever worked here, and nobody knows the user of the servers.
        ExportsDamagedError: it is damaged: a human must mend it.
        OSError: the file system fails.
    """
    _begin(root_fd)
    lock = open_beneath(root_fd, layout.EXPORTS_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _hand_over(lock, os.stat(layout.RESERVED, dir_fd=root_fd, follow_symlinks=False))
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Draft(root_fd)
    finally:
        os.close(lock)


def finish(root_fd: int, export: Export) -> None:
    """Notes that the listing has caught up with an export, as it was when that began: ready, or forgotten.

    Does nothing if somebody changed the export meanwhile.

    Raises:
        ExportsDamagedError, OSError: as `changing`.
    """
    with changing(root_fd) as draft:
        if export not in draft.exports:
            return
        if export.stage is Stage.LEAVING:
            draft.save(draft.exports.remove(export.account, export.container))
        else:
            draft.save(draft.exports.at_stage(export.account, export.container, Stage.READY))


def _begin(root_fd: int) -> None:
    """Makes the first table, an empty one, if there never was one; whoever is later finds it."""
    if not _is_used(root_fd):
        _refuse_unknown_owner(root_fd)
    directory = make_directories(root_fd, layout.RESERVED, mode=0o700)
    try:
        if not _is_used(root_fd):
            _hand_over(directory, os.fstat(root_fd))
            os.fsync(directory)
        if not _exists(root_fd, layout.EXPORTS_LOCK):
            with _written(directory, Exports()) as temporary, suppress(FileExistsError):
                os.fsync(temporary.fd)
                os.link(temporary.name, _NAME, src_dir_fd=directory, dst_dir_fd=directory)
                sync_rename(directory, temporary.fd, on_lustre=temporary.on_lustre)
    finally:
        os.close(directory)


@contextmanager
def _written(directory: int, exports: Exports) -> Iterator[TemporaryFile]:
    """A file that holds a table and has no name yet. Servers may read it, whoever writes it with whatever umask."""
    with TemporaryFile.create(directory) as temporary:
        os.fchmod(temporary.fd, _MODE)
        _hand_over(temporary.fd, os.fstat(directory))
        write_all(temporary.fd, [render(exports)])
        yield temporary


def _is_used(root_fd: int) -> bool:
    """Whether a server, or who starts servers, has worked here: then `.lustack` is its user's."""
    try:
        fd = open_beneath(root_fd, layout.RESERVED, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        entries = map(os.fsencode, os.listdir(fd))
        return any(entry not in _OURS and not entry.startswith(layout.TEMPORARY_PREFIX) for entry in entries)
    finally:
        os.close(fd)


def _refuse_unknown_owner(root_fd: int) -> None:
    status = os.fstat(root_fd)
    if os.geteuid() == status.st_uid == 0 and status.st_mode & _OTHERS_WRITE:
        where = os.fsdecode(os.readlink(proc_path(root_fd)))
        allowed = "the user of the object servers: change it, or upload an object first, which shows who that is"
        raise ConfigurationError(where, "owner", "root", allowed)


def _hand_over(fd: int, like: os.stat_result) -> None:
    status = os.fstat(fd)
    if os.geteuid() == 0 and (status.st_uid, status.st_gid) != (like.st_uid, like.st_gid):
        # A root who may not (the unit of the daemon has no CAP_CHOWN) leaves what can be read as it is.
        with suppress(PermissionError):
            os.fchown(fd, like.st_uid, like.st_gid)


def _exists(root_fd: int, path: bytes) -> bool:
    try:
        os.stat(path, dir_fd=root_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _identify(root_fd: int) -> _Identity | None:
    """What changes when the table is replaced, None if it is not there."""
    try:
        status = os.stat(layout.EXPORTS, dir_fd=root_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
