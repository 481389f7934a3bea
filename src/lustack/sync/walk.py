# SPDX-License-Identifier: Apache-2.0
"""Every object of a container in the order of a listing, one directory in memory at a time.

A listing is sorted by the bytes of names. A directory is scanned at once; its files sort as `name`, its directories as
`name/`. As no file's name holds a slash, all names below a directory stand together in that order (a property test
agrees). What stands for the same prefix (a directory and its twin, an entry that was cut) is scanned as one.

Rule 1: nothing is looked at here but the kind of an entry, and, for directories, whether they are markers. Whoever
takes an entry looks at it when it is wanted, so later than the page of the listing with its row was fetched.
Rule 2: links are not followed, mounts are not entered, and a directory that cannot be read is reported, not empty.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lustack.mapping import layout, names
from lustack.mapping.names import Kind, UnrepresentableNameError
from lustack.sync.locate import MOST_DIRECTORIES
from lustack.sync.observe import NOTHING_THERE, Directory, Place, list_attributes

_SAMPLE = 100
_PLAIN_FILE, _MARKER, _TWIN_FILE = range(3)


Entry = tuple[str, tuple[Place, ...]]
"""An object's name and where it may lie; the directories of the places stay open until the next entry is asked for."""


@dataclass
class Findings:
    """What a walk met besides objects.

    Attributes:
        unlistable: entries that cannot be objects.
        unreadable: directories that could not be read.
        special: links, FIFOs, sockets and devices.
        has_twins: whether an entry was not at the plain place of its name.
        samples: some of both, with the reason.
    """

    unlistable: int = 0
    unreadable: int = 0
    special: int = 0
    has_twins: bool = False
    samples: list[tuple[bytes, str]] = field(default_factory=list)

    def note_unlistable(self, path: bytes, why: str) -> None:
        """Counts an entry that cannot be an object."""
        self.unlistable += 1
        self._sample(path, why)

    def note_unreadable(self, path: bytes, error: OSError) -> None:
        """Counts a directory that could not be read."""
        self.unreadable += 1
        self._sample(path, error.strerror or str(error))

    def note_special(self, path: bytes) -> None:
        """Counts an entry that is neither a regular file nor a directory."""
        del path
        self.special += 1

    def note_twin(self, directory: Directory, entry: bytes, name: bytes) -> None:
        """Notes an entry that stands for a name whose plain place was taken.

        Args:
            directory: is open for the time of this call.
            entry: path below it.
            name: that it stands for, as bytes; that of a directory ends in a slash.
        """
        del directory, entry, name
        self.has_twins = True

    def _sample(self, path: bytes, why: str) -> None:
        if len(self.samples) < _SAMPLE:
            self.samples.append((path, why))


class _Branch(NamedTuple):
    """A directory below a level: its order among those of the same name, and where it is."""

    rank: tuple[int, bool]
    directory: Directory
    entry: bytes
    is_slash: bool


class _Ranked(NamedTuple):
    """A place and its order among those of the same name."""

    rank: tuple[int, int, bool]
    place: Place


class _Level:
    """All real directories that stand for one prefix, scanned.

    Almost every entry is plain, in the only directory: it is just its key. The others are in `odd` and `branches`.
    """

    def __init__(self, prefix: bytes, directories: list[Directory]) -> None:
        self.is_plain = True
        self.prefix = prefix
        self.directories = directories
        self.keys: list[bytes] = []
        self.odd: dict[bytes, list[_Ranked]] = {}
        self.branches: dict[bytes, list[_Branch]] = {}
        self.next = 0

    def close(self) -> None:
        for directory in self.directories:
            directory.close()

    def take(self) -> tuple[bytes, bool] | None:
        """The next key, and whether a plain entry of the first directory has it besides the odd ones."""
        index = self.next
        if index >= len(self.keys):
            return None
        self.next = index + 1
        key = self.keys[index]
        if self.is_plain:
            return key, True
        is_plain = key not in self.odd and key not in self.branches
        while self.next < len(self.keys) and self.keys[self.next] == key:
            self.next += 1
            is_plain = True
        return key, is_plain

    def places(self, key: bytes, *, is_plain: bool) -> tuple[Place, ...]:
        first = Place(self.directories[0], key)
        if self.is_plain:
            return (first,)
        odd = self.odd.pop(key, None)
        if odd is None:
            return (first,)
        if is_plain:
            odd.append(_Ranked((_PLAIN_FILE, 0, False), first))
        return tuple(ranked.place for ranked in sorted(odd, key=lambda each: each.rank))

    def branches_of(self, key: bytes, *, is_plain: bool) -> list[_Branch]:
        found = self.branches.pop(key, [])
        if is_plain:
            found.append(_Branch((0, False), self.directories[0], key[:-1], is_slash=False))
        return sorted(found, key=lambda each: each.rank)[:MOST_DIRECTORIES]


