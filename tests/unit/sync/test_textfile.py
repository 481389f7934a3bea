# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lustack.errors import ConfigurationError
from lustack.sync import textfile
from lustack.sync.journal import Progress
from lustack.sync.problems import MEANINGS, Kind, Problem


def read(path):
    samples = [sample for family in text_string_to_metric_families(path.read_text()) for sample in family.samples]
    return {(sample.name, sample.labels.get("kind", "")): sample for sample in samples}


def test_what_was_found_can_be_read_by_prometheus(tmp_path):
    progress = Progress(names=7, containers=2, failures=[("a server is away", True)])
    for problem in (
        Problem(Kind.EXTRA_ROW, "a/c/o"),
        Problem(Kind.EXTRA_ROW, "a/c/p", "", True),
        Problem(Kind.SPECIAL, "a/c/fifo"),
    ):
        progress.summary.add(problem)
    path = tmp_path / "fsck.prom"
    path.write_text("of the check before")
    textfile.write(str(path), progress, 1_700_000_000.5)
    found = read(path)
    assert {name: found["lustack_fsck_" + name, ""].value for name in ("names", "containers", "failures")} == {
        "names": 7,
        "containers": 2,
        "failures": 1,
    }
    assert found["lustack_fsck_problems", ""].value == 1
    assert found["lustack_fsck_finished_timestamp_seconds", ""].value == 1_700_000_000.5
    left = found["lustack_fsck_findings", "extra-row"]
    assert (left.value, left.labels["is_problem"]) == (1, "true")
    assert found["lustack_fsck_repaired", "extra-row"].value == 1
    assert found["lustack_fsck_findings", "special-file"].labels["is_problem"] == "false"
    assert os.listdir(tmp_path) == ["fsck.prom"]


def test_a_kind_that_was_not_met_is_there_as_none(tmp_path):
    path = tmp_path / "fsck.prom"
    textfile.write(str(path), Progress(), 1.0)
    found = read(path)
    assert all(found["lustack_fsck_findings", kind].value == 0 for kind in MEANINGS)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    path = str(tmp_path / "missing" / "fsck.prom")
    with pytest.raises(ConfigurationError, match=r"fsck\.prom'.*make it"):
        textfile.write(path, Progress(), 1.0)
