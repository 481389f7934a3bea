# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import ClassVar

import pytest
from cinder import exception
from cinder.image import image_utils
from novaclient import exceptions as client_exceptions
from oslo_concurrency import processutils
from tests.unit.cinder.bench import GIB, Attachment, Bench, Snapshot, Type, Volume

from lustack.cinder import keys

KINDS = ("raw", "qcow2")


def made(stage: Bench, kind: str) -> tuple[Volume, Snapshot]:
    """A volume with a snapshot: 1 before it, 2 after it."""
    stage.set_up()
    volume = stage.create(specs={"lustre:format": kind})
    stage.write(volume, 1, 0)
    snapshot = Snapshot(volume)
    stage.driver.create_snapshot(snapshot)
    stage.write(volume, 2, 0)
    return volume, snapshot


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source_kind", KINDS)
def test_copies_of_any_size_have_the_format_of_their_own_type(stage: Bench, source_kind: str, kind: str):
    source, snapshot = made(stage, source_kind)
    clone, copy = (Volume(size, volume_type=Type({"lustre:format": kind}), provider_location=None) for size in (1, 3))
    clone.provider_location = stage.driver.create_cloned_volume(clone, source)["provider_location"]
    copy.provider_location = stage.driver.create_volume_from_snapshot(copy, snapshot)["provider_location"]
    stage.driver.delete_snapshot(snapshot)
    stage.driver.delete_volume(source)
    for volume, pattern in ((clone, 2), (copy, 1)):
        found = stage.describe(volume)
        assert (found["format"], found["virtual-size"]) == (kind, volume.size * GIB)
        assert stage.reads(volume, pattern, 0)


def test_a_raw_volume_is_copied_with_its_holes(stage: Bench):
    stage.set_up()
    source = stage.create(2)
    stage.write(source, 1, 1500)
    clone = Volume(2, volume_type=Type())
    stage.driver.create_cloned_volume(clone, source)
    assert stage.reads(clone, 1, 1500)
    assert (stage.share / clone.name).stat().st_blocks * 512 < 1 << 20


def test_room_is_reserved_for_a_thick_copy(stage: Bench):
    stage.set_up()
    source = stage.create()
    clone = Volume(1, volume_type=Type({"provisioning:type": "thick"}))
    stage.driver.create_cloned_volume(clone, source)
    assert (stage.share / clone.name).stat().st_blocks * 512 >= GIB


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_volume_of_an_old_snapshot_may_be_as_large_as_the_source_has_become(stage: Bench, kind: str):
    stage.set_up()
    source = stage.create(1, {"lustre:format": kind})
    snapshot = Snapshot(source)
    stage.driver.create_snapshot(snapshot)
    stage.driver.extend_volume(source, 2)
    source.size = 2
    copy = Volume(2, volume_type=Type({"lustre:format": kind}))
    stage.driver.create_volume_from_snapshot(copy, snapshot)
    assert stage.driver._images.inspect(str(stage.share / copy.name), kind, copy.name)[0].size_bytes == 2 * GIB


def test_a_raw_copy_needs_one_command(stage: Bench):
    stage.set_up()
    source = stage.create()
    stage.commands.clear()
    stage.driver.create_cloned_volume(Volume(1), source)
    assert [command[3] for command in stage.commands] == ["lustack.cinder.copier"]


@pytest.mark.parametrize("specs", [{"provisioning:type": "thick"}, {"lustre:format": "qcow2"}])
def test_a_copy_is_on_the_disks_before_it_is_said_to_be_there(stage: Bench, specs: dict[str, str]):
    source, _ = made(stage, "raw")
    clone = Volume(1, volume_type=Type(specs))
    stage.driver.create_cloned_volume(clone, source)
    path = str(stage.share / clone.name)
    touching = [command for command in stage.commands if path in command[-1] or f"of={path}" in command]
    copied = max(number for number, command in enumerate(touching) if command[0] in {"fallocate", "qemu-img"})
    synced = [number for number, command in enumerate(touching) if "conv=notrunc,fsync" in command]
    assert synced
    assert min(synced) > copied


def test_a_snapshot_that_is_not_recorded_cannot_be_copied(stage: Bench):
    source, _ = made(stage, "raw")
    with pytest.raises(exception.InvalidSnapshot, match="not recorded"):
        stage.driver.create_volume_from_snapshot(Volume(), Snapshot(source))


def test_a_volume_that_is_being_deleted_cannot_be_copied(stage: Bench):
    stage.set_up()
    with pytest.raises(exception.InvalidVolume):
        stage.driver.create_cloned_volume(Volume(), Volume(status="deleting"))


