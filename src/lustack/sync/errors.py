# SPDX-License-Identifier: Apache-2.0
"""What can go wrong while listings are made true."""

from __future__ import annotations

from lustack.errors import LustackError

FORCE = "If that is as it should be: `lustack sync reconcile --force`"
"""What to do about something that is gone on purpose, in a sentence of its own."""


class SyncError(LustackError):
    """The daemon could not do what it was asked."""


class SwiftUnavailableError(SyncError):
    """Too few of the servers that hold a database answered.

    Attributes:
        what: the request.
        reasons: what each server said, or why it said nothing.
    """

    retryable = True

    def __init__(self, what: str, reasons: list[str]) -> None:
        super().__init__(what, reasons)
        self.what = what
        self.reasons = reasons

    def __str__(self) -> str:
        return f"{self.what}: too few servers answered: {'; '.join(self.reasons) or 'none is known'}"


class SwiftRefusedError(SyncError):
    """A server said no, and would say it again.

    Attributes:
        what: the request.
        status: the status of the answer.
    """

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what, status)
        self.what = what
        self.status = status

    def __str__(self) -> str:
        return f"{self.what}: refused with status {self.status}"


class ContainerGoneError(SyncError):
    """A container is not (or no longer) one that may get rows.

    Attributes:
        name: `account/container`.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"the container {self.name} is gone"


class MassDeletionError(SyncError):
    """So much is missing that a lost file system is likelier than a user who removed it.

    Attributes:
        name: `account/container`.
        gone: how many rows would be deleted, as far as was counted.
        why: what makes it suspicious.
    """

    def __init__(self, name: str, gone: int, why: str) -> None:
        super().__init__(name, gone, why)
        self.name = name
        self.gone = gone
        self.why = why

    def __str__(self) -> str:
        return f"{self.name}: {self.gone} objects would vanish from the listing, but {self.why}. {FORCE}"


class DeviceMissingError(SyncError):
    """The root of a device is not there, or it is another one.

    Attributes:
        path: the root.
        why: as the end of the sentence "... cannot be used:".
    """

    retryable = True

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"the device {self.path} cannot be used: {self.why}"


class OtherUserError(SyncError):
    """The object servers of a device do not run as the user who asks: they believe other attributes.

    Attributes:
        path: of its root.
        owner: the user of the object servers, a number.
        user: who asks, a number.
    """

    def __init__(self, path: str, owner: int, user: int) -> None:
        super().__init__(path, owner, user)
        self.path = path
        self.owner = owner
        self.user = user

    def __str__(self) -> str:
        return (
            f"the object servers of {self.path} run as user {self.owner}, this as user {self.user}, who believes other "
            f"metadata of files: run both as the same user, or listings say something else than the objects"
        )


class UnreadableError(SyncError):
    """The directory of an account or a container cannot be read, so nothing is known about what is in it.

    Attributes:
        name: `account` or `account/container`.
        why: what the system says.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name = name
        self.why = why

    def __str__(self) -> str:
        return f"the directory of {self.name} cannot be read: {self.why}"


class StateError(SyncError):
    """The daemon's own database cannot be used.

    Attributes:
        path: of the database.
        why: as the end of the sentence "... cannot be used:".
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"the state {self.path} cannot be used: {self.why}"


class EngineFailedError(SyncError):
    """A thread of the daemon ended by an error that nobody expected: the daemon must be started again.

    Attributes:
        cause: that error.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(cause)
        self.cause = cause

    def __str__(self) -> str:
        return f"a part of the daemon failed, so all of it ends: {self.cause!r}"


class StoppedError(SyncError):
    """Somebody asked to stop; what was acknowledged stays, the rest is done the next time."""

    retryable = True

    def __str__(self) -> str:
        return "stopped; the next run continues where this one ended"
