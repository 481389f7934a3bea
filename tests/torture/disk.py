# SPDX-License-Identifier: Apache-2.0
"""What the file system shows of a container: its objects, found by `lustack.mapping.names` alone."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import replace
from pathlib import Path

from tests.functional import tree
from tests.torture.ledger import Seen

from lustack.mapping import names
from lustack.mapping.names import Kind

EMPTY_MD5 = hashlib.md5().hexdigest()
_FILE, _MARKER, _TWIN = range(3)

Identity = tuple[int, int, int, int]


class Disk:
    """Looks at the directory of one container. The bytes of a file that did not change are read once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: dict[Identity, str] = {}

    def look(self) -> dict[str, Seen]:
        """Every object. Files that vanish meanwhile are none."""
        found = {}
        for name, places in tree.objects(self.directory).items():
            seen = [
                file for place in sorted(places, key=self._rank) if (file := self._look_at(place, name)) is not None
            ]
            if seen:
                found[name] = replace(seen[0], hidden=tuple(seen[1:]))
        return found

    def path_of(self, name: str) -> bytes | None:
        """Where the object is that counts among several of one name, None if there is none."""
        places = tree.objects(self.directory).get(name)
        return min(places, key=self._rank) if places else None

    def _rank(self, path: bytes) -> tuple[int, list[bool]]:
        """The order in which places of one name count: see `lustack.swift.placement`."""
        if os.path.isdir(os.path.join(os.fsencode(self.directory), path)):
            return _MARKER, [_is_twin(entry, Kind.DIRECTORY) for entry in path.split(b"/")]
        *above, last = path.split(b"/")
        directories = [_is_twin(entry, Kind.DIRECTORY) for entry in above]
        return _TWIN if _is_twin(last, Kind.FILE) else _FILE, directories

    def _look_at(self, path: bytes, name: str) -> Seen | None:
        whole = os.path.join(os.fsencode(self.directory), path)
        try:
            status = os.lstat(whole)
            if stat.S_ISDIR(status.st_mode):
                return Seen(EMPTY_MD5, (status.st_ino, "slash" if name.endswith("/") else "plain"), status.st_ctime_ns)
            identity = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if identity not in self._known:
                with open(whole, "rb") as file:
                    self._known[identity] = hashlib.file_digest(file, "md5").hexdigest()
        except OSError:
            return None
        return Seen(self._known[identity], (status.st_ino, "file"), status.st_ctime_ns)


def _is_twin(entry: bytes, kind: Kind) -> bool:
    return not names.is_continued(entry) and names.decode_entry(entry, kind)[1]
