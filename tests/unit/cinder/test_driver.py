# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest
from cinder import exception
from cinder.volume.drivers import remotefs
from oslo_concurrency import processutils
from oslo_config import cfg
from tests.unit.cinder.bench import GIB, SHARE, Attachment, Bench, Snapshot, Type, Volume

from lustack.brick.errors import MountError

pytestmark = pytest.mark.usefixtures("coordinated")


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_volume_is_made_as_its_type_says_and_its_format_is_recorded(stage: Bench, kind: str):
    stage.set_up()
    volume = stage.create(2, {"lustre:format": kind})
    assert volume.provider_location == SHARE
    assert volume.admin_metadata == {"format": kind}
    found = stage.describe(volume)
    assert (found["format"], found["virtual-size"]) == (kind, 2 * GIB)
    assert (stage.share / volume.name).stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_what_cinder_copies_of_another_volume_s_formats_is_not_this_one_s(stage: Bench, kind: str):
    """The copy that a migration makes begins with what is recorded of the volume, the bottom of its chain among it."""
    stage.set_up()
    other = {"raw": "qcow2", "qcow2": "raw"}[kind]
    inherited = {"format": other, "base_format": other, "readonly": "False"}
    made = stage.create(specs={"lustre:format": kind}, admin_metadata=dict(inherited))
    clone = Volume(volume_type=Type({"lustre:format": kind}), admin_metadata=dict(inherited))
    stage.driver.create_cloned_volume(clone, made)
    for volume in (made, clone):
        assert volume.admin_metadata == {"format": kind, "readonly": "False"}
        assert stage.describe(volume)["format"] == kind


def test_room_is_reserved_for_a_thick_volume_and_not_for_a_sparse_one(stage: Bench):
    stage.set_up()
    thin = stage.create(1, {"provisioning:type": "thin"})
    thick = stage.create(1, {"provisioning:type": "thick"})
    assert (stage.share / thin.name).stat().st_blocks == 0
    assert (stage.share / thick.name).stat().st_blocks * 512 >= GIB


def test_a_volume_s_type_says_where_lustre_places_it(stage: Bench):
    stage.set_up()
    specs = {"lustre:stripe_count": "4", "lustre:stripe_size": "4M", "lustre:project": "1001"}
    volume = stage.create(1, specs)
    plain = stage.create(1, {"lustre:project": "1002"})
    written = (stage.root / "lfs.log").read_text().splitlines()
    paths = [f"{stage.share}/{each.name}" for each in (volume, plain)]
    assert written == [
        f"setstripe -c 4 -S 4M {paths[0]}",
        f"project -p 1001 {paths[0]}",
        f"project -p 1002 {paths[1]}",
    ]


def test_an_impossible_type_makes_no_file(stage: Bench):
    stage.set_up()
    with pytest.raises(exception.VolumeDriverException, match=r"lustre:stripe_count.*must be"):
        stage.create(1, {"lustre:stripe_count": "many"})
    assert stage.names() == []


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_volume_grows(stage: Bench, kind: str):
    stage.set_up()
    volume = stage.create(1, {"lustre:format": kind})
    stage.write(volume, 7, 3)
    stage.driver.extend_volume(volume, 3)
    volume.size = 3
    assert stage.describe(volume)["virtual-size"] == 3 * GIB
    assert stage.reads(volume, 7, 3)


# As ext4, and so the servers of Lustre, leave it: measured with util-linux 2.38.
def test_a_thick_volume_is_what_it_was_when_there_is_no_room_to_extend_it(stage: Bench, programs: Path):
    stage.set_up()
    volume = stage.create(specs={"provisioning:type": "thick"})
    (programs / "fallocate").write_text(f'#!/bin/sh\ntruncate -s {GIB + 4096} "$3"; echo "No space left" >&2; exit 1\n')
    (programs / "fallocate").chmod(0o755)
    with pytest.raises(processutils.ProcessExecutionError, match="No space left"):
        stage.driver.extend_volume(volume, 2)
    assert stage.describe(volume)["virtual-size"] == GIB


def test_a_volume_in_use_is_left_to_nova_and_mended_when_nova_did_not_get_to_it(stage: Bench):
    stage.set_up()
    volume = stage.create()
    volume.attach_status, volume.volume_attachment = "attached", [Attachment()]
    stage.driver.extend_volume(volume, 2)
    volume.size = 2
    assert stage.describe(volume)["virtual-size"] == GIB
    volume.attach_status = "detached"
    assert stage.describe(volume)["virtual-size"] == 2 * GIB


