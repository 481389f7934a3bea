# SPDX-License-Identifier: Apache-2.0
"""The command line: finds the noun, loads its module, runs it.

Rule: a noun's module is imported only when its command runs, so that a host without the libraries of one part can
use the others. It has `add_parser(subparsers)`, which sets a default `run`: a function of the parsed arguments
that returns the exit code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from lustack import __version__
from lustack.cli import exits

NOUNS: Mapping[str, tuple[str, str]] = {
    "changelog": ("lustack.cli.changelog", "look into changelogs of Lustre"),
    "config": ("lustack.cli.config", "make the configuration of a cluster"),
    "doctor": ("lustack.cli.doctor", "tell whether this host is ready for volumes on Lustre"),
    "export": ("lustack.cli.export", "make existing directories containers"),
    "fsck": ("lustack.cli.fsck", "check files against listings and metadata"),
    "serve": ("lustack.cli.serve", "serve a directory as Swift and S3 on this machine"),
    "sync": ("lustack.cli.sync", "make Swift's listings follow the files"),
    "volume": ("lustack.cli.volume", "heal volumes of Cinder"),
}
"""Noun -> module, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name.

    Args:
        argv: the arguments, None: those of this process.

    Returns:
        The exit code, see `lustack.cli.exits`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return exits.run(lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    wanted = build_parser(arguments[0] if arguments else "").parse_args(arguments)
    return int(wanted.run(wanted))


def build_parser(noun: str) -> argparse.ArgumentParser:
    """The parser, complete for one noun; the others are only named.

    Args:
        noun: what the command is about, or anything else.
    """
    parser = argparse.ArgumentParser(
        prog="lustack",
        description="One namespace for OpenStack and POSIX: a Swift object is a file, a file is a Swift object.",
        epilog="Exit codes: 0 done, 1 failed, 2 yours to fix, 3 try again.",
    )
    parser.add_argument("--version", action="version", version=f"lustack {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, purpose) in NOUNS.items():
        if name == noun:
            import_module(module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=purpose)
    return parser


if __name__ == "__main__":
    sys.exit(main())
