# SPDX-License-Identifier: Apache-2.0
"""The program that becomes each process of a host.

    python -m lustack.server.launch --parent PID --swift-conf FILE PROGRAM [ARGUMENT ...]

Rule 1: it dies with its parent, and so does everything it forks: a supervisor that was killed leaves nothing.
Rule 2: a name that starts with `swift-` is a console script of the installed Swift and runs in this process,
with the swift.conf that was named; anything else is executed.

Why not Swift's own `set_swift_dir`: the policies are read when `swift.common.storage_policy` is imported,
from `swift.common.utils.SWIFT_CONF_FILE`, and never again (swift 2.38.3 common/storage_policy.py:982,992;
common/utils/__init__.py:177,341-357). doc/decisions says more.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module, metadata

PR_SET_PDEATHSIG = 1
"""Source: linux/prctl.h:9, prctl(2)."""

_SETTING = "SWIFT_CONF_FILE"
_POLICIES = "swift.common.storage_policy"


def main(argv: Sequence[str] | None = None, become: Callable[..., object] = os.execvp) -> int:
    """Become the program that the arguments name.

    Args:
        argv: the arguments, None: those of this process.
        become: does what `os.execvp` does.

    Returns:
        The exit code of a program of Swift. From the others nothing returns but a fake.
    """
    parser = argparse.ArgumentParser(prog="lustack.server.launch")
    parser.add_argument("--parent", type=int, required=True, help="process to die with")
    parser.add_argument("--swift-conf", required=True, help="swift.conf to read")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="program and its arguments")
    wanted = parser.parse_args(argv)
    die_with(wanted.parent)
    follow_parents()
    if wanted.command[0].startswith("swift-"):
        return run_swift(wanted.swift_conf, wanted.command)
    become(wanted.command[0], wanted.command)
    return 0


def die_with(parent: int, prctl: Callable[..., int] | None = None, kill: Callable[..., None] = os.kill) -> None:
    """Ask the kernel to kill this process when its parent ends; end now if it has already.

    The request survives execve(2) but not fork(2), and it is about the thread that made this process: a
    supervisor must start processes from a thread that lives as long as they may.

    Args:
        parent: the process that is expected to be the parent.
        prctl: does what prctl(2) does, None: itself.
        kill: does what `os.kill` does.

    Raises:
        OSError: the kernel refused.
    """
    call = ctypes.CDLL(None, use_errno=True).prctl if prctl is None else prctl
    if call(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        kill(os.getpid(), signal.SIGKILL)


def follow_parents() -> None:
    """Make every process that this one forks, and theirs, die with its own parent."""
    pids = [os.getpid()]

    def remember() -> None:
        pids[0] = os.getpid()

    os.register_at_fork(before=remember, after_in_child=lambda: die_with(pids[0]))


def run_swift(conf: str, command: Sequence[str]) -> int:
    """Run a console script of Swift in this process, with a swift.conf of its own.

    Args:
        conf: path of the swift.conf.
        command: name of the script and its arguments.

    Returns:
        Its exit code.

    Raises:
        RuntimeError: too late: the policies were read already.
        LookupError: Swift has no such script.
    """
    if _POLICIES in sys.modules:
        raise RuntimeError(f"{_POLICIES} was imported before swift.conf was chosen")
    setattr(import_module("swift.common.utils"), _SETTING, conf)
    entry = find_script(command[0])
    sys.argv = list(command)
    return entry() or 0


def find_script(name: str) -> Callable[[], int | None]:
    """The function behind a console script of the installed Swift.

    Raises:
        LookupError: there is none of that name.
        importlib.metadata.PackageNotFoundError: Swift is not installed.
    """
    for entry in metadata.distribution("swift").entry_points:
        if entry.group == "console_scripts" and entry.name == name:
            script: Callable[[], int | None] = entry.load()
            return script
    raise LookupError(f"the installed Swift has no program {name}")


if __name__ == "__main__":
    sys.exit(main())
