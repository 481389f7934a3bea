# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from lustack.sync import status
from lustack.sync.errors import StateError
from lustack.sync.status import JobStatus, SourceStatus, Status


def test_what_was_written_is_read(tmp_path):
    assert status.read(str(tmp_path)) is None
    for lag_s in (1.5, 2.5):
        wanted = Status(lag_s=lag_s, sources=(SourceStatus("fanotify", "/srv/node/d"),), jobs=(JobStatus("a"),))
        status.write(str(tmp_path), wanted)
        assert status.read(str(tmp_path)) == wanted
    assert [each.name for each in tmp_path.iterdir()] == ["status.json"]


def test_another_version_may_have_more_or_less(tmp_path):
    found = {"lag_s": 3.0, "mood": "fine", "sources": [{"name": "x", "device": "/d", "color": "red"}]}
    (tmp_path / "status.json").write_text(json.dumps(found))
    assert status.read(str(tmp_path)) == Status(lag_s=3.0, sources=(SourceStatus("x", "/d"),))


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_what_is_no_status_is_an_error_that_names_the_file(tmp_path, text):
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(StateError, match=r"status\.json"):
        status.read(str(tmp_path))


def test_a_status_that_cannot_be_read_is_an_error_that_says_why(tmp_path):
    (tmp_path / "status.json").mkdir()
    with pytest.raises(StateError, match=r"status\.json cannot be used: Is a directory"):
        status.read(str(tmp_path))


def test_a_directory_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(StateError, match=r"status\.json"):
        status.write(str(tmp_path / "gone"), Status())
