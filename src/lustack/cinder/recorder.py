# SPDX-License-Identifier: Apache-2.0
"""Writes the record of a volume, whole or not at all, and durably: the program `lustack-record`.

    lustack-record FILE MODE     replaces FILE by its input
    lustack-record --sync FILE   makes durable that FILE was renamed, or is gone

Rule 1: it is a program, since where files are used as root only root may write there; its input is the record.
Rule 2: what is renamed before it in the same directory is durable, too: journals are committed in order.
Rule 3: what a kill leaves behind is named after the record, so that it goes with the volume.
Rule 4: standard library, `lustack.posix` and `programs` only: it starts in a moment.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Final

from lustack.cinder import programs
from lustack.posix.atomic import TemporaryFile, is_lustre, sync_directory, sync_rename

PROGRAM: Final = "lustack-record"
_SYNC: Final = "--sync"
_USAGE_CODE: Final = 2
SUFFIX: Final = ".new"
"""Behind the name of what is made for a moment, beside the file of that name."""
_CREATE: Final = os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def render_command(path: str, mode: int, *, is_for_root: bool) -> list[str]:
    """The command that writes a record.

    Args:
        path: the record.
        mode: its permissions.
        is_for_root: whether it is run through the root helper.
    """
    return programs.render_command(PROGRAM, __name__, path, f"{mode:o}", is_for_root=is_for_root)


def render_sync(path: str, *, is_for_root: bool) -> list[str]:
    """The command that makes durable that a file was renamed, or is gone.

    Args:
        path: the file.
        is_for_root: whether it is run through the root helper.
    """
    return programs.render_command(PROGRAM, __name__, _SYNC, path, is_for_root=is_for_root)


def replace(path: bytes, content: bytes, mode: int) -> None:
    """Replace a record.

    Args:
        path: where it is.
        content: all of it.
        mode: its permissions.
    """
    directory, name = os.path.split(path)
    dirfd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _make(dirfd, name) as temporary:
            os.fchmod(temporary.fd, mode)
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(temporary.fd, rest) :]
            _publish(temporary, name)
    finally:
        os.close(dirfd)


def sync(path: bytes) -> None:
    """Make durable what was renamed and removed in a directory.

    Args:
        path: of a file there, whether it exists or not.
    """
    directory, name = os.path.split(path)
    dirfd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_directory(dirfd)
        if is_lustre(dirfd):
            # Not a volume itself: it keeps no mark of ours.
            with _make(dirfd, name) as witness:
                _commit(witness)
    except OSError as error:
        # Without room for that, it stays in the journal's window, as a removal does (`lustack.posix.atomic`).
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
    finally:
        os.close(dirfd)


def _make(dirfd: int, name: bytes) -> TemporaryFile:
    temporary = name + SUFFIX.encode()
    return TemporaryFile(dirfd, temporary, os.open(temporary, _CREATE, 0o600, dir_fd=dirfd), is_lustre(dirfd))


def _publish(temporary: TemporaryFile, name: bytes) -> None:
    try:
        temporary.publish(name)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP or not temporary.published:
            raise
        with _make(temporary.dirfd, name) as witness:
            _commit(witness)


def _commit(witness: TemporaryFile) -> None:
    """Have Lustre commit the journal by a new file.

    Lustre without `user_xattr` cannot mark it. But it was never synced, so syncing it reaches the server, which commits
    what came before. Source: llite/file.c, ll_fsync (lli_synced_to_mds).
    """
    try:
        sync_rename(witness.dirfd, witness.fd, on_lustre=True)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        os.fsync(witness.fd)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != _USAGE_CODE:
        sys.stderr.write(f"usage: {PROGRAM} FILE MODE  (replaces FILE by its input, durably)\n")
        sys.stderr.write(f"       {PROGRAM} {_SYNC} FILE  (makes durable that FILE was renamed, or is gone)\n")
        return _USAGE_CODE
    path = words[1] if words[0] == _SYNC else words[0]
    whole = os.fsencode(os.path.abspath(path))
    try:
        if words[0] == _SYNC:
            sync(whole)
        else:
            replace(whole, sys.stdin.buffer.read(), int(words[1], 8))
    except OSError as error:
        sys.stderr.write(f"{path}: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
