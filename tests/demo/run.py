# SPDX-License-Identifier: Apache-2.0
"""Shows and checks the whole way: what Swift and S3 upload are files, what jobs make of files is in Swift and S3.

    make demo

Starts `lustack serve` on a directory of its own and does what users do, with the real `swift` command, boto3, curl and
coreutils. Exits with 0 only if all of it held, and leaves nothing running, mounted or on disk.
"""

from __future__ import annotations

import signal
import sys
import time

from clients import Clients, UnexpectedError
from place import serving
from steps import STEPS


def main() -> int:
    """Returns the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    failed = 0
    with serving() as served:
        print(f"lustack serve DIR   # ready after {time.monotonic() - began:.1f} s, DIR={served.files}")
        clients = Clients(served)
        for step in STEPS:
            failed += not show(step, clients)
    passed = len(STEPS) - failed
    print(f"\n{passed} passed, {failed} failed in {time.monotonic() - began:.0f} s; nothing is left behind")
    return 1 if failed else 0


def show(step: object, clients: Clients) -> bool:
    """Does one step and says how it went."""
    good, bad = ("\u2713", "\u2717") if sys.stdout.isatty() else ("ok", "FAILED")
    clients.shown.clear()
    problem = ""
    try:
        step(clients)
    except UnexpectedError as error:
        problem = str(error)
    print(f"\n{bad if problem else good}  {step.__doc__}")
    for line in clients.shown:
        print(f"     $ {line}")
    if problem:
        print(f"     {problem}")
    sys.stdout.flush()
    return not problem


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
