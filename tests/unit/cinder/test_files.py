# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from lustack.cinder.files import VolumeFiles
from lustack.cinder.images import Image
from lustack.cinder.record import Record


def test_a_volume_without_a_record_is_one_file():
    files = VolumeFiles("/mnt", "volume-1", None, "raw")
    assert files.active == "volume-1"
    assert files.recorded == Record("volume-1")
    assert files.record_path == "/mnt/volume-1.info"
    assert files.image("volume-1", "/key", 2) == Image("/mnt/volume-1", "raw", "/key", 2)


def test_what_began_with_a_snapshot_is_qcow2_and_the_bottom_is_what_was_recorded():
    files = VolumeFiles("/mnt", "volume-1", Record("volume-1.b", {"b": "volume-1.b"}), "raw")
    assert files.active == "volume-1.b"
    assert files.find_format("volume-1.b") == "qcow2"
    assert files.find_format("volume-1") == "raw"
