# SPDX-License-Identifier: Apache-2.0
"""What is to be looked at, in memory: names by container, each once, with the window that it waits in.

    add -> names --------------------------> swap -> flying -> land     (or back to `due`, if it could not be sent)
        -> held, while a writer has it open -> due -^

Rule 1: a name is in at most one of `names`, `due` and `held`; beside that it may be flying. What comes while it flies
is the next batch.
Rule 2: a name keeps the window of the first event that was not looked at since. Windows are acknowledged in order, so
those of later events wait for it as well.
Rule 3: memory is bounded: `relieve` gives up names of whole directories, then of whole containers, for jobs. While such
a job waits to begin, what happens below it is absorbed: the job will look at it later anyway.
Rule 4: no lock, no clock, no file: whoever calls has the lock and says the time.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator

from lustack.sync.address import is_ours
from lustack.sync.sinks.protocol import ContainerKey

NEW, DIRECTORY, FILE = 1, 2, 4
"""What is known of a name: it was created after it was last looked at; it is or was a directory; something else."""

SHIFT = 3
KINDS = DIRECTORY | FILE

NAME_BYTES = 200
"""What a name takes beside its own bytes: the object, its place in a dictionary, its value. Source: sys.getsizeof."""

CONTAINER_BYTES = 1500
MOST_IDLE = 10_000
"""Containers without dirty names that are remembered, fewer if there is less memory."""

_LEAST_IDLE = 100
_IDLE_PART = 16
"""Of the memory."""

LIVELY_S = 0.1
"""A container whose last batch was taken longer ago than this sends its first name at once: nothing else may come."""

_CROWD = 16
"""A directory with so many dirty names is cheaper to compare as a whole."""

_MOST_CROWDS = 1000
"""A container with more such directories is compared as a whole."""

_UNKNOWN, _NOTHING = -1, 1 << 62
"""In place of the least value of a batch that is in no order: it must be looked for; the batch is empty."""

Batch = dict[bytes, int]
"""Paths below the container, each with its window (shifted) and what is known of it."""


class Container:
    """The dirty names of one container."""

    __slots__ = (
        "_due_least",
        "_flying_least",
        "checked_s",
        "due",
        "flying",
        "given_up",
        "held",
        "is_busy",
        "is_other",
        "is_queued",
        "is_whole",
        "key",
        "names",
        "not_before_s",
        "policy_index",
        "size_bytes",
        "taken_s",
        "wait_s",
    )

    def __init__(self, policy_index: int, key: ContainerKey) -> None:
        """Has nothing dirty.

        Args:
            policy_index: of the storage policy whose device it is on.
            key: its name.
        """
        self.policy_index = policy_index
        self.key = key
        self.names: Batch = {}
        self.due: Batch = {}
        self.held: dict[bytes, tuple[int, float]] = {}
        self.flying: Batch = {}
        self._due_least = self._flying_least = _NOTHING
        self.given_up: set[bytes] = set()
        self.is_whole = False
        self.is_queued = self.is_busy = self.is_other = False
        self.not_before_s = self.wait_s = 0.0
        self.checked_s = self.taken_s = float("-inf")
        self.size_bytes = CONTAINER_BYTES

    def add(self, rest: bytes, value: int, now_s: float, *, is_open: bool) -> None:
        """Something happened to a name.

        Args:
            rest: path below the container.
            value: window (shifted) and what is known.
            now_s: the time.
            is_open: whether it may still be written to.
        """
        found = self.names.get(rest)
        if found is not None:
            self.names[rest] = found | (value & KINDS)
        elif is_open or self.due or self.held or self.is_whole or self.given_up:
            self._add_slowly(rest, value, now_s, is_open=is_open)
        elif not is_ours(rest):
            self.names[rest] = value
            self.size_bytes += len(rest) + NAME_BYTES

    def _add_slowly(self, rest: bytes, value: int, now_s: float, *, is_open: bool) -> None:
        if rest in self.due:
            self.due[rest] |= value & KINDS
        elif rest in self.held:
            before, since_s = self.held[rest]
            if is_open:
                self.held[rest] = (before | (value & KINDS), since_s)
            else:
                del self.held[rest]
                self._make_due(rest, before | (value & KINDS))
        elif not is_ours(rest) and not self.absorbs(rest):
            self.size_bytes += len(rest) + NAME_BYTES
            if is_open:
                self.held[rest] = (value, now_s)
            else:
                self.names[rest] = value

    def _make_due(self, rest: bytes, value: int) -> None:
        self.due[rest] = value
        self._due_least = min(self._due_least, value)

    def absorbs(self, rest: bytes) -> bool:
        """Whether a job that waits will look at this name anyway."""
        return self.is_whole or (bool(self.given_up) and rest.rpartition(b"/")[0] in self.given_up)

    def publish(self, until_s: float) -> None:
        """Names that have been held since before a moment wait no longer."""
        ripe = list(itertools.takewhile(lambda item: item[1][1] <= until_s, self.held.items()))
        self.release(rest for rest, _ in ripe)

    def release(self, names: Iterable[bytes]) -> None:
        """These names need not be held any more; some may not be."""
        for rest in names:
            if rest in self.held:
                self._make_due(rest, self.held.pop(rest)[0])

    def held_between(self, after_s: float, until_s: float) -> Iterator[bytes]:
        """Names that are held since a time between these two, the latest first: they are in that order."""
        for rest, (_, since_s) in reversed(self.held.items()):
            if since_s <= after_s:
                return
            if since_s <= until_s:
                yield rest

    def swap(self, most: int) -> Batch:
        """Takes names to be looked at now, at most so many; they fly until `land`."""
        for source in (self.due, self.names):
            room = most - len(self.flying)
            if not self.flying and len(source) <= room:
                self.flying.update(source)
                source.clear()
            else:
                for rest in list(itertools.islice(source, room)):
                    self.flying[rest] = source.pop(rest)
        self._due_least = _UNKNOWN if self.due else _NOTHING
        self._flying_least = min(self.flying.values(), default=_NOTHING)
        self.is_busy = True
        return self.flying

    def land(self, *, is_done: bool) -> None:
        """What flew was looked at and is acknowledged, or must be looked at again."""
        if is_done:
            self.size_bytes -= _size(self.flying)
        else:
            for rest, value in self.flying.items():
                self._take_back(rest, value & ~NEW)
        self.flying, self._flying_least = {}, _NOTHING
        self.is_busy = False

    def _take_back(self, rest: bytes, value: int) -> None:
        """Perhaps the row arrived, so the name is not new to Swift any more."""
        kinds = 0
        if rest in self.names:
            kinds = self.names.pop(rest)
        elif rest in self.held:
            kinds = self.held.pop(rest)[0]
        elif rest in self.due:
            kinds = self.due[rest]
        self.size_bytes -= len(rest) + NAME_BYTES if kinds else 0
        if self.absorbs(rest):
            self.size_bytes -= len(rest) + NAME_BYTES
        else:
            self._make_due(rest, value | (kinds & KINDS))

    def oldest(self, *, with_held: bool = True) -> int | None:
        """The first window that something of this container waits in; None: nothing does."""
        if self._due_least == _UNKNOWN:
            self._due_least = min(self.due.values())
        least = min(self._due_least, self._flying_least)
        if self.names:
            least = min(least, next(iter(self.names.values())))
        if self.held and with_held:
            least = min(least, next(iter(self.held.values()))[0])
        return None if least == _NOTHING else least >> SHIFT

    def give_up_crowds(self) -> list[bytes]:
        """Forgets the names of directories that have many, and returns those directories."""
        crowds = Counter(rest.rpartition(b"/")[0] for rest in self._waiting())
        found = [directory for directory, count in crowds.items() if count >= _CROWD]
        self.given_up.update(found)
        self._forget({rest for rest in self._waiting() if rest.rpartition(b"/")[0] in self.given_up})
        return found

    def give_up(self) -> None:
        """Forgets all names."""
        self.is_whole = True
        self.given_up.clear()
        self._forget(set(self._waiting()))

    def _waiting(self) -> Iterator[bytes]:
        return itertools.chain(self.due, self.names, self.held)

    def _forget(self, names: set[bytes]) -> None:
        for rest in names:
            self.size_bytes -= len(rest) + NAME_BYTES
            for source in (self.due, self.names, self.held):
                source.pop(rest, None)
        self._due_least = _UNKNOWN if self.due else _NOTHING

    def is_idle(self) -> bool:
        """Whether nothing would be lost if it were forgotten."""
        return not (
            self.names or self.due or self.held or self.flying or self.given_up or self.is_whole or self.is_queued
        )


class Dirty:
    """All containers with dirty names.

    Attributes:
        limit_bytes: what it may take.
        most_idle: containers without dirty names that are remembered.
        forgotten: how often one was forgotten: nobody may use it any more, or there would be two of the same name.
    """

    def __init__(self, limit_bytes: int, gather_s: float) -> None:
        """Has nothing dirty.

        Args:
            limit_bytes: what it may take.
            gather_s: how long the first name of a batch waits for others, where one batch follows the other.
        """
        self.limit_bytes = limit_bytes
        self.most_idle = min(MOST_IDLE, max(_LEAST_IDLE, limit_bytes // _IDLE_PART // CONTAINER_BYTES))
        self.forgotten = 0
        self._gather_s = gather_s
        self._containers: dict[tuple[int, ContainerKey], Container] = {}
        self._active: dict[Container, None] = {}
        self._ready: list[tuple[float, int, Container]] = []
        self._order = itertools.count()

    def container(self, policy_index: int, key: ContainerKey) -> Container:
        """The one with this name."""
        found = self._containers.get((policy_index, key))
        if found is None:
            found = self._containers[policy_index, key] = Container(policy_index, key)
        return found

    def containers(self, account: str) -> list[Container]:
        """Those of an account that are known; an empty name stands for all."""
        return [each for (_, key), each in self._containers.items() if account in ("", key.account)]

    def touch(self, container: Container, now_s: float) -> None:
        """Something was added to a container, or it has landed: its next batch may be ready soon."""
        self._active[container] = None
        if (container.names or container.due) and not container.is_queued and not container.is_busy:
            container.is_queued = True
            gather_s = self._gather_s if now_s - container.taken_s < LIVELY_S else 0.0
            ready_s = max(now_s + gather_s, container.not_before_s)
            heapq.heappush(self._ready, (ready_s, next(self._order), container))

    def ready_s(self) -> float | None:
        """When the next batch is ready; None if nothing waits."""
        return self._ready[0][0] if self._ready else None

    def take(self, now_s: float) -> Container | None:
        """The container whose batch has been ready longest; swap it."""
        if not self._ready or self._ready[0][0] > now_s:
            return None
        container = heapq.heappop(self._ready)[2]
        container.is_queued = False
        container.taken_s = now_s
        return container

    def rest(self, container: Container) -> None:
        """Forgets a container that is idle; keeps some, because they are usually met again."""
        if container.oldest() is None:
            self._active.pop(container, None)
        if container.is_idle() and len(self._containers) > self.most_idle:
            self.forgotten += 1
            self._containers.pop((container.policy_index, container.key), None)

    def publish(self, until_s: float, now_s: float) -> None:
        """Names that have been held since before a moment wait no longer."""
        for container in self._active:
            if container.held:
                container.publish(until_s)
                self.touch(container, now_s)

    def held(self, after_s: float, until_s: float, most: int) -> list[tuple[Container, list[bytes]]]:
        """Names that are held since a time between these two, at most so many."""
        found: list[tuple[Container, list[bytes]]] = []
        for container in self._active:
            names = list(itertools.islice(container.held_between(after_s, until_s), most))
            if names:
                found.append((container, names))
                most -= len(names)
        return found

    def oldest(self, *, with_held: bool = True) -> int | None:
        """The first window that something waits in; None: nothing does."""
        found = (container.oldest(with_held=with_held) for container in self._active)
        return min((each for each in found if each is not None), default=None)

    def size_bytes(self) -> int:
        """What all of it takes."""
        return sum(container.size_bytes for container in self._active)

    def is_full(self) -> bool:
        """Whether it is time to `relieve` the memory."""
        return self.size_bytes() > self.limit_bytes

    def is_busy(self) -> bool:
        """Whether names are to be looked at, or fly."""
        return any(each.names or each.due or each.flying for each in self._active)

    def count(self) -> tuple[int, int]:
        """How many names are to be looked at, and how many are held."""
        dirty = sum(len(each.names) + len(each.due) + len(each.flying) for each in self._active)
        return dirty, sum(len(each.held) for each in self._active)

    def relieve(self) -> list[tuple[Container, bytes | None]]:
        """Gives up names if there are too many for the memory.

        Returns:
            What must be compared instead, durably before anything else is acknowledged: directories, or, where there
            is None, whole containers.
        """
        found: list[tuple[Container, bytes | None]] = []
        size_bytes = self.size_bytes()
        if size_bytes <= self.limit_bytes:
            return found
        for container in sorted(self._active, key=lambda each: -each.size_bytes):
            before = container.size_bytes
            crowds = container.give_up_crowds()
            if container.size_bytes > before // 2 or len(container.given_up) > _MOST_CROWDS:
                container.give_up()
                found.append((container, None))
            else:
                found += [(container, directory) for directory in crowds]
            size_bytes -= before - container.size_bytes
            if size_bytes <= self.limit_bytes // 2:
                break
        return found


def _size(batch: Batch) -> int:
    return sum(map(len, batch)) + NAME_BYTES * len(batch)
