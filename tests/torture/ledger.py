# SPDX-License-Identifier: Apache-2.0
"""What may be in one container whose changes come one after the other, while processes are killed under them.

A request that was answered has happened; of one that was not, nobody knows, and it may still happen: it *floats*. So a
name has a set of states, one of which is true.

Rule 1: a floating request has an earlier timestamp than every later one: it never wins against one that was answered.
Rule 2: Swift's timestamps do not bind jobs: after a change by a job, what floats may happen again.
Rule 3: a name may have several files, of which one counts. The others are hidden by it, and show again, as they were,
when a job removes it; they go with a DELETE, and with a PUT if Swift wrote them.
Rule 4: nothing here touches a file or a server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

ANY = "*"
"""A color that nobody knows."""

Identity = tuple[int, str]

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
        hidden: what else has this name, and does not count.
    """

    md5: str
    identity: Identity
    ctime_ns: int = 0
    hidden: tuple[Seen, ...] = field(default=(), compare=False)


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

    @property
    def is_delete(self) -> bool:
        """Whether it is a DELETE."""
        return self.state is None and self.color is None

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
    _hidden: dict[str, dict[Identity, set[State]]] = field(default_factory=dict)
    _written: set[str] = field(default_factory=set)

    def names(self) -> set[str]:
        """Every name that there may be."""
        return {*self._states, *self._floating}

    def possible(self, name: str) -> set[State | None]:
        """Every state that a name may be in now."""
        found = set(self._states.get(name, {None}))
        for floating in self._floating.get(name, []):
            if not floating.is_beaten:
                found |= {floating.apply(state) for state in found}
                if floating.is_delete:
                    # It was killed between two files, or it came after what a job hid.
                    found.update(*self._hidden.get(name, {}).values())
        return found

    def forget(self, now_s: float) -> None:
        """Forget floating requests that cannot happen any more; call it after `see`."""
        for name, floating in self._floating.items():
            self._states[name] = self.possible(name)
            self._floating[name] = [each for each in floating if now_s - each.since_s < LAST_S]
            if floating:
                self._written.add(name)

    def put(self, name: str, state: State | None) -> None:
        """A PUT was answered, or, with None, a DELETE."""
        self._states[name] = {state}
        self._written.add(name)
        if state is None:
            self._hidden.pop(name, None)
        self._beat(name)

    def post(self, name: str, color: str) -> None:
        """A POST was answered. It beats no PUT: the newer metadata outlives it."""
        present = [state for state in self.possible(name) if state is not None]
        self._states[name] = {replace(state, color=color) for state in present}
        kept = [each for each in self._floating.get(name, []) if each.color is None]
        self._floating[name] = [each if each.state is None else _recolor(each, color) for each in kept]

    def blur(self, identity: Identity, name: str, seen: Mapping[str, Seen]) -> None:
        """Perhaps somebody changed the metadata of a file by one of its names: its others have the same.

        Args:
            identity: of the file.
            name: that was used.
            seen: what is in the file system.
        """
        for other, file in seen.items():
            if other != name and file.identity == identity:
                self._states[other] = {state and replace(state, color=ANY) for state in self.possible(other)}
            hidden = self._hidden.get(other, {})
            if identity in hidden:
                hidden[identity] = {replace(state, color=ANY) for state in hidden[identity]}

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
        self._see_hidden(name, seen)
        self._states[name] = left

    def _see_hidden(self, name: str, seen: Seen | None) -> None:
        """What is hidden stays what it is; one that nobody knew was left by a PUT that was killed."""
        known, found = self._hidden.get(name, {}), {}
        for file in seen.hidden if seen is not None else ():
            states = known.get(file.identity, {State(file.md5, ANY)})
            found[file.identity] = {state for state in states if state.fits(file)}
            if not found[file.identity]:
                raise WrongStateError(name, file, states)
        gone = [identity for identity in known if identity not in found]
        if gone and name not in self._written and not self._floating.get(name):
            raise WrongStateError(name, f"hidden files that went: {gone}", possible=known[gone[0]])
        self._hidden[name] = found
        self._written.discard(name)

    def see_job(self, before: Mapping[str, Seen], after: Mapping[str, Seen], *, is_copy: bool) -> list[str]:
        """A job changed something between two looks; its work is taken as it is found.

        Args:
            before: the look before it.
            after: the look after it.
            is_copy: whether it wrote attributes too.

        Returns:
            the names that changed.
        """
        known = self._known(before)
        self._floating = {
            name: [replace(each, is_beaten=False) for each in floating] for name, floating in self._floating.items()
        }
        changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
        for name in {*before, *after}:
            seen = after.get(name)
            if name in changed:
                self._states[name] = {None} if seen is None else {*self._found(seen, known, is_copy=is_copy)}
            hidden = seen.hidden if seen is not None else ()
            self._hidden[name] = {file.identity: self._found(file, known, is_copy=is_copy) for file in hidden}
        return sorted(changed)

    def _known(self, before: Mapping[str, Seen]) -> dict[Identity, tuple[Seen, set[State | None]]]:
        """Every file before a job worked, and what it might be."""
        known = {}
        for name, seen in before.items():
            known[seen.identity] = (seen, self._states.get(name, {None}))
            for file in seen.hidden:
                states: set[State | None] = {*self._hidden[name][file.identity]}
                known.setdefault(file.identity, (file, states))
        return known

    def _found(
        self, seen: Seen, known: Mapping[Identity, tuple[Seen, set[State | None]]], *, is_copy: bool
    ) -> set[State]:
        """What a file may be after a job worked."""
        if seen.identity not in known:
            floated = {
                each.state.md5 for all_of in self._floating.values() for each in all_of if each.state is not None
            }
            return {State(seen.md5, ANY if seen.md5 in floated or "" in floated else None)}
        before, states = known[seen.identity]
        carried = {_carry(state, before, seen) for state in states}
        if not is_copy or seen == before:
            return carried
        # Attributes of another file make this a file of a job, even where the bytes are the same: a manifest is none.
        return {*(replace(state, color=ANY) for state in carried), State(seen.md5, ANY)}

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
