# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess

import pytest
from tests.unit.cinder.bench import Volume

from lustack.cinder import keys


class Key:
    def get_encoded(self) -> bytes:
        return b"\x00\xff"


class Keys:
    def get(self, context: object, key_id: str) -> Key:
        return Key()


def test_a_passphrase_is_in_memory_that_others_of_ours_can_read_for_a_moment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keys.key_manager, "API", lambda conf: Keys())
    with keys.passphrase_file(None, "id") as path:
        assert subprocess.run(["cat", path], capture_output=True, check=True).stdout == b"00ff"
        assert os.readlink(path).startswith("/memfd:")  # on no disk, whoever is killed
    assert not os.path.exists(path)
    with keys.passphrase_file(None, None) as path:
        assert path is None


def test_the_cipher_is_what_the_type_says(monkeypatch: pytest.MonkeyPatch):
    found = {"cipher": "aes-xts-plain64", "key_size": 256}
    monkeypatch.setattr(keys.volume_utils, "check_encryption_provider", lambda volume, context: found)
    assert keys.find_cipher(Volume()) is None
    assert keys.find_cipher(Volume(encryption_key_id="id")) == {
        "cipher_alg": "aes-256",
        "cipher_mode": "xts",
        "ivgen_alg": "plain64",
    }
