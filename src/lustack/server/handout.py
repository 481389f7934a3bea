# SPDX-License-Identifier: Apache-2.0
"""The rendered files of a cluster, in a directory from which its administrator copies them to the nodes.

Rule 1: every file appears whole or not at all; rendering again changes only what differs.
Rule 2: the salt of the hashes is chosen once and never guessed again.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from lustack.errors import ConfigurationError
from lustack.posix.atomic import replace_file
from lustack.server.cluster import RINGS, Salt
from lustack.server.site import Site

SALT = "swift-hash.json"
_SALT_BYTES = 16


def choose_salt(site: Site, directory: str) -> Salt:
    """The salt of a cluster: what the site says, else what was chosen before, else a new one.

    Raises:
        ConfigurationError: it would change, or its file cannot be read.
    """
    given = Salt(site.swift.hash_path_prefix, site.swift.hash_path_suffix)
    place = os.path.join(directory, SALT)
    kept = _kept_salt(place)
    if given == Salt("", ""):
        return kept or Salt(secrets.token_hex(_SALT_BYTES), secrets.token_hex(_SALT_BYTES))
    if kept not in (None, given):
        allowed = f"what {place} says, or every database would be lost from sight (remove that file if none exists)"
        raise ConfigurationError(site.source, "[swift] hash_path_prefix, hash_path_suffix", asdict(given), allowed)
    return given


def _kept_salt(place: str) -> Salt | None:
    try:
        with open(place, encoding="utf-8") as file:
            return Salt(**json.load(file))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ConfigurationError("lustack config", "file", place, "what was written there, or removed") from error


def write(directory: str, salt: Salt, files: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """Write what differs.

    Args:
        directory: where; made if it is not there. Nobody else may read it: it holds keys.
        salt: of the cluster.
        files: text by path below the directory.

    Yields:
        Each path, and whether it was written.

    Raises:
        ConfigurationError: the directory cannot be used.
    """
    kept = json.dumps(asdict(salt), indent=1) + "\n"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for path, text in {SALT: kept, **files}.items():
            yield path, _write(os.path.join(directory, path), text)
    except OSError as error:
        allowed = f"a directory that you may write to, with room ({error})"
        raise ConfigurationError("lustack config render", "DIRECTORY", directory, allowed) from error


def read(directory: str, path: str) -> str:
    """The text of a file that was rendered before; empty if there is none."""
    try:
        with open(os.path.join(directory, path), encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _write(place: str, text: str) -> bool:
    parent, name = os.path.split(place)
    if read(parent, name) == text:
        return False
    os.makedirs(parent, exist_ok=True)
    dirfd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        replace_file(dirfd, os.fsencode(name), text.encode())
    finally:
        os.close(dirfd)
    if name == RINGS:
        os.chmod(place, 0o700)
    return True
