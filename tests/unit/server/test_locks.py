# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os

import pytest

from lustack.errors import ConfigurationError
from lustack.server import locks
from lustack.server.errors import InUseError


def test_the_second_one_is_told_who_is_there(tmp_path):
    with (
        locks.hold(str(tmp_path), "/data"),
        pytest.raises(InUseError, match=f"/data .*process {os.getpid()} on "),
        locks.hold(str(tmp_path), "/data"),
    ):
        pass


def test_a_lock_ends_with_its_block(tmp_path):
    for _ in range(2):
        with locks.hold(str(tmp_path), "/data"):
            pass


def test_a_holder_that_said_nothing_is_another_process(tmp_path):
    with locks.hold(str(tmp_path), "/data"):
        os.truncate(tmp_path / locks.LOCK_NAME, 0)
        with pytest.raises(InUseError, match="another process"), locks.hold(str(tmp_path), "/data"):
            pass


def test_a_file_system_without_locks_is_refused_with_the_remedy(tmp_path):
    def refuse(fd, operation):
        raise OSError(errno.ENOSYS, "no")

    with (
        pytest.raises(ConfigurationError, match="option flock"),
        locks.hold(str(tmp_path), "/data", flock=refuse),
    ):
        pass


def test_other_failures_are_not_explained_away(tmp_path):
    def fail(fd, operation):
        raise OSError(errno.EIO, "no")

    with pytest.raises(OSError, match="no"), locks.hold(str(tmp_path), "/data", flock=fail):
        pass
