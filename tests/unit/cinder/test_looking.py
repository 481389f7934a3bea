# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from lustack.cinder.errors import CorruptRecordError
from lustack.cinder.halfway import Place
from lustack.cinder.looking import find_active, look_at_files, open_plain, read_record


def test_the_bottom_of_a_chain_is_looked_at(tmp_path: Path):
    look = look_at_files
    directory = str(tmp_path)
    assert look(directory, "v") == Place(exists=False)
    (tmp_path / "v").write_bytes(b"QFI\xfb and more")
    assert look(directory, "v") == Place(exists=True, may_be_qcow2=True)
    (tmp_path / "v.info").write_text('{"active": "v.linked", "linked": "v.linked"}')
    assert look(directory, "v") == Place(exists=True, may_be_qcow2=True, has_overlay=True)
    (tmp_path / "v").rename(tmp_path / "v.linked")
    assert look(directory, "v") == Place(exists=True, may_be_qcow2=True)
    (tmp_path / "v.linked").unlink()
    assert look(directory, "v") == Place(exists=False)


def test_the_active_file_of_a_volume_without_a_record_has_its_name(tmp_path: Path):
    assert find_active(str(tmp_path), "v") == "v"
    assert read_record(str(tmp_path), "v") is None
    (tmp_path / "v.info").write_text('{"active": "v.1"}')
    assert find_active(str(tmp_path), "v") == "v.1"


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path):
    (tmp_path / "secret").write_text('{"active": "v"}')
    for name in ("v", "v.info"):
        (tmp_path / name).symlink_to("secret")
        with pytest.raises(CorruptRecordError, match="symbolic link"):
            look_at_files(str(tmp_path), "v")
        (tmp_path / name).unlink()
    with pytest.raises(IsADirectoryError), open(tmp_path, "rb+", opener=open_plain):
        pass
