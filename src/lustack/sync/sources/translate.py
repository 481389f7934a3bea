# SPDX-License-Identifier: Apache-2.0
"""What fanotify reports -> events.

Rule 1: whatever happened, the events cover every name that is different afterwards. A name in a directory that is gone,
or in no root, needs no event of its own: the removal or the move that took it away has one, and covers the tree.
Rule 2: nothing is decided by the order in which the kernel reports; see `lustack.posix.fanotify`.
Rule 3: a name is called new only where that is sure. The kernel reports a link more or less as ATTRIB of the file,
without a name, before the CREATE or DELETE of the name (measured). Where all is known that happened until now, a CREATE
of a file of which no such thing was said is that of a file that did not exist. With a DELETE in the same report nothing
is sure: the name may have been removed, linked again to the same file, and removed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from lustack.mapping.names import RelPath
from lustack.posix.fanotify import CLOSE_WRITE, CREATE, DELETE, MODIFY, ONDIR, RENAME, Change
from lustack.sync.events import Event, NameChanged, TreeChanged, TreeMoved
from lustack.sync.sources.directories import Directories
from lustack.sync.sources.roots import directory_path, is_ours, own_path

EVERYTHING: Final = TreeChanged(RelPath(b""))

_ITSELF: Final = b"."
_WRITING: Final = CREATE | MODIFY
_DONE: Final = CLOSE_WRITE | DELETE
_CAME: Final = CREATE | DELETE
# Files whose links changed while the queue was not empty; with more of them no name is called new until it is.
_MOST_LINKED: Final = 100_000


class Translator:
    """Keeps what it must know from one batch to the next. For one thread."""

    def __init__(self, directories: Directories) -> None:
        """Knows nothing yet.

        Args:
            directories: where they are.
        """
        self._directories = directories
        self._linked: set[bytes] = set()
        self._linked_before: set[bytes] = set()

    def translate(self, changes: Sequence[Change], *, is_all: bool) -> list[Event]:
        """The events of what was read together.

        Args:
            changes: as `fanotify.parse` gives them.
            is_all: nothing was left unread.
        """
        self._linked.update(target for _, directory, _, target, _, _ in changes if not directory)
        events: list[Event] = []
        add, new = events.append, tuple.__new__
        last = base = None
        for change in changes:
            mask, directory, name, target, _, _ = change
            if not directory:
                continue
            if mask & (ONDIR | RENAME):
                last = None
                self._add_other(change, events)
                continue
            if directory != last:
                last, base = directory, self._directories.base(directory)
            if base is not None and not is_ours(base, name):
                is_open = bool(mask & _WRITING) and not mask & _DONE and target not in self._linked
                is_new = is_all and mask & _CAME == CREATE and not self._may_be_linked(target)
                # Half the price of calling the class.
                add(new(NameChanged, (base + name, is_open, is_new, False)))
        self._forget_links(is_all=is_all)
        if self._directories.take_doubt():
            events.append(EVERYTHING)
        return events

    def _may_be_linked(self, target: bytes) -> bool:
        linked = self._linked
        return target in linked or target in self._linked_before or len(linked) > _MOST_LINKED

    def _forget_links(self, *, is_all: bool) -> None:
        """A link that was made while we read may have its other half in the next batch, but in no later one."""
        if is_all:
            self._linked_before, self._linked = self._linked, set()
        elif len(self._linked) > 2 * _MOST_LINKED:
            self._linked = set(itertools.islice(self._linked, _MOST_LINKED + 1))

    def _add_other(self, change: Change, events: list[Event]) -> None:
        if not change.mask & ONDIR:
            self._add_moved_file(change, events)
        elif change.mask & RENAME:
            self._add_moved_directory(change, events)
        elif change.name == _ITSELF:
            path = own_path(self._directories.base(change.directory))
            if path is not None:
                events.append(NameChanged(path, is_directory=True))
        else:
            self._add_directory(change, events)

    def _add_moved_file(self, change: Change, events: list[Event]) -> None:
        sides = ((change.directory, change.name), (change.new_directory, change.new_name))
        for directory, name in sides:
            base = self._directories.base(directory)
            if base is not None and not is_ours(base, name):
                events.append(NameChanged(RelPath(base + name)))

    def _add_moved_directory(self, change: Change, events: list[Event]) -> None:
        old = directory_path(self._directories.base(change.directory), change.name)
        self._directories.forget(change.target)
        new = directory_path(self._directories.base(change.new_directory), change.new_name)
        if old is not None and new is not None and old != new:
            events.append(TreeMoved(old, new))
            return
        side = new if old is None else old
        if side is not None:
            events.append(TreeChanged(side))

    def _add_directory(self, change: Change, events: list[Event]) -> None:
        path = directory_path(self._directories.base(change.directory), change.name)
        is_new = bool(change.mask & CREATE) and not change.mask & DELETE
        if change.mask & CREATE:
            self._directories.learn(change.target, change.directory, change.name)
        is_partly_unknown = bool(change.mask & DELETE) and self._directories.was_passed_over(change.target)
        if path is not None and is_partly_unknown:
            events.append(TreeChanged(path))
        elif path is not None:
            events.append(NameChanged(path, is_new=is_new, is_directory=True))
