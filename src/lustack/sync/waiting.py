# SPDX-License-Identifier: Apache-2.0
"""The side of the fence of those who wait: makes a nonce, and looks until the daemon has removed it.

For everybody: it needs neither the configuration nor the rights of the daemon, only the way to the device.

Rule 1: links are not followed below the device, and whoever gives up takes his nonce along.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from lustack.mapping import layout
from lustack.posix.errors import explain
from lustack.posix.tree import open_beneath, open_root
from lustack.sync.errors import SyncError

_NONCE_BYTES = 16
_SEARCH = os.O_PATH | os.O_DIRECTORY
_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FIRST_S = 0.005
_LONGEST_S = 0.2


class NoFenceError(SyncError):
    """No daemon has ever prepared a fence there.

    Attributes:
        path: where it was looked for.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"{self.path}: no daemon looks after this: there is no .lustack/fence in it or above it; start "
            f"`lustack sync run`, or name a directory of a device"
        )


class FenceClosedError(SyncError):
    """The fence is there, but this user may not use it.

    Attributes:
        path: of the device.
        why: what the system says.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"nothing can be put into {self.path}/.lustack/fence: {self.why}"


class StillWaitingError(SyncError):
    """Not everything was listed in time.

    Attributes:
        paths: the devices whose daemon has not answered.
        timeout_s: how long that took.
    """

    retryable = True

    def __init__(self, paths: Sequence[str], timeout_s: float) -> None:
        super().__init__(paths, timeout_s)
        self.paths = paths
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        where = ", ".join(self.paths)
        return f"not everything was listed within {self.timeout_s:g} s on {where}: does `lustack sync run` run?"


def find_device(path: str) -> str:
    """The device root that holds a path: the first directory above it with a fence.

    Args:
        path: anything; it need not exist.

    Raises:
        NoFenceError: there is none.
    """
    start = os.path.realpath(path)
    candidate = start
    while not has_fence(candidate):
        above = os.path.dirname(candidate)
        if above == candidate:
            raise NoFenceError(start)
        candidate = above
    return candidate


def has_fence(path: str) -> bool:
    """Whether a directory is the root of a device that a daemon looks after."""
    with suppress(OSError), _opened(path):
        return True
    return False


class Nonce:
    """A file that the daemon removes when everything before it is listed."""

    def __init__(self, device: str) -> None:
        """Makes it.

        Args:
            device: path of the root.

        Raises:
            FenceClosedError: it cannot be made.
        """
        self.device = device
        self._name = secrets.token_hex(_NONCE_BYTES)
        try:
            with _opened(device) as directory:
                os.close(os.open(self._name, _CREATE, 0o600, dir_fd=directory))
        except OSError as error:
            raise FenceClosedError(device, explain(error)) from error

    def is_there(self) -> bool:
        """Whether the daemon has not removed it yet."""
        with suppress(FileNotFoundError), _opened(self.device) as directory:
            os.stat(self._name, dir_fd=directory, follow_symlinks=False)
            return True
        return False

    def give_up(self) -> None:
        """Removes it."""
        with suppress(OSError), _opened(self.device) as directory:
            os.unlink(self._name, dir_fd=directory)


def wait_for(
    devices: Sequence[str],
    timeout_s: float,
    pause: Callable[[float], object] = time.sleep,
    monotonic_s: Callable[[], float] = time.monotonic,
) -> None:
    """Returns when everything that happened before the call is listed.

    Args:
        devices: paths of their roots.
        timeout_s: how long to wait at most.
        pause: waits so many seconds; whatever it raises ends the waiting.
        monotonic_s: a clock that never goes back.

    Raises:
        FenceClosedError: a nonce cannot be made.
        StillWaitingError: that took too long.
    """
    deadline_s = monotonic_s() + timeout_s
    waiting: list[Nonce] = []
    try:
        # First all, then wait: what the daemons have to do for them they do at the same time.
        for device in devices:
            waiting.append(Nonce(device))  # noqa: PERF401 (those that were made must go if the next one fails)
        pause_s = _FIRST_S
        while waiting := [nonce for nonce in waiting if nonce.is_there()]:
            if monotonic_s() >= deadline_s:
                raise StillWaitingError([nonce.device for nonce in waiting], timeout_s)
            pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_S)
    finally:
        for nonce in waiting:
            nonce.give_up()


@contextmanager
def _opened(device: str) -> Iterator[int]:
    root = open_root(device)
    try:
        directory = open_beneath(root, layout.FENCE, _SEARCH)
    finally:
        os.close(root)
    try:
        yield directory
    finally:
        os.close(directory)
