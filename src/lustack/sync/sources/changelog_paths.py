# SPDX-License-Identifier: Apache-2.0
"""Names as a changelog has them (directory's identity, entry) -> paths below the device, and events.

Rule 1: what is remembered of a directory is believed after one look whether its path still leads to it; if not, Lustre
    is asked for its name, and for those of the directories above it. Other MDTs may have moved it meanwhile.
Rule 2: a directory that is gone is where it was last. One that is gone and was never heard of is said to be lost.
Rule 3: what lies outside of all roots costs nothing but the look into a table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from itertools import islice
from typing import Final

from lustack.lustre import fid
from lustack.lustre.errors import FidNotFoundError
from lustack.lustre.kernel import Link
from lustack.lustre.protocol import Lustre
from lustack.mapping import layout
from lustack.mapping.names import RelPath
from lustack.sync.events import Event, NameChanged, TreeChanged, TreeMoved
from lustack.sync.sources.changelog_window import IS_DIRECTORY, IS_FILE, IS_NEW, IS_OPEN, Memory, Move, Name, Window
from lustack.sync.sources.roots import LONGEST_BASE, Root, child_base, directory_path, is_ours, own_path

_QUESTIONS: Final = 500
"""So many at a time: each that waits for its turn takes 2 KB."""

# No path within a root has more parts than that; what has goes round in circles.
_MOST_PARTS: Final = LONGEST_BASE


class Paths:
    """Finds paths. Not thread-safe; many may share a memory.

    Attributes:
        memory: what records said.
    """

    def __init__(self, lustre: Lustre, memory: Memory, roots: Mapping[bytes, Root], executor: Executor) -> None:
        """Knows nothing yet.

        Args:
            lustre: is asked.
            memory: what records said.
            roots: by the FID of their directories.
            executor: asks several things at once: each waits for a server.
        """
        self.memory = memory
        self._lustre = lustre
        self._roots = roots
        self._executor = executor
        self._tops: set[bytes] = set()
        self._found: dict[bytes, bytes | None] = {}

    def watch(self, roots: Mapping[bytes, Root]) -> None:
        """Other roots count from the next `begin` on. From any thread."""
        self._roots = roots

    def begin(self) -> None:
        """From now on everything is looked at again."""
        self._found.clear()

    def base_of(self, key: bytes) -> bytes | None:
        """What stands before the names of a directory's entries, see `roots`; None if nobody wants to hear of it.

        Raises:
            FidNotFoundError: it is gone, and nobody knows where it was.
            OSError: the file system fails.
        """
        if key not in self._found:
            self._found[key] = self._find(self._heir(key))
        return self._found[key]

    def links_of(self, keys: Iterable[bytes]) -> Iterator[list[Link]]:
        """All names of each file; none for those that are gone.

        Raises:
            OSError: the file system fails; at the first file that it fails for.
        """
        for some in _some_at_a_time(keys):
            yield from self._executor.map(self._links, some)

    def are_directories(self, keys: Iterable[bytes]) -> list[bool | None]:
        """Whether inodes are directories; None for those that are gone.

        Raises:
            OSError: the file system fails.
        """
        found: list[bool | None] = []
        for some in _some_at_a_time(keys):
            found += self._executor.map(self._is_directory, some)
        return found

    def _find(self, key: bytes) -> bytes | None:
        try:
            base, path = self._walk(key, self._remembered)
        except KeyError:
            return self._walk(key, self._asked)[0]
        if base is None or _inode_at(path) == fid.inode_of(key):
            return base
        return self._walk(key, self._asked)[0]

    def _walk(self, key: bytes, step: Callable[[bytes], Name | None]) -> tuple[bytes | None, bytes]:
        """The base of a directory, and where it is."""
        parts: list[bytes] = []
        while (root := self._roots.get(key)) is None:
            name = step(key)
            if name is None or len(parts) == _MOST_PARTS:
                return None, b""
            parts.append(name[1])
            key = self._heir(name[0])
        base: bytes | None = root.base
        for part in reversed(parts):
            base = child_base(base, part)
        return base, b"/".join([os.fsencode(root.path), *reversed(parts)])

    def _remembered(self, key: bytes) -> Name | None:
        return None if key in self._tops else self.memory.folders[key]

    def _asked(self, key: bytes) -> Name | None:
        try:
            links = self._lustre.links(key)
        except FidNotFoundError:
            known = self.memory.last_name(key)
            if known is None:
                raise
            return known
        if not links:
            self._tops.add(key)
            return None
        with self.memory.lock:
            self.memory.folders[key] = name = (links[0].parent, links[0].name)
        return name

    def _heir(self, key: bytes) -> bytes:
        for _ in range(_MOST_PARTS):
            heir = self.memory.heirs.get(key)
            if heir is None:
                break
            key = heir
        return key

    def _links(self, key: bytes) -> list[Link]:
        try:
            return self._lustre.links(key)
        except FidNotFoundError:
            return []

    def _is_directory(self, key: bytes) -> bool | None:
        try:
            return self._lustre.is_directory(key)
        except FidNotFoundError:
            return None


def _some_at_a_time(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(keys)
    while some := list(islice(rest, _QUESTIONS)):
        yield some


def translate(window: Window, paths: Paths) -> tuple[list[Event], set[bytes]]:
    """What a window reports.

    Returns:
        the events, and directories that are gone and of which nobody knows where they were.

    Raises:
        OSError: the file system fails; the window can be translated again.
    """
    paths.begin()
    _name_keys(window, paths)
    lost: set[bytes] = set()
    events: list[Event] = []
    for (parent, name), bits in window.names.items():
        base = _base_or_lost(paths, parent, lost)
        if base is None or is_ours(base, name):
            continue
        if bits & IS_FILE:
            events.append(NameChanged(RelPath(base + name), bool(bits & IS_OPEN), bool(bits & IS_NEW)))
        if bits & IS_DIRECTORY:
            events.append(NameChanged(RelPath(base + name), is_new=bool(bits & IS_NEW), is_directory=True))
    for move in window.moves:
        events += _moved(move, paths, lost)
    for move in _without_files(window.unclear, paths):
        events += _cut(_moved(move, paths, lost))
    return events, lost


def _name_keys(window: Window, paths: Paths) -> None:
    """Asks for the names of files that changed. What was answered before an error is not asked again."""
    keys = list(window.keys)
    for key, links in zip(keys, paths.links_of(keys), strict=True):
        for link in links:
            window.names.setdefault((link.parent, link.name), IS_FILE)
        if len(links) == 1:
            with paths.memory.lock:
                paths.memory.files[key] = (links[0].parent, links[0].name)
        del window.keys[key]


def _base_or_lost(paths: Paths, parent: bytes, lost: set[bytes]) -> bytes | None:
    try:
        return paths.base_of(parent)
    except FidNotFoundError:
        lost.add(parent)
        return None


def _without_files(moves: list[Move], paths: Paths) -> list[Move]:
    """Those that were of directories, or of what is gone meanwhile."""
    candidates = [move for move in moves if not move.old[1].startswith(layout.TEMPORARY_PREFIX)]
    answers = paths.are_directories([move.key for move in candidates])
    found = []
    for move, is_directory in zip(candidates, answers, strict=True):
        if is_directory is False:
            continue
        found.append(move)
    return found


def _moved(move: Move, paths: Paths, lost: set[bytes]) -> list[Event]:
    old, new = (directory_path(_base_or_lost(paths, parent, lost), name) for parent, name in (move.old, move.new))
    if old is not None and new is not None:
        return [TreeMoved(old, new)]
    return [TreeChanged(path) for path in (old, new) if path is not None]


def _cut(events: list[Event]) -> list[Event]:
    """Less precise: where nobody knows what was renamed, both places are looked at."""
    return [
        TreeChanged(path)
        for event in events
        for path in ((event.old, event.new) if isinstance(event, TreeMoved) else (event.path,))
    ]


def tree_of(base: bytes | None) -> list[Event]:
    """A directory and all that is in it."""
    path = own_path(base)
    return [] if base is None else [TreeChanged(RelPath(b"") if path is None else path)]


def _inode_at(path: bytes) -> int | None:
    try:
        return os.lstat(path).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None
