# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with Lustre beyond a plain `OSError`."""

from __future__ import annotations

from lustack.errors import LustackError


class LustreError(LustackError):
    """Lustre did not give what was asked of it."""


class FidSyntaxError(LustreError, ValueError):
    """A text or some bytes are no FID.

    Attributes:
        text: what was found.
    """

    def __init__(self, text: object) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"{self.text!r} is no FID: it looks like [0x200000402:0x1:0x0]"


class ShareSyntaxError(LustreError, ValueError):
    """A text does not name a Lustre file system.

    Attributes:
        text: what was found.
        why: as the end of the sentence "... is no Lustre share: ".
    """

    def __init__(self, text: str, why: str) -> None:
        super().__init__(text, why)
        self.text = text
        self.why = why

    def __str__(self) -> str:
        return f"{self.text!r} is no Lustre share: {self.why} (it looks like 10.0.0.1@tcp:10.0.0.2@tcp:/fsname/path)"


class RecordError(LustreError):
    """Some bytes are no changelog records.

    Attributes:
        offset: of the record, in bytes from the beginning of what was read.
        why: as the end of the sentence "no changelog record at byte ...: ".
    """

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(offset, why)
        self.offset = offset
        self.why = why

    def __str__(self) -> str:
        return f"no changelog record at byte {self.offset}: {self.why}"


class LinkError(LustreError):
    """The list of an inode's names cannot be read.

    Attributes:
        why: what is wrong with it.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the names of an inode cannot be read: {self.why}"


class NotLustreError(LustreError):
    """A path is not on Lustre.

    Attributes:
        path: where it was tried.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} is not on a Lustre file system"


class FidNotFoundError(LustreError):
    """No inode has this FID any more.

    Attributes:
        fid: the FID, as text.
    """

    def __init__(self, fid: str) -> None:
        super().__init__(fid)
        self.fid = fid

    def __str__(self) -> str:
        return f"nothing has the FID {self.fid}"


class ChangelogError(LustreError):
    """The changelog of an MDT cannot be used now.

    Attributes:
        mdt: as `lustre-MDT0000`.
        why: as the end of the sentence "the changelog of ... cannot be used: ".
    """

    retryable = True

    def __init__(self, mdt: str, why: str) -> None:
        super().__init__(mdt, why)
        self.mdt = mdt
        self.why = why

    def __str__(self) -> str:
        return f"the changelog of {self.mdt} cannot be used: {self.why}"


class ChangelogUserError(LustreError):
    """An MDT refuses to clear for a user: it does not know the user, or has cleared more than that already.

    Attributes:
        mdt: as `lustre-MDT0000`.
        user: as `cl1`.
        index: the record up to which was to be cleared.
    """

    def __init__(self, mdt: str, user: str, index: int) -> None:
        super().__init__(mdt, user, index)
        self.mdt = mdt
        self.user = user
        self.index = index

    def __str__(self) -> str:
        return (
            f"{self.mdt} refuses to clear up to {self.index} for {self.user}: it removed that user, perhaps because it "
            f"was idle too long, or somebody else clears for it"
        )


class ChangelogIndexError(LustreError):
    """A record is beyond the end of an MDT's log: the MDT has lost what it gave before.

    Attributes:
        mdt: as `lustre-MDT0000`.
        index: of the record.
    """

    def __init__(self, mdt: str, index: int) -> None:
        super().__init__(mdt, index)
        self.mdt = mdt
        self.index = index

    def __str__(self) -> str:
        return f"the log of {self.mdt} ends before record {self.index}, which it gave before"
