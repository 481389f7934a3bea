# SPDX-License-Identifier: Apache-2.0
"""The closed set of things that a source can report.

Rule 1: an event is a hint about where to look, never about what is there: whoever gets it looks at the file.
Rule 2: less precise is always allowed. `TreeChanged` may stand for any number of `NameChanged` below it.
Rule 3: what an event says beside the path (`is_open`, `is_new`) saves work; nothing depends on its being right.
"""

from __future__ import annotations

from dataclasses import dataclass

from lustack.mapping.names import RelPath


@dataclass(frozen=True)
class NameChanged:
    """Something happened to one directory entry: it came, went, or its file changed.

    Attributes:
        path: below the device root.
        is_open: somebody may still be writing to the file, and another event follows when it is closed.
        is_new: there was nothing of that name before.
    """

    path: RelPath
    is_open: bool = False
    is_new: bool = False


@dataclass(frozen=True)
class TreeChanged:
    """Anything may have happened in a directory, and in those below it.

    Attributes:
        path: below the device root; empty: the whole device.
    """

    path: RelPath


@dataclass(frozen=True)
class TreeMoved:
    """A directory with all that is in it has another name.

    Attributes:
        old: below the device root.
        new: below the device root.
    """

    old: RelPath
    new: RelPath


Event = NameChanged | TreeChanged | TreeMoved
