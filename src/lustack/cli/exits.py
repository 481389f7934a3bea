# SPDX-License-Identifier: Apache-2.0
"""How an error becomes a sentence and an exit code; the one place that knows the codes.

    0  done
    1  failed
    2  yours to fix: a setting, an argument, something that is not installed
    3  try again: the same command may succeed later

What a user or a setting can mend is said in a sentence, also of a file: see `lustack.posix.errors.explain`. What nobody
explained is shown whole, with its traceback, and is a 1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from lustack.errors import ConfigurationError, LustackError
from lustack.posix.errors import explain, has_remedy

DONE = 0
FAILED = 1
YOURS_TO_FIX = 2
TRY_AGAIN = 3

# What belongs to an extra of ours (pyproject.toml), by the first part of the module's name.
_EXTRAS = {
    "cinder": "cinder",
    "os_brick": "cinder",
    "swift": "server",
    "oslo_config": "sync",
    "oslo_log": "sync",
    "prometheus_client": "sync",
}


def code_of(error: LustackError) -> int:
    """The exit code for an error."""
    if isinstance(error, ConfigurationError):
        return YOURS_TO_FIX
    return TRY_AGAIN if error.retryable else FAILED


def run(command: Callable[[], int]) -> int:
    """Run a command and say on standard error what went wrong, in a sentence.

    Args:
        command: does the work, returns its exit code.

    Returns:
        The exit code.

    Raises:
        ModuleNotFoundError: a module is missing that none of our extras brings.
        OSError: something failed of which it is not known what to do.
    """
    try:
        return command()
    except LustackError as error:
        say(str(error))
        return code_of(error)
    except OSError as error:
        if not isinstance(error.filename, str | bytes) or not has_remedy(error):
            raise
        say(f"{printable(os.fsdecode(error.filename))}: {explain(error)}")
        return FAILED
    except KeyboardInterrupt:
        say("interrupted")
        return FAILED
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        say(f"this needs {error.name}, which is not installed: pip install 'lustack[{extra}]'")
        return YOURS_TO_FIX


def printable(name: str) -> str:
    """A name that cannot disturb a terminal."""
    return name if name.isprintable() else name.encode("unicode_escape", "surrogatepass").decode("ascii")


def say(sentence: str) -> None:
    """Print a sentence for people, on standard error."""
    print(f"lustack: {sentence}", file=sys.stderr, flush=True)
