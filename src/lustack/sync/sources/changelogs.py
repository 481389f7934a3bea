# SPDX-License-Identifier: Apache-2.0
"""All changelogs of a Lustre file system as one source: a thread for each MDT, one memory of identities for all.

A position is that of every MDT: JSON, by name.

Rule 1: all MDTs or none. One without a user of ours, or one that was added, would be a hole that nobody sees.
Rule 2: what one MDT has read waits until somebody takes it, at most one batch for each: no memory without a limit.
Rule 3: a nonce of a fence, whose record is in the log of one MDT, is reported after everything that was in the logs of
    all others when it was seen: see `changelog_fences`.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from oslo_log import log

from lustack.lustre import client
from lustack.lustre.errors import LustreError
from lustack.lustre.protocol import Lustre
from lustack.posix.tree import open_root
from lustack.sync import fence
from lustack.sync.sources.changelog import ChangelogSource
from lustack.sync.sources.changelog_fences import Fences
from lustack.sync.sources.changelog_paths import Paths
from lustack.sync.sources.changelog_tail import Pace
from lustack.sync.sources.changelog_window import Memory
from lustack.sync.sources.protocol import (
    OLDEST,
    Batch,
    Guarantees,
    Position,
    SourceLostError,
    SourceUnavailableError,
)
from lustack.sync.sources.roots import Root

LOG = log.getLogger(__name__)

_ASKERS: Final = 16
"""Questions about FIDs at a time; each waits for a server."""

_SLICE_S: Final = 0.5
REMEDY: Final = "`lustack sync register` says how to register users, and what to write into the configuration"


class ChangelogSources:
    """See `Source`, and the top of this file."""

    def __init__(
        self,
        name: str,
        lustre: Lustre,
        users: Mapping[str, str],
        roots: Sequence[Root],
        pace: Pace | None = None,
        memory: Callable[[], Memory] = Memory,
    ) -> None:
        """Opens nothing yet.

        Args:
            name: of the source.
            lustre: the file system.
            users: our registered user of each MDT, as `cl1`, by the name of the MDT.
            roots: what to watch, the root of the device first.
            pace: times.
            memory: makes one: it says whose uploads are not reported, and how much may be remembered.
        """
        self._name, self._lustre, self._users, self._roots = name, lustre, dict(users), tuple(roots)
        self._pace, self._new_memory = pace or Pace(), memory
        self._foreign: list[str] = []
        self._changed = threading.Condition()
        self._is_open = False
        self._sources: dict[str, ChangelogSource] = {}
        self._threads: list[threading.Thread] = []
        self._executor: ThreadPoolExecutor | None = None
        self._fences = Fences(())
        self._waiting: deque[tuple[str, Batch]] = deque()
        self._given: dict[str, str] = {}
        self._lost: str | None = None

    @property
    def name(self) -> str:
        """See `Source`."""
        return self._name

    @property
    def guarantees(self) -> Guarantees:
        """See `Source`. Less is promised while an export is not on Lustre."""
        return Guarantees(complete=True, across_hosts=not self._foreign, latency_s=1.0)

    def probe(self) -> None:
        """Tries what can be tried without losing anything: `open(None)` would give up what waits in the logs.

        Raises:
            SourceUnavailableError: it does not work here.
        """
        try:
            for mdt in self._mdts():
                self._lustre.open_changelog(mdt, 1, follow=False).close()
            self._keys()
        except (LustreError, OSError) as error:
            raise SourceUnavailableError(self._name, str(error)) from error

    def open(self, position: Position | None) -> None:
        """See `Source`.

        Raises:
            SourceUnavailableError: an MDT does not answer now, or does not know our user.
        """
        self.close()
        try:
            self._open(position)
        except (LustreError, OSError) as error:
            self.close()
            raise SourceUnavailableError(self._name, str(error)) from error
        except (SourceLostError, SourceUnavailableError):
            self.close()
            raise

    def read(self, timeout_s: float) -> Batch | None:
        """See `Source`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._lost or not self._is_open, timeout_s)
            if not self._is_open:
                return None
            if self._lost is not None:
                raise SourceLostError(self._name, self._lost)
            if not self._waiting:
                return None
            mdt, batch = self._waiting.popleft()
            if mdt:
                self._given[mdt] = batch.position
            self._changed.notify_all()
            return Batch(batch.events, Position(json.dumps(self._given)), batch.happened_ns)

    def watch(self, roots: Sequence[Root]) -> None:
        """See `Rooted`. Nothing is opened again: what is read from now on is looked up among the new roots."""
        self._roots = tuple(roots)
        if not self._is_open:
            return
        try:
            keys = self._keys()
        except (LustreError, OSError) as error:
            # Whoever reads is told, and opens it again.
            with self._changed:
                self._lost = str(error)
                self._changed.notify_all()
            return
        for source in self._sources.values():
            source.watch(keys)

    def acknowledge(self, position: Position) -> None:
        """See `Source`."""
        for mdt, each in json.loads(position).items():
            source = self._sources.get(mdt)
            if source is not None:
                source.acknowledge(Position(each))

    def close(self) -> None:
        """See `Source`."""
        with self._changed:
            self._is_open = False
            self._waiting.clear()
            self._changed.notify_all()
        for source in self._sources.values():
            source.close()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def _open(self, position: Position | None) -> None:
        mdts = self._mdts()
        positions = self._split(position, mdts)
        self._executor = ThreadPoolExecutor(_ASKERS, thread_name_prefix="fid")
        roots = self._keys()
        memory = self._new_memory()
        memory.readers = len(mdts)
        self._sources.clear()
        for mdt in mdts:
            paths = Paths(self._lustre, memory, roots, self._executor)
            source = ChangelogSource(self._lustre, mdt, self._users[mdt], paths, pace=self._pace)
            self._sources[mdt] = source
            source.open(positions[mdt])
        self._given = {mdt: source.position for mdt, source in self._sources.items()}
        self._fences = Fences(mdts)
        # The records of those who wait already may be acknowledged.
        self._ask_for_ends(self._fences.add(self._pending(), time.monotonic()))
        self._lost, self._is_open = None, True
        for mdt, source in self._sources.items():
            thread = threading.Thread(target=self._run, args=(mdt, source), name=f"changelog {mdt}")
            self._threads.append(thread)
            thread.start()

    def _split(self, position: Position | None, mdts: Sequence[str]) -> Mapping[str, Position | None]:
        """The positions of the MDTs.

        Raises:
            SourceLostError: they are not those of all MDTs.
        """
        if not position:
            return dict.fromkeys(mdts, position)
        positions: dict[str, Position] = json.loads(position)
        if set(positions) != set(mdts):
            raise SourceLostError(self._name, f"its MDTs were {sorted(positions)}, and are {list(mdts)} now")
        return positions

    def _pending(self) -> list[bytes]:
        """The nonces that are there."""
        root = open_root(self._roots[0].path)
        try:
            return fence.pending(root)
        finally:
            os.close(root)

    def _ask_for_ends(self, asked_s: float | None) -> None:
        if asked_s is not None:
            for source in self._sources.values():
                source.ask_for_end(asked_s)

    def _run(self, mdt: str, source: ChangelogSource) -> None:
        """What the thread of an MDT does."""
        while self._is_open and self._lost is None:
            try:
                batch = source.read(_SLICE_S)
            except SourceLostError as error:
                with self._changed:
                    self._lost = str(error)
                    self._changed.notify_all()
                return
            if batch is not None:
                self._hand_over(mdt, source, batch)
            self._let_pass(mdt, source.seen_s)

    def _hand_over(self, mdt: str, source: ChangelogSource, batch: Batch) -> None:
        nonces, events = self._fences.split(batch.events)
        with self._changed:
            self._changed.wait_for(lambda: not self._is_open or all(each != mdt for each, _ in self._waiting))
            if not self._is_open:
                return
            self._waiting.append((mdt, replace(batch, events=events)))
            # What came before them on this MDT has been reported, if nothing is held back.
            self._ask_for_ends(self._fences.add(nonces, time.monotonic(), () if source.is_holding else (mdt,)))
            self._changed.notify_all()

    def _let_pass(self, mdt: str, seen_s: float) -> None:
        """Reports the nonces that have nothing to wait for any more. From the thread of an MDT, after its events."""
        with self._changed:
            events = self._fences.pass_through(mdt, seen_s)
            if events and self._is_open:
                self._waiting.append(("", Batch(events, OLDEST)))
                self._changed.notify_all()

    def _mdts(self) -> tuple[str, ...]:
        """The MDTs.

        Raises:
            SourceUnavailableError: one has no user of ours, or there is none.
        """
        mdts = self._lustre.mdts()
        missing = [mdt for mdt in mdts if mdt not in self._users]
        if missing or not mdts:
            what = (
                f"no user is configured for {', '.join(missing)}" if mdts else "there is no changelog on this machine"
            )
            raise SourceUnavailableError(self._name, f"{what}; {REMEDY}")
        return mdts

    def _keys(self) -> dict[bytes, Root]:
        """The roots by their keys. An export that is not there, or not on Lustre, is left out.

        Raises:
            LustreError, OSError: the root of the device is not there, or not on Lustre.
        """
        found, self._foreign = {}, []
        for root in self._roots:
            try:
                found[self._key_of(root)] = root
            except (LustreError, OSError) as error:
                if not root.prefix:
                    raise
                if isinstance(error, LustreError):
                    self._foreign.append(root.path)
        if self._foreign:
            LOG.warning("%s does not see what happens in %s: comparisons do", self._name, ", ".join(self._foreign))
        return found

    def _key_of(self, root: Root) -> bytes:
        fd = os.open(root.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return self._lustre.key_of(fd)
        finally:
            os.close(fd)


def connect(
    name: str,
    users: Mapping[str, str],
    roots: Sequence[Root],
    memory: Callable[[], Memory] = Memory,
) -> ChangelogSources:
    """The source for directories on Lustre; closed, but tried.

    Args:
        name: of the device.
        users: see `ChangelogSources`.
        roots: what to watch, all on one file system.
        memory: see `ChangelogSources`.

    Raises:
        SourceUnavailableError: it does not work here.
    """
    full_name = f"changelog:{name}"
    try:
        lustre = client.connect(roots[0].path)
    except LustreError as error:
        raise SourceUnavailableError(full_name, str(error)) from error
    source = ChangelogSources(full_name, lustre, users, roots, memory=memory)
    source.probe()
    return source
