# SPDX-License-Identifier: Apache-2.0
"""`lustack volume heal`: volumes of Cinder that a migration which was cut off left half way."""

from __future__ import annotations

import argparse

from lustack.cli import arguments, exits

_DESCRIPTION = """\
Makes a volume usable again whose migration (`cinder migrate`, `cinder retype`) was cut off, as by a kill of a service.
Cinder swaps a volume and its copy in several steps; this finishes them where the volume is recorded with the copy's
files, and takes them back where it is not. A server may go on using the disk: the file that it has open is the volume,
the attachment that Nova knows stays or comes back, and what was the volume gets another name, so that no server starts
on old bytes. No byte of a disk is changed or removed. Run it as root or as Cinder's user, with Cinder's Python, on a
host of cinder-volume that has both back ends, after cinder-volume has been started again."""

_EXAMPLES = """\
example:
  cinder reset-state --state error VOLUME      no service is working on it
  lustack volume heal VOLUME
  cinder delete COPY                           as the command has printed it

Where Nova had switched the guest and did not hear of the end of the migration, it has an attachment that Cinder has not
(`cinder attachment-list --volume-id VOLUME`). Where Cinder cannot know that by itself, say it:

  openstack --os-compute-api-version 2.89 server volume list SERVER
  cinder reset-state --state error VOLUME
  lustack volume heal VOLUME --attachment ID"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the command line."""
    parser = subparsers.add_parser("volume", help="heal volumes of Cinder")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    verb = arguments.add_command(
        verbs, "heal", "after a migration was cut off", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    verb.add_argument("volume", metavar="VOLUME", help="its id")
    verb.add_argument("--config-file", metavar="FILE", action="append", default=[], help="of Cinder; repeatable")
    verb.add_argument("--format", choices=["raw", "qcow2"], help="of the volume's file, when the command asks for it")
    verb.add_argument("--attachment", metavar="ID", help="that Nova has of it, where Cinder has another one")
    verb.set_defaults(run=heal)


def heal(wanted: argparse.Namespace) -> int:
    """Heal a volume.

    Returns:
        The exit code.

    Raises:
        NotHealedError: it is refused; says why.
    """
    from lustack.cinder import healer, served

    shares = served.configure([word for file in wanted.config_file for word in ("--config-file", file)])
    left = healer.heal(wanted.volume, shares, wanted.format, wanted.attachment)
    print(f"volume {wanted.volume} can be used again")
    for sentence in left:
        print(sentence)
    return exits.DONE
