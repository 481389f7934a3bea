# SPDX-License-Identifier: Apache-2.0
"""The demonstration: real clients and coreutils on one tree, each step checked.

    make demo

Starts `lustack serve` on a directory of its own, shows what a person would type, and checks what comes of it.
Exits with 0 only if all of it held; in the end nothing runs, nothing is mounted, and nothing is left on disk.
"""

from __future__ import annotations

import signal
import sys
import time
from typing import NoReturn

import features
import files
import objects
from show import Show, UnexpectedError
from stage import Stage, playing

INTERRUPTED = 130


def main() -> int:
    """Play it.

    Returns:
        The exit code.
    """
    show, started_s = Show(sys.stdout), time.monotonic()
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        show.say("lustack serve DIR: a directory as Swift and S3 on this machine; starting it ...")
        with playing() as stage:
            introduce(show, stage)
            for act in (objects.play, files.play, features.play):
                act(show, stage)
            show.head("And the end")
            with show.step("Ctrl-C: lustack serve stops, with all that it started"):
                stage.stop()
    except KeyboardInterrupt:
        show.say("\ninterrupted; everything is stopped and removed")
        return INTERRUPTED
    except UnexpectedError as error:
        show.say(f"it did not start: {error}")
        return 1
    return conclude(show, time.monotonic() - started_s)


def introduce(show: Show, stage: Stage) -> None:
    """Say what is where."""
    environment = stage.environment
    show.say(f"DATA={environment['DATA']}   the object o of the container c is the file $DATA/c/o")
    show.say("export " + " ".join(f"{name}={environment[name]}" for name in ("ST_AUTH", "ST_USER", "ST_KEY")))
    access = stage.access
    show.say(f"s3 = boto3.client('s3', endpoint_url='{access['s3_endpoint']}',")
    show.say(f"    aws_access_key_id='{access['s3_access_key']}', aws_secret_access_key='{access['s3_secret_key']}')")


def conclude(show: Show, took_s: float) -> int:
    """Say how it went; the exit code."""
    if show.failed:
        show.say(f"\n{len(show.failed)} of {show.steps} steps did NOT hold ({took_s:.0f} s):")
        for command in show.failed:
            show.say(f"    {command}")
        return 1
    show.say(f"\nAll {show.steps} steps held ({took_s:.0f} s). Nothing runs any more, and nothing is left on disk.")
    return 0


def _interrupt(_number: int, _frame: object) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # cleaning up is not interrupted
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
