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
from lustack.sync.status import Status
from lustack.sync.survey import Report

LOOPBACK = "127.0.0.1"
_CYCLE_BUCKETS_S = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)


PRECISIONS = ("names", "directories", "containers", "tree")

_SHOWN = {
    "lag_s": ("lag_seconds", "How long the oldest event has waited."),
    "lag_records": ("lag_records", "Events that wait."),
    "dirty_names": ("dirty_names", "Names that are to be looked at."),
    "held_names": ("held_names", "Names that wait for their writer to close them."),
    "memory_bytes": ("memory_bytes", "What the names that wait take."),
    "job_count": ("jobs", "Parts of the tree that are to be compared."),
    "events": ("events", "Events since the start."),
    "rows": ("rows", "Rows that were sent since the start: for events, by comparisons, with hashes."),
    "batches": ("batches", "Requests that carried them."),
    "self_events": ("self_events", "Rows that repeat what Swift said itself."),
    "short_lived": ("short_lived", "Names that came and went unseen."),
    "losses": ("losses", "How often a source lost events."),
    "hash_backlog": ("hash_backlog", "Files that wait for their MD5."),
}
"""Fields of the status that are shown as they are: the name of the metric, and what it says."""

_OF_SOURCES = {
    "lag_s": ("lag_seconds", "How long the oldest event of a source has waited."),
    "lag_records": ("lag_records", "Events of a source that wait."),
    "losses": ("losses", "How often a source lost events."),
}


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
        self._shown = {name: self._gauge(metric, text) for name, (metric, text) in _SHOWN.items()}
        self._precision = Gauge(
            "lustack_sync_precision", "1 for the level of precision.", ["level"], registry=self.registry
        )
        self._sources = {
            name: Gauge(f"lustack_sync_source_{metric}", text, ["source"], registry=self.registry)
            for name, (metric, text) in _OF_SOURCES.items()
        }

    def show(self, status: Status) -> None:
        """How the daemon is now."""
        for name, gauge in self._shown.items():
            gauge.set(getattr(status, name))
        for level in PRECISIONS:
            self._precision.labels(level).set(level == status.precision)
        for source in status.sources:
            for name, gauge in self._sources.items():
                gauge.labels(source.name).set(getattr(source, name))

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
