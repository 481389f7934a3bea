# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.brick import errors


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.MountError("a:/b", "why"), "the share a:/b cannot be mounted: why"),
        (errors.UnfitMountError("a:/b", "why"), "the mount of a:/b is not fit for volumes: why"),
        (errors.NoAnswerError("stat /x", 10), "no answer within 10 s from: stat /x"),
        (errors.CommandError("x", 1, " "), "x failed with exit code 1: it said nothing"),
        (errors.RawViewError("/x", "why"), "/x cannot be shown as raw bytes: why"),
    ],
)
def test_errors_say_what_is_wrong(error: errors.BrickError, sentence: str):
    assert str(error) == sentence


def test_what_may_go_away_by_itself_is_worth_another_try():
    assert errors.MountError("a", "b").retryable
    assert errors.NoAnswerError("a", 1).retryable
    assert not errors.UnfitMountError("a", "b").retryable
