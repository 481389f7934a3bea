# SPDX-License-Identifier: Apache-2.0
"""What jobs do to files: every call that changes a tree, on names that are in each other's way.

Rule 1: nothing is done to temporary files by their name; what is done to their directories happens to them.
Rule 2: what the file system refuses is not done.
"""

from __future__ import annotations

import mmap
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from lustack.mapping import layout

MOST_BYTES = 200_000


class Jobs:
    """Changes in one directory, chosen by dice."""

    def __init__(
        self, directory: Path, names: Sequence[bytes], dice: random.Random, others: Sequence[Path] = ()
    ) -> None:
        """Change nothing yet.

        Args:
            directory: of the container; stays itself.
            names: paths below it that things may get.
            dice: decides.
            others: directories of other containers, where things may be moved to; with some, rarer calls are made too.
        """
        self._others = [os.fsencode(each) for each in others]
        self._top = os.fsencode(directory)
        self._names = names
        self._dice = dice
        self._ways: Sequence[Callable[[], str]] = (
            self._create,
            self._create,
            self._overwrite,
            self._append,
            self._truncate,
            self._rename,
            self._rename,
            self._link,
            self._unlink,
            self._unlink,
            self._remove_tree,
            self._make_directories,
            self._copy,
        )
        if others:
            self._ways = (
                *self._ways,
                self._move_elsewhere,
                self._make_node,
                self._change_mode,
                self._set_attribute,
                self._make_sparse,
                self._write_mapped,
            )

    def change(self) -> str:
        """Do one thing; return what was done, or why not."""
        way = self._dice.choice(self._ways)
        try:
            return way()
        except (OSError, ValueError, shutil.Error) as error:
            return f"{way.__name__.strip('_')}: {error}"

    def _anything(self) -> list[bytes]:
        found = []
        for folder, folders, files in os.walk(self._top):
            found += [os.path.join(folder, entry) for entry in (*folders, *files) if not _is_ours(entry)]
        return sorted(found)

    def _pick(self, fits: Callable[[bytes], bool]) -> bytes:
        found = [path for path in self._anything() if fits(path)]
        if not found:
            raise FileNotFoundError
        return self._dice.choice(found)

    def _file(self) -> bytes:
        return self._pick(os.path.isfile)

    def _new(self) -> bytes:
        return os.path.join(self._top, self._dice.choice(self._names))

    def _bytes(self) -> bytes:
        return self._dice.randbytes(self._dice.choice((1, 10, 1000, MOST_BYTES)))

    def _create(self) -> str:
        path = self._new()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(self._bytes())
        return f"create {self._short(path)}"

    def _overwrite(self) -> str:
        path = self._file()
        with open(path, "r+b") as file:
            file.write(self._bytes())
        return f"overwrite {self._short(path)}"

    def _append(self) -> str:
        path = self._file()
        with open(path, "ab") as file:
            file.write(self._bytes())
        return f"append to {self._short(path)}"

    def _truncate(self) -> str:
        path = self._file()
        os.truncate(path, os.path.getsize(path) // 2)
        return f"truncate {self._short(path)}"

    def _rename(self) -> str:
        old, new = self._pick(lambda _: True), self._new()
        os.rename(old, new)
        return f"rename {self._short(old)} to {self._short(new)}"

    def _link(self) -> str:
        old, new = self._file(), self._new()
        os.link(old, new)
        return f"link {self._short(old)} to {self._short(new)}"

    def _unlink(self) -> str:
        path = self._file()
        os.unlink(path)
        return f"unlink {self._short(path)}"

    def _remove_tree(self) -> str:
        path = self._pick(os.path.isdir)
        shutil.rmtree(path)
        return f"rm -r {self._short(path)}"

    def _make_directories(self) -> str:
        path = self._new()
        os.makedirs(path)
        return f"mkdir -p {self._short(path)}"

    def _copy(self) -> str:
        old, new = self._pick(lambda _: True), self._new()
        done = subprocess.run([b"cp", b"-a", b"-T", b"--", old, new], capture_output=True, check=False)
        return f"cp -a {self._short(old)} {self._short(new)} ({done.returncode})"

    def _move_elsewhere(self) -> str:
        """A file or a directory goes to another container."""
        old = self._pick(lambda _: True)
        new = os.path.join(self._dice.choice(self._others or [self._top]), self._dice.choice(self._names))
        os.rename(old, new)
        return f"move {self._short(old)} to {self._short(new)}"

    def _make_node(self) -> str:
        path = self._new()
        os.mknod(path, stat.S_IFSOCK | 0o600)
        return f"mknod {self._short(path)}"

    def _change_mode(self) -> str:
        path = self._pick(lambda _: True)
        os.chmod(path, self._dice.choice((0o700, 0o755)))
        return f"chmod {self._short(path)}"

    def _set_attribute(self) -> str:
        path = self._pick(lambda _: True)
        os.setxattr(path, "user.color", self._dice.randbytes(3))
        return f"setxattr {self._short(path)}"

    def _make_sparse(self) -> str:
        path = self._file()
        os.truncate(path, self._dice.randrange(MOST_BYTES))
        return f"resize {self._short(path)}"

    def _write_mapped(self) -> str:
        path = self._file()
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[self._dice.randrange(len(mapped))] = self._dice.randrange(256)
        return f"write to a mapping of {self._short(path)}"

    def _short(self, path: bytes) -> str:
        return repr(os.path.relpath(path, self._top))[1:]


def _is_ours(entry: bytes) -> bool:
    return entry.startswith(layout.TEMPORARY_PREFIX)
