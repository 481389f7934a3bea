# SPDX-License-Identifier: Apache-2.0
"""`lustack changelog decode`: the records of a Lustre changelog for people and for scripts."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import BinaryIO

from lustack.cli import arguments, exits
from lustack.errors import ConfigurationError
from lustack.lustre import fid, nids
from lustack.lustre.changelog import Decoder, Record
from lustack.lustre.protocol import READ_BYTES

_DECODE = """\
Prints one JSON object for each record in a file of raw bytes, a changelog device such as /dev/changelog-lustre-MDT0000,
or a pipe. Names are hexadecimal, because they may hold any bytes. Reading a device clears nothing."""

_EXAMPLES = """\
examples:
  lustack changelog decode /dev/changelog-lustre-MDT0000
  lustack changelog decode saved.raw | jq -r 'select(.type == "UNLNK") | .tfid'
  lustack changelog decode - < saved.raw"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the command line."""
    parser = subparsers.add_parser("changelog", help="look into changelogs of Lustre")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    verb = arguments.add_command(verbs, "decode", "print records as JSON", description=_DECODE, epilog=_EXAMPLES)
    verb.add_argument("path", metavar="FILE|DEVICE", help="what to read; - for standard input")
    verb.set_defaults(run=decode)


def decode(wanted: argparse.Namespace) -> int:
    """Print records until the file, the log or the pipe ends.

    Returns:
        The exit code.

    Raises:
        ConfigurationError: it cannot be read.
        RecordError: these are no records; those before were printed.
    """
    try:
        with open(0 if wanted.path == "-" else wanted.path, "rb", buffering=0, closefd=wanted.path != "-") as source:
            _print_records(source)
    except BrokenPipeError:
        # Who reads has seen enough; what is still buffered must not fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
    except OSError as error:
        raise ConfigurationError("lustack changelog decode", "FILE", wanted.path, f"readable: {error}") from error
    return exits.DONE


def _print_records(source: BinaryIO) -> None:
    decoder = Decoder()
    # A buffer that is smaller than a record would look like the end of a device's log.
    while piece := source.read(READ_BYTES):
        for record in decoder.feed(piece):
            print(json.dumps(describe(record)))
        sys.stdout.flush()
    decoder.finish()
    for what, count in sorted(decoder.unknown.items()):
        exits.say(f"{count} records with something unknown: {what}")


def describe(record: Record) -> dict[str, object]:
    """A record as JSON shows it; what it does not have is left out."""
    found: dict[str, object] = {
        "index": record.index,
        "type": record.type_name,
        "time_ns": record.time_ns,
        "flags": record.flags,
        "tfid": fid.render(record.target),
        "pfid": fid.render(record.parent),
        "name_hex": record.name.hex(),
    }
    optional = {
        "sfid": record.source and fid.render(record.source),
        "spfid": record.source_parent and fid.render(record.source_parent),
        "sname_hex": None if record.source_name is None else record.source_name.hex(),
        "jobid": _text(record.job),
        "uid": record.uid,
        "gid": record.gid,
        "nid": record.nid and nids.render_nid(record.nid, is_big=record.nid_is_big),
        "open_mode": record.mode,
        "xattr": _text(record.attribute),
    }
    return found | {key: value for key, value in optional.items() if value is not None}


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")
