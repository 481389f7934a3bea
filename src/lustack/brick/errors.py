# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between a host and a share.

Rule 1: every sentence names the share or the file, and the remedy where there is one.
"""

from __future__ import annotations

from lustack.errors import LustackError


class BrickError(LustackError):
    """A share or a volume in it cannot be used from this host."""


class MountError(BrickError):
    """A share could not be mounted.

    Attributes:
        share: the share as it is configured.
        reason: what the mount command said.
    """

    retryable = True

    def __init__(self, share: str, reason: str) -> None:
        super().__init__(share, reason)
        self.share = share
        self.reason = reason

    def __str__(self) -> str:
        return f"the share {self.share} cannot be mounted: {self.reason}"


class UnfitMountError(BrickError):
    """A share is mounted in a way that would lose data or cannot work.

    Attributes:
        share: the share as it is configured.
        fault: what is wrong and how to mend it.
    """

    def __init__(self, share: str, fault: str) -> None:
        super().__init__(share, fault)
        self.share = share
        self.fault = fault

    def __str__(self) -> str:
        return f"the mount of {self.share} is not fit for volumes: {self.fault}"


class NoAnswerError(BrickError):
    """A command did not end in time: the file system behind it does not answer.

    Attributes:
        command: what was run.
        limit_s: how long it was given, seconds.
    """

    retryable = True

    def __init__(self, command: str, limit_s: float) -> None:
        super().__init__(command, limit_s)
        self.command = command
        self.limit_s = limit_s

    def __str__(self) -> str:
        return f"no answer within {self.limit_s:g} s from: {self.command}"


class CommandError(BrickError):
    """A command ended with an error.

    Attributes:
        command: what was run.
        code: its exit code.
        message: what it said on standard error.
    """

    def __init__(self, command: str, code: int, message: str) -> None:
        super().__init__(command, code, message)
        self.command = command
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.command} failed with exit code {self.code}: {self.message.strip() or 'it said nothing'}"


class RawViewError(BrickError):
    """The bytes that a guest sees could not be shown as a file.

    Attributes:
        image: path of the image.
        reason: what qemu-storage-daemon said.
    """

    def __init__(self, image: str, reason: str) -> None:
        super().__init__(image, reason)
        self.image = image
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.image} cannot be shown as raw bytes: {self.reason}"
