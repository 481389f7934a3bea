# SPDX-License-Identifier: Apache-2.0
"""Every metric of the daemon, and the port where Prometheus finds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from lustack.sync.hasher import Outcome
from lustack.sync.housekeeping import Swept
from lustack.sync.reconcile import Tally
from lustack.sync.survey import Report

LOOPBACK = "127.0.0.1"
_CYCLE_BUCKETS_S = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)


class Metrics:
    """The metrics of one daemon. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._names = self._counter("names", "Names that were compared, by what was done.", "fate")
        self._errors = self._counter("errors", "What failed or was refused, by its class.", "error")
        self._hashed = self._counter("hasher_files", "Files that the hasher took, by what became of them.", "outcome")
        self._swept = self._counter("swept", "Litter that was removed, by its kind.", "kind")
        self._cycles = Histogram(
            "lustack_sync_cycle_seconds",
            "Duration of a comparison of everything.",
            buckets=_CYCLE_BUCKETS_S,
            registry=self.registry,
        )
        self._finished = self._gauge("cycle_finished_timestamp_seconds", "When everything was last compared.")
        self._unlistable = self._gauge("unlistable_entries", "Entries that cannot be objects.")
        self._unreadable = self._gauge("unreadable_directories", "Directories that could not be read.")
        self._unhashed = self._gauge("unhashed_files", "Files whose MD5 nobody knows yet.")
        self._ahead = self._gauge("clock_ahead_seconds", "How far timestamps are ahead of this machine's clock.")

    def count_cycle(self, report: Report, duration_s: float, ahead_s: float) -> None:
        """A comparison of everything is finished."""
        self.count_names(report.tally)
        for error in report.errors:
            self.count_error(error)
        self._cycles.observe(duration_s)
        self._finished.set_to_current_time()
        self._unlistable.set(report.unlistable)
        self._unreadable.set(report.unreadable)
        self._unhashed.set(report.tally.unhashed)
        self._ahead.set(ahead_s)

    def count_names(self, tally: Tally) -> None:
        """Names were compared."""
        for each in fields(tally):
            self._names.labels(each.name).inc(getattr(tally, each.name))

    def count_error(self, error: Exception) -> None:
        """Something failed."""
        self._errors.labels(type(error).__name__).inc()

    def count_hash(self, outcome: Outcome) -> None:
        """The hasher took a file."""
        self._hashed.labels(outcome.value).inc()

    def count_swept(self, swept: Swept) -> None:
        """Litter was removed."""
        for each in fields(swept):
            self._swept.labels(each.name).inc(getattr(swept, each.name))

    @contextmanager
    def served(self, port: int) -> Iterator[None]:
        """Answers Prometheus for the time of a block; not at all on port 0."""
        if not port:
            yield
            return
        server, thread = start_http_server(port, addr=LOOPBACK, registry=self.registry)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _counter(self, name: str, text: str, label: str) -> Counter:
        return Counter(f"lustack_sync_{name}", text, [label], registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"lustack_sync_{name}", text, registry=self.registry)
