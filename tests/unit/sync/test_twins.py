# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

from tests.listings import KEY

from lustack.mapping import layout
from lustack.sync.twins import restore


def move(playground, entry, name, *, lock=True):
    if lock:
        path = playground.root / os.fsdecode(layout.lock_path(layout.object_hash(*KEY, name)))
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with playground.device() as device, playground.directory() as directory:
        return restore(device, KEY, directory, entry, name)


def shown(playground):
    return sorted(path.name for path in playground.container.iterdir())


def test_a_file_gets_its_plain_name(playground):
    playground.write("a%file", b"body")
    assert move(playground, b"a%file", "a")
    assert shown(playground) == ["a"]


def test_a_directory_gets_its_plain_name(playground):
    playground.write("d%dir/x")
    assert move(playground, b"d%dir", "d")
    assert (playground.container / "d" / "x").exists()


def test_a_twin_stays_where_something_else_has_its_place(playground):
    playground.write("a%file")
    playground.write("a/x")
    assert not move(playground, b"a%file", "a")
    assert shown(playground) == ["a", "a%file"]


def test_a_twin_stays_where_there_are_no_locks(playground):
    playground.write("a%file")
    assert not move(playground, b"a%file", "a", lock=False)
    assert shown(playground) == ["a%file"]
