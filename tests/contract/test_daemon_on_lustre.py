# SPDX-License-Identifier: Apache-2.0
"""What tests/lustre asks of the daemon on a mounted Lustre, asked on the fake."""

from __future__ import annotations

import os

import pytest
from tests.contract.test_lustre import FakeGround
from tests.lustre import test_daemon


class Ground(FakeGround):
    """What the daemon removes the fake must not take for another name of what comes later with the same number."""

    def __init__(self, root):
        super().__init__(root)
        self.nonces = {}
        self.write = self.write_and_forget

    def write_and_forget(self, path, content):
        for nonce in list(self.nonces):
            if not os.path.lexists(self.real(nonce)):
                self.lustre._links.pop(self.nonces.pop(nonce), None)
        key = self.lustre.write(path, content)
        if b"/fence/" in path:
            self.nonces[path] = key


class TestFakeDaemon(test_daemon.DaemonContract):
    @pytest.fixture
    def ground(self, tmp_path):
        return Ground(tmp_path)
