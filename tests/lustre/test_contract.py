# SPDX-License-Identifier: Apache-2.0
"""The contracts of Lustre, of sources, and of disk files, on a mounted Lustre."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

import pytest
from tests.contract.test_lustre import LustreContract
from tests.contract.test_sources import RememberingContract

from lustack.lustre import client
from lustack.sync.sources.changelogs import ChangelogSources
from lustack.sync.sources.roots import Root


@contextmanager
def opened(path, flags):
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


class TestMountedLustre(LustreContract):
    def test_paths_are_found_by_the_ioctl_too(self, ground):
        ground.write(ground.top + b"/f", b"x")
        ground.link(ground.top + b"/f", ground.top + b"/g")
        key = self.key(ground, ground.top + b"/f")
        with opened(ground.real(b""), os.O_RDONLY | os.O_DIRECTORY) as root:
            assert sorted(client.paths_of(root, key)) == [ground.top + b"/f", ground.top + b"/g"]
        assert sorted(ground.lustre._links_by_path(key), key=repr) == sorted(ground.lustre.links(key), key=repr)


class TestMountedSources(RememberingContract):
    @pytest.fixture
    def source(self, whole_ground):
        root = Root(os.fsdecode(whole_ground.real(whole_ground.top)))
        source = ChangelogSources("changelog:test", whole_ground.lustre, whole_ground.users, [root])
        source.ground = whole_ground
        yield source
        source.close()

    def happen(self, source, name):
        # Not opened, so that no record of a close comes when the test is somewhere else.
        os.mknod(source.ground.real(source.ground.top + b"/" + name.encode()), stat.S_IFREG | 0o644)

    def read_all(self, source):
        found, position = [], None
        while batch := source.read(3.0):
            found += [event.path for event in batch.events if event.path not in found]
            position = batch.position
        return found, position if found else None
