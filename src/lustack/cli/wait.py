# SPDX-License-Identifier: Apache-2.0
"""`lustack sync wait`: returns when what was done to files is listed; for the ends of jobs, and for everybody."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from lustack.cli import arguments, exits
from lustack.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_TIMEOUT_S = 600.0

_DESCRIPTION = """\
Waits until everything that happened to the files of a device before this call is in Swift's listings. Needs no
rights but the way to the device: end a job with it, before something lists what the job has written."""

_EPILOG = """\
examples:
  lustack sync wait                             the device that the current directory is on
  lustack sync wait /lustre/AUTH_x/results --timeout 60

exit codes:
  0  everything is listed
  1  no daemon looks after this place, or its fence cannot be used
  3  not everything was listed in time"""


def add_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Add the command to `lustack sync`."""
    verb = arguments.add_command(
        verbs,
        "wait",
        "return when everything so far is listed",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        parents=[common],
    )
    verb.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        default="",
        help="a place on the device (default: the current directory; if no device is above it, as for exports, all "
        "devices of the configuration)",
    )
    verb.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="S",
        help=f"give up after so many seconds (default: {DEFAULT_TIMEOUT_S:g})",
    )
    verb.set_defaults(run=wait)


def wait(wanted: argparse.Namespace) -> int:
    """Wait.

    Returns:
        The exit code.

    Raises:
        LustackError: see `lustack.sync.waiting.wait_for`.
    """
    from lustack.sync import waiting

    waiting.wait_for(find_devices(wanted.path, wanted.config_file), wanted.timeout)
    return exits.DONE


def find_devices(path: str, config_files: Sequence[str]) -> list[str]:
    """The devices to wait for.

    Raises:
        NoFenceError: no daemon looks after any.
    """
    from lustack.sync import waiting

    try:
        return [waiting.find_device(path or os.getcwd())]
    except waiting.NoFenceError:
        devices = [each for each in _configured(config_files) if waiting.has_fence(each)]
        if not devices:
            raise
        return devices


def _configured(config_files: Sequence[str]) -> list[str]:
    """The devices of the configuration, as far as this user may see it."""
    try:
        devices = arguments.read(config_files).devices
        return [os.path.join(devices, each) for each in sorted(os.listdir(devices))]
    except (ConfigurationError, ImportError, OSError):
        return []


def _seconds(text: str) -> float:
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number
