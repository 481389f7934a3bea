# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lustack.cinder import access

# What setfacl(1) writes for `setfacl -m u:65534:rw` on a file of mode 660.
WRITTEN = bytes.fromhex("02000000 01000600ffffffff 02000600feff0000 04000600ffffffff 10000600ffffffff 20000000ffffffff")


def test_a_list_is_what_the_kernel_reads():
    assert access.render(0o660, 65534) == WRITTEN


def test_the_permissions_of_a_file_stay(tmp_path: Path):
    path = tmp_path / "volume"
    path.touch()
    path.chmod(0o640)
    access.keep(str(path), 0o640)  # whether or not this file system can
    assert path.stat().st_mode & 0o777 == 0o640
    assert not access.is_given_away(str(path))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What the file system was asked for, which says how it went by its first item."""
    calls: list[tuple[object, ...]] = [(0,)]

    def setxattr(*words: object, **more: object) -> None:
        calls.append((*words, more))
        (code,) = calls[0]
        if code:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "setxattr", setxattr)
    return calls


def test_the_entry_is_this_process_s_user_s_and_no_link_is_followed(asked: list[tuple[object, ...]]):
    assert access.keep("/share/volume", 0o660)
    expected = access.render(0o660, os.geteuid())
    assert asked[1:] == [("/share/volume", "system.posix_acl_access", expected, {"follow_symlinks": False})]


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_lists_says_so(asked: list[tuple[object, ...]], code: int):
    asked[0] = (code,)
    assert not access.keep("/share/volume", 0o660)


def test_other_errors_are_errors(asked: list[tuple[object, ...]]):
    asked[0] = (errno.EIO,)
    with pytest.raises(OSError, match="Input/output"):
        access.keep("/share/volume", 0o660)


def test_a_file_is_given_away_that_belongs_to_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert access.is_given_away(str(tmp_path))
