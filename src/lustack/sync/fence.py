# SPDX-License-Identifier: Apache-2.0
"""How somebody learns that everything that happened before a moment is listed.

    the one who waits:  makes an empty regular file `.lustack/fence/<32 hexadecimal digits>` on the device, after what
                        it waits for; looks until the file is gone: then everything before it is listed
    the daemon:         with events: sees the file come; removes it when everything that came before it is listed
                        without: lists the directory, compares everything, removes what it had listed

Rule 1: the daemon makes the directory when it starts, for everybody to write to (sticky); who waits never makes it. No
directory means that no daemon has ever looked after this device.
Rule 2: what has another form than a nonce, or is no regular file, is not touched.
Rule 3: nonces that nobody waits for any more are removed like the others. Whoever made one may remove it to give up.
Rule 4: without events a comparison begins as soon as the daemon sees a nonce (it looks once a second), so waiting takes
as long as one comparison.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from lustack.mapping import layout
from lustack.posix.tree import open_beneath

MODE = 0o1733
"""Everybody may make a file and remove his own, nobody but root and the daemon may list them."""

_PASSAGE = 0o011
"""What everybody needs on the directory above it: the way through, not the list."""

MOST = 10_000
"""More than so many at a time are not looked at: the others wait until there is room again."""

_NONCE = re.compile(rb"[0-9a-f]{32}")
_PREFIX = layout.FENCE + b"/"


def nonce_of(path: bytes) -> bytes | None:
    """The nonce that has this path below the device root, None for every other path."""
    if path.startswith(_PREFIX) and _NONCE.fullmatch(path, len(_PREFIX)):
        return path[len(_PREFIX) :]
    return None


def prepare(root_fd: int) -> None:
    """Makes the directory where it is missing, and the way to it; does nothing on a device without `.lustack`.

    What else is in `.lustack` keeps its own mode, 0700.

    Raises:
        OSError: the file system fails.
    """
    with suppress(FileNotFoundError, FileExistsError):
        reserved = open_beneath(root_fd, layout.RESERVED, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fchmod(reserved, os.fstat(reserved).st_mode & 0o7777 | _PASSAGE)
            name = os.path.basename(layout.FENCE)
            os.mkdir(name, 0o700, dir_fd=reserved)
            os.chmod(name, MODE, dir_fd=reserved)
        finally:
            os.close(reserved)


def pending(root_fd: int) -> list[bytes]:
    """The nonces that are there; none where the directory is missing.

    Raises:
        OSError: the file system fails.
    """
    with _opened(root_fd) as directory:
        if directory is None:
            return []
        with os.scandir(directory) as entries:
            found = (os.fsencode(entry.name) for entry in entries if entry.is_file(follow_symlinks=False))
            return list(itertools.islice(filter(_NONCE.fullmatch, found), MOST))


def remove(root_fd: int, nonces: Iterable[bytes]) -> None:
    """Lets pass who waits. What is gone already is fine.

    Raises:
        OSError: the file system fails.
    """
    with _opened(root_fd) as directory:
        for nonce in nonces if directory is not None else ():
            with suppress(FileNotFoundError):
                _remove(directory, nonce)


def _remove(directory: int | None, nonce: bytes) -> None:
    if stat.S_ISREG(os.stat(nonce, dir_fd=directory, follow_symlinks=False).st_mode):
        os.unlink(nonce, dir_fd=directory)


@contextmanager
def _opened(root_fd: int) -> Iterator[int | None]:
    try:
        directory = open_beneath(root_fd, layout.FENCE, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield None
        return
    try:
        yield directory
    finally:
        os.close(directory)
