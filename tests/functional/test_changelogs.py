# SPDX-License-Identifier: Apache-2.0
"""Daemons that follow the changelogs of two MDTs are killed by SIGKILL: nothing is lost, nothing stays undone.

The Lustre is a fake, kept in files; the daemons are whole processes, and Swift is real. tests/property has the same
with a Swift in files.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.filed_site import RARELY, FiledSite, KillContract
from tests.functional.test_reconcile import Site

from lustack.server import instance
from lustack.server.topology import Host

pytestmark = pytest.mark.timeout(1200)


class RealSite(FiledSite):
    """Swift is real.

    Attributes:
        swift: with its clients.
    """

    def __init__(self, base: Path, swift: Site, options: str) -> None:
        self.swift = swift
        super().__init__(base, swift.account.parent, options)

    def put_container(self, container: str) -> None:
        self.swift.swift.put_container(container)

    def rows(self, container: str) -> dict[str, int]:
        found = self.swift.swift.get_container(container, full_listing=True)[1]
        return {row["name"]: row["bytes"] for row in found}

    def text(self, name: str) -> str:
        return self.swift.conf.read_text().replace(f"{self.swift.conf.parent}/sync\n", f"{self.base}/{name}\n")

    def database(self, container: str) -> Path:
        for path in Path(str(self.swift.served.host.databases)).rglob("containers/**/*.db"):
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            [(name,)] = connection.execute("SELECT container FROM container_stat")
            connection.close()
            if name == container:
                return path
        raise AssertionError(container)


class TestKills(KillContract):
    kills = 4

    @pytest.fixture
    def site(self, tmp_path: Path) -> Iterator[RealSite]:
        with instance.running(Host(tmp_path / "data", tmp_path / "state", port=0, sync=False)) as served:
            swift = Site(served, tmp_path)
            site = RealSite(tmp_path, swift, f"{RARELY}coordination_url = file://{tmp_path}/locks\n")
            try:
                site.make("c", 0, 1)
                yield site
            finally:
                site.close()
                swift.swift.close()
                swift.s3.close()
