# SPDX-License-Identifier: Apache-2.0
"""One instance for each directory: a lock that ends with the process that holds it.

Rule 1: the lock is on a file, never on a directory: Lustre refuses those.
Rule 2: the descriptor stays open as long as the lock is held, and no child inherits it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lustack.errors import ConfigurationError
from lustack.server.errors import InUseError

LOCK_NAME = "serve.lock"

# What flock(2) says on a Lustre that is mounted without `flock`, and on network file systems without locks.
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}

_HOLDER_BYTES = 200

Flock = Callable[[int, int], None]


@contextmanager
def hold(directory: str, shown: str, flock: Flock = fcntl.flock) -> Iterator[None]:
    """Hold the lock of a directory; other hosts see it where the file system shows them locks.

    Args:
        directory: where the lock file lies.
        shown: what is locked, as the user calls it.
        flock: does what `fcntl.flock` does.

    Raises:
        InUseError: somebody else holds it.
        ConfigurationError: the file system has no locks.
    """
    fd = os.open(os.path.join(directory, LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _lock(fd, shown, flock)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}".encode()[:_HOLDER_BYTES], 0)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, shown: str, flock: Flock) -> None:
    try:
        flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        holder = os.pread(fd, _HOLDER_BYTES, 0).decode(errors="replace") or "another process"
        raise InUseError(shown, holder) from err
    except OSError as err:
        if err.errno not in _NO_LOCKS:
            raise
        allowed = "on a file system with locks (mount Lustre with the option flock)"
        raise ConfigurationError("lustack serve", "directory", shown, allowed) from err
