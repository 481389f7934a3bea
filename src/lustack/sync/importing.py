# SPDX-License-Identifier: Apache-2.0
"""Makes listings catch up with exports that came or left: the daemon's part of `lustack export`.

    table changed -> who watches files is told, so that nothing is missed -> each export that is not settled is compared

Rule 1: the source of events comes first, the import after it. What jobs change meanwhile is either seen by the import
or comes as an event.
Rule 2: an import is a comparison like any other: it is a durable job that goes on where it was, here or in the command.
Whoever ends it notes in the table that the export is settled.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lustack.errors import LustackError
from lustack.exports.errors import ExportMissingError
from lustack.exports.roots import open_export, opened_device
from lustack.exports.table import Reader
from lustack.mapping.exports import Export, Exports, ExportsDamagedError, Stage
from lustack.sync.errors import StoppedError
from lustack.sync.state import Scope
from lustack.sync.survey import Report

OWNER = "export"
"""Of the jobs: the daemon and the command go on where the other one ended."""

_LOOK_S = 0.5
_LONGEST_WAIT_S = 30.0


def scope_of(export: Export) -> Scope:
    """What is compared for an export."""
    return Scope(*export.key, owner=OWNER)


@dataclass(frozen=True)
class Known:
    """What was found at a look.

    Attributes:
        exports: the table.
        there: the marks of those whose directories are there.
    """

    exports: Exports = field(default_factory=Exports)
    there: frozenset[str] = frozenset()

    def to_import(self, before: Known) -> list[Export]:
        """What must be compared: what comes, what leaves, and what came back: nobody has watched it meanwhile.

        Args:
            before: what was found at the look before.
        """
        away = {export.mark for export in before.exports.bound()} - before.there
        return [
            export
            for export in self.exports
            if export.stage is Stage.LEAVING
            or (export.mark in self.there and (export.stage is Stage.IMPORTING or export.mark in away))
        ]


class Importer:
    """Looks at the tables of exports. Run it in one thread."""

    def __init__(
        self,
        devices: Iterable[str],
        compare: Callable[[Scope], Report],
        warn: Callable[[str], None],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Reads nothing yet.

        Args:
            devices: the device roots.
            compare: compares a scope, as `Survey.run`.
            warn: takes a sentence about trouble.
            on_change: is told that other directories are exported, or are there, than at the last look, before
                anything is imported.
        """
        self._readers = {path: Reader(warn) for path in devices}
        self._known = {path: Known() for path in self._readers}
        self._compare = compare
        self._warn = warn
        self._on_change = on_change

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set."""
        wait_s = _LOOK_S
        while not stop.wait(wait_s):
            wait_s = _LOOK_S if self.turn() else min(2 * wait_s, _LONGEST_WAIT_S)

    def turn(self) -> bool:
        """Looks once, and imports what there is to import.

        Returns:
            Whether there was nothing to do, and no trouble.
        """
        before = dict(self._known)
        is_read = [self._look(path, reader) for path, reader in self._readers.items()]
        if self._known != before:
            self._on_change()
        wanted = [export for path, known in self._known.items() for export in known.to_import(before[path])]
        for export in wanted:
            for sentence in self._import(export):
                self._warn(sentence)
        return all(is_read) and not wanted

    def _look(self, path: str, reader: Reader) -> bool:
        """Whether the table is not damaged."""
        damage = ""
        missing: dict[str, str] = {}
        try:
            with opened_device(path) as root_fd:
                exports = reader.current(root_fd)
        except ExportsDamagedError as error:
            damage = f"{path}: {error}"
        except OSError:
            # Comparisons say what is the matter with the device.
            pass
        else:
            missing = {export.mark: _missing(export) for export in exports.bound()}
            self._known[path] = Known(exports, frozenset(mark for mark, why in missing.items() if not why))
        for trouble in filter(None, (damage, *missing.values())):
            # Not above: oslo.log repeats an exception that is being handled.
            self._warn(trouble)
        return not damage

    def _import(self, export: Export) -> list[str]:
        """What went wrong."""
        try:
            report = self._compare(scope_of(export))
        except StoppedError:
            return []
        except LustackError as error:
            return [str(error)]
        return [str(error) for error in report.errors]


def _missing(export: Export) -> str:
    """Why the directory of an export cannot be used, empty if it can."""
    try:
        os.close(open_export(export))
    except ExportMissingError as error:
        return str(error)
    return ""