def test_a_volume_that_several_guests_use_does_not_grow(stage: Bench):
    stage.set_up()
    volume = stage.create(multiattach=True)
    volume.attach_status, volume.volume_attachment = "attached", [Attachment(), Attachment()]
    with pytest.raises(exception.ExtendVolumeError, match="more than once"):
        stage.driver.extend_volume(volume, 2)


@pytest.mark.parametrize("ratio", ["20.0", "auto"])
def test_a_volume_does_not_grow_beyond_its_share(stage: Bench, ratio: str):
    stage.set_up()
    volume = stage.create()
    cfg.CONF.set_override("max_over_subscription_ratio", ratio, "lustre")
    found = os.statvfs(stage.share)
    too_much = found.f_frsize * found.f_blocks * 21 // GIB + 2
    with pytest.raises(exception.ExtendVolumeError, match="do not fit"):
        stage.driver.extend_volume(volume, too_much)


def test_a_connection_says_all_that_a_host_needs(stage: Bench):
    stage.set_up()
    volume = stage.create()
    assert stage.driver.initialize_connection(volume, {}) == {
        "driver_volume_type": "lustre",
        "data": {"export": SHARE, "name": volume.name, "format": "raw", "options": "-o flock"},
        "mount_point_base": str(stage.root / "mnt"),
    }


@pytest.mark.expects_log("tampered")
def test_a_file_that_is_larger_than_its_volume_is_not_handed_out(stage: Bench):
    stage.set_up()
    volume = stage.create()
    os.truncate(stage.share / volume.name, 2 * GIB)
    with pytest.raises(exception.InvalidVolume, match="tampered"):
        stage.driver.initialize_connection(volume, {})


def test_a_volume_with_snapshots_is_for_one_guest(stage: Bench):
    stage.set_up()
    volume = stage.create(specs={"lustre:format": "qcow2"})
    volume.multiattach, volume.attach_status = True, "attached"
    with pytest.raises(exception.InvalidVolume, match="only one guest"):
        stage.driver.initialize_connection(volume, {})


def test_what_a_user_s_request_has_loaded_is_read_anew(stage: Bench):
    stage.set_up()
    volume = stage.create()
    volume.recorded["readonly"] = "True"
    volume.admin_metadata = {}
    stage.driver.extend_volume(volume, 2)
    volume.size = 2
    assert stage.describe(volume)["virtual-size"] == 2 * GIB
    volume.admin_metadata = {}
    stage.driver.create_snapshot(Snapshot(volume))
    assert volume.recorded == {"format": "qcow2", "base_format": "raw", "readonly": "True"}


def test_a_volume_whose_format_nobody_recorded_is_not_guessed_at(stage: Bench):
    stage.set_up()
    volume = stage.create()
    volume.admin_metadata.clear()
    volume.recorded.clear()
    with pytest.raises(exception.VolumeDriverException, match="not recorded"):
        stage.driver.initialize_connection(volume, {})


def test_a_volume_is_found_again_when_the_servers_have_other_addresses(stage: Bench):
    stage.set_up()
    volume = stage.create()
    (stage.root / "shares").write_text(
        "192.168.0.9@o2ib,192.168.0.10@o2ib:192.168.0.11@o2ib:/scratch/volumes -o noatime\n"
    )
    volume.provider_location = SHARE
    stage.driver._update_volume_stats()
    found = stage.driver.initialize_connection(volume, {})["data"]
    assert found["export"].startswith("192.168.0.9@o2ib")
    assert found["options"] == "-o flock -o noatime"
    assert stage.driver.get_pool(volume) == "scratch/volumes"


def test_files_are_used_as_the_configuration_says(tmp_path, coordinated: None, programs):
    stage = Bench(tmp_path, nas_secure_file_operations="true", nas_secure_file_permissions="false")
    stage.set_up()
    assert stage.driver.secure_file_operations_enabled()
    volume = stage.create()
    assert (stage.share / volume.name).stat().st_mode & 0o777 == 0o666


@pytest.mark.expects_log("will be run as root", "mode will be 666")
def test_what_the_operator_wants_of_files_counts_which_cinder_s_own_code_overrules(
    tmp_path, coordinated: None, programs
):
    stage = Bench(tmp_path, nas_secure_file_operations="true", nas_secure_file_permissions="true")
    stage.set_up()
    assert stage.driver.secure_file_operations_enabled()
    volume = stage.create()
    assert (stage.share / volume.name).stat().st_mode & 0o777 == 0o660
    remotefs.RemoteFSDriver.set_nas_security_options(stage.driver, False)
    found = stage.driver.configuration
    assert (found.nas_secure_file_operations, found.nas_secure_file_permissions) == ("false", "false")


