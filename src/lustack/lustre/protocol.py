# SPDX-License-Identifier: Apache-2.0
"""What the rest of lustack may ask of a Lustre file system; `client` asks the kernel, `fake` a directory.

Rule 1: nothing here starts a process, and nothing waits for a server without an end.
Rule 2: an MDT is named as in its device: `lustre-MDT0000`.
"""

from __future__ import annotations

from typing import Protocol

from lustack.lustre.fid import FidKey
from lustack.lustre.kernel import Link

READ_BYTES = 256 * 1024
"""So much a device is asked for at once. Source: measured: it gives 40-70 KiB; 4 KiB are 2.5 times the calls."""


class Changelog(Protocol):
    """The open changelog of one MDT. For one thread."""

    def read(self, timeout_s: float) -> bytes | None:
        """The next records, whole ones.

        Returns:
            empty: the log ended, and this will see no record that comes later; None: nothing came in that time.

        Raises:
            ChangelogError: the MDT is gone or was restarted; open it again.
        """
        ...

    def close(self) -> None:
        """Ends it. Idempotent."""
        ...


class Lustre(Protocol):
    """A mounted Lustre file system. Thread-safe."""

    def mdts(self) -> tuple[str, ...]:
        """Every MDT whose changelog can be read here, in order.

        Raises:
            LustreError: that cannot be found out.
        """
        ...

    def open_changelog(self, mdt: str, index: int, *, follow: bool) -> Changelog:
        """Opens a changelog.

        Args:
            mdt: of which.
            index: the first record that is wanted; if it is gone, reading begins at the first that is there.
            follow: wait at the end of the log, with up to a second of delay, instead of ending.

        Raises:
            ChangelogError: it cannot be opened now.
        """
        ...

    def clear(self, mdt: str, user: str, index: int) -> None:
        """A user needs no record up to this index any more. Idempotent for the same index.

        Args:
            mdt: of which.
            user: as `cl1`.
            index: positive, never lower than before.

        Raises:
            ChangelogUserError: there is no such user any more, or it cleared more already.
            ChangelogIndexError: the log ends before that.
            ChangelogError: try again.
        """
        ...

    def links(self, key: bytes) -> list[Link]:
        """All names of an inode; none for the root.

        Raises:
            FidNotFoundError: there is no such inode any more.
            LustreError: they cannot be read.
            OSError: the file system fails.
        """
        ...

    def is_directory(self, key: bytes) -> bool:
        """Whether an inode is a directory.

        Raises:
            FidNotFoundError: there is no such inode any more.
            OSError: the file system fails.
        """
        ...

    def key_of(self, fd: int) -> FidKey:
        """The FID of an open inode, O_PATH or not.

        Raises:
            NotLustreError: it is not on Lustre.
        """
        ...
