# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from lustack.mapping.names import RelPath
from lustack.sync.events import TreeChanged
from lustack.sync.sources.fake import FakeSource
from lustack.sync.sources.protocol import Rooted
from lustack.sync.sources.roots import Root


def test_what_happens_is_remembered():
    source = FakeSource()
    source.happen(TreeChanged(RelPath(b"a")))
    assert source.events == [TreeChanged(RelPath(b"a"))]
    assert source.guarantees.complete


def test_it_remembers_what_it_was_told_to_watch():
    source = FakeSource()
    source.watch([Root("/srv/node/d1")])
    assert source.roots == (Root("/srv/node/d1"),)
    assert isinstance(source, Rooted)
