# SPDX-License-Identifier: Apache-2.0
"""What may be in one container whose changes come one after the other, while processes are killed under them.

A request that was answered has happened; of one that was not, nobody knows, and it may still happen: it *floats*. So a
name has a set of states, one of which is true.

Rule 1: a floating request has an earlier timestamp than every later one: it never wins against one that was answered.
Rule 2: Swift's timestamps do not bind jobs: after a change by a job, what floats may happen again.
Rule 3: nothing here touches a file or a server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

ANY = "*"
"""A color that nobody knows."""

LAST_S = 30.0
"""No request happens later than this after its connection broke."""


@dataclass(frozen=True)
class State:
    """An object.

    Attributes:
        md5: of the bytes in the file, empty where only Swift knows them (a manifest).
        color: metadata that its owner gave it, None if none.
        served_md5: of the bytes that a GET shows, where that are others.
    """

    md5: str
    color: str | None = None
    served_md5: str = ""

    def fits(self, seen: Seen) -> bool:
        """Whether a file may be this object; what is in its metadata does not show."""
        return self.md5 in ("", seen.md5)


@dataclass(frozen=True)
class Seen:
    """An object as the file system shows it.

    Attributes:
        md5: of the bytes.
        identity: of the file or of the marker; the same for two links of one file.
        ctime_ns: when it was last changed, its attributes included.
    """

    md5: str
    identity: tuple[int, str]
    ctime_ns: int = 0


@dataclass(frozen=True)
class Floating:
    """A request whose end nobody knows.

    Attributes:
        since_s: when its connection broke.
        state: what a PUT would leave; None for a DELETE, and for a POST.
        color: what a POST would set; None for the others.
        is_beaten: whether a later request of Swift was answered.
    """

    since_s: float
    state: State | None = None
    color: str | None = None
    is_beaten: bool = False

    def apply(self, state: State | None) -> State | None:
        """What it makes of a state."""
        if self.color is None:
            return self.state
        return None if state is None else replace(state, color=self.color)


class WrongStateError(AssertionError):
    """A name is in a state that nothing explains."""

    def __init__(self, name: str, seen: object, possible: Iterable[State | None]) -> None:
        super().__init__(name, seen, sorted(possible, key=repr))
        self.name = name


@dataclass
class Ledger:
    """The states of the names of one container."""

    _states: dict[str, set[State | None]] = field(default_factory=dict)
    _floating: dict[str, list[Floating]] = field(default_factory=dict)
    # What was uploaded last under a name. A job's file at the plain place hides an object that lies at its twin's, and
    # shows it again when it goes.
    _uploaded: dict[str, str] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Every name that there may be."""
        return {*self._states, *self._floating}

    def possible(self, name: str) -> set[State | None]:
        """Every state that a name may be in now."""
        found = set(self._states.get(name, {None}))
        for floating in self._floating.get(name, []):
            if not floating.is_beaten:
                found |= {floating.apply(state) for state in found}
        return found

    def forget(self, now_s: float) -> None:
        """Forget floating requests that cannot happen any more; call it after `see`."""
        for name, floating in self._floating.items():
            self._states[name] = self.possible(name)
            self._floating[name] = [each for each in floating if now_s - each.since_s < LAST_S]

    def put(self, name: str, state: State | None) -> None:
        """A PUT was answered, or, with None, a DELETE."""
        self._states[name] = {state}
        self._uploaded[name] = "" if state is None else state.md5
        self._beat(name)

    def post(self, name: str, color: str) -> None:
        """A POST was answered. It beats no PUT: the newer metadata outlives it."""
        present = [state for state in self.possible(name) if state is not None]
        self._states[name] = {replace(state, color=color) for state in present}
        kept = [each for each in self._floating.get(name, []) if each.color is None]
        self._floating[name] = [each if each.state is None else _recolor(each, color) for each in kept]

    def blur(self, name: str) -> None:
        """Perhaps somebody changed the metadata of this file by another of its names."""
        self._states[name] = {state and replace(state, color=ANY) for state in self.possible(name)}

    def be_gone(self, name: str) -> None:
        """An answer said that there is no such object."""
        if None not in self.possible(name):
            raise WrongStateError(name, "404", self.possible(name))

    def float(self, name: str, floating: Floating) -> None:
        """A request was not answered."""
        self._floating.setdefault(name, []).append(floating)

    def see(self, seen: Mapping[str, Seen]) -> None:
        """What is in the file system must be explained by what happened; then more is known.

        Raises:
            WrongStateError: it is not.
        """
        for name in {*seen, *self.names()}:
            self._see(name, seen.get(name))

    def _see(self, name: str, seen: Seen | None) -> None:
        possible = self.possible(name)
        if seen is None:
            left = possible & {None}
        else:
            left = {state for state in possible if state is not None and state.fits(seen)}
        if not left:
            raise WrongStateError(name, seen, possible)
        self._states[name] = left

    def see_job(self, before: Mapping[str, Seen], after: Mapping[str, Seen], *, is_copy: bool) -> list[str]:
        """A job changed something between two looks; its work is taken as it is found.

        Args:
            before: the look before it.
            after: the look after it.
            is_copy: whether it wrote attributes too.

        Returns:
            the names that changed.
        """
        known = {seen.identity: (seen, self._states.get(name, {None})) for name, seen in before.items()}
        self._floating = {
            name: [replace(each, is_beaten=False) for each in floating] for name, floating in self._floating.items()
        }
        floated = {each.state.md5 for all_of in self._floating.values() for each in all_of if each.state is not None}
        changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
        for name in changed:
            seen = after.get(name)
            if seen is None:
                self._states[name] = {None}
            elif seen.identity in known:
                states = {_carry(state, known[seen.identity][0], seen) for state in known[seen.identity][1]}
                self._states[name] = {replace(state, color=ANY) for state in states} if is_copy else states
            else:
                may_be_swifts = seen.md5 in floated or "" in floated or seen.md5 == self._uploaded.get(name)
                color = ANY if may_be_swifts else None
                self._states[name] = {State(seen.md5, color)}
        return sorted(changed)

    def _beat(self, name: str) -> None:
        self._floating[name] = [replace(each, is_beaten=True) for each in self._floating.get(name, [])]


def _recolor(floating: Floating, color: str) -> Floating:
    state = floating.state
    return floating if state is None else replace(floating, state=replace(state, color=color))


def _carry(state: State | None, before: Seen, now: Seen) -> State:
    """What a file that was known is now: another name, other bytes, the same metadata of its owner."""
    if state is None:
        return State(now.md5, ANY)
    return state if before.md5 == now.md5 else State(now.md5, state.color)