class Records(Snapshot):
    """A snapshot as Cinder's database makes it."""

    made: ClassVar[list[Records]] = []

    def __init__(self, **fields: object) -> None:
        super().__init__(SOURCES[fields["volume_id"]], status=fields["status"], display_name=fields["display_name"])
        self.steps: list[str] = []
        self.made.append(self)

    def create(self) -> None:
        self.steps.append("create")

    def save(self) -> None:
        self.steps.append("save")

    def destroy(self) -> None:
        self.steps.append("destroy")


SOURCES: dict[str, Volume] = {}


class Context:
    user_id = project_id = "p"

    def elevated(self) -> Context:
        return self


class Nova:
    """Switches guests and merges what is pulled; `look` is how the driver learns of it."""

    def __init__(self, stage: Bench) -> None:
        self.stage = stage
        self.code = 200

    def look(self, context: object, snapshot_id: str) -> Snapshot:
        return next(made for made in Records.made if made.id == snapshot_id)

    def create_volume_snapshot(self, context: object, volume_id: str, request: dict) -> None:
        if self.code >= 400:
            raise client_exceptions.ClientException(self.code)
        self.look(None, request["snapshot_id"]).progress = "90%"

    def delete_volume_snapshot(self, context: object, snapshot_id: str, request: dict) -> None:
        self.look(None, snapshot_id).progress = "90%"
        files = self.stage.driver._files(self.look(None, snapshot_id).volume)
        self.stage.execute("qemu-img", "rebase", "-f", "qcow2", "-b", "", str(self.stage.share / files.active))


def test_a_volume_that_a_guest_writes_to_is_copied_through_a_snapshot_that_is_gone_afterwards(stage: Bench):
    stage.set_up()
    source = stage.create()
    stage.write(source, 1, 0)
    source.attach_status, source.status, source.obj_context = "attached", "in-use", Context()
    SOURCES[source.id] = source
    nova = Nova(stage)
    stage.driver._nova, stage.driver._look_at_snapshot, stage.driver._new_snapshot = nova, nova.look, Records
    clone = Volume(2, volume_type=Type())
    stage.driver.create_cloned_volume(clone, source)
    assert stage.reads(clone, 1, 0)
    assert stage.reads(source, 1, 0)
    assert Records.made[-1].steps == ["create", "save", "save", "destroy"]
    assert len(stage.names()) == 3  # the clone, the source's one file, its record


@pytest.mark.parametrize(
    ("code", "steps", "status", "files"),
    [(400, ["create", "save", "destroy"], "deleting", 2), (503, ["create", "save"], "error", 3)],
)
def test_of_a_snapshot_that_nova_does_not_make_for_a_copy_nothing_stays_unless_the_guest_may_use_it(
    stage: Bench, code: int, steps: list[str], status: str, files: int
):
    stage.set_up()
    source = stage.create()
    source.attach_status, source.status, source.obj_context = "attached", "in-use", Context()
    SOURCES[source.id] = source
    nova = Nova(stage)
    nova.code = code
    stage.driver._nova, stage.driver._look_at_snapshot, stage.driver._new_snapshot = nova, nova.look, Records
    with pytest.raises((exception.VolumeDriverException, client_exceptions.ClientException)):
        stage.driver.create_cloned_volume(Volume(), source)
    assert (Records.made[-1].steps, Records.made[-1].status) == (steps, status)
    assert len(stage.names()) == files  # the source's file, its record, and the one that the guest may write to


class Glance:
    """One image, in a file with holes."""

    temp_images = None

    def __init__(self, path: Path, disk_format: str) -> None:
        self.path = path
        self.fetched: list[str] = []
        size = path.stat().st_size if path.exists() else 0
        self.meta = {"id": "i", "disk_format": disk_format, "container_format": "bare", "size": size, "properties": {}}

    def show(self, context: object, image_id: str) -> dict:
        return self.meta

    def download(self, context: object, image_id: str, file) -> None:
        self.fetched.append(file.name)
        self._copy(self.path, file.name)

    def update(self, context: object, image_id: str, meta: dict, file, **more: object) -> None:
        self._copy(file.name, self.path)
        self.meta["size"] = self.path.stat().st_size

    @staticmethod
    def _copy(source: str | Path, target: str | Path) -> None:
        subprocess.run(["cp", "--sparse=always", source, target], check=True)


