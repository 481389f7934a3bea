# SPDX-License-Identifier: Apache-2.0
"""Writes the record of a volume, whole or not at all, and durably: the program `lustack-record FILE MODE`.

Rule 1: it is a program, since where files are used as root only root may write there; its input is the record.
Rule 2: what is renamed before it in the same directory is durable, too: journals are committed in order.
Rule 3: what a kill leaves behind is named after the record, so that it goes with the volume.
Rule 4: standard library and `lustack.posix` only: it starts in a moment.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Final

from lustack.posix.atomic import TemporaryFile, is_lustre

PROGRAM: Final = "lustack-record"
_USAGE_CODE: Final = 2
_SUFFIX: Final = b".new"
_CREATE: Final = os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def render_command(path: str, mode: int, *, is_for_root: bool) -> list[str]:
    """The command that writes a record.

    Args:
        path: the record.
        mode: its permissions.
        is_for_root: whether it is run through the root helper.
    """
    # By its bare name through the helper: that is what the filter for rootwrap matches.
    needs_helper = is_for_root and os.geteuid() != 0
    program = [PROGRAM] if needs_helper else [sys.executable, "-P", "-m", "lustack.cinder.recorder"]
    return [*program, path, f"{mode:o}"]


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


def _make(dirfd: int, name: bytes) -> TemporaryFile:
    temporary = name + _SUFFIX
    return TemporaryFile(dirfd, temporary, os.open(temporary, _CREATE, 0o600, dir_fd=dirfd), is_lustre(dirfd))


def _publish(temporary: TemporaryFile, name: bytes) -> None:
    try:
        temporary.publish(name)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP or not temporary.published:
            raise
        # Lustre without `user_xattr` cannot mark the file. A new one was never synced, so syncing it reaches the
        # server, which commits what came before. Source: llite/file.c, ll_fsync (lli_synced_to_mds).
        with _make(temporary.dirfd, name) as witness:
            os.fsync(witness.fd)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program: writes what comes from standard input.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != _USAGE_CODE:
        sys.stderr.write(f"usage: {PROGRAM} FILE MODE  (replaces FILE by its input, durably)\n")
        return _USAGE_CODE
    path, mode = words
    try:
        replace(os.fsencode(os.path.abspath(path)), sys.stdin.buffer.read(), int(mode, 8))
    except OSError as error:
        sys.stderr.write(f"{path}: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
