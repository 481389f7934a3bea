# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in a file system beyond a plain `OSError`.

Rule 1: an `OSError` that says enough flies as it is; only what gains a meaning gets a class.
"""

from __future__ import annotations

import errno
import os

from lustack.errors import LustackError

_REMEDIES = {
    errno.EACCES: "ask as root, or as the user whose it is",
    errno.EPERM: "ask as root, or as the user whose it is",
    errno.ENOENT: "make it, or mount the file system that has it",
    errno.ENOTDIR: "something on the way to it is no directory",
    errno.EROFS: "mount the file system writable",
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or raise the quota",
    errno.ESTALE: "mount the file system again",
    errno.EIO: "see what the kernel says of the disk or the server: dmesg",
}
"""What a human can do."""


def has_remedy(error: OSError) -> bool:
    """Whether `explain` says more than the system does."""
    return error.errno in _REMEDIES


def explain(error: OSError) -> str:
    """What the system says, and what a human can do; without the path, for a sentence that has named it."""
    said = error.strerror or str(error)
    return f"{said}: {_REMEDIES[error.errno]}" if error.errno in _REMEDIES else said


class PosixError(LustackError):
    """A file system did not give what lustack needs of it."""


class OutsideRootError(PosixError, OSError):
    """A path would lead out of the directory that it must stay below.

    It is also an `OSError` with `EXDEV`, which is what openat2(2) answers for the same reason.

    Attributes:
        path: the path that was refused.
    """

    def __init__(self, path: bytes) -> None:
        OSError.__init__(self, errno.EXDEV, os.strerror(errno.EXDEV), path)
        self.path = path

    def __str__(self) -> str:
        return f"the path {self.path!r} leads out of its root directory"


class XattrUnsupportedError(PosixError):
    """The file system refuses extended attributes of users.

    Attributes:
        place: the path or descriptor where it was tried.
    """

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place

    def __str__(self) -> str:
        return (
            f"{self.place} is on a file system without user extended attributes: "
            "mount it with the option user_xattr (Lustre does not have it by default)"
        )


class CorruptAttributeError(PosixError):
    """An attribute refers to bytes that are not there or are not what was written.

    Attributes:
        name: the name of the extended attribute.
        why: what is wrong, as the end of the sentence "... cannot be read: ".
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        return f"the attribute {self.name} cannot be read: {self.why}"


class CorruptSidecarError(PosixError):
    """A sidecar is missing, damaged, or its identifier was never given out.

    Attributes:
        sidecar: the identifier as it was asked for.
        why: what is wrong, as the end of the sentence "the sidecar ... ".
    """

    def __init__(self, sidecar: bytes, why: str) -> None:
        super().__init__(sidecar, why)
        self.sidecar = sidecar
        self.why = why

    def __str__(self) -> str:
        return f"the sidecar {self.sidecar!r} {self.why}"
