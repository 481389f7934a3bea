# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.posix import filesystems, kernel


def test_a_file_system_of_this_machine_is_shared_with_nobody():
    assert filesystems.shared_name("/dev/shm") is None


def test_lustre_is_shared():
    assert filesystems.SHARED[kernel.LUSTRE_SUPER_MAGIC] == "Lustre"


def test_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        filesystems.shared_name(str(tmp_path / "absent"))
