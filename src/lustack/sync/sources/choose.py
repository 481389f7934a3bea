# SPDX-License-Identifier: Apache-2.0
"""Which source of events looks after a device, and what that means, said once at the start.

Rule 1: what the operator names is taken or refused; `auto` takes the first that works here.
Rule 2: a source is tried before it is chosen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from oslo_log import log

from lustack.errors import ConfigurationError
from lustack.posix import filesystems, inotify
from lustack.posix.errors import explain
from lustack.posix.kernel import LUSTRE_SUPER_MAGIC
from lustack.sync.errors import DeviceMissingError
from lustack.sync.sources import changelogs
from lustack.sync.sources.changelog_window import Memory
from lustack.sync.sources.fanotify import DIRECTORIES, DIRECTORY_BYTES, FanotifySource
from lustack.sync.sources.inotify import InotifySource
from lustack.sync.sources.protocol import Source, SourceUnavailableError
from lustack.sync.sources.roots import Root

LOG = log.getLogger(__name__)

AUTO: Final = "auto"
SCAN: Final = "scan"

Shared = Callable[[str], str | None]
"""See `filesystems.shared_name`."""


@dataclass(frozen=True)
class Task:
    """What a source is wanted for.

    Attributes:
        name: of the device.
        roots: what to watch.
        is_local: no other machine can change the file system of the device.
    """

    name: str
    roots: tuple[Root, ...]
    is_local: bool


Make = Callable[[Task], Source]
"""Makes a source that works here, as far as can be told without much work; closed. Raises SourceUnavailableError or
DeviceMissingError."""


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        kind: `fanotify`, `inotify`, ... or `scan`.
        source: None for `scan`: everything is compared, again and again.
        why: what it means, in one sentence.
    """

    kind: str
    source: Source | None
    why: str


def _make_fanotify(task: Task, directories: int = DIRECTORIES) -> Source:
    source = FanotifySource(f"fanotify:{task.name}", task.roots, is_local=task.is_local, directories=directories)
    source.open(None)
    source.close()
    return source


def _make_inotify(task: Task) -> Source:
    # Not opened to try it: that takes a watch for every directory.
    try:
        os.close(inotify.start())
    except OSError as error:
        raise SourceUnavailableError("inotify", str(error)) from error
    return InotifySource(f"inotify:{task.name}", task.roots, is_local=task.is_local)


KINDS: Final[Mapping[str, Make]] = MappingProxyType({"fanotify": _make_fanotify, "inotify": _make_inotify})
"""Those of any file system, in the order in which `auto` tries them."""

CHANGELOG: Final = "changelog"
_LEAST_DIRECTORIES: Final = 1000
_LUSTRE: Final = filesystems.SHARED[LUSTRE_SUPER_MAGIC]


def all_kinds(users: Mapping[str, str], memory: Callable[[], Memory] = Memory) -> Mapping[str, Make]:
    """All there are, the best first.

    Args:
        users: our registered user of each MDT, by the name of the MDT.
        memory: makes what a source on Lustre remembers of identities; what its limit is counts for others too.
    """

    def make_changelog(task: Task) -> Source:
        return changelogs.connect(task.name, users, task.roots, memory)

    # Fewer would be forgotten before they are of use.
    directories = min(DIRECTORIES, max(_LEAST_DIRECTORIES, memory().limit_bytes // DIRECTORY_BYTES))
    return MappingProxyType(
        {CHANGELOG: make_changelog, **KINDS, "fanotify": partial(_make_fanotify, directories=directories)}
    )


def choose(
    wanted: str,
    name: str,
    roots: Sequence[Root],
    *,
    kinds: Mapping[str, Make] = KINDS,
    shared: Shared = filesystems.shared_name,
) -> Choice:
    """Chooses for one device, and logs what was chosen.

    Args:
        wanted: `auto`, `scan` or a kind.
        name: of the device.
        roots: what to watch, the root of the device first.
        kinds: what there is to choose from.
        shared: tells whether other machines can change a file system.

    Raises:
        ConfigurationError: there is no such kind, or it does not work here.
        DeviceMissingError: it is not there.
    """
    if wanted not in {AUTO, SCAN, *kinds}:
        raise ConfigurationError("[sync]", "source", wanted, f"one of {', '.join([AUTO, *kinds, SCAN])}")
    common = _shared_name(roots[0].path, shared)
    task = Task(name, tuple(roots), is_local=common is None)
    refusals = []
    # Where no file is on Lustre, it goes without saying that there is no changelog.
    automatic = tuple(kind for kind in kinds if kind != CHANGELOG or common == _LUSTRE)
    tried = {AUTO: automatic, SCAN: ()}.get(wanted, (wanted,))
    for kind in tried:
        try:
            source = kinds[kind](task)
        except SourceUnavailableError as error:
            refusals.append(error.why)
            if wanted != AUTO:
                raise ConfigurationError("[sync]", "source", wanted, f"another one here ({error.why})") from error
            continue
        return _announce(name, Choice(kind, source, _describe(kind, source, common, refusals)))
    return _announce(name, Choice(SCAN, None, "; ".join(("everything is compared again and again", *refusals))))


def _shared_name(path: str, shared: Shared) -> str | None:
    """The name of the file system of the device if other machines can change it.

    Raises:
        DeviceMissingError: it is not there.
    """
    try:
        return shared(path)
    except OSError as error:
        raise DeviceMissingError(path, explain(error)) from error


def _describe(kind: str, source: Source, common: str | None, refusals: Sequence[str]) -> str:
    latency_ms = source.guarantees.latency_s * 1000
    words = [f"changes are seen within {latency_ms:.0f} ms by {kind}"]
    if common and not source.guarantees.across_hosts:
        words.append(f"but not those that other machines make on {common}, so keep `interval_s` short")
    return "; ".join((", ".join(words), *refusals))


def _announce(name: str, choice: Choice) -> Choice:
    LOG.info("%s: source of events: %s: %s", name, choice.kind, choice.why)
    return choice
