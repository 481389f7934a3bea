# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from lustack.mapping.names import RelPath
from lustack.sync.events import NameChanged, TreeChanged, TreeMoved


def test_events_are_values():
    path = RelPath(b"a/c/o")
    assert NameChanged(path) == NameChanged(path) != TreeChanged(path)
    assert len({TreeMoved(path, path), TreeMoved(path, path)}) == 1
