# SPDX-License-Identifier: Apache-2.0
"""The shares that are configured, and which of them a volume lies on.

Rule 1: decides only; no file is touched.
Rule 2: a share is known by what it is (file system and directory), so that a volume is found again when the
    addresses of the servers change. Two shares that differ in nothing else are refused: use another directory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lustack.cinder.errors import UnknownShareError
from lustack.errors import ConfigurationError
from lustack.lustre.errors import ShareSyntaxError
from lustack.lustre.mounts import parse_share

_ALLOWED: Final = "a share such as 10.0.0.1@tcp:/scratch/volumes, optionally followed by `-o OPTIONS`"


@dataclass(frozen=True)
class ConfiguredShare:
    """A share that holds volumes.

    Attributes:
        address: as it is mounted, and as it is recorded with each volume.
        flags: more arguments for mount.
        pool: name of its pool: the file system and the directory.
    """

    address: str
    flags: str
    pool: str


def parse_lines(lines: Iterable[str], where: str, option: str) -> dict[str, ConfiguredShare]:
    """The shares in the lines of a configuration file, by address.

    Args:
        lines: empty ones and those that begin with `#` are left out.
        where: the file; for the message of the error.
        option: the option that names the file.

    Raises:
        ConfigurationError: a line is not understood, or two lines are about one directory.
    """
    found: dict[str, ConfiguredShare] = {}
    for line in lines:
        text = line.strip()
        if text and not text.startswith("#"):
            share = _parse_line(text, where, option)
            if any(other.pool == share.pool for other in found.values()):
                raise ConfigurationError(where, option, text, "about another directory than the other shares")
            found[share.address] = share
    return found


def find(shares: Mapping[str, ConfiguredShare], location: str) -> ConfiguredShare:
    """The share that a volume lies on.

    Args:
        shares: those that are configured.
        location: the address that was recorded with the volume, perhaps with servers of the past.

    Raises:
        UnknownShareError: none is the same directory of the same file system.
    """
    if location in shares:
        return shares[location]
    try:
        pool = parse_share(location).identity
    except ShareSyntaxError as error:
        raise UnknownShareError(location, sorted(shares)) from error
    return find_pool(shares, pool)


def find_pool(shares: Mapping[str, ConfiguredShare], pool: str) -> ConfiguredShare:
    """The share that is a pool.

    Raises:
        UnknownShareError: there is no such pool.
    """
    for share in shares.values():
        if share.pool == pool:
            return share
    raise UnknownShareError(pool, sorted(shares))


def _parse_line(text: str, where: str, option: str) -> ConfiguredShare:
    address, _, flags = text.partition(" ")
    try:
        share = parse_share(address)
    except ShareSyntaxError as error:
        raise ConfigurationError(where, option, address, f"{_ALLOWED} ({error.why})") from error
    # As written, so that it is what mount and /proc/mounts show.
    return ConfiguredShare(address, flags.strip(), share.identity)
