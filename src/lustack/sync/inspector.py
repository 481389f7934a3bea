# SPDX-License-Identifier: Apache-2.0
"""Looks closer at what a comparison passes: metadata, twins, and everything that is no object.

Rule 1: it answers exactly as what it stands in for; it only tells what it saw.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields

from lustack.mapping import metadata
from lustack.mapping.layout import FILE_ATTRIBUTES, AttributeNames
from lustack.mapping.metadata import Blobs
from lustack.mapping.view import ObjectView, Origin
from lustack.posix.tree import proc_path
from lustack.sync.device import Device
from lustack.sync.observe import Directory, Observer, Place
from lustack.sync.plan import Wanted
from lustack.sync.problems import Kind, Problem
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.walk import Findings

Tell = Callable[[Problem], None]

Restore = Callable[[ContainerKey, Directory, bytes, str], bool]
"""Gives a twin its plain place back: container, directory, entry, name without a slash at its end; whether it did."""


@dataclass(frozen=True)
class Inspector(Observer):
    """An observer that tells what is strange about the metadata.

    Attributes:
        tell: is told.
    """

    tell: Tell = field(kw_only=True)

    def observe(self, name: str, places: Sequence[Place], now_ns: int) -> Wanted | None:
        """See `Observer`."""
        if len(places) == 1:
            return super().observe(name, places, now_ns)
        found = [(place, super(Inspector, self).observe(name, (place,), now_ns)) for place in places]
        present = [(place, wanted) for place, wanted in found if wanted is not None]
        for place, _ in present[1:]:
            path = place.directory.proc + place.entry
            self.tell(Problem(Kind.SHADOWED, _real_path(path), f"object {name!r} is another file"))
        return present[0][1] if present else None

    def view(self, name: str, fd: int, attributes: AttributeNames, now_ns: int) -> ObjectView | None:
        """See `Observer`."""
        view = super().view(name, fd, attributes, now_ns)
        if view is not None:
            for why in view.problems:
                self._tell(Kind.DAMAGED, fd, why)
            if view.origin is Origin.CHANGED:
                self._tell(Kind.STALE_STAMP, fd, "")
        return view

    def blobs(self, fd: int, names: AttributeNames) -> tuple[Blobs, tuple[str, ...]]:
        """See `Observer`."""
        blobs, problems = super().blobs(fd, names)
        if blobs.data is not None:
            self._judge(fd, names, blobs.data)
        elif names is not FILE_ATTRIBUTES:
            # Of a file `view` says it.
            for why in problems:
                self._tell(Kind.DAMAGED, fd, why)
        return blobs, problems

    def _judge(self, fd: int, names: AttributeNames, blob: bytes) -> None:
        try:
            layer = metadata.parse_data(blob, None, trusted=False)
        except metadata.CorruptMetadataError as error:
            if names is not FILE_ATTRIBUTES:
                # Of a file `view` says it.
                self._tell(Kind.DAMAGED, fd, str(error))
            return
        if layer.stamp.inode != os.fstat(fd).st_ino:
            self._tell(Kind.COPIED, fd, "")

    def _tell(self, kind: Kind, fd: int, why: str) -> None:
        if os.fstat(fd).st_nlink:
            self.tell(Problem(kind, _real_path(os.fsencode(proc_path(fd))), why))


@dataclass(frozen=True)
class InspectedDevice(Device):
    """A device that tells which containers have no directory.

    Attributes:
        tell: is told.
    """

    tell: Tell = field(kw_only=True)

    def open_container(self, account: str, container: str) -> Directory | None:
        """See `Device`."""
        directory = super().open_container(account, container)
        if directory is None:
            self.tell(Problem(Kind.NO_DIRECTORY, f"{account}/{container}"))
        return directory


def inspected(device: Device, tell: Tell) -> Device:
    """The same device, looked at closer."""
    known = {each.name: getattr(device, each.name) for each in fields(device) if each.init}
    observer = {each.name: getattr(device.observer, each.name) for each in fields(device.observer) if each.init}
    return InspectedDevice(**{**known, "observer": Inspector(**observer, tell=tell)}, tell=tell)


@dataclass
class ToldFindings(Findings):
    """Findings of a walk, each of which is told.

    Attributes:
        key: the container.
        tell: is told.
        restore: mends twins, None: they stay.
        prefix: only what is met below it is told.
    """

    key: ContainerKey = field(kw_only=True)
    tell: Tell = field(kw_only=True)
    restore: Restore | None = None
    prefix: bytes = b""

    def note_unlistable(self, path: bytes, why: str) -> None:
        """See `Findings`."""
        self._tell(Kind.UNLISTABLE, path, why)

    def note_unreadable(self, path: bytes, error: OSError) -> None:
        """See `Findings`."""
        self._tell(Kind.UNREADABLE, path, error.strerror or str(error))

    def note_special(self, path: bytes) -> None:
        """See `Findings`."""
        self._tell(Kind.SPECIAL, path, "")

    def note_twin(self, directory: Directory, entry: bytes, name: bytes) -> None:
        """See `Findings`."""
        super().note_twin(directory, entry, name)
        plain = plain_entry(entry)
        if b"/" in entry or not name.startswith(self.prefix) or _exists(directory, plain):
            return
        text = os.fsdecode(name.removesuffix(b"/"))
        is_restored = self.restore is not None and self.restore(self.key, directory, entry, text)
        path = _real_path(directory.proc.rstrip(b"/")) + "/" + os.fsdecode(entry)
        self.tell(Problem(Kind.STALE_TWIN, path, f"{os.fsdecode(plain)!r} is free", is_restored))

    def _tell(self, kind: Kind, path: bytes, why: str) -> None:
        if path.startswith(self.prefix):
            self.tell(Problem(kind, f"{self.key}/{os.fsdecode(path)}", why))


def plain_entry(twin: bytes) -> bytes:
    """The plain place of a twin in the same directory. Source: lustack.mapping.names."""
    return twin.rpartition(b"%")[0]


def _exists(directory: Directory, entry: bytes) -> bool:
    with suppress(FileNotFoundError):
        os.stat(entry, dir_fd=directory.fd, follow_symlinks=False)
        return True
    return False


def _real_path(path: bytes) -> str:
    """Where a path below /proc/self/fd leads."""
    directory, _, entry = path.rpartition(b"/")
    if directory == b"/proc/self/fd":
        return os.fsdecode(os.readlink(path))
    return os.fsdecode(os.readlink(directory) + b"/" + entry)
