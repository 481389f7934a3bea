# SPDX-License-Identifier: Apache-2.0
"""Where directories are that the kernel names by a key which never changes.

Of each directory only its parent and its name there are remembered, so the move of a tree changes one entry. What is
not remembered is asked of the kernel, once.

Rule 1: what is remembered may be old only as long as an event about its move is still to come; that event covers what
was reported under the old path.
Rule 2: a move makes us forget, it does not tell us the new place: the kernel merges repeated moves, so the last one
that it reports need not be the last one that happened (measured: `mv d e; mv e d; mv d e` is reported as two).
Rule 3: what cannot be found out is counted as doubt, and whoever asks must report everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from lustack.posix.handles import Place
from lustack.sync.sources.recent import Recent
from lustack.sync.sources.roots import child_base

Locate = Callable[[bytes], Place | None]
"""Key -> key of the parent, and the name there; None at the top of a file system or where it is not known. Raises
FileNotFoundError if the directory was removed."""

# Each loss needs somebody to move directories in the microseconds between two calls.
_ATTEMPTS: Final = 8
# Source: Swift's longest object name, with one byte for a component and its slash, and room above the root.
_DEEPEST: Final = 4096


class _Node:
    """A directory: its parent (empty: none), its name, and its base as it was in some epoch."""

    __slots__ = ("base", "epoch", "name", "parent")

    def __init__(self, parent: bytes, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.base: bytes | None = None
        self.epoch = -1


class Directories:
    """See the top of this file. For one thread."""

    def __init__(self, roots: Mapping[bytes, bytes], locate: Locate, limit: int) -> None:
        """Remembers nothing yet.

        Args:
            roots: from key to base, of the directories that are watched.
            locate: asks the kernel.
            limit: the most directories to remember; each takes about 400 bytes.
        """
        self._roots = dict(roots)
        self._locate = locate
        self._nodes: Recent[_Node] = Recent(limit)
        self._passed: Recent[bool] = Recent(limit)
        self._epoch = 0
        self._is_doubtful = False

    def base(self, key: bytes) -> bytes | None:
        """What stands before the names in a directory; None if it is in no root, concerns nobody, or was removed."""
        node = self._nodes.get(key)
        if node is not None and node.epoch == self._epoch:
            return node.base
        for _ in range(_ATTEMPTS):
            try:
                chain, base = self._climb(key)
            except FileNotFoundError:
                # Whoever asked passes over an event in it; its removal is still to be reported.
                self._is_doubtful |= self._passed.put(key, True)
                return None
            if chain is not None:
                return self._descend(chain, base)
        self._is_doubtful = True
        return None

    def set_roots(self, roots: Mapping[bytes, bytes]) -> None:
        """Other directories are watched from now on."""
        self._roots = dict(roots)
        self._epoch += 1

    def learn(self, key: bytes, parent: bytes, name: bytes) -> None:
        """A directory was made."""
        self._nodes.put(key, _Node(parent, name))

    def forget(self, key: bytes) -> None:
        """A directory was moved."""
        self._nodes.pop(key)
        self._epoch += 1

    def was_passed_over(self, key: bytes) -> bool:
        """Whether events in a directory were passed over because it is gone; asked when its removal is reported."""
        return self._passed.pop(key) is not None

    def take_doubt(self) -> bool:
        """Whether something could not be found out since this was asked before."""
        found, self._is_doubtful = self._is_doubtful, False
        return found

    def _climb(self, key: bytes) -> tuple[list[_Node] | None, bytes | None]:
        """The directories from one up to the first whose base is known, and that base.

        Returns:
            None instead of the directories if they changed meanwhile: they are forgotten, try again.

        Raises:
            FileNotFoundError: it was removed.
        """
        chain: dict[bytes, _Node] = {}
        at, base = key, None
        while len(chain) < _DEEPEST and at:
            if at in self._roots:
                base = self._roots[at]
                break
            node = None if at in chain else self._node(at, is_first=not chain)
            if node is None:
                self._forget_all(chain)
                return None, None
            if node.epoch == self._epoch:
                base = node.base
                break
            chain[at] = node
            at = node.parent
        return list(chain.values()), base

    def _node(self, key: bytes, *, is_first: bool) -> _Node | None:
        """What is remembered or can be found out; None if it was removed, and is not the first of its chain.

        Raises:
            FileNotFoundError: it was removed, and is the first.
        """
        node = self._nodes.get(key)
        if node is not None and not node.parent and node.epoch != self._epoch:
            # Where nothing is above it, nobody would say that what is above it was moved to where we see it.
            node = None
        if node is None:
            try:
                place = self._locate(key)
            except FileNotFoundError:
                if is_first:
                    raise
                return None
            node = _Node(*place) if place else _Node(b"", b"")
            self._nodes.put(key, node)
        return node

    def _descend(self, chain: list[_Node], base: bytes | None) -> bytes | None:
        """Gives each of the chain its base, from the last to the first."""
        for node in reversed(chain):
            base = child_base(base, node.name) if node.parent else None
            node.base = base
            node.epoch = self._epoch
        return base

    def _forget_all(self, chain: Mapping[bytes, _Node]) -> None:
        for key in chain:
            self._nodes.pop(key)
