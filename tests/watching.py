# SPDX-License-Identifier: Apache-2.0
"""A kernel that says what a test wants: events as fanotify(7) writes them, directories as they are at that moment."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass, field

from lustack.posix.handles import Place

FILESYSTEM = b"fsid-of8"
TYPE_FID, TYPE_ENTRY, TYPE_OLD, TYPE_NEW = 1, 2, 10, 12


def handle(name: str) -> bytes:
    """A `struct file_handle`; the name stands for the inode."""
    inode = name.encode().ljust(12, b"\0")
    return struct.pack("=Ii", len(inode), 1) + inode


def key(name: str) -> bytes:
    return FILESYSTEM + handle(name)


def record(kind: int, which: str, entry: bytes | None = None) -> bytes:
    body = key(which)
    if entry is not None:
        body += entry + b"\0"
        body += b"\0" * (-len(body) % 4)
    return struct.pack("=BBH", kind, 0, 4 + len(body)) + body


def event(mask: int, *records: bytes) -> bytes:
    body = b"".join(records)
    return struct.pack("=IBBHQii", 24 + len(body), 3, 0, 24, mask, -1, os.getpid()) + body


def entry_event(mask: int, directory: str, name: bytes, target: str = "file") -> bytes:
    return event(mask, record(TYPE_ENTRY, directory, name), record(TYPE_FID, target))


def rename_event(mask: int, old: tuple[str, bytes], new: tuple[str, bytes], target: str = "file") -> bytes:
    return event(mask, record(TYPE_OLD, *old), record(TYPE_NEW, *new), record(TYPE_FID, target))


@dataclass
class FakeKernel:
    """See `lustack.sync.sources.fanotify.Kernel`.

    Attributes:
        places: directory -> its parent and its entry there.
        keys: path -> its directory.
        count: file systems that are watched.
        watched: paths whose file systems are.
        asked: directories that were asked for.
        refused: what is raised for some paths.
        trouble: raised by everything.
    """

    places: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=lambda: {"/root": "root"})
    count: int = 1
    watched: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refused: dict[str, OSError] = field(default_factory=dict)
    trouble: OSError | None = None
    sender: socket.socket | None = None

    def start(self):
        self._fail()
        ours, self.sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return ours.detach()

    def watch(self, group, path):
        self._fail()
        if path in self.refused:
            raise self.refused[path]
        self.watched.append(path)

    def happen(self, *events: bytes) -> None:
        """One read gives these events."""
        self.sender.send(b"".join(events))

    def close(self) -> None:
        if self.sender is not None:
            self.sender.close()

    def count_watched(self, group):
        self._fail()
        return self.count

    def key(self, path):
        self._fail()
        if path not in self.keys:
            raise FileNotFoundError(2, "No such file or directory", path)
        return key(self.keys[path])

    def locate(self, path, wanted):
        self._fail()
        name = wanted[8:].rstrip(b"\0").decode()
        self.asked.append(name)
        if name in self.keys.values():
            return Place(handle("above"), b"entry-of-root")
        if name == "above":
            return None
        if name not in self.places:
            raise FileNotFoundError
        parent, entry = self.places[name]
        return Place(handle(parent), entry)

    def _fail(self) -> None:
        if self.trouble is not None:
            raise self.trouble
