# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from lustack.lustre.changelog import LARGEST_RECORD
from lustack.lustre.protocol import READ_BYTES


def test_no_record_is_larger_than_what_is_asked_for_at_once():
    assert LARGEST_RECORD < 4096 < READ_BYTES
