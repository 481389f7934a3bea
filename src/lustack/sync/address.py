# SPDX-License-Identifier: Apache-2.0
"""From the path that an event names to the container and the names that it is about, and to what must be compared.

    <account>/<container>/<rest>                        a container's directory and what is below it
    .lustack/reserved/<account>/<container>/<rest>      likewise for Swift's hidden containers

Rule 1: pure; what is not sure from the path alone is answered less precisely, never left out.
Rule 2: paths of ours (temporary files, the rest of `.lustack`) are about nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lustack.mapping import layout, names
from lustack.mapping.names import UnrepresentableNameError
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.state import Scope

OWNER = "events"
"""Owner of the jobs that events make necessary."""

_HIDDEN = layout.HIDDEN_CONTAINERS + b"/"


class Address(NamedTuple):
    """Where a path is.

    Attributes:
        account: empty: the path is the device itself.
        container: empty: the path is the account's directory.
        start: where the path below the container begins; the length of the path, or more: it is the container itself.
    """

    account: str
    container: str = ""
    start: int = 0

    @property
    def key(self) -> ContainerKey:
        """The container."""
        return ContainerKey(self.account, self.container)


def address_of(path: bytes) -> Address | None:
    """The account and the container of a path below the device root, None if it is in none that can be listed."""
    if not path:
        return Address("")
    start = len(_HIDDEN) if path.startswith(_HIDDEN) else 0
    account, start = _take(path, start, names.decode_account)
    # Those that begin with a dot are Swift's own and hold no objects.
    if account is None or account.startswith("."):
        return None
    if start >= len(path):
        return Address(account)
    container, start = _take(path, start, names.decode_container)
    if container is None or container.startswith("\0") != path.startswith(_HIDDEN):
        return None
    return Address(account, container, start)


def names_of(rest: bytes, *, is_file: bool, is_directory: bool) -> tuple[str, ...]:
    """The names of objects that an entry may be.

    Args:
        rest: its path below the container.
        is_file: whether it is or was something else than a directory.
        is_directory: whether it is or was a directory: then it may be one or two markers.
    """
    found: dict[str, None] = {}
    if is_file:
        _add(found, rest, names.decode, "")
    if is_directory:
        _add(found, rest, names.decode_directory, "")
        _add(found, rest, names.decode_directory, "/")
    return tuple(found)


def scope_of(path: bytes) -> Scope | None:
    """What must be compared when anything may have happened below a directory, None: nothing."""
    where = address_of(path)
    if where is None:
        return None
    rest = path[where.start :] if where.container else b""
    return Scope(where.account, where.container, prefix_of(rest), OWNER)


def prefix_of(rest: bytes) -> str:
    """How the names of all objects below a directory begin, or below the next one above it that has a name.

    Args:
        rest: path of the directory below the container; empty: the container itself.
    """
    while rest:
        try:
            return names.decode_directory(rest) + "/"
        except UnrepresentableNameError:
            rest = rest.rpartition(b"/")[0]
    return ""


def is_ours(path: bytes) -> bool:
    """Whether a path leads to or through one of our temporary files."""
    prefix = layout.TEMPORARY_PREFIX
    return prefix in path and (path.startswith(prefix) or b"/" + prefix in path)


def _take(path: bytes, start: int, decode: Callable[[bytes], str]) -> tuple[str | None, int]:
    """One name from a path, which may be cut in entries, and where the next begins."""
    end = start
    while True:
        first, end = end, path.find(b"/", end)
        if end < 0:
            end = len(path)
        if end == len(path) or not names.is_continued(path[first:end]):
            break
        end += 1
    try:
        return decode(path[start:end]), end + 1
    except UnrepresentableNameError:
        return None, end + 1


def _add(found: dict[str, None], rest: bytes, decode: Callable[[bytes], str], end: str) -> None:
    try:
        found[decode(rest) + end] = None
    except UnrepresentableNameError:
        return
