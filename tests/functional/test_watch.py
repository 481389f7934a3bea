# SPDX-License-Identifier: Apache-2.0
"""Every operation that POSIX has for a tree, on real file systems, as the sources of events report it.

Beside naming the paths that are expected: whoever looks where the events say must know in the end what is there.
"""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.functional.filesystem import detach, in_a_file
from tests.operations import OPERATIONS, prepare
from tests.writers import Follower

from lustack.mapping.names import RelPath
from lustack.sync.events import TreeMoved
from lustack.sync.sources.fanotify import FanotifySource
from lustack.sync.sources.inotify import InotifySource
from lustack.sync.sources.roots import Root


@pytest.fixture(scope="module", params=["tmpfs", "ext4", "xfs"])
def filesystem(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("watch")
    with in_memory(place) if request.param == "tmpfs" else in_a_file(place, request.param, 0.5) as top:
        yield top


@contextmanager
def in_memory(place: Path):
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    try:
        yield place
    finally:
        detach(place)


@pytest.fixture
def top(filesystem):
    with tempfile.TemporaryDirectory(dir=filesystem) as place:
        top = Path(place) / "root"
        prepare(top)
        yield top


@pytest.fixture(params=[FanotifySource, InotifySource])
def source(request, top):
    source = request.param("watched", [Root(str(top))], is_local=True)
    source.open(None)
    yield source
    source.close()


def read_all(source):
    events = []
    while (batch := source.read(0.03)) is not None:
        events += batch.events
    return events


def named(events):
    """The paths that events name."""
    for event in events:
        yield from (event.old, event.new) if isinstance(event, TreeMoved) else (event.path,)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_done_to_a_tree_is_seen(top, source, operation):
    act, expected = OPERATIONS[operation]
    follower = Follower(top)
    follower.compare()
    act(top)
    events = read_all(source)
    follower.follow(events)
    assert follower.differences(set()) == {}
    covered = set(named(events))
    if isinstance(source, InotifySource):
        # A new directory is reported with all that is in it.
        expected = {path for path in expected if not any(path.startswith(each + b"/") for each in covered)}
    assert expected <= covered
    assert RelPath(b"") not in covered


@pytest.mark.parametrize("operation", ["create", "truncate by path", "remove", "rename over", "append"])
def test_what_is_done_to_a_file_has_no_event_but_those_about_it(top, source, operation):
    act, expected = OPERATIONS[operation]
    act(top)
    assert set(named(read_all(source))) == expected
