# SPDX-License-Identifier: Apache-2.0
"""Every operation that POSIX has for a tree.

Each is a function of a directory, and the paths below it that somebody who watches must name. The directory holds
`file`, `other`, `tree/inner/file` and the directory `empty`; beside it there is `outside` with `file` and `inner/file`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _AT_SYMLINK_FOLLOW, _RENAME_EXCHANGE = -100, 0x400, 2


def write(path: Path, content: bytes = b"content") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def prepare(top: Path) -> None:
    """Makes what the operations expect."""
    for name in ("file", "other", "tree/inner/file", "../outside/file", "../outside/inner/file"):
        write(top / name)
    (top / "empty").mkdir()


def append(top: Path) -> None:
    with (top / "file").open("ab") as file:
        file.write(b"more")


def store_by_memory(top: Path) -> None:
    fd = os.open(top / "file", os.O_RDWR)
    with mmap.mmap(fd, 7) as memory:
        os.close(fd)
        memory[0:3] = b"CON"


def link_unnamed(top: Path) -> None:
    fd = os.open(top, os.O_TMPFILE | os.O_RDWR)
    os.write(fd, b"unnamed")
    old, new = f"/proc/self/fd/{fd}".encode(), os.fsencode(top / "named")
    assert _libc.linkat(_AT_FDCWD, old, _AT_FDCWD, new, _AT_SYMLINK_FOLLOW) == 0
    os.close(fd)


def exchange(one: Path, other: Path) -> None:
    assert _libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def copy_within_kernel(top: Path) -> None:
    with (top / "file").open("rb") as source, (top / "copy").open("wb") as target:
        os.copy_file_range(source.fileno(), target.fileno(), 7)


def punch(top: Path) -> None:
    subprocess.run(["fallocate", "--punch-hole", "--offset", "0", "--length", "4096", top / "file"], check=True)


def write_sparsely(top: Path) -> None:
    with (top / "sparse").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")


def write_through_a_mount(top: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["mount", "--bind", top / "tree", place], check=True)
        try:
            write(Path(place) / "inner" / "through")
        finally:
            subprocess.run(["umount", place], check=True)


OPERATIONS = {
    "create": (lambda top: write(top / "new"), {b"new"}),
    "create in new directories": (lambda top: write(top / "x/y/z/new"), {b"x/y/z/new"}),
    "append": (append, {b"file"}),
    "truncate by path": (lambda top: os.truncate(top / "file", 3), {b"file"}),
    "store by memory": (store_by_memory, {b"file"}),
    "punch a hole": (punch, {b"file"}),
    "write sparsely": (write_sparsely, {b"sparse"}),
    "copy within the kernel": (copy_within_kernel, {b"copy"}),
    "remove": (lambda top: (top / "file").unlink(), {b"file"}),
    "rename": (lambda top: (top / "file").rename(top / "tree/renamed"), {b"file", b"tree/renamed"}),
    "rename over": (lambda top: (top / "file").rename(top / "other"), {b"file", b"other"}),
    "exchange files": (lambda top: exchange(top / "file", top / "other"), {b"file", b"other"}),
    "exchange a file and a tree": (lambda top: exchange(top / "file", top / "tree"), {b"file", b"tree"}),
    "move in": (lambda top: (top.parent / "outside/file").rename(top / "in"), {b"in"}),
    "move out": (lambda top: (top / "file").rename(top.parent / "outside/out"), {b"file"}),
    "link": (lambda top: os.link(top / "file", top / "link"), {b"link"}),
    "link what has no name": (link_unnamed, {b"named"}),
    "symbolic link": (lambda top: (top / "symbolic").symlink_to("file"), {b"symbolic"}),
    "pipe": (lambda top: os.mkfifo(top / "pipe"), {b"pipe"}),
    "device": (lambda top: os.mknod(top / "device", 0o020600, os.makedev(1, 3)), {b"device"}),
    "mode": (lambda top: (top / "file").chmod(0o600), {b"file"}),
    "owner": (lambda top: os.chown(top / "file", 12, 34), {b"file"}),
    "times": (lambda top: os.utime(top / "file", (1, 1)), {b"file"}),
    "attribute": (lambda top: os.setxattr(top / "file", "user.note", b"x"), {b"file"}),
    "attribute of a directory": (lambda top: os.setxattr(top / "tree", "user.note", b"x"), {b"tree"}),
    "name that is not text": (lambda top: write(top / os.fsdecode(b"\xff\n")), {b"\xff\n"}),
    "long name": (lambda top: write(top / ("n" * 255)), {b"n" * 255}),
    "make a directory": (lambda top: (top / "directory").mkdir(), {b"directory"}),
    "remove a tree": (lambda top: shutil.rmtree(top / "tree"), {b"tree"}),
    "move a tree": (lambda top: (top / "tree").rename(top / "moved"), {b"tree", b"moved"}),
    "move a tree in": (lambda top: (top.parent / "outside").rename(top / "in"), {b"in"}),
    "move a tree out": (lambda top: (top / "tree").rename(top.parent / "outside/out"), {b"tree"}),
    "replace an empty directory": (lambda top: (top / "tree").rename(top / "empty"), {b"tree", b"empty"}),
    "exchange trees": (lambda top: exchange(top / "tree/inner", top / "empty"), {b"tree/inner", b"empty"}),
    "write in a tree that moved": (
        lambda top: ((top / "tree").rename(top / "moved"), write(top / "moved/inner/new")),
        {b"tree", b"moved", b"moved/inner/new"},
    ),
    "write through another mount": (write_through_a_mount, {b"tree/inner/through"}),
}
