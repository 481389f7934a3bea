# SPDX-License-Identifier: Apache-2.0
"""What inotify reports -> events.

Rule 1: whatever happened, the events cover every name that is different afterwards.
Rule 2: a directory that comes from somewhere is watched and listed as it is now, not as the report says, and the whole
tree is reported: nobody knows what happened in it before.
Rule 3: the halves of a move have the same cookie. The second follows at once or never: a directory that left and did
not arrive went where nobody watches.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Final, NamedTuple

from lustack.mapping.names import RelPath
from lustack.posix.inotify import (
    CLOSE_WRITE,
    CREATE,
    DELETE,
    IGNORED,
    ISDIR,
    MODIFY,
    MOVED_FROM,
    MOVED_TO,
    Notice,
)
from lustack.sync.events import Event, NameChanged, TreeChanged, TreeMoved
from lustack.sync.sources.roots import directory_path, is_ours, own_path
from lustack.sync.sources.watches import Watched, Watches

_WRITING: Final = CREATE | MODIFY
_DONE: Final = CLOSE_WRITE | DELETE | MOVED_FROM | MOVED_TO


class _Leaving(NamedTuple):
    """The first half of the move of a directory.

    Attributes:
        path: the old one, None if it concerns nobody.
        one: the directory, None if it has no watch.
    """

    path: RelPath | None
    one: Watched | None


class _File(NamedTuple):
    """What happened to an entry that is no directory.

    Attributes:
        directory: that holds it.
        name: of the entry.
        mask: all that happened.
    """

    directory: Watched
    name: bytes
    mask: int


class NoticeTranslator:
    """Keeps the first halves of moves from one batch to the next. For one thread."""

    def __init__(self, watches: Watches) -> None:
        """Knows nothing yet.

        Args:
            watches: the directories; what is reported changes them.
        """
        self._watches = watches
        self._leaving: dict[int, _Leaving] = {}

    def translate(self, notices: Sequence[Notice]) -> list[Event]:
        """The events of what was read together: directories first, then each other name once."""
        before = list(self._leaving)
        events: list[Event] = []
        files: dict[bytes, _File] = {}
        for notice in notices:
            directory = self._watches.get(notice.watch)
            if directory is None or directory.base is None:
                continue
            if notice.mask & (ISDIR | IGNORED) or not notice.name:
                self._take_directory(notice, directory, events)
            elif not is_ours(directory.base, notice.name):
                path = directory.base + notice.name
                known = files.get(path)
                files[path] = _File(directory, notice.name, notice.mask | (known.mask if known else 0))
        events.extend(NameChanged(RelPath(path), _is_open(file)) for path, file in files.items())
        events.extend(self._let_go(before))
        return events

    def overdue(self) -> list[Event]:
        """The events of directories that left and did not arrive."""
        return self._let_go(list(self._leaving))

    def _let_go(self, cookies: Sequence[int]) -> list[Event]:
        found = [self._leaving.pop(cookie) for cookie in cookies if cookie in self._leaving]
        for each in found:
            self._depart(each)
        return [TreeChanged(each.path) for each in found if each.path is not None]

    def _depart(self, leaving: _Leaving) -> None:
        """A directory is not where it was; it may have been found elsewhere meanwhile, or be there again."""
        if leaving.one is not None:
            self._watches.drop_unless_there(leaving.one)
        if leaving.path is not None:
            self._watches.forget_unwatched(leaving.path)

    def _take_directory(self, notice: Notice, directory: Watched, events: list[Event]) -> None:
        if notice.mask & IGNORED:
            self._watches.retire(directory)
            return
        if not notice.name:
            # The parent reports it, too; a root has none.
            path = own_path(directory.base) if directory.parent is None else None
            if path is not None:
                events.append(NameChanged(path, is_directory=True))
            return
        path = directory_path(directory.base, notice.name)
        if notice.mask & MOVED_FROM:
            self._leaving[notice.cookie] = _Leaving(path, directory.children.get(notice.name))
        elif notice.mask & MOVED_TO:
            self._arrive(notice, directory, path, events)
        else:
            self._take_one(notice, directory, path, events)

    def _arrive(self, notice: Notice, directory: Watched, path: RelPath | None, events: list[Event]) -> None:
        leaving = self._leaving.pop(notice.cookie, None)
        self._watches.add(directory, notice.name)
        old = None
        if leaving is not None:
            self._depart(leaving)
            old = leaving.path
        if old is not None and path is not None and old != path:
            events.append(TreeMoved(old, path))
            return
        side = path if old is None else old
        if side is not None:
            events.append(TreeChanged(side))

    def _take_one(self, notice: Notice, directory: Watched, path: RelPath | None, events: list[Event]) -> None:
        is_unknown = True
        if notice.mask & CREATE:
            # Whoever looked between its making and its watch has seen what nobody reports any more.
            self._watches.add(directory, notice.name)
        elif notice.mask & DELETE:
            one = directory.children.get(notice.name)
            is_unknown = one is None
            if one is not None:
                self._watches.drop(one)
            if path is not None:
                self._watches.forget_unwatched(path)
        else:
            is_unknown = False
        if path is not None and is_unknown:
            events.append(TreeChanged(path))
        elif path is not None:
            events.append(NameChanged(path, is_directory=True))


def _is_open(file: _File) -> bool:
    """Whether somebody may be writing to it. What was only created may be a link, or no file at all: look."""
    if not file.mask & _WRITING or file.mask & _DONE:
        return False
    if file.mask & MODIFY:
        return True
    path, below = file.directory.location()
    try:
        status = os.lstat(b"/".join((os.fsencode(path), below, file.name)))
    except OSError:
        return True
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1
