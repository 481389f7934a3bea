# SPDX-License-Identifier: Apache-2.0
"""What a check found, as a file for the textfile collector of Prometheus' node exporter.

Rule 1: every kind is always in it, so that an alarm on one that was never met works.
Source: https://github.com/prometheus/node_exporter#textfile-collector: `*.prom`, put in place by rename.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from lustack.errors import ConfigurationError
from lustack.posix.errors import explain
from lustack.sync.journal import Progress
from lustack.sync.problems import MEANINGS, Findings


def write(path: str, progress: Progress, finished_s: float) -> None:
    """Puts the result of a check in place of the one before.

    Args:
        path: of the file.
        progress: what was found.
        finished_s: when, seconds since 1970.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    registry = CollectorRegistry()

    def gauge(name: str, sentence: str, *labels: str) -> Gauge:
        return Gauge(f"lustack_fsck_{name}", sentence, labels, registry=registry)

    gauge("finished_timestamp_seconds", "When the last check came to its end.").set(finished_s)
    gauge("names", "Names that were compared.").set(progress.names)
    gauge("containers", "Containers that were compared.").set(progress.containers)
    gauge("failures", "What could not be checked.").set(len(progress.failures))
    gauge("problems", "Problems that are left.").set(progress.summary.open_count())
    found = gauge("findings", "What was found and is left, by kind; notes are no problems.", "kind", "is_problem")
    mended = gauge("repaired", "What was mended, by kind.", "kind")
    for kind, meaning in MEANINGS.items():
        counts = progress.summary.kinds.get(kind, Findings())
        found.labels(kind, str(meaning.is_problem).lower()).set(counts.count - counts.repaired)
        mended.labels(kind).set(counts.repaired)
    try:
        write_to_textfile(path, registry)
    except OSError as error:
        raise ConfigurationError(
            "lustack fsck", "--textfile", path, f"a file that can be written ({explain(error)})"
        ) from error
