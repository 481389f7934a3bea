# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from lustack.sync.sources.recent import Recent


def test_what_was_put_is_there():
    recent = Recent(4)
    recent.put(b"a", 1)
    recent.put(b"a", 2)
    assert (recent.get(b"a"), recent.get(b"b"), len(recent)) == (2, None, 1)


def test_what_nobody_asks_for_is_forgotten_and_the_rest_is_not():
    recent = Recent(8)
    recent.put(b"wanted", 0)
    recent.put(b"unwanted", 0)
    for number in range(20):
        recent.put(b"%d" % number, number)
        assert recent.get(b"wanted") == 0
        assert len(recent) <= 8
    assert recent.get(b"unwanted") is None


def test_forgetting_for_something_new_is_told():
    recent = Recent(2)
    assert [recent.put(b"%d" % number, number) for number in range(4)] == [False, False, True, True]
    assert not recent.put(b"3", 0)


def test_what_is_popped_is_gone_whether_it_is_old_or_young():
    recent = Recent(4)
    for number in range(3):
        recent.put(b"%d" % number, number)
    assert [recent.pop(b"0"), recent.pop(b"2"), recent.pop(b"0")] == [0, 2, None]
    assert (recent.get(b"0"), recent.get(b"1"), recent.get(b"2")) == (None, 1, None)


def test_what_is_put_again_is_not_there_twice():
    recent = Recent(2)
    for number in (1, 2):
        recent.put(b"a", number)
        recent.put(b"b", number)
    assert len(recent) == 2
    assert recent.pop(b"a") == 2
    assert recent.get(b"a") is None


def test_everything_can_be_forgotten():
    recent = Recent(2)
    recent.put(b"a", 1)
    recent.put(b"b", 1)
    recent.clear()
    assert len(recent) == 0