class _Scanner:
    """Fills a level."""

    def __init__(self, level: _Level, findings: Findings) -> None:
        self._level = level
        self._findings = findings

    def scan(self) -> None:
        for rank, directory in enumerate(self._level.directories):
            try:
                self._scan_directory(rank, directory, directory.proc, [])
            except OSError as error:
                self._findings.note_unreadable(self._level.prefix, error)
        self._level.is_plain = not self._level.odd and not self._level.branches
        self._level.keys.extend(self._level.odd)
        self._level.keys.extend(self._level.branches)
        self._level.keys.sort()

    def _scan_directory(self, rank: int, directory: Directory, path: bytes, cut: list[bytes]) -> None:
        is_simple = rank == 0 and not cut
        keys = self._level.keys
        odd: list[tuple[bytes, bool]] = []
        special: list[bytes] = []
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                is_file = entry.is_file(follow_symlinks=False)
                if is_file and is_simple and b"%" not in name and name[:1] != b".":
                    keys.append(name)
                elif is_file or entry.is_dir(follow_symlinks=False):
                    odd.append((name, is_file))
                else:
                    special.append(name)
        for name in special:
            self._findings.note_special(self._level.prefix + b"/".join([*cut, name]))
        for name, is_file in odd:
            add = self._add_file if is_file else self._add_directory
            add(rank, directory, [*cut, name])

    def _add_file(self, rank: int, directory: Directory, cut: list[bytes]) -> None:
        if names.is_reserved(cut[-1]):
            return
        try:
            component, is_twin = names.decode_entry(names.join(cut), Kind.FILE)
        except UnrepresentableNameError as error:
            self._findings.note_unlistable(self._level.prefix + error.path, error.rule)
            return
        place = Place(directory, b"/".join(cut))
        if rank == 0 and not is_twin and component == place.entry:
            self._level.keys.append(component)
            return
        if is_twin:
            self._findings.note_twin(directory, place.entry, self._level.prefix + component)
        kind = _TWIN_FILE if is_twin else _PLAIN_FILE
        self._add_place(component, _Ranked((kind, rank, is_twin), place))

    def _add_directory(self, rank: int, directory: Directory, cut: list[bytes]) -> None:
        if names.is_continued(cut[-1]):
            self._add_cut(rank, directory, cut)
            return
        entry = b"/".join(cut)
        try:
            component, is_twin = names.decode_entry(names.join(cut), Kind.DIRECTORY)
            attributes = list_attributes(directory.proc + entry)
        except UnrepresentableNameError as error:
            self._findings.note_unlistable(self._level.prefix + error.path, error.rule)
            return
        except OSError as error:
            if error.errno not in NOTHING_THERE:
                self._findings.note_unreadable(self._level.prefix + entry, error)
            return
        # A name that ends in a slash has its marker on the directory before the slash.
        if component and layout.PLAIN_ATTRIBUTES.data in attributes:
            place = Place(directory, entry, layout.PLAIN_ATTRIBUTES)
            self._add_place(component, _Ranked((_MARKER, rank, is_twin), place))
        if is_twin:
            self._findings.note_twin(directory, entry, self._level.prefix + component + b"/")
        is_slash = layout.SLASH_ATTRIBUTES.data in attributes
        if rank == 0 and not is_twin and component == entry and not is_slash:
            self._level.keys.append(component + b"/")
            return
        branch = _Branch((rank, is_twin), directory, entry, is_slash)
        self._level.branches.setdefault(component + b"/", []).append(branch)

    def _add_cut(self, rank: int, directory: Directory, cut: list[bytes]) -> None:
        """What lies in a directory whose component goes on belongs to this level."""
        path = self._level.prefix + b"/".join(cut)
        if sum(map(len, cut)) > names.MAX_OBJECT_NAME_BYTES * 3:
            self._findings.note_unlistable(path, "it is too long for Swift")
            return
        try:
            inner = Directory.open(directory.fd, b"/".join(cut))
        except OSError as error:
            _note_unless_gone(self._findings, path, error)
            return
        try:
            self._scan_directory(rank, directory, inner.proc, cut)
        finally:
            inner.close()

    def _add_place(self, component: bytes, ranked: _Ranked) -> None:
        self._level.odd.setdefault(component, []).append(ranked)


