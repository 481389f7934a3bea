# SPDX-License-Identifier: Apache-2.0
"""Jobs that do at random everything that POSIX lets them do to a tree, and somebody who follows it by events.

Rule 1: names are few, so that writers meet: what one makes the other removes, moves away or replaces.
Rule 2: what fails because another was quicker is what should happen; other errors are the test's.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lustack.posix.tree import open_beneath, open_root, proc_path
from lustack.sync.events import Event, NameChanged, TreeMoved

NAMES = ("a", "b", "c", "d")
NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
IN_THE_WAY = {errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY, errno.EINVAL, errno.EXDEV, errno.EBUSY, errno.EPERM}
# None: shutil.rmtree met a symbolic link.
LOST_RACES = frozenset(NOT_THERE | IN_THE_WAY | {None})
# Source: linux/fs.h, RENAME_EXCHANGE; renameat2(2).
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_renameat2 = ctypes.CDLL(None, use_errno=True)["renameat2"]


@dataclass
class Writer:
    """One job.

    Attributes:
        root: the tree.
        outside: a directory of the same file system that nobody watches.
        chance: decides.
        linked: inodes that had two names at some time; their content changes under the name that was opened only.
    """

    root: Path
    outside: Path
    chance: random.Random
    linked: set[int] = field(default_factory=set)

    def work(self, steps: int) -> None:
        """Does so many things."""
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        """Does one thing."""
        try:
            self.chance.choice(ALL)(self)
        except OSError as error:
            if error.errno not in LOST_RACES:
                raise

    def path(self, deepest: int = 4) -> Path:
        return self.root.joinpath(*self.chance.choices(NAMES, k=self.chance.randint(1, deepest)))

    def write(self) -> None:
        path = self.path()
        path.write_bytes(b"x" * self.chance.randint(0, 5))

    def write_in_new_directories(self) -> None:
        path = self.path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"new")

    def append(self) -> None:
        with self.path().open("ab") as file:
            file.write(b"more")

    def truncate(self) -> None:
        os.truncate(self.path(), self.chance.randint(0, 9))

    def write_by_memory(self) -> None:
        # A name that nobody else has: who truncates a file kills those who write to it by memory.
        fd = os.open(self.path().with_name(f".mapped-{id(self)}"), os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, 4096)
        memory = mmap.mmap(fd, 4096)
        os.close(fd)
        memory[0] = self.chance.randrange(256)
        memory.close()

    def remove(self) -> None:
        self.path().unlink()

    def make_directory(self) -> None:
        self.path().mkdir()

    def remove_directory(self) -> None:
        self.path().rmdir()

    def remove_tree(self) -> None:
        path = self.path(3)
        if not path.is_symlink():
            shutil.rmtree(path)

    def rename(self) -> None:
        self.path().rename(self.path())

    def rename_back_and_forth(self) -> None:
        one, other = self.path(), self.path()
        for _ in range(self.chance.randint(1, 3)):
            one.rename(other)
            one, other = other, one

    def exchange(self) -> None:
        one, other = (os.fsencode(self.path()) for _ in range(2))
        if _renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE) != 0:
            raise OSError(ctypes.get_errno(), "renameat2")

    def write_and_rename(self) -> None:
        path = self.path()
        part = path.with_name(".part")
        part.write_bytes(b"whole")
        part.rename(path)

    def move_out(self) -> None:
        self.path().rename(self.outside / self.chance.choice(NAMES))

    def move_in(self) -> None:
        (self.outside / self.chance.choice(NAMES)).rename(self.path())

    def link(self) -> None:
        self._link(self.path(), self.path())

    def link_back(self) -> None:
        path, other = self.path(), self.path()
        self._link(path, other)
        path.unlink()
        self._link(other, path)
        if self.chance.random() < 0.5:
            path.unlink()

    def _link(self, old: Path, new: Path) -> None:
        self.linked.add(old.lstat().st_ino)
        os.link(old, new, follow_symlinks=False)
        self.linked.add(new.lstat().st_ino)

    def make_and_remove(self) -> None:
        path = self.path()
        path.write_bytes(b"short")
        path.unlink()

    def make_symbolic_link(self) -> None:
        self.path().symlink_to(self.chance.choice(NAMES))

    def make_pipe(self) -> None:
        path = self.path()
        os.mkfifo(path.with_name("pipe"))
        path.with_name("pipe").unlink()

    def change_mode(self) -> None:
        path = self.path()
        if not path.is_symlink():
            path.chmod(self.chance.choice((0o700, 0o750, 0o755)))

    def keep_open(self) -> None:
        with self.path().open("wb") as file:
            file.write(b"1")
            file.flush()
            self.step()
            file.write(b"2")


_NO_JOBS = {"work", "step", "path"}
ALL = tuple(
    each for name, each in vars(Writer).items() if callable(each) and not name.startswith("_") and name not in _NO_JOBS
)


Seen = tuple[int, int, int, int]


@contextmanager
def beneath(root: Path, path: bytes) -> Iterator[int | None]:
    """What is there, opened without following anything; None if nothing is."""
    with ExitStack() as stack:
        top = open_root(root)
        stack.callback(os.close, top)
        try:
            fd = open_beneath(top, path, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            fd = None
        else:
            stack.callback(os.close, fd)
        yield fd


def look(root: Path, path: bytes) -> Seen | None:
    """What there is: kind and mode, inode, size, time; None if nothing."""
    with beneath(root, path) as fd:
        if fd is None:
            return None
        status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        return status.st_mode, status.st_ino, 0, 0
    return status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns


def entries_of(root: Path, path: bytes) -> list[bytes]:
    """The names in a directory; none if it is none."""
    with beneath(root, path) as fd:
        if fd is None or not stat.S_ISDIR(os.fstat(fd).st_mode):
            return []
        return [os.fsencode(name) for name in os.listdir(proc_path(fd))]


@dataclass
class Follower:
    """Knows what is in a tree, by looking where events tell it to.

    Attributes:
        root: the tree.
        known: path -> what was seen there.
    """

    root: Path
    known: dict[bytes, Seen] = field(default_factory=dict)

    def compare(self, path: bytes = b"") -> None:
        """Looks at a directory and all below it."""
        below = path + b"/" if path else b""
        for each in [each for each in self.known if each == path or each.startswith(below)]:
            del self.known[each]
        if path:
            self.look_at(path)
        pending = [path]
        while pending:
            directory = pending.pop()
            for name in entries_of(self.root, directory):
                inner = directory + b"/" + name if directory else name
                self.look_at(inner)
                pending.append(inner)

    def look_at(self, path: bytes) -> None:
        """Looks at one entry."""
        seen = look(self.root, path)
        if seen is None:
            self.known.pop(path, None)
        else:
            self.known[path] = seen

    def follow(self, events: Iterable[Event]) -> None:
        """Looks where events say."""
        for event in events:
            if isinstance(event, NameChanged):
                self.look_at(event.path)
            elif isinstance(event, TreeMoved):
                self.compare(event.old)
                self.compare(event.new)
            else:
                self.compare(event.path)

    def differences(self, linked: set[int]) -> dict[bytes, tuple[Seen | None, Seen | None]]:
        """What is known and what is there, where they differ. Of files that had two names, only which they are."""
        truth = Follower(self.root)
        truth.compare()
        found = {}
        for path in self.known.keys() | truth.known.keys():
            pair = [each.known.get(path) for each in (self, truth)]
            short = [(stat.S_IFMT(each[0]), each[1]) if each and each[1] in linked else each for each in pair]
            if short[0] != short[1]:
                found[path] = tuple(pair)
        return found
