# SPDX-License-Identifier: Apache-2.0
"""Which directories outside the device are containers: the table of exports.

An export binds a directory, somewhere on the machine, to one container. The files in it are the objects of that
container; nothing is moved. The daemon, the events and the policy share one space of paths, those below the device's
root, so a file of an export has a path there, too: the one that it would have in the container's own directory.

    /projects/cosmo/results/run1/a.h5  <->  AUTH_x/results/run1/a.h5  <->  /v1/AUTH_x/results/run1/a.h5

Rule 1: no two exports bind one container, and no exported directory lies in another one, so a file has one name.
Rule 2: what cannot be read whole is damaged. Nobody guesses at half a table.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lustack.errors import LustackError
from lustack.mapping import names
from lustack.mapping.names import RelPath

VERSION = 1

_MARK = re.compile(r"[0-9a-f]{32}")


class Stage(enum.StrEnum):
    """Where an export is in its life."""

    IMPORTING = "importing"
    READY = "ready"
    LEAVING = "leaving"


@dataclass(frozen=True)
class Export:
    """A directory that is a container.

    Attributes:
        account: account name.
        container: container name.
        path: of the directory: absolute, plain (`is_plain`).
        mark: 32 hexadecimal digits that the directory carries as an attribute.
        inode: of the directory.
        is_foreign: whether it is on another file system than the device: inodes there are others.
        stage: importing: its listing has not caught up with it yet; leaving: it is an export no more, and its
            listing must go.
    """

    account: str
    container: str
    path: bytes
    mark: str
    inode: int
    is_foreign: bool = False
    stage: Stage = Stage.IMPORTING

    @property
    def key(self) -> tuple[str, str]:
        """The container that it is."""
        return (self.account, self.container)

    @property
    def device_path(self) -> RelPath:
        """Where its container would be below the device root."""
        return names.container_path(self.account, self.container)


class ExportsDamagedError(LustackError):
    """The table of exports cannot be read.

    Attributes:
        why: as the end of the sentence "the table of exports is damaged:".
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the table of exports is damaged: {self.why}"


class Exports:
    """The exports of one device. Immutable."""

    def __init__(self, exports: Iterable[Export] = ()) -> None:
        """Sorts them.

        Args:
            exports: of different containers; the last one of a container counts.
        """
        self._all = {export.key: export for export in exports}
        self._bound = {key: export for key, export in self._all.items() if export.stage is not Stage.LEAVING}

    def __iter__(self) -> Iterator[Export]:
        return iter(self._all.values())

    def __bool__(self) -> bool:
        return bool(self._all)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exports) and self._all == other._all

    def __hash__(self) -> int:
        return hash(frozenset(self._all.values()))

    def get(self, account: str, container: str) -> Export | None:
        """The export that is this container, None if it is an ordinary one."""
        return self._bound.get((account, container))

    def bound(self) -> Iterable[Export]:
        """The exports that are containers, thus not those that are leaving."""
        return self._bound.values()

    def unsettled(self, account: str, container: str) -> Export | None:
        """The export of a container whose listing has not caught up with it, coming or leaving."""
        found = self._all.get((account, container))
        return None if found is None or found.stage is Stage.READY else found

    def containers(self, account: str) -> list[str]:
        """The exports of an account, in order."""
        return sorted(container for owner, container in self._bound if owner == account)

    def accounts(self) -> set[str]:
        """The accounts that have exports."""
        return {account for account, _ in self._bound}

    def put(self, export: Export) -> Exports:
        """A table with one export more, or another one in the place of an old one of its container."""
        return Exports((*self._all.values(), export))

    def remove(self, account: str, container: str) -> Exports:
        """A table without the export of a container."""
        return Exports(export for key, export in self._all.items() if key != (account, container))

    def at_stage(self, account: str, container: str, stage: Stage) -> Exports:
        """A table in which an export is at another stage; the same if there is none of this container."""
        found = self._all.get((account, container))
        return self if found is None else self.put(replace(found, stage=stage))


def is_plain(path: bytes) -> bool:
    """Whether a path is absolute, is not the root itself, and says the same to everybody: no `.`, `..`, `//`, NUL."""
    components = path.split(b"/")
    return not components[0] and len(components) > 1 and {b"", b".", b".."}.isdisjoint(components[1:]) and 0 not in path


def is_below(path: bytes, directory: bytes) -> bool:
    """Whether a plain path is that of a directory, or leads into it."""
    return path == directory or path.startswith(directory + b"/")


def render(exports: Exports) -> bytes:
    """A table as the bytes of its file."""
    documents = [_document(export) for export in sorted(exports, key=lambda each: each.key)]
    return json.dumps({"version": VERSION, "exports": documents}, indent=1).encode("ascii") + b"\n"


def parse(content: bytes) -> Exports:
    """The inverse of `render`.

    Raises:
        ExportsDamagedError: it is not what `render` writes.
    """
    try:
        document = json.loads(content)
        if document["version"] != VERSION:
            raise ExportsDamagedError(f"it has version {document['version']!r}, this lustack reads {VERSION}")
        found = [_export(each) for each in document["exports"]]
    except (ValueError, TypeError, KeyError) as error:
        raise ExportsDamagedError(f"{type(error).__name__}: {error}") from error
    if len({export.key for export in found}) != len(found):
        raise ExportsDamagedError("a container is in it twice")
    return Exports(found)


def _document(export: Export) -> dict[str, Any]:
    return {
        "account": export.account,
        "container": export.container,
        "path": export.path.decode("utf-8", "surrogateescape"),
        "mark": export.mark,
        "inode": export.inode,
        "foreign": export.is_foreign,
        "stage": export.stage.value,
    }


def _export(document: Mapping[str, Any]) -> Export:
    path = _typed(document, "path", str).encode("utf-8", "surrogateescape")
    mark = _typed(document, "mark", str)
    account, container = _typed(document, "account", str), _typed(document, "container", str)
    if not (is_plain(path) and _MARK.fullmatch(mark) and account and container):
        raise ExportsDamagedError(f"{document!r} is no export")
    is_foreign, stage = _typed(document, "foreign", bool), Stage(document["stage"])
    return Export(account, container, path, mark, _typed(document, "inode", int), is_foreign, stage)


def _typed(document: Mapping[str, Any], key: str, kind: type) -> Any:  # noqa: ANN401 - of that kind
    value = document[key]
    if not isinstance(value, kind):
        raise ExportsDamagedError(f"{key} is {value!r}")
    return value
