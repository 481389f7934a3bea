# SPDX-License-Identifier: Apache-2.0
"""Records of a changelog, as many as were read together -> the names that they are about, each once.

Rule 1: a name is a directory's identity and an entry in it, so that a rename of a directory changes nothing here.
Rule 2: what is remembered of identities (`Memory`) is only what records said; what they left out is asked for later.
Rule 3: nothing here looks at a file, so a million records a second go through.
Rule 4: the rename by which our own Swift publishes an upload (`Own`), and the close of that, are remembered and not
    reported: the object server sends that row itself. Nothing else that it does is left out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import ClassVar, Final

from lustack.lustre.changelog import HEADER, SOURCE_SIZE, Record, Type, read_record, record_size, scan
from lustack.lustre.nids import render_nid
from lustack.mapping import layout

Name = tuple[bytes, bytes]
"""The FID of a directory, and an entry in it."""

IS_NEW: Final = 1
"""It was made in these records, where nothing had that name, and is neither a rename nor a link."""
IS_OPEN: Final = 2
IS_FILE: Final = 4
IS_DIRECTORY: Final = 8
_KEPT: Final = IS_NEW | IS_FILE | IS_DIRECTORY

# The lower bits of a CLOSE are those of the open: 1 reading, 2 writing. Source: recorded with the full mask.
_MODE: Final = 3
_READ_ONLY: Final = 1


@dataclass(frozen=True)
class Own:
    """How records of our own Swift's object servers are known. Nothing is, if nothing is set.

    Attributes:
        jobs: what the clients that they run on write into records as the job (`jobid_var`).
        nids: of those clients, as `10.0.0.5@tcp`.
    """

    jobs: frozenset[str] = frozenset()
    nids: frozenset[str] = frozenset()

    def made(self, record: Record) -> bool:
        """Whether a record says so; what is set must all be so."""
        job = (record.job or b"").decode(errors="replace")
        nid = render_nid(record.nid or b"", is_big=record.nid_is_big)
        return (not self.jobs or job in self.jobs) and (not self.nids or nid in self.nids)


NOBODY: Final = Own()


IDENTITIES_BYTES: Final = 48 * 2**20
NAME_BYTES: Final = 330
"""What a table takes for an identity and its name, beside the bytes of that name."""
HEIR_BYTES: Final = 250
"""For an identity and another one."""
KEY_BYTES: Final = 190
"""For an identity. Source of all three: measured, tests/unit/sync/test_budget.py."""

_LEAST: Final = 500
"""Of each table: fewer would be forgotten before they are of use."""
_SAMPLE: Final = 16

_PARTS: Final = 16
"""Shares of the tables are 6 for files, 4 for directories, 2 for those that are gone, 4 for the rest."""


@dataclass
class Memory:
    """What records said about identities; shared by all MDTs of a file system.

    Attributes:
        limit_bytes: what all of it may take.
        readers: how many MDTs share it.
        files: the name of a file that has no other, since its birth.
        folders: the name of a directory.
        gone: the last name of a directory that was removed.
        doubtful: what had two names once, or was renamed where another name was expected: it is asked for its names,
            whatever the tables say. Nothing orders the records of two MDTs.
        heirs: what became of an inode that migrated.
        published: uploads of our own that were not closed yet.
        own: whose uploads are not reported.
        lock: to be held while a window is filled.
    """

    limit_bytes: int = IDENTITIES_BYTES
    readers: int = 1
    files: dict[bytes, Name] = field(default_factory=dict)
    folders: dict[bytes, Name] = field(default_factory=dict)
    gone: dict[bytes, Name] = field(default_factory=dict)
    doubtful: dict[bytes, None] = field(default_factory=dict)
    heirs: dict[bytes, bytes] = field(default_factory=dict)
    published: dict[bytes, None] = field(default_factory=dict)
    own: Own = NOBODY
    lock: threading.Lock = field(default_factory=threading.Lock)

    def trim(self) -> None:
        """Forgets what is oldest."""
        part = self.limit_bytes // _PARTS
        for share, named in ((6, self.files), (4, self.folders), (2, self.gone)):
            for key in _oldest(named, share * part // (NAME_BYTES + _name_bytes(named))):
                del named[key]
        for key in _oldest(self.doubtful, 2 * part // KEY_BYTES):
            del self.doubtful[key]
            # What is still believed of it may be half of the truth.
            self.files.pop(key, None)
            self.folders.pop(key, None)
        for key in _oldest(self.heirs, part // HEIR_BYTES):
            del self.heirs[key]
        for key in _oldest(self.published, part // KEY_BYTES):
            del self.published[key]

    def last_name(self, key: bytes) -> Name | None:
        """Where a directory is, or was when it was removed; None: nobody has said."""
        return self.gone.get(key) or self.folders.get(key)


def _oldest(table: Mapping[bytes, object], most: int) -> list[bytes]:
    """What a table has too many."""
    return list(islice(table, max(0, len(table) - max(_LEAST, most))))


def _name_bytes(table: dict[bytes, Name]) -> int:
    """How long the latest names are."""
    latest = list(islice(reversed(table.values()), _SAMPLE))
    return sum(len(name) for _, name in latest) // max(1, len(latest))


@dataclass
class Move:
    """Something was renamed that is, or may be, a directory.

    Attributes:
        key: its identity.
        old: its name before.
        new: its name after.
    """

    key: bytes
    old: Name
    new: Name


@dataclass
class Window:
    """What happened in a number of records.

    Attributes:
        memory: of identities.
        names: directory entries that may have changed, with what they are or were.
        keys: files that changed, of which no name is known.
        moves: renames of directories.
        unclear: renames of nobody knows what.
        count: records.
        last: index, time and target of the last record.
    """

    memory: Memory
    names: dict[Name, int] = field(default_factory=dict)
    keys: dict[bytes, None] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)
    unclear: list[Move] = field(default_factory=list)
    count: int = 0
    last: tuple[int, int, bytes] = (0, 0, b"")

    def feed(self, buffer: bytes) -> int:
        """Takes whole records.

        Returns:
            how many they are.

        Raises:
            RecordError: these are no records.
        """
        count = self.count
        with self.memory.lock:
            self._feed(buffer)
            self.memory.trim()
        return self.count - count

    def _feed(self, buffer: bytes) -> None:
        names, files, doubtful, rarer = self.names, self.memory.files, self.memory.doubtful, self._RARER
        count = index = time = 0
        target = b""
        own = frozenset() if self.memory.own == NOBODY else self._find_own(buffer)
        for kind, flags, index, time, target, parent, source, name in scan(buffer):  # noqa: B007 (the last are kept)
            count += 1
            if kind == _CLOSE and flags & _MODE != _READ_ONLY and index not in own:
                found = files.get(target)
                if found is None or target in doubtful:
                    self.keys[target] = None
                else:
                    names[found] = names.get(found, 0) & _KEPT | IS_FILE
            elif kind == _CREAT:
                files[target] = found = (parent, name)
                names[found] = names.get(found, IS_NEW) & _KEPT | _OPEN_FILE
            elif kind == _UNLNK:
                files.pop(target, None)
                found = (parent, name)
                names[found] = names.get(found, 0) & _KEPT | IS_FILE
            elif kind == _RENME:
                self._rename(target, parent, buffer[source : source + SOURCE_SIZE], name, is_own=index in own)
            elif kind in rarer:
                rarer[kind](self, target, parent, buffer[source : source + SOURCE_SIZE], name)
        self.count += count
        self.last = (index, time, target)

    def _find_own(self, buffer: bytes) -> frozenset[int]:
        """The indices of records of uploads of our own that need not be reported."""
        found, at, published = set(), 0, self.memory.published
        for kind, _, index, _, target, *_ in scan(buffer):
            size = record_size(buffer, at) or 0
            is_candidate = kind == _RENME or (kind == _CLOSE and target in published)
            record = read_record(buffer, at, size) if is_candidate else None
            if record is not None and self.memory.own.made(record) and (kind == _CLOSE or _publishes(record)):
                found.add(index)
                published.pop(target, None)
                published |= {} if record.source is None else {record.source: None}
            at += size
        return frozenset(found)

    def _make(self, target: bytes, parent: bytes, source: bytes, name: bytes) -> None:
        del target, source
        self.names[parent, name] = self.names.get((parent, name), IS_NEW) & _KEPT | IS_FILE

    def _mkdir(self, target: bytes, parent: bytes, source: bytes, name: bytes) -> None:
        del source
        if target not in self.memory.doubtful:
            self.memory.folders[target] = (parent, name)
        self.names[parent, name] = self.names.get((parent, name), IS_NEW) & _KEPT | IS_DIRECTORY

    def _rmdir(self, target: bytes, parent: bytes, source: bytes, name: bytes) -> None:
        del source
        # Whoever hears late of what was in it still finds out where that was.
        self.memory.folders.pop(target, None)
        self.memory.gone[target] = (parent, name)
        self.names[parent, name] = self.names.get((parent, name), 0) & _KEPT | IS_DIRECTORY

    def _hlink(self, target: bytes, parent: bytes, source: bytes, name: bytes) -> None:
        del source
        self.memory.doubtful[target] = None
        self.names[parent, name] = self.names.get((parent, name), 0) & IS_DIRECTORY | IS_FILE

    def _change(self, target: bytes, parent: bytes, source: bytes, name: bytes) -> None:
        del parent, source, name
        found = self.memory.files.get(target)
        if found is None or target in self.memory.doubtful:
            self.keys[target] = None
        else:
            self.names.setdefault(found, IS_FILE)

    def _rename(self, target: bytes, parent: bytes, source: bytes, name: bytes, *, is_own: bool) -> None:
        key, old_parent = source[:16], source[16:]
        new_name, _, old_name = name.partition(b"\0")
        move = Move(key, (old_parent, old_name), (parent, new_name))
        self.memory.files.pop(target, None)
        if key in self.memory.folders:
            self._follow(self.memory.folders, move)
            self.moves.append(move)
            return
        if key in self.memory.gone:
            self.moves.append(move)
            return
        if is_own:
            self.names.pop(move.old, None)
            self._follow(self.memory.files, move)
            return
        before = self.names.get(move.old, 0)
        self.names[move.old] = before & _KEPT | IS_FILE
        self.names[move.new] = self.names.get(move.new, 0) & IS_DIRECTORY | IS_FILE | before & IS_OPEN
        if key not in self.memory.files:
            self.unclear.append(move)
        self._follow(self.memory.files, move)

    def _follow(self, table: dict[bytes, Name], move: Move) -> None:
        if table.get(move.key) == move.old:
            table[move.key] = move.new
        else:
            table.pop(move.key, None)
            self.memory.doubtful[move.key] = None

    def _migrate(self, target: bytes, parent: bytes, source: bytes, name: bytes) -> None:
        old, memory = source[:16], self.memory
        memory.heirs[old] = target
        memory.files.pop(old, None)
        if old in memory.folders:
            memory.folders[target] = memory.folders[old]
        else:
            self.keys[target] = None
        # Of a file whose directory migrates too, one of the two parents is the directory's old identity (recorded).
        new_name = name.partition(b"\0")[0]
        self.names.setdefault((parent, new_name), IS_FILE)

    # Not bound to a window, which the collector of garbage would have to find then, after millions of records.
    _RARER: ClassVar[Mapping[int, Callable[[Window, bytes, bytes, bytes, bytes], None]]] = {
        Type.MKDIR: _mkdir,
        Type.RMDIR: _rmdir,
        Type.HLINK: _hlink,
        Type.SLINK: _make,
        Type.MKNOD: _make,
        Type.MIGRT: _migrate,
        Type.TRUNC: _change,
        Type.MTIME: _change,
        Type.XATTR: _change,
    }


_CREAT: Final = int(Type.CREAT)
_CLOSE: Final = int(Type.CLOSE)
_UNLNK: Final = int(Type.UNLNK)
_RENME: Final = int(Type.RENME)
_OPEN_FILE: Final = IS_OPEN | IS_FILE


def _publishes(record: Record) -> bool:
    """Whether a temporary file of ours gets its name."""
    is_temporary = record.source_name is not None and record.source_name.startswith(layout.TEMPORARY_PREFIX)
    return is_temporary and record.source_parent == record.parent


def first_record(buffer: bytes) -> tuple[int, int, bytes]:
    """Index, time and target of the first record in a buffer that holds whole ones."""
    _, _, _, index, _, time, target, _ = HEADER.unpack_from(buffer)
    return index, time, target
