# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a directory that is a container."""

from __future__ import annotations

import errno
import os

from lustack.errors import LustackError


class ExportMissingError(LustackError, OSError):
    """The directory of an export is not there, or it is another one: its objects are out of reach, not gone.

    It is also an `OSError` with `ENODEV`: whoever looks for a file there must take it for a failure, never for an
    absence.

    Attributes:
        path: the directory.
        why: as the end of the sentence "the exported directory ... cannot be used:".
    """

    retryable = True

    def __init__(self, path: bytes, why: str) -> None:
        OSError.__init__(self, errno.ENODEV, os.strerror(errno.ENODEV), path)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"the exported directory {os.fsdecode(self.path)!r} cannot be used: {self.why}"
