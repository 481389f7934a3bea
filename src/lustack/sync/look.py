# SPDX-License-Identifier: Apache-2.0
"""Looks at the dirty names of one container, and says which rows to send.

Rule 1: the timestamp of a row is taken before its file is looked at; so whatever happens meanwhile, whoever looks last
has the latest timestamp. Some names share one: what happens after it has an event that is still to come.
Rule 2: a plain name lies at its plain place or its twin's. Twins are looked for only in containers that have some, as
the object servers do.
Rule 3: what cannot be looked at is not gone: it is reported, and looked at again.
Rule 4: of a directory that is there and no marker, no row is sent: it never had one, or Swift deletes it itself.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field

from lustack.mapping import layout, names
from lustack.mapping.metadata import timestamp_text
from lustack.mapping.names import UnrepresentableNameError
from lustack.sync import plan
from lustack.sync.address import names_of
from lustack.sync.device import Device
from lustack.sync.dirty import DIRECTORY, FILE, NEW, Batch
from lustack.sync.locate import Locator
from lustack.sync.observe import NOTHING_THERE, Directory, Observer, list_attributes
from lustack.sync.plan import SentRow, Wanted
from lustack.sync.sinks.protocol import ContainerKey

IsUntouched = Callable[[ContainerKey, str, str], bool]
"""See `RecentSink.is_untouched`."""

LEFT_OUT_BYTES = 180
"""What a name that was left out takes beside its own bytes. Source: measured, tests/unit/sync/test_budget.py."""

_SAME_TIME = 32
"""So many names are looked at with one timestamp."""

_LIMIT_BYTES = 16 * 2**20
_SHORT_LIVED_NS = 60 * 10**9
"""How long a name that came and went may have waited to be looked at: for so long no row was sent for it, or it needs a
deletion."""

_ABSENT = (FileNotFoundError, NotADirectoryError)


@dataclass
class Looked:
    """What was found.

    Attributes:
        rows: to be sent.
        unhashed: objects without a known MD5.
        unseen: paths below the container that could not be looked at.
        self_events: rows that repeat what Swift said.
        short_lived: names that came and went unseen.
    """

    rows: list[SentRow] = field(default_factory=list)
    unhashed: list[str] = field(default_factory=list)
    unseen: list[bytes] = field(default_factory=list)
    self_events: int = 0
    short_lived: int = 0


class LeftOut:
    """Remembers some names that are not listed because they are temporary: when they go there is no row to delete."""

    def __init__(self, limit_bytes: int = _LIMIT_BYTES) -> None:
        self._limit_bytes, self._size_bytes = limit_bytes, 0
        self._names: dict[tuple[ContainerKey, bytes], None] = {}

    def add(self, key: ContainerKey, rest: bytes) -> None:
        """A name was left out."""
        if (key, rest) in self._names:
            return
        if self._size_bytes + LEFT_OUT_BYTES + len(rest) > self._limit_bytes:
            self._names.clear()
            self._size_bytes = 0
        self._size_bytes += LEFT_OUT_BYTES + len(rest)
        self._names[key, rest] = None

    def take(self, key: ContainerKey, rest: bytes) -> bool:
        """Whether a name that is gone was left out."""
        if self._names.pop((key, rest), self) is not None:
            return False
        self._size_bytes -= LEFT_OUT_BYTES + len(rest)
        return True


def look(
    device: Device,
    key: ContainerKey,
    batch: Batch,
    now_ns: Callable[[], int],
    is_untouched: IsUntouched,
    left_out: LeftOut,
) -> Looked:
    """Looks at names.

    Args:
        device: where they are.
        key: their container.
        batch: their paths.
        now_ns: gives timestamps.
        is_untouched: whether Swift's own row may be repeated.
        left_out: remembers.

    Raises:
        OSError: the directory of the container cannot be opened, though it is there.
    """
    looker = _Looker(device.observer_of(*key), key, now_ns, is_untouched, left_out)
    directory = device.open_container(*key)
    if directory is None:
        looker.note_all_gone(batch)
        return looker.found
    with closing(directory), closing(Locator(directory)) as locator, closing(_Folder(directory)) as folder:
        looker.run(batch, locator, folder)
    return looker.found


class _Folder:
    """The directory of the last name, kept open for the next, which is usually in the same one."""

    def __init__(self, container: Directory) -> None:
        self._container = container
        self._path: bytes | None = b""
        self._open: Directory = container

    def enter(self, path: bytes) -> Directory:
        """Raises OSError, among others if it is not there."""
        if path != self._path:
            self.close()
            self._open = Directory.open(self._container.fd, path) if path else self._container
            self._path = path
        return self._open

    def close(self) -> None:
        if self._open is not self._container:
            self._open.close()
            self._open, self._path = self._container, b""


class _Looker:
    """Looks at one batch."""

    def __init__(
        self,
        observer: Observer,
        key: ContainerKey,
        now_ns: Callable[[], int],
        is_untouched: IsUntouched,
        left_out: LeftOut,
    ) -> None:
        self.found = Looked()
        self._observer = observer
        self._key = key
        self._now_ns = now_ns
        self._is_untouched = is_untouched
        self._left_out = left_out
        self._take_time()

    def run(self, batch: Batch, locator: Locator, folder: _Folder) -> None:
        self._locator, self._folder = locator, folder
        self._has_twins = layout.ATTRIBUTE_TWINS in list_attributes(folder.enter(b"").proc)
        for number, rest in enumerate(sorted(batch)):
            value = batch[rest]
            if number % _SAME_TIME == 0:
                self._take_time()
            try:
                if value & DIRECTORY or not names.is_plain(rest):
                    self._look_closely(rest, value)
                else:
                    self._look(rest, value)
            except OSError:
                self.found.unseen.append(rest)

    def _take_time(self) -> None:
        self._observed_ns = self._now_ns()
        self._observed = timestamp_text(self._observed_ns)

    def _look(self, rest: bytes, value: int) -> None:
        """A name without marks, of what is no directory."""
        try:
            name = names.to_name(rest, rest)
        except UnrepresentableNameError:
            return
        path, _, entry = rest.rpartition(b"/")
        try:
            wanted = self._observer.look(name, self._folder.enter(path), entry, self._observed_ns)
        except OSError as error:
            if error.errno == errno.ENOENT and not self._has_twins:
                self._note_absent(rest, name, value)
                return
            if error.errno not in NOTHING_THERE:
                raise
            wanted = None
        if wanted is None:
            self._look_closely(rest, value)
        else:
            self._note_present(name, wanted)

    def _look_closely(self, rest: bytes, value: int) -> None:
        """Everywhere where an object of this name may be."""
        is_directory, is_file = bool(value & DIRECTORY), bool(value & FILE)
        is_there = is_directory and self._is_directory(rest)
        for name in names_of(rest, is_file=is_file, is_directory=is_directory):
            wanted = self._observer.observe(name, self._locator.places(name), self._observed_ns)
            if wanted is not None:
                self._note_present(name, wanted)
            elif not is_directory and self._is_left_out(rest):
                self._left_out.add(self._key, rest)
            elif not is_there or (is_file and not name.endswith("/")):
                self._note_absent(rest, name, value)

    def _is_left_out(self, rest: bytes) -> bool:
        """Whether a name is one of a temporary file, which is there."""
        path, _, entry = rest.rpartition(b"/")
        if not self._observer.excludes(entry):
            return False
        with suppress(*_ABSENT):
            os.stat(entry, dir_fd=self._folder.enter(path).fd, follow_symlinks=False)
            return True
        return False

    def _is_directory(self, rest: bytes) -> bool:
        try:
            self._folder.enter(rest)
        except OSError as error:
            if error.errno not in NOTHING_THERE:
                raise
            return False
        return True

    def note_all_gone(self, batch: Batch) -> None:
        """Names whose container has no directory any more."""
        for rest, value in batch.items():
            for name in names_of(rest, is_file=bool(value & FILE), is_directory=bool(value & DIRECTORY)):
                self._note_absent(rest, name, value)

    def _note_present(self, name: str, wanted: Wanted) -> None:
        if not wanted.is_hashed:
            self.found.unhashed.append(name)
        if wanted.floor and plan.is_of_swift(wanted):
            self.found.self_events += 1
            if self._is_untouched(self._key, name, wanted.floor):
                self.found.rows.append(plan.repeat(name, wanted))
                return
        self.found.rows.append(plan.put_at(name, wanted, self._observed))

    def _note_absent(self, rest: bytes, name: str, value: int) -> None:
        # A comparison may have listed what came and went since.
        since = timestamp_text(self._observed_ns - _SHORT_LIVED_NS)
        is_new = value & NEW and self._is_untouched(self._key, name, since)
        if is_new or self._left_out.take(self._key, rest):
            self.found.short_lived += 1
        else:
            self.found.rows.append(plan.delete(name, self._observed_ns))
