# SPDX-License-Identifier: Apache-2.0
"""What `lustack fsck` can find, what each finding means, and how findings are counted.

Rule 1: a problem is something that should not stay; a note is a state that is allowed, or litter that harms nobody.
Rule 2: the words of `Kind` are an interface: programs read them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_SAMPLES = 20


class Kind(enum.StrEnum):
    """What was found."""

    MISSING_ROW = "missing-row"
    EXTRA_ROW = "extra-row"
    WRONG_ROW = "wrong-row"
    MOVING = "moving"
    UNREADABLE = "unreadable-directory"
    SHADOWED = "shadowed-file"
    STALE_TWIN = "stale-twin"
    DAMAGED = "damaged-metadata"
    NO_CONTAINER = "directory-without-container"
    NO_DIRECTORY = "container-without-directory"
    NO_ACCOUNT = "directory-without-account"
    UNLISTABLE = "unlistable-name"
    SPECIAL = "special-file"
    STALE_STAMP = "stale-stamp"
    COPIED = "copied-metadata"
    TEMPORARY = "old-temporary"
    TOMBSTONE = "old-tombstone"
    SIDECAR = "orphan-sidecar"


class Meaning(NamedTuple):
    """What a kind stands for.

    Attributes:
        is_problem: whether it should not stay.
        sentence: what it is.
        remedy: what `--repair` does about it, or what a human can do.
    """

    is_problem: bool
    sentence: str
    remedy: str


_ROWS = "--repair writes the row"

MEANINGS: Mapping[Kind, Meaning] = {
    Kind.MISSING_ROW: Meaning(True, "files that the listing lacks", _ROWS),
    Kind.EXTRA_ROW: Meaning(True, "rows without a file", "--repair deletes the row"),
    Kind.WRONG_ROW: Meaning(True, "rows that say something else than the file", _ROWS),
    Kind.UNREADABLE: Meaning(True, "directories that cannot be read", "the daemon's user must be allowed to"),
    Kind.SHADOWED: Meaning(True, "files hidden by another of the same object name", "rename one of them"),
    Kind.STALE_TWIN: Meaning(True, "twins whose plain place is free", "--repair gives them their plain name back"),
    Kind.DAMAGED: Meaning(True, "metadata that cannot be read", "nothing is erased: PUT or POST the object again"),
    Kind.NO_CONTAINER: Meaning(
        True,
        "directories that belong to no container",
        "--repair adopts what Swift never heard of; else see the reason",
    ),
    Kind.NO_DIRECTORY: Meaning(False, "containers whose directory is missing", "the next PUT makes it"),
    Kind.NO_ACCOUNT: Meaning(False, "directories of accounts that Swift does not know", "none if they are no accounts"),
    Kind.MOVING: Meaning(False, "names that changed at every look", "check again"),
    Kind.UNLISTABLE: Meaning(False, "names that cannot be objects", "rename them"),
    Kind.SPECIAL: Meaning(False, "links, FIFOs, sockets and devices", "none: they are not objects"),
    Kind.STALE_STAMP: Meaning(False, "objects that a job has written to", "none: the hasher learns their MD5"),
    Kind.COPIED: Meaning(False, "metadata of another file, carried by a copy", "none: it is not believed"),
    Kind.TEMPORARY: Meaning(False, "temporary files that crashes left", "--repair removes them, as the daemon does"),
    Kind.TOMBSTONE: Meaning(False, "old marks of deletions", "--repair removes them, as the daemon does"),
    Kind.SIDECAR: Meaning(False, "sidecars whose file is gone", "--repair puts them aside, as the daemon does"),
}
"""Every kind."""


class Problem(NamedTuple):
    """One thing that was found.

    Attributes:
        kind: what it is.
        path: of a file, or `account/container/object`; bytes that are no UTF-8 are escaped as by `os.fsdecode`.
        why: more about it; may be empty.
        is_repaired: whether it is mended.
    """

    kind: Kind
    path: str
    why: str = ""
    is_repaired: bool = False


@dataclass
class Findings:
    """What was found of one kind.

    Attributes:
        count: how often.
        repaired: how many of them are mended.
        samples: some: path, reason.
    """

    count: int = 0
    repaired: int = 0
    samples: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Summary:
    """What was found in all.

    Attributes:
        kinds: by kind, those that were found.
    """

    kinds: dict[Kind, Findings] = field(default_factory=dict)

    def add(self, problem: Problem) -> None:
        """Counts one more."""
        found = self.kinds.setdefault(problem.kind, Findings())
        found.count += 1
        found.repaired += problem.is_repaired
        if len(found.samples) < _SAMPLES:
            found.samples.append((problem.path, problem.why))

    def open_count(self, *, strict: bool = False) -> int:
        """How many problems are left.

        Args:
            strict: whether notes count too.
        """
        return sum(
            found.count - found.repaired for kind, found in self.kinds.items() if strict or MEANINGS[kind].is_problem
        )

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            str(kind): {
                "problem": MEANINGS[kind].is_problem,
                "count": found.count,
                "repaired": found.repaired,
                "samples": found.samples,
            }
            for kind, found in self.kinds.items()
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Summary:
        """The inverse of `to_document`."""
        return cls(
            {
                Kind(kind): Findings(each["count"], each["repaired"], [(path, why) for path, why in each["samples"]])
                for kind, each in document.items()
            }
        )
