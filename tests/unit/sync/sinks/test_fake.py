# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.sync.errors import SwiftUnavailableError
from lustack.sync.plan import Wanted, delete, put
from lustack.sync.sinks.fake import FakeContainer, FakeSink

WANTED = Wanted(1, "t", "e", "1500000000.00000")
NOW_NS = 1_600_000_000 * 10**9


def test_it_fails_on_demand():
    sink = FakeSink(failures=1)
    with pytest.raises(SwiftUnavailableError, match="on demand"):
        sink.has_account("a")
    assert not sink.has_account("a")


def test_rows_are_merged_as_swift_merges_them():
    container = FakeContainer()
    container.merge(put("o", WANTED, NOW_NS))
    container.merge(put("o", WANTED._replace(etag="older", modified="1400000000.00000"), NOW_NS - 10**9))
    assert container.shown()["o"].etag == "e"
    container.merge(put("o", WANTED._replace(etag="f", modified="1400000000.00000"), NOW_NS + 10**9))
    assert (container.shown()["o"].etag, container.shown()["o"].modified) == ("f", "1500000000.00000")
    container.merge(delete("o", NOW_NS + 2 * 10**9))
    assert container.shown() == {}
    container.merge(put("o", WANTED, NOW_NS + 3 * 10**9))
    assert container.shown()["o"].modified == "1600000002.00000"
