# SPDX-License-Identifier: Apache-2.0
"""`lustack sync run` on a fake Lustre, with a Swift in files: it is killed by SIGKILL, and it is far behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from tests.filed_backlog import MIB, BacklogContract
from tests.filed_sink import FiledSink
from tests.filed_site import ACCOUNT, RARELY, FiledSite, KillContract
from tests.functional.filesystem import in_a_file
from tests.objects import swift_conf
from tests.unit.sync.sinks.test_rings import swift_dir

from lustack.sync.sinks.protocol import ContainerKey

__all__ = ("swift_conf", "swift_dir")

pytestmark = pytest.mark.timeout(1200)


class LightSite(FiledSite):
    """Swift is files."""

    def __init__(self, base, swift, options):
        super().__init__(base, base / "node" / "files", options)
        self.swift, self.sink = swift, FiledSink(base / "listings")

    def put_container(self, container):
        self.sink.create(ContainerKey(ACCOUNT, container), 0)

    def rows(self, container):
        found, marker = {}, ""
        while page := self.sink.list_rows((ACCOUNT, container), marker, "").rows:
            found |= {row.name: row.size_bytes for row in page}
            marker = page[-1].name
        return found

    def text(self, name):
        return (
            f"[sync]\nswift_dir = {self.swift}\ndevices = {self.base}/node\nstate_dir = {self.base}/{name}\n"
            "policies = gold\n"
        )

    def database(self, container):
        return self.sink.path(ACCOUNT, container)

    def environment(self):
        return {"FILED_SINK": self.sink.directory}


class TestKills(KillContract):
    kills = 3

    @pytest.fixture
    def site(self, tmp_path, swift_dir):
        site = LightSite(tmp_path, swift_dir, f"{RARELY}coordination_url = file://{tmp_path}/locks\n")
        site.make("c", 0, 1)
        yield site
        site.close()


MEMORY_BYTES = int(os.environ.get("LUSTACK_BACKLOG_MEMORY", MIB))
BOUNDED = f"{RARELY}memory_bytes = {MEMORY_BYTES}\nhash_bytes_per_s = 0\n"


class TestBacklog(BacklogContract):
    @pytest.fixture
    def site(self, tmp_path, swift_dir):
        site = LightSite(tmp_path, swift_dir, BOUNDED)
        yield site
        site.close()


@pytest.mark.long
@pytest.mark.timeout(3600)
class TestLongBacklog(BacklogContract):
    files = int(os.environ.get("LUSTACK_BACKLOG_FILES", "300000"))
    limit_s = 1800.0
    memory_bytes = MEMORY_BYTES
    least_clears = max(1, files // 100_000)

    @pytest.fixture
    def site(self, swift_dir):
        # The file system that other tests share has not so many inodes.
        with (
            tempfile.TemporaryDirectory(dir="/dev/shm") as place,
            in_a_file(Path(place), "ext4", size_gib=8) as mount_point,
        ):
            site = LightSite(mount_point, swift_dir, BOUNDED)
            yield site
            site.close()
