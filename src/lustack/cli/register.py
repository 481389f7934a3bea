# SPDX-License-Identifier: Apache-2.0
"""`lustack sync register`: users for the changelogs of Lustre, so that the daemon hears of every change."""

from __future__ import annotations

import argparse
import shlex
import subprocess

from lustack.cli import arguments, exits
from lustack.errors import ConfigurationError
from lustack.lustre import client, users
from lustack.lustre.users import RegistrationError

NAME = "lustack"

_DESCRIPTION = """\
Prints the command that registers the daemon as a user of the changelog of every MDT, to be run as root on the servers
that have the MDTs, and the line for the configuration of the daemon. With --run, runs them: on a machine that has all
MDTs, or on each server with the names of its MDTs."""

_EXAMPLES = """\
examples:
  lustack sync register /mnt/lustre
  lustack sync register --run lustre-MDT0000 lustre-MDT0001"""


def add_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to `lustack sync`."""
    verb = arguments.add_command(
        verbs, "register", "users for the changelogs of Lustre", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    verb.add_argument("where", metavar="PATH|MDT", nargs="+", help="a path on Lustre (all its MDTs), or names of MDTs")
    verb.add_argument(
        "--run", dest="now", action="store_true", help="register now: needs root and the MDTs on this machine"
    )
    verb.set_defaults(run=register)


def register(wanted: argparse.Namespace) -> int:
    """Print or run the commands.

    Returns:
        The exit code.

    Raises:
        ConfigurationError: that is neither a path nor an MDT, or `lctl` is not installed.
        NotLustreError, WholeMountError: a path is not on Lustre, or not all of it is mounted.
        RegistrationError: an MDT did not register.
    """
    from lustack.sync.sources.changelog import MASK

    mdts = [mdt for where in wanted.where for mdt in _find_mdts(where)]
    commands = {mdt: users.register_command(mdt, NAME, MASK) for mdt in mdts}
    if wanted.now:
        found = dict(_run(command) for command in commands.values())
    else:
        print("# As root on the servers that have the MDTs:")
        for command in commands.values():
            print(shlex.join(command))
        found = dict.fromkeys(mdts, "clN")
    print("# In the section [sync] of the configuration of the daemon" + ("" if wanted.now else ", N as printed:"))
    print("changelog_users = " + ",".join(f"{mdt}:{user}" for mdt, user in found.items()))
    return exits.DONE


def _find_mdts(where: str) -> list[str]:
    if "/" not in where:
        if "-MDT" not in where:
            raise ConfigurationError("lustack sync register", "MDT", where, "a path with a `/`, or as lustre-MDT0000")
        return [where]
    return list(client.connect(where).mdts())


def _run(command: list[str]) -> tuple[str, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ConfigurationError("lustack sync register", "--run", "lctl", "installed: it comes with Lustre") from error
    try:
        return users.parse_registered(done.stdout)
    except ValueError:
        raise RegistrationError(shlex.join(command), (done.stderr or done.stdout).strip()) from None
