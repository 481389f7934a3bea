# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from lustack.mapping.names import RelPath
from lustack.sync.events import NameChanged, TreeChanged, TreeMoved
from lustack.sync.sources.changelog_fences import Fences

ONE, OTHER = b"0" * 32, b"f" * 32


def event(nonce):
    return NameChanged(RelPath(b".lustack/fence/" + nonce))


def test_events_are_split_into_nonces_and_others():
    fences = Fences(("m0",))
    others = [
        NameChanged(RelPath(b"a/c/o")),
        TreeChanged(RelPath(b"a")),
        TreeMoved(RelPath(b"a"), RelPath(b"b")),
        NameChanged(RelPath(b".lustack/fence/no nonce")),
    ]
    assert fences.split(others) == ([], others)
    assert fences.split([event(ONE), *others, event(OTHER)]) == ([ONE, OTHER], others)


def test_a_nonce_passes_when_every_log_was_read_since_it_was_seen():
    fences = Fences(("m0", "m1"))
    assert fences.add([ONE], 10.0) == 10.0
    assert fences.pass_through("m0", 9.0) == []
    assert fences.pass_through("m0", 10.0) == []
    assert fences.pass_through("m0", 12.0) == []
    assert fences.pass_through("m1", 11.0) == [event(ONE)]
    assert fences.pass_through("m1", 12.0) == []


def test_each_nonce_waits_for_itself_and_not_for_its_own_log():
    fences = Fences(("m0", "m1", "m2"))
    fences.add([ONE], 10.0, ("m0",))
    fences.add([OTHER], 20.0, ("m1",))
    assert fences.pass_through("m1", 15.0) == []
    assert fences.pass_through("m2", 25.0) == [event(ONE)]
    assert fences.pass_through("m0", 25.0) == [event(OTHER)]


def test_with_one_log_there_is_nothing_to_wait_for():
    fences = Fences(("m0",))
    assert fences.add([], 10.0) is None
    fences.add([ONE, OTHER], 10.0, ("m0",))
    assert fences.pass_through("m0", -1.0) == [event(ONE), event(OTHER)]
