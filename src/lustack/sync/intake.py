# SPDX-License-Identifier: Apache-2.0
"""Sorts the events of one device: names to the containers that they are in, trees to jobs, nonces to fences.

Rule 1: no file is looked at here; it must be quick, because the source waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lustack.mapping import layout
from lustack.sync import fence
from lustack.sync.address import OWNER, address_of, scope_of
from lustack.sync.book import CONTAINER, GONE, MOVED
from lustack.sync.dirty import DIRECTORY, FILE, NEW, SHIFT, Container, Dirty
from lustack.sync.events import Event, NameChanged, TreeChanged, TreeMoved
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.state import Job, Scope

_MOST_KNOWN = 20_000
_RESERVED = layout.RESERVED + b"/"


@dataclass
class Taken:
    """What came of a batch besides dirty names.

    Attributes:
        jobs: what must be compared.
        nonces: of those who wait.
    """

    jobs: list[Job] = field(default_factory=list)
    nonces: list[bytes] = field(default_factory=list)


class Intake:
    """Takes the events of one device. Not thread-safe: whoever calls has the lock of `dirty`."""

    def __init__(self, policy_index: int, dirty: Dirty) -> None:
        """Knows no container yet.

        Args:
            policy_index: of the storage policy whose device it is.
            dirty: takes the names.
        """
        self._policy_index = policy_index
        self._dirty = dirty
        self._known: dict[bytes, Container] = {}
        self._most_known = min(_MOST_KNOWN, 2 * dirty.most_idle)
        self._forgotten = dirty.forgotten
        self._nowhere = Container(policy_index, ContainerKey("", ""))
        self._nowhere.is_whole = True

    def take(self, events: Sequence[Event], window: int, now_s: float, *, is_past: bool) -> Taken:
        """Takes a batch.

        Args:
            events: in order.
            window: its number, at least 1.
            now_s: the time.
            is_past: whether an earlier run of the daemon may have seen them already: what it listed is not new.
        """
        taken = Taken()
        base, new = window << SHIFT, 0 if is_past else NEW
        known = self._known
        if self._forgotten != self._dirty.forgotten:
            self._forgotten = self._dirty.forgotten
            known.clear()
        touched: dict[Container, None] = {}
        for event in events:
            if not isinstance(event, NameChanged):
                self._take_tree(event, base, now_s, taken)
                continue
            path, is_open, is_new, is_directory = event
            slash = path.find(b"/", path.find(b"/") + 1)
            container = known.get(path[:slash]) if slash > 0 else None
            if container is None:
                container, slash = self._find(path, slash, taken, event)
            value = base | (DIRECTORY if is_directory else FILE) | (new if is_new else 0)
            container.add(path[slash + 1 :], value, now_s, is_open=is_open)
            touched[container] = None
        touched.pop(self._nowhere, None)
        for container in touched:
            self._dirty.touch(container, now_s)
        return taken

    def _find(self, path: bytes, slash: int, taken: Taken, event: NameChanged) -> tuple[Container, int]:
        """The container that a path is in, and where the path in it begins."""
        where = address_of(path)
        if where is None:
            self._take_nonce(path, taken)
            if slash > 0 and not path.startswith(_RESERVED):
                self._remember(path[:slash], self._nowhere)
            return self._nowhere, slash
        if not where.container or where.start >= len(path):
            if event.is_directory and path:
                # The directory of an account or a container came, went, or was changed.
                scope = Scope(where.account, where.container, owner=OWNER)
                taken.jobs.append(Job(scope, CONTAINER if event.is_new else GONE))
            return self._nowhere, slash
        container = self._dirty.container(self._policy_index, where.key)
        if where.start == slash + 1:
            self._remember(path[:slash], container)
        return container, where.start - 1

    def _remember(self, prefix: bytes, container: Container) -> None:
        if len(self._known) >= self._most_known:
            self._known.clear()
        self._known[prefix] = container

    def _take_nonce(self, path: bytes, taken: Taken) -> None:
        nonce = fence.nonce_of(path)
        if nonce is not None:
            taken.nonces.append(nonce)

    def _take_tree(self, event: TreeChanged | TreeMoved, base: int, now_s: float, taken: Taken) -> None:
        why = "changed" if isinstance(event, TreeChanged) else MOVED
        for path in event:
            scope = scope_of(path)
            if scope is None:
                continue
            taken.jobs.append(Job(scope, why))
            where = address_of(path)
            if where is not None and where.container and where.start < len(path):
                # The directory itself may be an object, a marker.
                container = self._dirty.container(self._policy_index, where.key)
                container.add(path[where.start :], base | DIRECTORY, now_s, is_open=False)
                self._dirty.touch(container, now_s)
