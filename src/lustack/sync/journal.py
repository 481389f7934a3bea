# SPDX-License-Identifier: Apache-2.0
"""What an interrupted `lustack fsck` needs to go on: how far it is, and what it has found, in one small file.

Rule 1: both are written together, atomically; so nothing is counted twice and nothing is forgotten.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field
from typing import Any

from lustack.posix.atomic import replace_file
from lustack.posix.errors import explain
from lustack.sync.drift import Suspect
from lustack.sync.errors import StateError
from lustack.sync.plan import SentRow
from lustack.sync.problems import Summary
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.state import Cursor, Scope

_VERSION = 1


@dataclass
class Progress:
    """How far a check is.

    Attributes:
        cursor: everything up to there was compared.
        is_compared: whether all of it was.
        names: how many names were compared.
        containers: how many containers were.
        summary: what was found.
        suspects: what has to be looked at again.
        notes: containers that were left alone, with the reason.
        failures: what could not be checked: sentence, whether trying again may help.
        again: prefixes that have to be compared once more: account, container, prefix.
    """

    cursor: Cursor = field(default_factory=Cursor)
    is_compared: bool = False
    names: int = 0
    containers: int = 0
    summary: Summary = field(default_factory=Summary)
    suspects: list[Suspect] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    failures: list[tuple[str, bool]] = field(default_factory=list)
    again: list[tuple[str, str, str]] = field(default_factory=list)


class Journal:
    """The file of one scope."""

    def __init__(self, state_dir: str, scope: Scope) -> None:
        """Touches nothing yet.

        Args:
            state_dir: the directory of the state.
            scope: what is checked.
        """
        digest = hashlib.md5(repr(scope.key).encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
        self._directory = state_dir
        self._name = f"fsck-{digest[:16]}.json"
        self.path = os.path.join(state_dir, self._name)

    def load(self) -> Progress:
        """Where the last run was interrupted; the beginning if it was not, or if nobody can read what it wrote."""
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            with open(self.path, encoding="ascii") as file:
                document = json.load(file)
            if document["version"] == _VERSION:
                return _parse(document)
        return Progress()

    def save(self, progress: Progress) -> None:
        """Writes it down, durably.

        Raises:
            StateError: it cannot be written.
        """
        with self._errors_named():
            fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                replace_file(fd, self._name.encode(), json.dumps(_render(progress)).encode("ascii"))
            finally:
                os.close(fd)

    def forget(self) -> None:
        """The check is finished.

        Raises:
            StateError: the file cannot be removed.
        """
        with self._errors_named(), suppress(FileNotFoundError):
            os.unlink(self.path)

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(self.path, explain(error)) from error


def _render(progress: Progress) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "cursor": astuple(progress.cursor),
        "is_compared": progress.is_compared,
        "names": progress.names,
        "containers": progress.containers,
        "summary": progress.summary.to_document(),
        "suspects": [(each.device, each.key, each.row) for each in progress.suspects],
        "notes": progress.notes,
        "failures": progress.failures,
        "again": progress.again,
    }


def _parse(document: dict[str, Any]) -> Progress:
    return Progress(
        Cursor(*document["cursor"]),
        document["is_compared"],
        document["names"],
        document["containers"],
        Summary.from_document(document["summary"]),
        [Suspect(device, ContainerKey(*key), SentRow(*row)) for device, key, row in document["suspects"]],
        [(where, why) for where, why in document["notes"]],
        [(sentence, is_retryable) for sentence, is_retryable in document["failures"]],
        [(account, container, prefix) for account, container, prefix in document["again"]],
    )
