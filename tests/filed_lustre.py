# SPDX-License-Identifier: Apache-2.0
"""A fake Lustre that other processes can read: what the fake knows, in files, published step by step.

test's process:   FakeLustre -> Publisher.publish()  ->  known.sqlite, MDT.log, MDT.ends
other processes:  FiledLustre(directory): the protocol, and `MDT.cleared`

python -m tests.filed_lustre DIRECTORY      reads, stores what it read, then acknowledges; until it is killed
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import sqlite3
import struct
import sys
import threading
from contextlib import contextmanager, suppress

from tests.lustres import FORGETFUL

from lustack.lustre.changelog import Type, scan
from lustack.lustre.errors import ChangelogError, ChangelogIndexError, ChangelogUserError, FidNotFoundError
from lustack.lustre.fid import render
from lustack.lustre.kernel import Link
from lustack.sync.events import NameChanged
from lustack.sync.sources.changelog import parse_position
from lustack.sync.sources.changelogs import ChangelogSources
from lustack.sync.sources.protocol import Position
from lustack.sync.sources.roots import Root

_SCHEMA = """
CREATE TABLE inode (key BLOB PRIMARY KEY, inode INTEGER, is_directory INTEGER, links TEXT) WITHOUT ROWID;
CREATE INDEX number ON inode (inode);
"""
_END = struct.Struct("<QQ")
"""Of each record: its index, and where it ends in the log."""

_MOST = 1000
"""Records of a read."""

_FAULTS = {"open": 0.05, "read": 0.005, "clear": 0.1, "links": 0.002}
"""How often something fails, of 1. After an error a log is read again from further back: many more end nowhere."""

USER = "cl1"
CHUNK_BYTES = 43_000
"""Source: measured, a read of the device gives 34 104 to 72 571."""


def replace_file(path, text):
    with open(path + ".new", "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


class Publisher:
    """Publishes what a fake knows. Records that were published are forgotten by the fake.

    Attributes:
        lustre: the fake.
        directory: for the files.
        last: index of the last published record of each MDT.
    """

    def __init__(self, lustre, directory):
        os.makedirs(directory, exist_ok=True)
        self.lustre, self.directory = lustre, str(directory)
        for log in lustre.logs.values():
            log.register()
        self.last = {mdt: log.last_index for mdt, log in lustre.logs.items()}
        self._lock = threading.Lock()
        self._sizes = dict.fromkeys(lustre.logs, 0)
        self._known = sqlite3.connect(self._path("known.sqlite"), check_same_thread=False)
        self._known.execute("PRAGMA journal_mode = WAL")
        self._known.execute("PRAGMA synchronous = OFF")
        self._known.executescript(_SCHEMA)
        self._note(list(lustre._links))
        for mdt in lustre.logs:
            open(self._path(f"{mdt}.ends"), "ab").close()
            open(self._path(f"{mdt}.log"), "ab").close()

    def publish(self):
        """What happened since the last time. The logs last: whoever reads a record must find what it is about."""
        with self._lock:
            self._publish()

    def _publish(self):
        with self.lustre._lock:
            fresh = {mdt: dict(log.records) for mdt, log in self.lustre.logs.items()}
            keys = {}
            for records in fresh.values():
                for raw in records.values():
                    ((_, _, _, _, target, _, source, _),) = scan(raw)
                    keys[target] = None
                    if source:
                        keys[raw[source : source + 16]] = None
            self._note(keys)
        for mdt, records in fresh.items():
            if records:
                self._write(mdt, records)
                for user in tuple(self.lustre.logs[mdt].users):
                    self.lustre.logs[mdt].clear(user, self.last[mdt])

    def close(self):
        self._known.close()

    def _note(self, keys):
        rows = []
        for key in keys:
            links = self.lustre._links.get(key)
            if links is None:
                self._known.execute("DELETE FROM inode WHERE key = ?", (bytes(key),))
                continue
            path = self.lustre._real(self.lustre.path_of(key))
            text = json.dumps([[link.parent.hex(), link.name.hex()] for link in links])
            rows.append((bytes(key), int.from_bytes(key[:8], "little"), os.path.isdir(path), text))
        self._known.executemany("INSERT OR REPLACE INTO inode VALUES (?, ?, ?, ?)", rows)
        self._known.commit()

    def _write(self, mdt, records):
        ends = bytearray()
        for index, raw in records.items():
            self._sizes[mdt] += len(raw)
            self.last[mdt] = index
            ends += _END.pack(index, self._sizes[mdt])
        for name, piece in ((f"{mdt}.log", b"".join(records.values())), (f"{mdt}.ends", ends)):
            with open(self._path(name), "ab") as file:
                file.write(piece)

    def _path(self, name):
        return os.path.join(self.directory, name)


class FiledLog:
    """See `lustack.lustre.protocol.Changelog`. It holds what was there when it was opened."""

    def __init__(self, lustre, path, index):
        self.lustre = lustre
        self.ends, self.file = (os.open(f"{path}.{kind}", os.O_RDONLY) for kind in ("ends", "log"))
        self.count = os.fstat(self.ends).st_size // _END.size
        first = self.end(0)[0] if self.count else 1
        self.next = min(max(0, index - first), self.count)
        self.at = self.end(self.next - 1)[1] if self.next else 0

    def end(self, number):
        return _END.unpack(os.pread(self.ends, _END.size, number * _END.size))

    def read(self, timeout_s):
        self.lustre.stumble("read")
        return self.take(min(self.count - self.next, _MOST), self.lustre.chunk_bytes)[0]

    def take(self, most, most_bytes=sys.maxsize):
        """Records, at most so many; their bytes, and where each ends in them."""
        ends = []
        for _, end in _END.iter_unpack(os.pread(self.ends, most * _END.size, self.next * _END.size)):
            if ends and end - self.at > most_bytes:
                break
            ends.append(end - self.at)
        piece = os.pread(self.file, ends[-1], self.at) if ends else b""
        self.next += len(ends)
        self.at += len(piece)
        return piece, ends

    def close(self):
        os.close(self.ends)
        os.close(self.file)


class FiledLustre:
    """See `lustack.lustre.protocol.Lustre`; in as many processes as one likes.

    Attributes:
        directory: of the files.
        chunk_bytes: a read gives so much.
        chance: decides when something fails; nothing does if it is None.
        prove: is asked before records are cleared: `prove(mdt, index, raw records)` says what is wrong with that.
    """

    def __init__(self, directory, chunk_bytes=CHUNK_BYTES, chance=None, prove=None):
        self.directory, self.chunk_bytes, self.chance = str(directory), chunk_bytes, chance
        self.prove = prove
        self.point = os.path.dirname(self.directory)
        self._threads = threading.local()

    def path(self, name):
        return os.path.join(self.directory, name)

    def stumble(self, what):
        if self.chance is not None and self.chance.random() < _FAULTS[what]:
            raise ChangelogError(what, "Input/output error")

    def known(self, statement, key):
        if not hasattr(self._threads, "known"):
            # Closed when its thread is gone.
            self._threads.known = sqlite3.connect(self.path("known.sqlite"), timeout=60, check_same_thread=False)
        return self._threads.known.execute(f"SELECT key, is_directory, links FROM inode WHERE {statement}", (key,))

    def mdts(self):
        return tuple(sorted(name[:-5] for name in os.listdir(self.directory) if name.endswith(".ends")))

    def open_changelog(self, mdt, index, *, follow):
        self.stumble("open")
        return FiledLog(self, self.path(mdt), max(index, self.cleared(mdt) + 1))

    def cleared(self, mdt):
        try:
            with open(self.path(f"{mdt}.cleared")) as file:
                return int(file.read())
        except FileNotFoundError:
            return 0

    def clear(self, mdt, user, index):
        self.stumble("clear")
        with self._locked():
            before = self.cleared(mdt)
            if index < before or user != USER:
                raise ChangelogUserError(mdt, user, index)
            log = FiledLog(self, self.path(mdt), before + 1)
            try:
                if log.count - log.next < index - before:
                    raise ChangelogIndexError(mdt, index)
                if self.prove:
                    # Only then: those are all that were read since the last time, a hundred MiB perhaps.
                    self._prove(mdt, index, *log.take(index - before))
            finally:
                log.close()
            replace_file(self.path(f"{mdt}.cleared"), str(index))
            with open(self.path(f"{mdt}.clears"), "a") as file:
                file.write(f"{index}\n")

    def _prove(self, mdt, index, raw, ends):
        records = [raw[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        for wrong in self.prove(mdt, index, records):
            self._note_violation(wrong)

    @contextmanager
    def _locked(self):
        with open(self.path("lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _note_violation(self, wrong):
        with open(self.path("violations"), "a") as file:
            file.write(wrong + "\n")

    def links(self, key):
        if self.chance is not None and self.chance.random() < _FAULTS["links"]:
            raise OSError(5, "Input/output error")
        for _, _, links in self.known("key = ?", bytes(key)):
            return [Link(bytes.fromhex(parent), bytes.fromhex(name)) for parent, name in json.loads(links)]
        raise FidNotFoundError(render(key))

    def is_directory(self, key):
        for _, is_directory, _ in self.known("key = ?", bytes(key)):
            return bool(is_directory)
        raise FidNotFoundError(render(key))

    def key_of(self, fd):
        ((key, _, _),) = self.known("inode = ?", os.fstat(fd).st_ino).fetchall()
        return key


def read_clears(directory, mdt):
    """Every index up to which the log of an MDT was ever cleared, in order and once."""
    with open(os.path.join(directory, f"{mdt}.clears")) as file:
        return list(dict.fromkeys(map(int, file.read().split())))


def read_violations(directory):
    """What was cleared too early."""
    with suppress(FileNotFoundError), open(os.path.join(directory, "violations")) as file:
        return file.read().splitlines()
    return []


def made_and_removed(records):
    """Names that records say something about: whether they were made or removed, the directory, the name."""
    kinds = {Type.CREAT: True, Type.UNLNK: False}
    for raw in records:
        ((kind, _, _, _, _, parent, _, name),) = scan(raw)
        if kind in kinds:
            yield kinds[kind], parent, name


def read_position(directory):
    with open(os.path.join(directory, "position")) as file:
        return file.read()


def prove_position(directory):
    """Nothing is cleared before what was read of it is stored."""

    def prove(mdt, index, records):
        stored = json.loads(read_position(directory))
        return [f"{mdt} {index} {stored}"] if index > parse_position(stored[mdt]).index else []

    return prove


def main(directory):
    lustre = FiledLustre(directory, chunk_bytes=300, prove=prove_position(directory))
    root = Root(os.path.join(os.path.dirname(directory), "tree", "top"))
    source = ChangelogSources("changelog:filed", lustre, dict.fromkeys(lustre.mdts(), USER), [root], FORGETFUL)
    source.open(Position(read_position(directory)))
    with open(os.path.join(directory, "events"), "a") as events:
        while True:
            batch = source.read(0.2)
            if batch is None:
                continue
            for event in batch.events:
                paths = [event.path] if isinstance(event, NameChanged) else list(event)
                events.write(json.dumps([isinstance(event, NameChanged), [path.hex() for path in paths]]) + "\n")
            events.flush()
            os.fsync(events.fileno())
            replace_file(os.path.join(directory, "position"), batch.position)
            source.acknowledge(batch.position)


def seeded(text):
    """Chance with a seed; None without one."""
    return random.Random(int(text)) if text else None


if __name__ == "__main__":
    main(sys.argv[1])
