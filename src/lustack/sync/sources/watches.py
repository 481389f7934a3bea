# SPDX-License-Identifier: Apache-2.0
"""The directories that inotify watches, as a tree that moves when they move.

Rule 1: a watch is put on a directory before it is listed. So what comes afterwards is reported, and what was there
before is found.
Rule 2: a directory is opened below its root without following anything, and watched by descriptor. What it is, its
watch says, not its name: events about moves may still be unread when it is looked at.
Rule 3: where no watch is to be had (the user's limit, no right to read), the tree is remembered as unwatched.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple, Protocol

from lustack.mapping.names import RelPath
from lustack.posix import inotify
from lustack.posix.tree import open_beneath, open_root, proc_path
from lustack.sync.sources.roots import Root, child_base, directory_path

_SEARCH: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
# What says that there is no such directory (any more), or that it is in another file system.
_GONE: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.EXDEV))
# What says that this user cannot watch it. Source: inotify_add_watch(2).
_REFUSED: Final = frozenset((errno.ENOSPC, errno.ENOMEM, errno.EACCES, errno.EPERM))
_MOST_UNWATCHED: Final = 1000


class Kernel(Protocol):
    """What is asked of the system."""

    def start(self) -> int:
        """See `inotify.start`."""
        ...

    def watch(self, instance: int, dirfd: int) -> int:
        """See `inotify.watch_directory`."""
        ...

    def forget(self, instance: int, watch: int) -> bool:
        """See `inotify.forget_directory`."""
        ...


class LinuxKernel:
    """The real one."""

    def start(self) -> int:
        """See `Kernel`."""
        return inotify.start()

    def watch(self, instance: int, dirfd: int) -> int:
        """See `Kernel`."""
        return inotify.watch_directory(instance, dirfd)

    def forget(self, instance: int, watch: int) -> bool:
        """See `Kernel`."""
        return inotify.forget_directory(instance, watch)


class Watched:
    """A directory with a watch.

    Attributes:
        number: of the watch.
        parent: the directory that holds it; None for a root.
        name: its entry there; of a root, its path.
        base: what stands before the names of its entries; see `roots`.
        children: those of its directories that have watches.
    """

    __slots__ = ("base", "children", "name", "number", "parent")

    def __init__(self, number: int, parent: Watched | None, name: bytes, base: bytes | None) -> None:
        self.number = number
        self.parent = parent
        self.name = name
        self.base = base
        self.children: dict[bytes, Watched] = {}

    def below(self) -> Iterator[Watched]:
        """It and all below it, parents first."""
        pending = [self]
        while pending:
            one = pending.pop()
            yield one
            pending.extend(one.children.values())

    def location(self) -> tuple[str, bytes]:
        """The path of its root, and where it is below."""
        names = []
        one = self
        while one.parent is not None:
            names.append(one.name)
            one = one.parent
        return os.fsdecode(one.name), b"/".join(reversed(names))

    def is_in(self, other: Watched) -> bool:
        """Whether it is another one, or below it."""
        one: Watched | None = self
        while one is not None and one is not other:
            one = one.parent
        return one is not None


class Unwatched(NamedTuple):
    """A tree without watches.

    Attributes:
        parent: the directory that holds it.
        name: its entry there.
        why: the system's words.
    """

    parent: Watched
    name: bytes
    why: str


class Watches:
    """See the top of this file. For one thread.

    Attributes:
        instance: the descriptor of inotify.
        unwatched: trees without watches, by the paths by which they were reported.
        is_crowded: there are more of them than are remembered.
    """

    def __init__(self, kernel: Kernel) -> None:
        """Watches nothing yet.

        Raises:
            OSError: there is no more room for us.
        """
        self._kernel = kernel
        self._by_number: dict[int, Watched] = {}
        self._roots: dict[Root, Watched] = {}
        self.unwatched: dict[RelPath, Unwatched] = {}
        self.is_crowded = False
        self.instance = kernel.start()

    def __len__(self) -> int:
        return len(self._by_number)

    def get(self, number: int) -> Watched | None:
        """The directory of a watch, None if it is of no interest any more."""
        return self._by_number.get(number)

    def keep_roots(self, roots: Sequence[Root]) -> None:
        """Only these are roots from now on: the others are not watched any more."""
        for root in [root for root in self._roots if root not in roots]:
            self._drop_all(self._roots.pop(root))

    def add_root(self, root: Root) -> None:
        """Watches a root with all that is in it, from now on or still; so what was in another root is found again.

        Raises:
            OSError: it cannot be watched.
        """
        fd = open_root(root.path)
        try:
            number = self._kernel.watch(self.instance, fd)
            directories = _list(fd)
        finally:
            os.close(fd)
        found = self._roots.get(root)
        if found is None or found.number != number:
            if found is not None:
                self._drop_all(found)
            inside = self._by_number.get(number)
            if inside is not None:
                # It was a directory in another root until now.
                self._detach(inside)
            found = Watched(number, None, os.fsencode(root.path), root.base)
            self._by_number[number] = self._roots[root] = found
        for name in directories:
            self.add(found, name)

    def add(self, parent: Watched, name: bytes) -> None:
        """Watches a directory, and those below it. One that was known elsewhere has moved here."""
        pending = [(parent, name)]
        while pending:
            one, directories = self._enter(*pending.pop())
            if one is not None:
                pending.extend((one, each) for each in directories)

    def drop(self, one: Watched) -> None:
        """A directory is nowhere any more: neither it nor those below it are watched. A root stays."""
        if one.parent is not None:
            self._drop_all(one)

    def _drop_all(self, one: Watched) -> None:
        self._detach(one)
        for each in one.below():
            if self._by_number.get(each.number) is each:
                del self._by_number[each.number]
                self._kernel.forget(self.instance, each.number)

    def retire(self, one: Watched) -> None:
        """The watch of a directory has ended, because it was removed; its parent's report is still to come."""
        self._by_number.pop(one.number, None)

    def drop_unless_there(self, one: Watched) -> None:
        """A directory was at its place once, and may have left."""
        if one.parent is None or self._by_number.get(one.number) is not one:
            return
        try:
            number, _ = self._watch(one.parent, one.name)
        except OSError as error:
            if error.errno not in _GONE | _REFUSED:
                raise
        else:
            if number == one.number:
                return
            if number not in self._by_number:
                self._kernel.forget(self.instance, number)
        self.drop(one)

    def forget_unwatched(self, path: RelPath) -> None:
        """A directory is gone or elsewhere: what is unwatched there is not there any more."""
        below = path + b"/"
        for each in [each for each in self.unwatched if each == path or each.startswith(below)]:
            del self.unwatched[each]

    def retry(self) -> list[RelPath]:
        """Tries again to watch what is unwatched.

        Returns:
            what was unwatched until now: nobody knows what happened there. Nothing if it is too much to remember.
        """
        if self.is_crowded:
            return []
        before, self.unwatched = self.unwatched, {}
        found = []
        for each in before.values():
            path = directory_path(each.parent.base, each.name)
            if path is not None and self._by_number.get(each.parent.number) is each.parent:
                self.add(each.parent, each.name)
                found.append(path)
        return found

    def close(self) -> None:
        """Ends all watches."""
        os.close(self.instance)

    def _enter(self, parent: Watched, name: bytes) -> tuple[Watched | None, Sequence[bytes]]:
        """Watches one directory, and lists the directories in it; None if it is not there or cannot be watched."""
        base = child_base(parent.base, name)
        if base is None:
            return None, ()
        try:
            number, directories = self._watch(parent, name)
        except OSError as error:
            if error.errno in _REFUSED:
                self._note_unwatched(parent, name, error)
            elif error.errno not in _GONE:
                raise
            return None, ()
        return self._place(number, parent, name), directories

    def _watch(self, parent: Watched, name: bytes) -> tuple[int, list[bytes]]:
        """The watch of a directory, and the directories in it.

        Raises:
            OSError: there is no such directory, or it cannot be watched.
        """
        path, below = parent.location()
        with ExitStack() as stack:
            top = open_root(path)
            stack.callback(os.close, top)
            above = open_beneath(top, below, _SEARCH)
            stack.callback(os.close, above)
            self._make_sure(parent, above)
            fd = open_beneath(above, name, _SEARCH)
            stack.callback(os.close, fd)
            return self._kernel.watch(self.instance, fd), _list(fd)

    def _make_sure(self, one: Watched, fd: int) -> None:
        """Makes sure that an open directory is the one that we take it for: the same one gets the same watch.

        Raises:
            FileNotFoundError: it is another one. The event that says so is still to come.
        """
        number = self._kernel.watch(self.instance, fd)
        if number != one.number:
            if number not in self._by_number:
                self._kernel.forget(self.instance, number)
            raise FileNotFoundError(errno.ENOENT, "it was moved")

    def _place(self, number: int, parent: Watched, name: bytes) -> Watched | None:
        """Puts a directory where it was found."""
        one = self._by_number.get(number)
        if one is None:
            one = Watched(number, parent, name, None)
            self._by_number[number] = one
        elif one.parent is None or parent.is_in(one):
            # A root is reported under its own prefix; and what is found inside itself moved while we looked.
            return None
        replaced = parent.children.get(name)
        if replaced is not None and replaced is not one:
            self.drop(replaced)
        self._detach(one)
        one.parent, one.name = parent, name
        parent.children[name] = one
        for each in one.below():
            each.base = child_base(each.parent.base, each.name) if each.parent is not None else None
        return one

    def _note_unwatched(self, parent: Watched, name: bytes, error: OSError) -> None:
        path = directory_path(parent.base, name)
        if path is None:
            return
        if len(self.unwatched) < _MOST_UNWATCHED:
            self.unwatched[path] = Unwatched(parent, name, error.strerror or str(error))
        else:
            self.is_crowded = True

    def _detach(self, one: Watched) -> None:
        if one.parent is not None and one.parent.children.get(one.name) is one:
            del one.parent.children[one.name]


def _list(fd: int) -> list[bytes]:
    """The names of the directories in a directory."""
    with os.scandir(proc_path(fd)) as entries:
        return [os.fsencode(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
