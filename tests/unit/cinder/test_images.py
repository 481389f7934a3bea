# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from oslo_concurrency import processutils

from lustack.cinder.errors import ForeignBackingError
from lustack.cinder.images import Image, Images, Layer

CIPHER = {"cipher_alg": "aes-256", "cipher_mode": "xts", "ivgen_alg": "plain64"}


def run(*command: str, **options: object) -> tuple[str, str]:
    out, error = processutils.execute(*command)
    return out, error


def test_a_chain_is_described_from_the_top_and_a_foreign_file_in_it_is_refused(tmp_path: Path):
    images = Images(run)
    bottom, top = Image(str(tmp_path / "volume-1"), "raw"), Image(str(tmp_path / "volume-1.a"), "qcow2")
    images.create(bottom, 1)
    images.create_overlay(top, bottom, 2)
    assert images.inspect(top.path, "qcow2", "volume-1") == [
        Layer("volume-1.a", "qcow2", 2 << 30, "volume-1"),
        Layer("volume-1", "raw", 1 << 30, None),
    ]
    with pytest.raises(ForeignBackingError):
        images.inspect(top.path, "qcow2", "volume-2")


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_file_that_no_guest_has_open_is_written_to_by_none_and_stays_as_it_is(tmp_path: Path, kind: str):
    images = Images(run)
    image = Image(str(tmp_path / "volume-1"), kind)
    with pytest.raises(processutils.ProcessExecutionError):
        images.is_written_to(image)
    images.create(image, 1)
    with Path(image.path).open("r+b") as file:
        file.write(b"" if kind == "qcow2" else b"written")
        size_bytes = file.seek(0, 2)
        file.seek(0)
        begin = file.read(1 << 20)
        assert not images.is_written_to(image)
        assert file.seek(0, 2) == size_bytes
        file.seek(0)
        assert file.read(1 << 20) == begin


def test_nothing_to_remove_is_nothing_to_run():
    Images(lambda *command: pytest.fail("ran something")).remove([])


def test_commands_on_encrypted_files_have_a_key_for_every_file_of_the_chain():
    commands: list[tuple[str, ...]] = []
    images = Images(lambda *command: commands.append(command) or ("", ""))
    top, copy = Image("/mnt/a,b.1", "qcow2", "/key", 1), Image("/mnt/c", "qcow2", "/other")
    images.copy(top, copy, CIPHER)
    images.commit(top)
    source = "driver=qcow2,file.filename=/mnt/a,,b.1,encrypt.key-secret=key,backing.encrypt.key-secret=key"
    target = "encrypt.format=luks,encrypt.key-secret=new,encrypt.iter-time=100"
    target += ",encrypt.cipher-alg=aes-256,encrypt.cipher-mode=xts"
    for command in commands:
        assert command[command.index("--image-opts") + 1] == source
        assert "secret,id=key,format=raw,file=/key" in command
    assert commands[0][commands[0].index("-o") + 1] == target + ",encrypt.ivgen-alg=plain64"
    assert commands[0][-1] == "/mnt/c"


def test_an_encrypted_chain_is_made_copied_merged_and_grown_with_its_key(tmp_path: Path):
    key, other = tmp_path / "key", tmp_path / "other"
    key.write_text("00ff")
    other.write_text("ff00")
    images = Images(run)
    bottom = Image(str(tmp_path / "volume-1"), "qcow2", str(key))
    top = Image(str(tmp_path / "volume-1.a"), "qcow2", str(key), 1)
    copy = Image(str(tmp_path / "volume-2"), "qcow2", str(other))
    images.create(bottom, 1, cipher=CIPHER)
    images.create_overlay(top, bottom, 1, CIPHER)
    source = f"driver=qcow2,file.filename={top.path},encrypt.key-secret=k,backing.encrypt.key-secret=k"
    run("qemu-io", "--object", f"secret,id=k,file={key}", "--image-opts", source, "-c", "write -P 65 1M 64k")
    images.copy(top, copy, CIPHER)
    images.commit(top)
    images.resize(bottom, 2)
    assert images.inspect(bottom.path, "qcow2", "volume-1")[0].size_bytes == 2 << 30
    for path, secret in ((bottom.path, key), (copy.path, other)):
        target = f"driver=qcow2,file.filename={path},encrypt.key-secret=k"
        out, _ = run(
            "qemu-io", "--object", f"secret,id=k,file={secret}", "--image-opts", target, "-c", "read -P 65 1M 64k"
        )
        assert "verification failed" not in out
    assert b"A" * 512 not in Path(copy.path).read_bytes()


class Restless:
    """A machine that is too busy for LUKS to measure it, some times."""

    def __init__(self, times: int, message: str = "x: Unable to get accurate CPU usage") -> None:
        self.left = times
        self.message = message
        self.count = 0

    def run(self, *command: str) -> tuple[str, str]:
        self.count += 1
        if self.count <= self.left:
            raise processutils.ProcessExecutionError(stderr=self.message, exit_code=1)
        return "", ""


def test_an_image_with_the_key_of_a_chain_is_written_on_top_of_it(tmp_path: Path):
    key = tmp_path / "key"
    key.write_text("00ff")
    images = Images(processutils.execute)
    bottom, top = (Image(str(tmp_path / name), "qcow2", str(key), depth) for depth, name in enumerate(("v", "v.a")))
    images.create(bottom, 1, cipher=CIPHER)
    images.create_overlay(top, bottom, 1, cipher=CIPHER)
    source = Image(str(tmp_path / "image"), "luks", str(key))
    (tmp_path / "plain").write_bytes(b"B" * 65536)
    images.copy(Image(str(tmp_path / "plain"), "raw"), source, CIPHER)
    secret = ("--object", f"secret,id=k,file={key}", "--image-opts")
    below, seen = (f"driver=qcow2,file.filename={each.path},encrypt.key-secret=k" for each in (bottom, top))
    processutils.execute("qemu-io", *secret, below, "-c", "write -P 65 1M 64k")
    images.overwrite(source, top, 1)
    for node, pattern, offset in ((f"{seen},backing.encrypt.key-secret=k", 66, 0), (below, 65, 1 << 20)):
        out, _ = processutils.execute("qemu-io", *secret, node, "-c", f"read -P {pattern} {offset} 64k")
        assert "verification failed" not in out
    out, _ = processutils.execute("qemu-io", *secret, f"{seen},backing.encrypt.key-secret=k", "-c", "read -P 0 1M 64k")
    assert "verification failed" not in out


def test_a_machine_too_busy_to_be_measured_is_measured_again():
    machine = Restless(3)
    Images(machine.run).create(Image("/mnt/a", "qcow2", "/tmp/key"), 1, cipher=CIPHER)
    assert machine.count == 4


@pytest.mark.parametrize(("times", "message", "count"), [(99, Restless(0).message, 10), (1, "No space left", 1)])
def test_what_does_not_change_is_not_tried_for_ever(times: int, message: str, count: int):
    machine = Restless(times, message)
    with pytest.raises(processutils.ProcessExecutionError):
        Images(machine.run).create(Image("/mnt/a", "qcow2", "/tmp/key"), 1, cipher=CIPHER)
    assert machine.count == count
