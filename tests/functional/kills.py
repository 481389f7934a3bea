# SPDX-License-Identifier: Apache-2.0
"""Running a function in a child that is killed in front of a chosen system call, by ptrace(2).

A process that is killed leaves behind what its system calls did before. So there are only as many places to be killed
at as there are system calls, and two of them with no change in between are the same place.

Rule 1: the caller is in its only thread that matters (the one that forks), the function forks nobody.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable

from lustack.swift.threads import POOL

# Source: linux/ptrace.h.
_TRACEME, _CONT, _SYSCALL, _DETACH, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 7, 24, 17, 0x4200, 0x420E
_O_TRACESYSGOOD, _O_EXITKILL = 1, 1 << 20
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_INFO_ENTRY = 1
_INFO_BYTES = 88

# What the child sends to itself when the function has returned: what follows is none of its work.
_DONE = signal.SIGUSR1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


class ChildFailedError(Exception):
    """The function raised, or its process ended by itself; what it wrote to stderr says why."""


def run(function: Callable[[], object]) -> None:
    """Run a function in a child, as the others do, and wait."""
    child = _fork(function, is_traced=False)
    _, status = os.waitpid(child, 0)
    if status:
        raise ChildFailedError(status)


def kill_after(function: Callable[[], object], changes: int, look: Callable[[], object]) -> bool:
    """Run a function and kill its process right after it has changed something for the n-th time.

    Args:
        function: what to run.
        changes: how many changes it may make; with 0 it is killed before its first.
        look: its value is another after each change.

    Returns:
        whether it would have gone on: false if it came to its end with fewer changes.
    """
    seen = [look()]

    def is_last() -> bool:
        now = look()
        if seen[-1] != now:
            seen.append(now)
        return len(seen) > changes

    return _follow(function, is_last)


def _follow(function: Callable[[], object], is_last: Callable[[], bool]) -> bool:
    """Run a function; before each of its system calls ask whether to kill it there. Returns whether it was killed."""
    child = _fork(function, is_traced=True)
    os.waitpid(child, 0)
    _ptrace(_SETOPTIONS, child, _O_TRACESYSGOOD | _O_EXITKILL)
    try:
        while True:
            _ptrace(_SYSCALL, child, 0)
            _, status = os.waitpid(child, 0)
            if not os.WIFSTOPPED(status):
                raise ChildFailedError(status)
            if os.WSTOPSIG(status) == _DONE:
                return is_last()
            if os.WSTOPSIG(status) == _SYSCALL_STOP and _is_entry(child) and is_last():
                return True
    finally:
        _kill(child)


def _kill(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):  # it ended by itself before
        return


def _is_entry(child: int) -> bool:
    info = ctypes.create_string_buffer(_INFO_BYTES)
    _ptrace(_GET_SYSCALL_INFO, child, ctypes.addressof(info), _INFO_BYTES)
    return info.raw[0] == _INFO_ENTRY


def _ptrace(request: int, pid: int, data: int, address: int = 0) -> None:
    if _libc.ptrace(request, pid, address, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace({request})")


def _fork(function: Callable[[], object], *, is_traced: bool) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        # The threads of the pool are not here; what would run in one runs in place.
        POOL.most = 0
        if is_traced:
            _ptrace(_TRACEME, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
        function()
        if is_traced:
            os.kill(os.getpid(), _DONE)
        status = 0
    except BaseException:  # noqa: BLE001 - nothing of the parent's may run in the child
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(status)
