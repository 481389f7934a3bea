# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from tests.listings import KEY

from lustack.sync.backlog import Backlog, Unhashed


def test_what_waits_longest_comes_first_and_each_once():
    backlog = Backlog()
    for name in ("b", "a", "b"):
        backlog.add(Unhashed(KEY, name))
    assert len(backlog) == 2
    assert [backlog.take(0.0), backlog.take(0.0), backlog.take(0.0)] == [Unhashed(KEY, "b"), Unhashed(KEY, "a"), None]


def test_what_has_no_room_is_not_taken():
    backlog = Backlog(room=1)
    backlog.add(Unhashed(KEY, "a"))
    backlog.add(Unhashed(KEY, "b"))
    assert backlog.take(0.0) == Unhashed(KEY, "a")
    assert backlog.take(0.0) is None
