# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have, each described once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lustack.sync.settings import Settings

DEFAULT_FILE = "/etc/lustack/lustack.conf"


def configured() -> argparse.ArgumentParser:
    """A parent for parsers of commands that read the configuration: see `read`."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "--config-file",
        metavar="FILE",
        action="append",
        default=[],
        help=f"configuration with the section [sync]; may be repeated (default: {DEFAULT_FILE})",
    )
    return parent


def read(config_files: Sequence[str]) -> Settings:
    """The settings of the operator.

    Args:
        config_files: what `--config-file` gave; none: the default.

    Raises:
        ConfigurationError: a file cannot be read, or a setting is wrong.
    """
    from lustack.sync import opts

    return opts.read(opts.configure(config_files or [DEFAULT_FILE]))


def text(written: str) -> str:
    """An argument that names something of Swift; its names are UTF-8.

    Raises:
        ArgumentTypeError: it has other bytes.
    """
    try:
        written.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{written!a} is not UTF-8, as all names in Swift are") from None
    return written


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    *,
    description: str,
    epilog: str = "",
    parents: Sequence[argparse.ArgumentParser] = (),
) -> argparse.ArgumentParser:
    """Add a command whose help keeps its line breaks.

    Args:
        commands: of the command above.
        name: of the command.
        summary: a few words for the list of commands.
        description: what it does.
        epilog: what comes after its options: examples, exit codes.
        parents: whose options it has, too.
    """
    return commands.add_parser(
        name,
        parents=parents,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