class Walk:
    """The objects of a container, in order. Iterate once, then close. Not thread-safe."""

    def __init__(
        self, container: Directory, *, after: str = "", prefix: str = "", findings: Findings | None = None
    ) -> None:
        """Reads nothing yet.

        Args:
            container: its directory; stays open, and belongs to the caller.
            after: only names after this one.
            prefix: only names that begin so.
            findings: is told what is met besides objects.
        """
        self.findings = Findings() if findings is None else findings
        self._container = container
        self._after = after.encode("utf-8", "surrogateescape")
        self._prefix = prefix.encode("utf-8", "surrogateescape")
        self._levels: list[_Level] = []

    def __iter__(self) -> Iterator[Entry]:
        own = Directory(os.dup(self._container.fd), self._container.device)
        self._push(_Level(b"", [own]))
        while self._levels:
            level = self._levels[-1]
            taken = level.take()
            if taken is None:
                self._levels.pop().close()
                continue
            key, is_plain = taken
            raw = level.prefix + key
            if key[-1:] == b"/":
                if self._may_hold(raw):
                    self._enter(level, key, is_plain=is_plain)
            elif raw > self._after and raw.startswith(self._prefix):
                places = level.places(key, is_plain=is_plain)
                name = self._name(raw)
                if name is not None:
                    yield name, places

    def close(self) -> None:
        """Closes what is open."""
        while self._levels:
            self._levels.pop().close()

    def _name(self, raw: bytes) -> str | None:
        """The name that these bytes are, None if Swift could not hold it."""
        try:
            return names.to_name(raw, raw)
        except UnrepresentableNameError as error:
            self.findings.note_unlistable(error.path, error.rule)
            return None

    def _enter(self, level: _Level, key: bytes, *, is_plain: bool) -> None:
        prefix = level.prefix + key
        branches = level.branches_of(key, is_plain=is_plain)
        if self._name(prefix) is None:
            return
        directories: list[Directory] = []
        inner = _Level(prefix, directories)
        for branch in branches:
            try:
                directory = Directory.open(branch.directory.fd, branch.entry)
            except OSError as error:
                _note_unless_gone(self.findings, prefix, error)
                continue
            if branch.is_slash:
                place = Place(directory, b".", layout.SLASH_ATTRIBUTES)
                inner.odd.setdefault(b"", []).append(_Ranked((_MARKER, len(directories), False), place))
            directories.append(directory)
        if directories:
            self._push(inner)

    def _push(self, level: _Level) -> None:
        self._levels.append(level)
        _Scanner(level, self.findings).scan()

    def _may_hold(self, directory: bytes) -> bool:
        """Whether a name below a directory (with its slash) is asked for."""
        is_after = directory > self._after or self._after.startswith(directory)
        return is_after and (directory.startswith(self._prefix) or self._prefix.startswith(directory))


def _note_unless_gone(findings: Findings, path: bytes, error: OSError) -> None:
    if error.errno not in NOTHING_THERE and error.errno != errno.EXDEV:
        findings.note_unreadable(path, error)
