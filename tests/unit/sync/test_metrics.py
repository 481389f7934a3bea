# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from tests.ports import find_ports

from lustack.sync.errors import DeviceMissingError
from lustack.sync.hasher import Outcome
from lustack.sync.housekeeping import Swept
from lustack.sync.metrics import LOOPBACK, Metrics
from lustack.sync.reconcile import Tally
from lustack.sync.status import SourceStatus, Status
from lustack.sync.survey import Report


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"lustack_sync_{name}", labels)


def test_the_guide_names_metrics_that_exist():
    guide = (Path(__file__).parents[3] / "doc" / "sync.md").read_text()
    found = set(re.findall(r"lustack_sync_[a-z_]+", guide))
    families = {family.name for family in Metrics().registry.collect()}
    assert found
    assert {name.removesuffix("_total") for name in found} <= families


def test_what_happens_is_counted():
    metrics = Metrics()
    report = Report(Tally(files=3, put=2, unhashed=1), unlistable=4, errors=[DeviceMissingError("/d", "gone")])
    metrics.count_cycle(report, 0.5, 7.0)
    metrics.count_hash(Outcome.HASHED)
    metrics.count_swept(Swept(temporaries=5))
    assert value(metrics, "names_total", fate="put") == 2
    assert value(metrics, "errors_total", error="DeviceMissingError") == 1
    assert value(metrics, "hasher_files_total", outcome="hashed") == 1
    assert value(metrics, "swept_total", kind="temporaries") == 5
    assert value(metrics, "unlistable_entries") == 4
    assert value(metrics, "unhashed_files") == 1
    assert value(metrics, "clock_ahead_seconds") == 7
    assert value(metrics, "cycle_seconds_count") == 1


def test_they_are_served_on_the_loopback_interface():
    metrics = Metrics()
    [port] = find_ports(1)
    with metrics.served(port), urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics") as answer:
        assert b"lustack_sync_cycle_seconds" in answer.read()


def test_without_a_port_nobody_listens():
    with Metrics().served(0):
        pass


def test_the_status_is_shown():
    metrics = Metrics()
    metrics.show(Status(lag_s=1.5, precision="containers", sources=(SourceStatus("mdt0", "/d", losses=2),)))
    assert value(metrics, "lag_seconds") == 1.5
    assert value(metrics, "precision", level="containers") == 1
    assert value(metrics, "precision", level="names") == 0
    assert value(metrics, "source_losses", source="mdt0") == 2
