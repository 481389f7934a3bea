# SPDX-License-Identifier: Apache-2.0
"""Remembers for which names rows were sent lately, whoever sent them.

A row of Swift's own may be repeated with its own timestamp, so that it changes nothing where Swift's arrived, only if
nothing later was sent for the name: a later row would win, and it describes what was there before.

Rule 1: what was forgotten counts as sent.
Rule 2: what failed may have arrived, and may not.
Rule 3: only rows of this process are known; another daemon's are not (rare, and the next comparison mends it).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from lustack.mapping.metadata import timestamp_text
from lustack.sync.plan import SentRow
from lustack.sync.sinks.protocol import ContainerKey, ContainerState, Page, Sink

ROW_BYTES = 260
"""What is remembered of a row beside its name. Source: measured, tests/unit/sync/test_budget.py."""

_LIMIT_BYTES = 32 * 2**20


class RecentSink(Sink):
    """A sink that remembers what went through it.

    Attributes:
        rows: that were sent since the start, whatever for.
        batches: that carried them.
    """

    def __init__(self, sink: Sink, now_ns: int, limit_bytes: int = _LIMIT_BYTES) -> None:
        """Remembers from now on.

        Args:
            sink: does the work.
            now_ns: the time, not earlier than any that rows were stamped with before: those rows are not known.
            limit_bytes: for what is remembered, half of it for each of two generations; a batch always fits.
        """
        self.rows = self.batches = 0
        self._sink = sink
        self._limit_bytes, self._young_bytes = limit_bytes, 0
        self._lock = threading.Lock()
        self._since = timestamp_text(now_ns)
        self._young: dict[tuple[ContainerKey, str], str] = {}
        self._old: dict[tuple[ContainerKey, str], str] = {}
        self._young_latest = self._old_latest = self._since
        self._flying: dict[object, Mapping[tuple[ContainerKey, str], str]] = {}
        self._failed = ""

    def is_untouched(self, key: ContainerKey, name: str, since: str) -> bool:
        """Whether certainly no row was sent for a name with a later timestamp than this."""
        if since <= self._since:
            return False
        found = self._young.get((key, name)) or self._old.get((key, name), "")
        return found <= since

    def was_taken(self, key: ContainerKey, name: str, since: str) -> bool:
        """Whether Swift has certainly taken a row for a name with a later timestamp than this."""
        with self._lock:
            sent = self._young.get((key, name)) or self._old.get((key, name), "")
            return sent > max(since, self._failed) and not any((key, name) in rows for rows in self._flying.values())

    def has_account(self, account: str) -> bool:
        """See `Sink`."""
        return self._sink.has_account(account)

    def list_containers(self, account: str, marker: str) -> Sequence[str]:
        """See `Sink`."""
        return self._sink.list_containers(account, marker)

    def get_state(self, key: ContainerKey) -> ContainerState:
        """See `Sink`."""
        return self._sink.get_state(key)

    def create(self, key: ContainerKey, policy_index: int) -> None:
        """See `Sink`."""
        self._sink.create(key, policy_index)

    def list_rows(self, key: ContainerKey, marker: str, prefix: str) -> Page:
        """See `Sink`."""
        return self._sink.list_rows(key, marker, prefix)

    def send(self, key: ContainerKey, rows: Sequence[SentRow]) -> None:
        """See `Sink`. Remembered before it is sent."""
        size_bytes = sum(len(row.name) for row in rows) + ROW_BYTES * len(rows)
        flight = object()
        with self._lock:
            if self._young_bytes + size_bytes > self._limit_bytes // 2:
                self._since = max(self._since, self._old_latest)
                self._old, self._old_latest = self._young, self._young_latest
                self._young, self._young_bytes = {}, 0
            self._young_bytes += size_bytes
            sent = {(key, row.name): row.timestamp for row in rows}
            self._young.update(sent)
            self._young_latest = max(self._young_latest, _latest(sent))
            self._flying[flight] = sent
        is_taken = False
        try:
            self._sink.send(key, rows)
            is_taken = True
        finally:
            self._land(flight, len(rows), is_taken=is_taken)

    def _land(self, flight: object, rows: int, *, is_taken: bool) -> None:
        with self._lock:
            sent = self._flying.pop(flight)
            if is_taken:
                self.rows += rows
                self.batches += bool(rows)
            else:
                self._failed = max(self._failed, _latest(sent))


def _latest(sent: Mapping[tuple[ContainerKey, str], str]) -> str:
    return max(sent.values(), default="")
