# SPDX-License-Identifier: Apache-2.0
"""A fake Lustre that another process can read: what the fake knows, in files. And a reader that is made to be killed.

python -m tests.filed_lustre DIRECTORY      reads, stores what it read, then acknowledges; until it is killed
"""

from __future__ import annotations

import json
import os
import sys

from tests.lustres import QUICK

from lustack.lustre.changelog import record_size, scan
from lustack.lustre.errors import ChangelogUserError, FidNotFoundError
from lustack.lustre.fid import Fid, render
from lustack.lustre.kernel import Link
from lustack.sync.events import NameChanged
from lustack.sync.sources.changelog import parse_position
from lustack.sync.sources.changelogs import ChangelogSources
from lustack.sync.sources.protocol import Position
from lustack.sync.sources.roots import Root


def replace_file(path, text):
    with open(path + ".new", "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


def export(lustre, directory):
    """What a fake knows now. The logs last: whoever reads a record must find what it is about."""
    names = {
        key.hex(): [[link.parent.hex(), link.name.hex()] for link in links] for key, links in lustre._links.items()
    }
    folders = [key.hex() for key in lustre._links if os.path.isdir(lustre._real(lustre.path_of(key)))]
    known = {"names": names, "folders": folders, "generations": lustre._generations}
    replace_file(os.path.join(directory, "known.json"), json.dumps(known))
    for mdt, log in lustre.logs.items():
        raw = b"".join(log.records.values())
        replace_file(os.path.join(directory, f"{mdt}.log"), raw.hex())


class FiledLog:
    """See `lustack.lustre.protocol.Changelog`."""

    def __init__(self, pieces):
        self.pieces = pieces

    def read(self, timeout_s):
        return self.pieces.pop(0) if self.pieces else b""

    def close(self):
        pass


class FiledLustre:
    """See `lustack.lustre.protocol.Lustre`."""

    def __init__(self, directory):
        self.directory = directory

    def path(self, name):
        return os.path.join(self.directory, name)

    def known(self):
        with open(self.path("known.json")) as file:
            return json.load(file)

    def mdts(self):
        return tuple(sorted(name[:-4] for name in os.listdir(self.directory) if name.endswith(".log")))

    def open_changelog(self, mdt, index, *, follow):
        with open(self.path(f"{mdt}.log")) as file:
            raw = bytes.fromhex(file.read())
        at, pieces = 0, []
        for record in scan(raw):
            size = record_size(raw, at)
            if record[2] >= index and record[2] > self.cleared(mdt):
                pieces.append(raw[at : at + size])
            at += size
        # Few at a time, so that a kill comes in between.
        return FiledLog([b"".join(pieces[start : start + 3]) for start in range(0, len(pieces), 3)])

    def cleared(self, mdt):
        try:
            with open(self.path(f"{mdt}.cleared")) as file:
                return int(file.read())
        except FileNotFoundError:
            return 0

    def clear(self, mdt, user, index):
        if index < self.cleared(mdt):
            raise ChangelogUserError(mdt, user, index)
        stored = json.loads(read_position(self.directory))
        if index > parse_position(stored[mdt]).index:
            replace_file(self.path("violation"), f"{mdt} {index} {stored}")
        replace_file(self.path(f"{mdt}.cleared"), str(index))

    def links(self, key):
        found = self.known()["names"].get(bytes(key).hex())
        if found is None:
            raise FidNotFoundError(render(key))
        return [Link(bytes.fromhex(parent), bytes.fromhex(name)) for parent, name in found]

    def is_directory(self, key):
        self.links(key)
        return bytes(key).hex() in self.known()["folders"]

    def key_of(self, fd):
        inode = os.fstat(fd).st_ino
        return Fid(inode, self.known()["generations"][str(inode)], 0).key


def read_position(directory):
    with open(os.path.join(directory, "position")) as file:
        return file.read()


def main(directory):
    lustre = FiledLustre(directory)
    root = Root(os.path.join(directory, "tree", "top"))
    source = ChangelogSources("changelog:filed", lustre, dict.fromkeys(lustre.mdts(), "cl1"), [root], QUICK)
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


if __name__ == "__main__":
    main(sys.argv[1])
