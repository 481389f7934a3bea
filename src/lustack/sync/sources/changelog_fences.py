# SPDX-License-Identifier: Apache-2.0
"""Nonces of fences on a file system with several changelogs: each waits until all of them were read far enough.

    the nonce is seen in one log -> every other log is opened after that, and read to its end -> the nonce is reported

Whoever made the nonce waits for what was done before. The record of that was in its log before the operation returned,
so before the nonce was made, and before it was seen. A log that is opened later and read to its end has shown it.

Rule 1: no clocks of other machines and no order between logs are used, only what this process did one after the other.
Rule 2: what passes is reported after the events of the last log that it waited for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from lustack.mapping import layout
from lustack.mapping.names import RelPath
from lustack.sync import fence
from lustack.sync.events import Event, NameChanged

_PREFIX = layout.FENCE + b"/"


@dataclass
class _Waiting:
    """A nonce.

    Attributes:
        nonce: its name.
        asked_s: when it was seen.
        missing: the MDTs whose logs were not read to their end since then.
    """

    nonce: bytes
    asked_s: float
    missing: set[str]


class Fences:
    """The nonces that wait for logs. For one thread at a time."""

    def __init__(self, mdts: Iterable[str]) -> None:
        """Nobody waits.

        Args:
            mdts: all of them.
        """
        self._mdts = frozenset(mdts)
        self._waiting: list[_Waiting] = []

    def split(self, events: Sequence[Event]) -> tuple[list[bytes], Sequence[Event]]:
        """Events without those of nonces.

        Returns:
            the nonces, and the other events.
        """
        paths = [event[0] for event in events if event[0].startswith(_PREFIX)]
        found = [nonce for nonce in map(fence.nonce_of, paths) if nonce is not None]
        if not found:
            return [], events
        return found, [event for event in events if fence.nonce_of(event[0]) is None]

    def add(self, nonces: Iterable[bytes], now_s: float, but: Collection[str] = ()) -> float | None:
        """Somebody waits.

        Args:
            nonces: were seen.
            now_s: now.
            but: MDTs for which they need not wait.

        Returns:
            the time that the logs must be read up to; None if nobody waits because of this.
        """
        fresh = [_Waiting(nonce, now_s, set(self._mdts.difference(but))) for nonce in nonces]
        self._waiting += fresh
        return now_s if fresh else None

    def pass_through(self, mdt: str, seen_s: float) -> list[Event]:
        """The log of an MDT was read.

        Args:
            mdt: which.
            seen_s: everything that was in the log at this time was reported.

        Returns:
            the events of the nonces that wait no more.
        """
        for each in self._waiting:
            if seen_s >= each.asked_s:
                each.missing.discard(mdt)
        passed = [each for each in self._waiting if not each.missing]
        if passed:
            self._waiting = [each for each in self._waiting if each.missing]
        return [NameChanged(RelPath(_PREFIX + each.nonce)) for each in passed]
