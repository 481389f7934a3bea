# SPDX-License-Identifier: Apache-2.0
"""The walk and the object server's own look-up agree on every tree, and the walk is in the order of a listing."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.listings import KEY, Playground

from lustack.mapping import layout, names
from lustack.swift import placement
from lustack.swift.device import Device
from lustack.sync.locate import Locator
from lustack.sync.walk import Walk

LONG = "l" * 253
ENTRIES = [
    *("a", "a!", "a%dir", "a%file", "a%dir%file", "b", "b%file", "%", "%%file", "%2E.", ".hidden", "50%", "x%25", "é"),
    *(f"{LONG}%+", f"{LONG}%+%dir", "m" * 253 + "%+", "tail", "tail%file", "n" * 255),
    *("\udcff", ".lustack.tmp.0123456789abcdef"),
]
entries = st.sampled_from(ENTRIES)
paths = st.lists(entries, min_size=1, max_size=4).map(lambda parts: Path(*parts))
KINDS = ("file", "directory", "slash", "plain", "link")
trees = st.lists(st.tuples(st.sampled_from(KINDS), paths), max_size=14)


def make(container: Path, playground: Playground, tree: list[tuple[str, Path]]) -> None:
    """Makes what can be made of a tree; what is in the way stays."""
    for kind, path in tree:
        place = container / path
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                place.touch(exist_ok=False)
            elif kind == "link":
                place.symlink_to("elsewhere")
            else:
                place.mkdir(exist_ok=True)
            if kind in {"slash", "plain"}:
                attributes = layout.SLASH_ATTRIBUTES if kind == "slash" else layout.PLAIN_ATTRIBUTES
                playground.mark(place, attributes.data)


@contextlib.contextmanager
def made(tree: list[tuple[str, Path]]):
    base = Path(tempfile.mkdtemp())
    try:
        with contextlib.closing(Playground(base)) as playground:
            make(playground.container, playground, tree)
            os.setxattr(playground.container, layout.ATTRIBUTE_TWINS, b"1")
            yield playground
    finally:
        shutil.rmtree(base)


def found_by_server(root: Path, name: str) -> int | None:
    """The inode that the object server would serve."""
    with Device(str(root)).home(KEY.account, KEY.container) as home:
        found = placement.find(home, placement.Key(KEY.account, KEY.container, name))
        if found is None:
            return None
        os.close(found.fd)
        return found.status.st_ino


def found_by_daemon(observer, name: str, places) -> int | None:
    """The inode of the place that counts for the daemon."""
    for place in places:
        if observer.observe(name, [place], 10**18) is not None:
            return os.stat(place.entry, dir_fd=place.directory.fd, follow_symlinks=False).st_ino
    return None


@given(tree=trees)
def test_the_walk_is_sorted_and_finds_what_the_object_server_finds(tree):
    with made(tree) as playground, playground.device() as device, playground.directory() as directory:
        walk = Walk(directory)
        seen = [(name, found_by_daemon(device.observer, name, places)) for name, places in walk]
        listing = [name for name, _ in seen]
        assert listing == sorted(set(listing), key=str.encode)
        for name, inode in seen:
            assert inode == found_by_server(playground.root, name), name
        # What no name of the walk leads to is no object: each entry of the tree, and the markers of directories.
        for path in playground.container.rglob("*"):
            with contextlib.suppress(names.UnrepresentableNameError):
                relative = os.fsencode(path.relative_to(playground.container))
                name = names.decode(relative)
                for candidate in (name, name + "/"):
                    if candidate not in listing:
                        assert found_by_server(playground.root, candidate) is None, candidate


@given(tree=trees)
def test_a_single_name_is_looked_for_where_the_walk_finds_it(tree):
    with made(tree) as playground, playground.device() as device, playground.directory() as directory:
        with contextlib.closing(Locator(directory)) as locator:
            for name, places in Walk(directory):
                expected = found_by_daemon(device.observer, name, places)
                assert found_by_daemon(device.observer, name, locator.places(name)) == expected, name


@given(tree=trees, data=st.data())
def test_a_walk_from_a_name_and_below_a_prefix_is_a_part_of_the_whole(tree, data):
    with made(tree) as playground, playground.directory() as directory:
        whole = [name for name, _ in Walk(directory)]
        after = data.draw(st.sampled_from([*whole, "", "a", "a/", "b!"]))
        cuts = [name[:length] for name in whole for length in (1, 2, 3)]
        prefix = data.draw(st.sampled_from([*cuts, *whole, ""]))
        part = [name for name, _ in Walk(directory, after=after, prefix=prefix)]
        assert part == [name for name in whole if name > after and name.startswith(prefix)]