def test_a_volume_s_type_is_changed_in_place_where_that_needs_no_copy(stage: Bench):
    stage.set_up()
    volume = stage.create()
    here = {"host": volume.host}

    def retype(specs: dict[str, str], host: dict[str, str] = here) -> bool:
        diff = {"extra_specs": {key: (None, value) for key, value in specs.items()}}
        return stage.driver.retype(None, volume, Type(specs), diff, host)[0]

    assert retype({"anything": "else"})
    assert not retype({"lustre:format": "qcow2"})
    assert not retype({"lustre:stripe_count": "2"})
    assert not retype({}, {"host": "elsewhere"})
    assert retype({"provisioning:type": "thick"})
    assert (stage.share / volume.name).stat().st_blocks * 512 >= GIB


# Nobody else asks: Cinder schedules nothing for that. What is there already needs no room.
@pytest.mark.parametrize("free_bytes", [GIB - (2 << 20), GIB])
def test_a_volume_does_not_become_thick_where_that_takes_all_the_room(stage: Bench, free_bytes: int):
    stage.set_up()
    volume = stage.create()
    stage.write(volume, 7, 3)
    stage.driver._ask = lambda point: (100 * GIB, free_bytes)
    diff = {"extra_specs": {"provisioning:type": (None, "thick")}}
    thick = Type({"provisioning:type": "thick"})
    if free_bytes < GIB:
        with pytest.raises(exception.InvalidVolume, match=r"needs 102\d MiB more"):
            stage.driver.retype(None, volume, thick, diff, {"host": volume.host})
    else:
        assert stage.driver.retype(None, volume, thick, diff, {"host": volume.host})[0]
    assert ((stage.share / volume.name).stat().st_blocks * 512 >= GIB) == (free_bytes == GIB)


@pytest.mark.parametrize("is_written_down", [False, True])
@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_whether_several_guests_may_use_a_volume_is_asked_of_the_type_that_it_is_to_get(
    stage: Bench, image_format: str, is_written_down: bool
):
    stage.set_up()
    cfg.CONF.set_override("lustre_qcow2_volumes", image_format == "qcow2", "lustre")
    volume = stage.create()

    def retype(specs: dict[str, str]) -> bool:
        diff = {"extra_specs": {key: (None, value) for key, value in specs.items()}}
        return stage.driver.retype(None, volume, Type(specs), diff, {"host": volume.host})[0]

    shared = {"multiattach": "<is> True"}
    volume.multiattach = is_written_down
    assert retype(shared) == (image_format == "raw")
    volume.multiattach = not is_written_down
    assert retype({})


def test_the_copy_that_a_retype_makes_is_as_its_type_says(stage: Bench):
    stage.set_up()
    cfg.CONF.set_override("lustre_qcow2_volumes", True, "lustre")
    volume = stage.create(specs={"multiattach": "<is> True"}, multiattach=False)
    assert stage.active(volume)[1] == "raw"


# An error would put each volume in use into `error`, and guests have them. Source: cinder 29.0.0, volume/manager.py,
# _init_host. What cannot be mounted was tried as often as the configuration says, for all volumes on it.
def test_volumes_in_use_stay_what_they_are_when_the_service_starts_without_their_share(stage: Bench):
    stage.set_up()
    volume = stage.create()
    stage.client.mounted.clear()
    stage.client.failures = [MountError(SHARE, "no route to host")]
    stage.driver.ensure_export(None, volume)
    assert len(stage.client.failures) == 1


@pytest.mark.expects_log("is not configured")
def test_it_is_said_at_start_that_there_are_volumes_on_a_share_that_is_not_configured(
    stage: Bench, caplog: pytest.LogCaptureFixture
):
    stage.set_up()
    for _ in range(2):
        stage.driver.ensure_export(None, Volume(provider_location="10.0.0.9@tcp:/other/volumes"))
    assert caplog.text.count("is not configured") == 1


def test_a_volume_without_a_place_is_in_no_pool(stage: Bench):
    stage.set_up()
    assert stage.driver.get_pool(Volume(provider_location=None)) is None


def test_the_driver_names_its_options(stage: Bench):
    names = {option.name for option in stage.driver.get_driver_options()}
    assert {"lustre_shares_config", "lustre_mount_options", "nas_host"} <= names
