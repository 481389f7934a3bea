# SPDX-License-Identifier: Apache-2.0
"""From an object's name to the places where it may lie: the inverse of `walk`, for single names.

The directories of the last name stay open for a moment, because the next name usually lies beside it. Not for
longer: somebody may put another directory in their place.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

from lustack.mapping import layout, names
from lustack.sync.observe import NOTHING_THERE, Directory, Place

MOST_DIRECTORIES = 64
"""Directories that stand for one prefix, at most. Source: lustack.swift.placement."""


_FRESH_S = 0.1


class Locator:
    """Finds places below one container. Not thread-safe."""

    def __init__(self, container: Directory, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Owns nothing yet.

        Args:
            container: stays open, and belongs to the caller.
            monotonic_s: a clock that never goes back.
        """
        self._monotonic_s = monotonic_s
        self._opened_s = 0.0
        self._levels: list[tuple[names.Step | None, list[Directory]]] = [(None, [container])]

    def places(self, name: str) -> list[Place]:
        """Every place where an object may lie, in the order that counts.

        Raises:
            OSError: the file system fails.
        """
        *above, last = names.steps(name)
        directories = self._enter(above)
        found = [Place(each, last.plain) for each in directories]
        if name.endswith("/"):
            found += [Place(each, b".", layout.SLASH_ATTRIBUTES) for each in directories]
        else:
            step = names.directory_steps(name)[-1]
            entries = itertools.product(directories, (step.plain, step.twin))
            found += [Place(each, entry, layout.PLAIN_ATTRIBUTES) for each, entry in entries]
        return found + [Place(each, last.twin) for each in directories]

    def close(self) -> None:
        """Closes what was opened."""
        self._leave(1)

    def _enter(self, above: list[names.Step]) -> list[Directory]:
        now_s = self._monotonic_s()
        if now_s - self._opened_s > _FRESH_S:
            self._leave(1)
            self._opened_s = now_s
        depth = 1
        while depth < len(self._levels) and depth <= len(above) and self._levels[depth][0] == above[depth - 1]:
            depth += 1
        self._leave(depth)
        for step in above[depth - 1 :]:
            parents = self._levels[-1][1]
            directories: list[Directory] = []
            self._levels.append((step, directories))
            try:
                directories.extend(_open_all(parents, step))
            except OSError:
                # What was opened so far is not all of it, and must not be taken for all by the next name.
                self._leave(len(self._levels) - 1)
                raise
        return self._levels[-1][1]

    def _leave(self, depth: int) -> None:
        while len(self._levels) > depth:
            for directory in self._levels.pop()[1]:
                directory.close()


def _open_all(directories: list[Directory], step: names.Step) -> Iterator[Directory]:
    found = 0
    for directory, entry in itertools.product(directories, (step.plain, step.twin)):
        try:
            opened = Directory.open(directory.fd, entry)
        except OSError as error:
            if error.errno not in NOTHING_THERE:
                raise
            continue
        yield opened
        found += 1
        if found == MOST_DIRECTORIES:
            return
