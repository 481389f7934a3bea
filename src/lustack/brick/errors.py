# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between a host and a share.

Rule 1: every sentence names the share or the file, and the remedy where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass

from lustack.errors import LustackError


class BrickError(LustackError):
    """A share or a volume in it cannot be used from this host."""


@dataclass(eq=False, repr=False)
class MountError(BrickError):
    """A share could not be mounted.

    Attributes:
        share: the share as it is configured.
        reason: what the mount command said.
    """

    share: str
    reason: str
    retryable = True

    def __str__(self) -> str:
        return f"the share {self.share} cannot be mounted: {self.reason}"


@dataclass(eq=False, repr=False)
class UnfitMountError(BrickError):
    """A share is mounted in a way that would lose data or cannot work.

    Attributes:
        share: the share as it is configured.
        fault: what is wrong and how to mend it.
    """

    share: str
    fault: str

    def __str__(self) -> str:
        return f"the mount of {self.share} is not fit for volumes: {self.fault}"


@dataclass(eq=False, repr=False)
class NoAnswerError(BrickError):
    """A command did not end in time: the file system behind it does not answer.

    Attributes:
        command: what was run.
        limit_s: how long it was given, seconds.
    """

    command: str
    limit_s: float
    retryable = True

    def __str__(self) -> str:
        return f"no answer within {self.limit_s:g} s from: {self.command}"


@dataclass(eq=False, repr=False)
class CommandError(BrickError):
    """A command ended with an error.

    Attributes:
        command: what was run.
        code: its exit code.
        message: what it said on standard error.
    """

    command: str
    code: int
    message: str

    def __str__(self) -> str:
        return f"{self.command} failed with exit code {self.code}: {self.message.strip() or 'it said nothing'}"


@dataclass(eq=False, repr=False)
class RawViewError(BrickError):
    """The bytes that a guest sees could not be shown as a file.

    Attributes:
        image: path of the image.
        reason: what qemu-storage-daemon said.
    """

    image: str
    reason: str

    def __str__(self) -> str:
        return f"{self.image} cannot be shown as raw bytes: {self.reason}"
