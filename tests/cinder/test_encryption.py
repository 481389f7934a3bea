# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes through a real Cinder with a fixed key: LUKS by the real qemu-img, and nothing plain on any disk.

Rule 1: what a guest reads is read with the passphrase; what lies on the disk is searched for what the guest wrote.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.cinder.api import GIB, Cinder, inspect
from tests.cinder.stand import FIXED_KEY, TIMEOUT_S, wait_for

pytestmark = pytest.mark.timeout(TIMEOUT_S)

SECRET = ("--object", f"secret,id=key,format=raw,data={FIXED_KEY}")


@pytest.fixture(scope="module")
def encrypted() -> str:
    """Name of a type whose volumes are encrypted."""
    return "encrypted"


def guest(cinder: Cinder, volume, *commands: str) -> str:
    """What qemu-io says to commands, with the passphrase."""
    path = cinder.active_path(volume)
    layers = len(inspect(path))
    options = [f"driver=qcow2,file.filename={path}"]
    options += [f"{'backing.' * level}encrypt.key-secret=key" for level in range(layers)]
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(
        ["qemu-io", *SECRET, "--image-opts", *words, ",".join(options)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verification failed" not in done.stdout, done.stdout
    return done.stdout


def check(cinder: Cinder, volume) -> None:
    """It has its size, every file of it is encrypted, and what the guest wrote is on the disk nowhere."""
    volume = cinder.api.volumes.get(volume.id)
    layers = inspect(cinder.active_path(volume))
    assert layers[0]["virtual-size"] == volume.size * GIB
    assert {layer["format-specific"]["data"]["encrypt"]["format"] for layer in layers} == {"luks"}
    for name in cinder.files_of(volume):
        assert b"\x41" * 4096 not in (cinder.share_of(volume) / name).read_bytes()


def images_of(cinder: Cinder) -> Path:
    return cinder.stand.root / "images"


def test_an_encrypted_volume_lives_as_any_other_and_nothing_plain_is_on_the_disk(cinder: Cinder, encrypted: str):
    volume = cinder.create(1, encrypted)
    assert volume.encrypted
    guest(cinder, volume, "write -P 0x41 1M 1M")
    cinder.api.volumes.extend(volume, 2)
    cinder.volume(volume)
    check(cinder, volume)
    snapshot = cinder.snapshot(volume)
    guest(cinder, volume, "write -P 0x42 3M 1M")
    later = cinder.snapshot(volume, "later")
    guest(cinder, volume, "write -P 0x43 1M 1M")
    check(cinder, volume)
    clone = cinder.create(2, encrypted, source_volid=volume.id)
    copy = cinder.create(3, encrypted, snapshot_id=snapshot.id)
    cinder.gone(snapshot)
    guest(cinder, volume, "read -P 0x43 1M 1M", "read -P 0x42 3M 1M")
    cinder.api.volumes.revert_to_snapshot(volume, later)
    cinder.volume(volume)
    guest(cinder, volume, "read -P 0x41 1M 1M", "read -P 0x42 3M 1M")
    cinder.gone(later)
    check(cinder, volume)
    cinder.gone(volume)
    for each, patterns in ((clone, (0x43, 0x42)), (copy, (0x41, 0x00))):
        check(cinder, each)
        guest(cinder, each, f"read -P {patterns[0]} 1M 1M", f"read -P {patterns[1]} 3M 1M")
    cinder.gone(clone, copy)


@pytest.mark.long
def test_an_image_of_an_encrypted_volume_is_encrypted_and_becomes_a_volume_again(cinder: Cinder, encrypted: str):
    volume = cinder.create(1, encrypted)
    guest(cinder, volume, "write -P 0x41 1M 1M")
    image = images_of(cinder) / cinder.upload(volume, "raw")
    cinder.gone(volume)
    content = image.read_bytes()
    assert content.startswith(b"LUKS\xba\xbe")
    assert b"\x41" * 4096 not in content
    again = cinder.create(2, encrypted, imageRef=image.name)
    check(cinder, again)
    guest(cinder, again, "read -P 0x41 1M 1M", "read -P 0 1025M 1M")
    cinder.gone(again)
    assert not list((cinder.stand.state / "conversion").iterdir())


@pytest.mark.long
def test_an_image_becomes_an_encrypted_volume(cinder: Cinder, encrypted: str):
    plain = cinder.create(1, "raw")
    cinder.write(plain, 0x41, 5)
    image_id = cinder.upload(plain, "qcow2")
    cinder.gone(plain)
    volume = cinder.create(2, encrypted, imageRef=image_id)
    check(cinder, volume)
    guest(cinder, volume, "read -P 0x41 5M 1M")
    cinder.gone(volume)
    assert not list((cinder.stand.state / "conversion").iterdir())


@pytest.mark.long
def test_a_backup_of_an_encrypted_volume_is_refused_and_the_volume_goes_on(cinder: Cinder, encrypted: str):
    volume = cinder.create(1, encrypted)
    guest(cinder, volume, "write -P 0x41 1M 1M")
    made = cinder.api.backups.create(volume.id, name="b")
    wait_for(lambda: cinder.api.backups.get(made.id).status == "error", "the backup is refused")
    cinder.volume(volume)
    guest(cinder, volume, "read -P 0x41 1M 1M")
    cinder.gone(cinder.api.backups.get(made.id), volume)
