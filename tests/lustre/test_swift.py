# SPDX-License-Identifier: Apache-2.0
"""The Swift policy and the daemon on a mounted Lustre."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

pytest.importorskip("swift", reason="Swift is not installed")

from tests.contract.test_diskfile import DiskFileContract
from tests.functional.client import Client
from tests.objects import Files, swift_conf

from lustack.server.topology import Access

__all__ = ("swift_conf",)

LISTED_S = 120.0

pytestmark = pytest.mark.usefixtures("for_swift")


class TestMountedPosix(DiskFileContract):
    @pytest.fixture
    def objects(self, swift_conf, tmp_path):
        with contextlib.closing(Files(tmp_path / "ours", {"mb_per_sync": "1"})) as found:
            yield found
            assert found.temporary_files() == []


@contextlib.contextmanager
def served(directory, state):
    """Swift, S3 and the daemon on a directory; databases on a local disk: on Lustre they are slow (measured)."""
    command = [sys.executable, "-m", "lustack.cli.main", "serve", str(directory), "--state", str(state)]
    with subprocess.Popen([*command, "--json", "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line, "it did not come up; it says why on standard error"
            yield Access(**json.loads(line))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120)


@pytest.fixture
def state():
    with tempfile.TemporaryDirectory(prefix="lustack-state-") as path:
        yield path


def wait_until(listed, wanted):
    until_s = time.monotonic() + LISTED_S
    while (found := listed()) != wanted:
        assert time.monotonic() < until_s, f"listed: {found}, wanted: {wanted}"
        time.sleep(0.5)


def test_objects_are_files_and_files_are_objects(tmp_path, state):
    with served(tmp_path, state) as access, Client(access) as client:
        account = tmp_path / access.storage_url.rpartition("/")[2]
        assert client.send("PUT", "/c").status == 201
        assert client.send("PUT", "/c/from-swift", body=b"hello").status == 201
        assert (account / "c" / "from-swift").read_bytes() == b"hello"
        (account / "c" / "d").mkdir()
        (account / "c" / "d" / "from-a-job").write_bytes(b"bytes of a job")
        assert client.send("GET", "/c/d/from-a-job").body == b"bytes of a job"

        def listed():
            return [each["name"] for each in json.loads(client.send("GET", "/c?format=json").body or b"[]")]

        wait_until(listed, ["d/from-a-job", "from-swift"])
        os.rename(account / "c" / "d", account / "c" / "e")
        wait_until(listed, ["e/from-a-job", "from-swift"])
        assert client.send("DELETE", "/c/from-swift").status == 204
        assert not (account / "c" / "from-swift").exists()
        os.unlink(account / "c" / "e" / "from-a-job")
        wait_until(listed, [])
