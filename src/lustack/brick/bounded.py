# SPDX-License-Identifier: Apache-2.0
"""Commands that may touch a dead file system, and never hold the caller for longer than it asked.

Rule 1: nothing here calls the file system in the caller's own thread; a child does, and is left behind if need be.
Rule 2: a child in uninterruptible sleep cannot be killed. As long as one is stuck, no other is sent after it.
Rule 3: waiting is polling with `time.sleep`, which suits native threads and eventlet alike.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Final

from lustack.brick.errors import CommandError, NoAnswerError

# The first look comes soon, since nearly every child ends within milliseconds; later ones are rarer.
_FIRST_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.1


class BoundedRunner:
    """Runs commands with a time limit.

    Attributes:
        root_helper: the words that make a command run as root; not used by root.
    """

    def __init__(self, root_helper: str = "") -> None:
        self.root_helper = root_helper
        self._stuck: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, command: Sequence[str], *, key: str, limit_s: float, as_root: bool = False) -> str:
        """Run a command and return what it wrote.

        Args:
            command: the program and its arguments.
            key: what the command depends on, for example a mount point: while one command for it is stuck, others fail.
            limit_s: seconds to wait.
            as_root: through the root helper, unless this process is root already.

        Returns:
            Its standard output.

        Raises:
            NoAnswerError: it did not end in time, or an earlier one with the same key still has not.
            CommandError: it ended with an error.
        """
        words = [*self._become(as_root), *command]
        self._refuse_while_stuck(key, words, limit_s)
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
            if not _wait(child, limit_s):
                with contextlib.suppress(PermissionError):  # it runs as root and this process does not
                    child.kill()
                if not _wait(child, _LONGEST_PAUSE_S):
                    self._stuck[key] = child
                raise NoAnswerError(shlex.join(words), limit_s)
            output.seek(0)
            errors.seek(0)
            if child.returncode:
                raise CommandError(shlex.join(words), child.returncode, errors.read().decode(errors="replace"))
            return output.read().decode(errors="replace")

    def _become(self, as_root: bool) -> list[str]:  # noqa: FBT001 - private, named at its one call
        return shlex.split(self.root_helper) if as_root and os.geteuid() else []

    def _refuse_while_stuck(self, key: str, words: Sequence[str], limit_s: float) -> None:
        before = self._stuck.get(key)
        if before is None:
            return
        if before.poll() is None:
            raise NoAnswerError(shlex.join(words), limit_s)
        del self._stuck[key]


def _wait(child: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Whether the child ended within the limit, seconds."""
    end_s = time.monotonic() + limit_s
    pause_s = _FIRST_PAUSE_S
    while child.poll() is None:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
    return True
