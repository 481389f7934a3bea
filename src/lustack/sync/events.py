# SPDX-License-Identifier: Apache-2.0
"""The closed set of things that a source can report.

Rule 1: an event is a hint about where to look, never about what is there: whoever gets it looks at the file.
Rule 2: less precise is always allowed. `TreeChanged` may stand for any number of `NameChanged` below it.
Rule 3: what an event says beside the path saves work. `is_open` may be wrong at any time. `is_new` must be right if it
is set, and `is_directory` must be set for what is, or was, a directory: nothing else says so once it is gone.

They are tuples, because there may be tens of thousands a second.
"""

from __future__ import annotations

from typing import NamedTuple

from lustack.mapping.names import RelPath


class NameChanged(NamedTuple):
    """Something happened to one directory entry: it came, went, or its file changed.

    Attributes:
        path: below the device root.
        is_open: somebody may still be writing to the file, and another event follows when it is closed.
        is_new: it was created just now, empty, where nothing had that name. Never for the new name of a rename or of a
            link: its file may be known to Swift already.
        is_directory: it is or was a directory.
    """

    path: RelPath
    is_open: bool = False
    is_new: bool = False
    is_directory: bool = False


class TreeChanged(NamedTuple):
    """Anything may have happened to a directory, in it, and in those below it.

    Attributes:
        path: below the device root; empty: the whole device.
    """

    path: RelPath


class TreeMoved(NamedTuple):
    """A directory with all that is in it has another name.

    Attributes:
        old: below the device root.
        new: below the device root.
    """

    old: RelPath
    new: RelPath


Event = NameChanged | TreeChanged | TreeMoved
