# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from lustack.mapping.names import RelPath
from lustack.sync.events import TreeChanged
from lustack.sync.sources.fake import FakeSource


def test_what_happens_is_remembered():
    source = FakeSource()
    source.happen(TreeChanged(RelPath(b"a")))
    assert source.events == [TreeChanged(RelPath(b"a"))]
    assert source.guarantees.complete
