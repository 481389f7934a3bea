# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from lustack.sync.sources.protocol import SourceLostError


def test_a_lost_source_says_why():
    error = SourceLostError("changelog", "the log was cleared")
    assert str(error) == "changelog has lost events: the log was cleared"
    assert not error.retryable
