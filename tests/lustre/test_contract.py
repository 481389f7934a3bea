# SPDX-License-Identifier: Apache-2.0
"""The contracts of Lustre, of sources, and of disk files, on a mounted Lustre."""

from __future__ import annotations

import os
import time

import pytest
from tests.contract.test_lustre import LustreContract
from tests.contract.test_sources import RememberingContract

from lustack.lustre import client, kernel
from lustack.sync.sources.changelogs import ChangelogSources
from lustack.sync.sources.roots import Root


class TestMountedLustre(LustreContract):
    def test_paths_are_found_by_both_ioctls_too(self, ground):
        ground.write(ground.top + b"/f", b"x")
        ground.link(ground.top + b"/f", ground.top + b"/g")
        key = self.key(ground, ground.top + b"/f")
        root = os.open(ground.real(b""), os.O_RDONLY | os.O_DIRECTORY)
        assert sorted(client.paths_of(root, key)) == [ground.top + b"/f", ground.top + b"/g"]
        os.close(root)
        fd = os.open(ground.real(ground.top + b"/f"), os.O_RDONLY)
        names = {kernel.parent_of(fd, link).name for link in (0, 1)}
        assert (names, kernel.parent_of(fd, 2)) == ({b"f", b"g"}, None)
        os.close(fd)
        assert sorted(ground.lustre._links_by_path(key), key=repr) == sorted(ground.lustre.links(key), key=repr)

    def test_the_data_version_changes_with_the_content_and_with_nothing_else(self, ground):
        path = ground.real(ground.top + b"/f")
        ground.write(ground.top + b"/f", b"one")
        fd = os.open(path, os.O_RDWR)
        first = kernel.data_version(fd)
        os.utime(path, (1, 1))
        os.chmod(path, 0o600)
        ground.rename(ground.top + b"/f", ground.top + b"/g")
        assert kernel.data_version(fd) == first
        os.pwrite(fd, b"two", 0)
        assert kernel.data_version(fd) != first
        os.close(fd)


class TestMountedSources(RememberingContract):
    @pytest.fixture
    def source(self, whole_ground):
        root = Root(os.fsdecode(whole_ground.real(whole_ground.top)))
        source = ChangelogSources("changelog:test", whole_ground.lustre, whole_ground.users, [root])
        source.ground = whole_ground
        yield source
        source.close()

    def happen(self, source, name):
        source.ground.write(source.ground.top + b"/" + name.encode(), b"content")
        # The record of the close may come a little later than the close.
        time.sleep(0.5)

    def read_all(self, source):
        found, position = [], None
        while batch := source.read(3.0):
            found += [event.path for event in batch.events if event.path not in found]
            position = batch.position
        return found, position if found else None