@pytest.mark.parametrize("disk_format", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_becomes_an_image_and_an_image_a_larger_volume(stage: Bench, kind: str, disk_format: str):
    volume, _ = made(stage, kind)
    plain = stage.create(specs={"lustre:format": kind})
    stage.write(plain, 2, 0)
    for source in (volume, plain):
        images = Glance(stage.root / "image", disk_format)
        stage.driver.copy_volume_to_image(Context(), source, images, images.meta)
        copy = stage.create(2, {"lustre:format": kind})
        stage.driver.copy_image_to_volume(Context(), copy, images, "i")
        found = stage.describe(copy)
        assert (found["format"], found["virtual-size"]) == (kind, 2 * GIB)
        assert stage.reads(copy, 2, 0)


def image_of(stage: Bench, pattern: int) -> Glance:
    """An image that is smaller than the volumes."""
    (stage.root / "image").write_bytes(bytes([pattern]) * (64 << 10))
    return Glance(stage.root / "image", "raw")


# As Nova rebuilds a server that was booted from a volume; Cinder allows it whether there are snapshots or not.
@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_is_given_another_image_and_its_snapshots_stay(stage: Bench, kind: str):
    volume, snapshot = made(stage, kind)
    stage.write(volume, 3, 5)
    images = image_of(stage, 4)
    for _ in stage.cut(lambda: stage.driver.copy_image_to_volume(Context(), volume, images, "i")):
        assert stage.reads_all(volume, (2, 0), (3, 5)) or stage.reads_all(volume, (4, 0), (0, 5))
    assert stage.reads_all(volume, (4, 0), (0, 5))
    assert stage.describe(volume)["virtual-size"] == GIB
    copy = Volume(1, volume_type=Type())
    stage.driver.create_volume_from_snapshot(copy, snapshot)
    assert stage.reads_all(copy, (1, 0), (0, 5))
    stage.driver.delete_snapshot(snapshot)
    assert stage.reads_all(volume, (4, 0), (0, 5))


@pytest.mark.parametrize("kind", KINDS)
def test_a_linked_volume_is_given_another_image_and_the_other_one_stays(stage: Bench, kind: str):
    volume, snapshot = made(stage, kind)
    linked = Volume(1, volume_type=Type({"lustre:copies": "linked"}))
    stage.driver.create_volume_from_snapshot(linked, snapshot)
    stage.driver.copy_image_to_volume(Context(), linked, image_of(stage, 4), "i")
    assert stage.reads_all(linked, (4, 0), (0, 1))
    stage.driver.delete_snapshot(snapshot)
    assert stage.reads_all(volume, (2, 0), (0, 1))


def test_an_image_that_cannot_be_written_leaves_a_volume_with_snapshots_as_it_was(stage: Bench):
    volume, _ = made(stage, "raw")
    before = stage.names()
    (stage.root / "image").write_bytes(b"x" * 4096)
    target = f"driver=qcow2,file.filename={stage.active(volume)[0]}.fresh"

    def fail(*command: str, **options: object) -> tuple[str, str]:
        if command[-1] == target:
            raise processutils.ProcessExecutionError(stderr="No space left on device")
        return processutils.execute(*command)

    stage.driver._images._run = fail
    with pytest.raises(processutils.ProcessExecutionError):
        stage.driver.copy_image_to_volume(Context(), volume, Glance(stage.root / "image", "raw"), "i")
    assert stage.names() == before
    assert stage.reads(volume, 2, 0)


def test_what_is_fetched_of_an_image_goes_at_the_next_start_when_the_service_is_killed(stage: Bench):
    stage.set_up()
    volume, images = stage.create(), image_of(stage, 4)
    stage.driver.copy_image_to_volume(Context(), volume, images, "i")
    (name,) = images.fetched
    Path(name).touch()
    image_utils.cleanup_temporary_file("here@lustre")
    assert list((stage.root / "conversion").iterdir()) == []


def test_an_image_that_cinder_has_fetched_already_is_not_fetched_again(stage: Bench):
    stage.set_up()
    volume, images, context = stage.create(), image_of(stage, 4), Context()
    with image_utils.TemporaryImages.fetch(images, context, "i"):
        stage.driver.copy_image_to_volume(context, volume, images, "i")
    assert len(images.fetched) == 1
    assert stage.reads_all(volume, (4, 0), (0, 5))


# A kill in the middle leaves a qcow2 file without a header; another try is what heals the volume.
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_takes_the_place_of_one_whose_writing_was_cut_off(stage: Bench, kind: str):
    stage.set_up()
    volume = stage.create(specs={"lustre:format": kind})
    os.truncate(stage.active(volume)[0], 0)
    stage.driver.copy_image_to_volume(Context(), volume, image_of(stage, 4), "i")
    assert stage.describe(volume)["virtual-size"] == GIB
    assert stage.reads_all(volume, (4, 0), (0, 5))


def test_an_image_that_came_out_in_another_size_is_refused(stage: Bench):
    stage.set_up()
    volume = stage.create()
    stage.driver._images.resize = lambda *args, **options: None
    (stage.root / "image").write_bytes(b"x" * 4096)
    with pytest.raises(exception.ImageUnacceptable, match="instead of 1 GiB"):
        stage.driver.copy_image_to_volume(Context(), volume, Glance(stage.root / "image", "raw"), "i")


KEY = b"\x00\xff" * 8


class Keys:
    """A key manager with one key."""

    def get(self, context: object, key_id: str) -> Keys:
        return self

    def get_encoded(self) -> bytes:
        return KEY


@pytest.fixture
def locked(stage: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A driver whose volumes may be encrypted."""
    cipher = {"cipher": "aes-xts-plain64", "key_size": 256}
    monkeypatch.setattr(keys.key_manager, "API", lambda conf: Keys())
    monkeypatch.setattr(keys.volume_utils, "check_encryption_provider", lambda volume, context: cipher)
    stage.set_up()
    return stage


def guest(stage: Bench, volume: Volume, command: str) -> str:
    """What qemu-io says to a command about an encrypted volume."""
    path, _ = stage.active(volume)
    secret = f"secret,id=key,format=raw,data={KEY.hex()}"
    target = f"driver=qcow2,file.filename={path},encrypt.key-secret=key"
    out, _ = processutils.execute("qemu-io", "--object", secret, "--image-opts", "-c", command, target)
    return out


@pytest.mark.timeout(900)  # no holes in an encrypted image: it is written and read whole
def test_an_image_of_an_encrypted_volume_stays_encrypted_and_comes_back(locked: Bench):
    volume = locked.create(encryption_key_id="k")
    guest(locked, volume, "write -P 65 1M 64k")
    images = Glance(locked.root / "image", "raw")
    locked.driver.copy_volume_to_image(Context(), volume, images, images.meta)
    with images.path.open("rb") as file:
        content = file.read(8 << 20)  # the rest is what an empty disk looks like when it is encrypted
    assert content.startswith(b"LUKS")
    assert b"A" * 512 not in content
    copy = locked.create(2, encryption_key_id="k")
    locked.driver.copy_image_to_volume(Context(), copy, images, "i")
    assert locked.describe(copy)["virtual-size"] == 2 * GIB
    assert "verification failed" not in guest(locked, copy, "read -P 65 1M 64k")
    assert list((locked.root / "conversion").iterdir()) == []


def begin_to_copy(stage: Bench, volume: Volume, snapshot: Snapshot) -> Volume:
    """What Cinder does with the driver before it copies what is not zero of a snapshot into a volume."""
    stage.driver._create_temp_volume = lambda *words, **options: Volume(1, obj_context=options)
    volume.status = "downloading"
    return stage.driver._create_temp_volume_from_snapshot(Context(), volume, snapshot, status="in-use")


@pytest.mark.parametrize("is_own", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_that_gets_what_a_snapshot_saw_keeps_nothing_of_what_it_held(stage: Bench, kind: str, is_own: bool):
    volume, own = made(stage, kind)
    stage.write(volume, 3, 700)
    snapshot = own if is_own else made(stage, "raw")[1]
    temporary = begin_to_copy(stage, volume, snapshot)
    assert stage.reads(temporary, 1, 0)
    assert stage.reads_all(volume, (0, 0), (0, 700))
    copy = Volume(1)
    stage.driver.create_volume_from_snapshot(copy, own)
    assert stage.reads(copy, 1, 0)


def test_an_encrypted_volume_does_not_get_what_a_snapshot_saw_and_stays_what_it_was(locked: Bench):
    volume = locked.create(encryption_key_id="k")
    guest(locked, volume, "write -P 65 1M 64k")
    with pytest.raises(exception.InvalidVolume, match="encrypted"):
        begin_to_copy(locked, volume, Snapshot(volume))
    assert "verification failed" not in guest(locked, volume, "read -P 65 1M 64k")


def test_a_snapshot_of_a_volume_without_others_is_copied_into_one_that_is_qcow2(stage: Bench):
    _, snapshot = made(stage, "raw")
    volume = stage.create(specs={"lustre:format": "qcow2"})
    stage.write(volume, 3, 0)
    begin_to_copy(stage, volume, snapshot)
    assert stage.reads(volume, 0, 0)


def test_a_raw_file_is_left_to_cinder_which_makes_it_anew(stage: Bench):
    _, snapshot = made(stage, "raw")
    volume = stage.create()
    stage.write(volume, 3, 0)
    stage.commands.clear()
    begin_to_copy(stage, volume, snapshot)
    assert not any("driver=null-co" in word for command in stage.commands for word in command)


def test_a_backup_of_a_snapshot_changes_nothing(stage: Bench):
    volume, snapshot = made(stage, "raw")
    stage.driver._create_temp_volume = lambda *words, **options: Volume(1)
    stage.driver._create_temp_volume_from_snapshot(Context(), volume, snapshot, status="backing-up")
    assert stage.reads(volume, 2, 0)


def test_an_image_that_is_not_encrypted_becomes_a_volume_that_is(locked: Bench):
    (locked.root / "image").write_bytes(b"B" * 65536)
    images = Glance(locked.root / "image", "raw")
    volume = locked.create(encryption_key_id="k")
    locked.driver.copy_image_to_encrypted_volume(Context(), volume, images, "i")
    found = locked.describe(volume)
    assert (found["virtual-size"], found["encrypted"]) == (GIB, True)
    assert "verification failed" not in guest(locked, volume, "read -P 66 0 64k")
    assert b"B" * 512 not in locked.active(volume)[0].read_bytes()


def test_an_image_takes_the_place_of_an_encrypted_one_whose_writing_was_cut_off(locked: Bench):
    volume = locked.create(encryption_key_id="k")
    os.truncate(locked.active(volume)[0], 0)
    locked.driver.copy_image_to_encrypted_volume(Context(), volume, image_of(locked, 66), "i")
    assert "verification failed" not in guest(locked, volume, "read -P 66 0 64k")


def test_an_encrypted_volume_with_snapshots_is_given_another_image_and_they_stay(locked: Bench):
    volume = locked.create(encryption_key_id="k")
    guest(locked, volume, "write -P 65 1M 64k")
    snapshot = Snapshot(volume, encryption_key_id="k")
    locked.driver.create_snapshot(snapshot)
    locked.driver.copy_image_to_encrypted_volume(Context(), volume, image_of(locked, 66), "i")
    copy = Volume(1, encryption_key_id="k")
    locked.driver.create_volume_from_snapshot(copy, snapshot)
    locked.driver.delete_snapshot(snapshot)
    assert "verification failed" not in guest(locked, copy, "read -P 65 1M 64k")
    assert "verification failed" not in guest(locked, volume, "read -P 66 0 64k")
    assert "verification failed" not in guest(locked, volume, "read -P 0 1M 64k")


def test_a_clone_of_an_encrypted_volume_keeps_its_key_since_nothing_shows_its_raw_bytes(
    locked: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locked.driver, "_connect_device", lambda connection: connection["data"]["name"])
    plain, encrypted = locked.create(), locked.create(encryption_key_id="k")
    assert locked.driver._attach_volume(Context(), plain, {}) == (plain.name, plain)
    with pytest.raises(exception.RekeyNotSupported):
        locked.driver._attach_volume(Context(), encrypted, {})


# What Nova and libvirt cannot do with keys: see `doc/volumes.md`, step 4.
def test_an_encrypted_volume_that_a_guest_uses_is_neither_frozen_nor_extended(locked: Bench):
    volume = locked.create(encryption_key_id="k")
    before = locked.names()
    volume.attach_status, volume.volume_attachment = "attached", [Attachment()]
    with pytest.raises(exception.InvalidVolume, match="encrypted"):
        locked.driver.create_snapshot(Snapshot(volume))
    with pytest.raises(exception.ExtendVolumeError, match="encrypted"):
        locked.driver.extend_volume(volume, 2)
    assert locked.names() == before
    assert locked.active(volume)[0].name == volume.name


def test_an_encrypted_volume_with_snapshots_is_for_no_guest_until_they_are_deleted(locked: Bench):
    volume = locked.create(encryption_key_id="k")
    snapshot = Snapshot(volume, encryption_key_id="k")
    locked.driver.create_snapshot(snapshot)
    with pytest.raises(exception.InvalidVolume, match="has snapshots"):
        locked.driver.initialize_connection(volume, {})
    copy = Volume(1, encryption_key_id="k")
    locked.driver.create_volume_from_snapshot(copy, snapshot)
    assert locked.active(copy)[0].name == copy.name
    locked.driver.delete_snapshot(snapshot)
    assert locked.active(volume)[0].name == volume.name
