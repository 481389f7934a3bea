# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from types import SimpleNamespace

import nova.conf
import pytest
from nova import exception
from nova.virt.libvirt.volume import nfs
from oslo_concurrency import processutils

from lustack.lustre.errors import ShareSyntaxError
from lustack.nova import volume

VOLUME = "0f1e2d3c-0000-4000-8000-000000000001"
COPY = "0f1e2d3c-0000-4000-8000-000000000009"
"""What Cinder has named the files of a volume after that was migrated while it was in use."""
ONE, TWO = SimpleNamespace(uuid="instance-one"), SimpleNamespace(uuid="instance-two")
DISK = {"bus": "virtio", "dev": "vda", "type": "disk"}


def connection(name=f"volume-{VOLUME}", export="mds@tcp:/lustre/volumes", **data):
    return {
        "driver_volume_type": "lustre",
        "serial": VOLUME,
        "data": {"export": export, "name": name, "format": "raw", **data},
    }


def test_a_volume_is_attached_from_its_mounted_share(node, tmp_path):
    wanted = connection(options="-o noatime")
    node.driver.connect_volume(wanted, ONE)
    ((point, mounted),) = node.mounted.items()
    assert mounted == ("lustre", "mds@tcp:/lustre/volumes", ("-o", "flock", "-o", "noatime"))
    assert wanted["data"]["device_path"] == f"{point}/volume-{VOLUME}"
    assert point.startswith(f"{tmp_path}/")


def test_nova_is_not_told_where_an_encrypted_volume_is_so_that_it_writes_no_header_over_it(node):
    wanted = connection(encrypted=True, format="qcow2", device_path="/as/an/older/driver/said")
    node.driver.connect_volume(wanted, ONE)
    assert "device_path" not in wanted["data"]
    (point,) = node.mounted
    assert node.driver.get_config(wanted, DISK).source_path == f"{point}/volume-{VOLUME}"


def test_the_mount_point_does_not_depend_on_the_addresses_of_the_servers(node):
    node.driver.connect_volume(connection(), ONE)
    node.driver.connect_volume(connection(export="10.0.0.9@o2ib:/lustre/volumes/"), TWO)
    assert len(node.mounted) == 1


def test_no_options_are_no_arguments(node):
    nova.conf.CONF.set_override("lustre_mount_options", "", "libvirt")
    try:
        node.driver.connect_volume(connection(), ONE)
    finally:
        nova.conf.CONF.clear_override("lustre_mount_options", "libvirt")
    assert [options for _, _, options in node.mounted.values()] == [()]


def test_what_is_no_share_is_refused(node):
    with pytest.raises(ShareSyntaxError, match="`:/` is missing"):
        node.driver.connect_volume(connection(export="/srv/volumes"), ONE)


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_libvirt_is_told_the_format_that_was_recorded(node, image_format):
    wanted = connection(format=image_format)
    node.driver.connect_volume(wanted, ONE)
    disk = node.driver.get_config(wanted, DISK)
    assert (disk.source_type, disk.source_path) == ("file", wanted["data"]["device_path"])
    assert (disk.driver_format, disk.driver_io, disk.driver_cache) == (image_format, "native", "none")
    assert disk.serial == VOLUME


def test_the_operator_can_leave_the_kind_of_io_to_libvirt(node):
    wanted = connection()
    node.driver.connect_volume(wanted, ONE)
    nova.conf.CONF.set_override("use_default_aio_mode_for_volumes", override=True, group="libvirt")
    try:
        assert node.driver.get_config(wanted, DISK).driver_io is None
    finally:
        nova.conf.CONF.clear_override("use_default_aio_mode_for_volumes", "libvirt")


def test_the_last_volume_unmounts_the_share(node):
    other = connection(name="volume-0f1e2d3c-0000-4000-8000-000000000002")
    other["serial"] = "0f1e2d3c-0000-4000-8000-000000000002"
    for wanted in (connection(), other):
        node.driver.connect_volume(wanted, ONE)
    assert node.driver.disconnect_volume(connection(), ONE) is True
    assert node.mounted
    assert node.driver.disconnect_volume(other, ONE) is False
    assert not node.mounted


def test_an_online_snapshot_between_attach_and_detach_leaves_no_mount(node):
    node.driver.connect_volume(connection(), ONE)
    assert node.driver.disconnect_volume(connection(name=f"volume-{VOLUME}.snapshot-1"), ONE) is False
    assert not node.mounted


def test_an_online_snapshot_of_a_volume_that_has_the_files_of_its_copy_leaves_no_mount(node):
    node.driver.connect_volume(connection(name=f"volume-{COPY}"), ONE)
    assert node.driver.disconnect_volume(connection(name=f"volume-{COPY}.snapshot-1"), ONE) is False
    assert not node.mounted


@pytest.mark.expects_log("we don't think it's in use")
def test_nova_s_own_driver_keeps_the_mount_for_ever_after_an_online_snapshot(node):
    # It counts under the name of the file, which the snapshot changed. Source: nova 34.0.0, volume/mount.py.
    stock = nfs.LibvirtNFSVolumeDriver(node.host)
    stock.connect_volume(connection(export="server:/volumes"), ONE)
    stock.disconnect_volume(connection(name=f"volume-{VOLUME}.snapshot-1", export="server:/volumes"), ONE)
    assert node.mounted


def test_a_restart_of_the_service_after_a_snapshot_leaves_no_mount(node):
    node.driver.connect_volume(connection(), ONE)
    node.run_guest(ONE, f"volume-{VOLUME}.snapshot-1")
    node.start_again()
    assert node.driver.disconnect_volume(connection(name=f"volume-{VOLUME}.snapshot-1"), ONE) is False
    assert not node.mounted


def test_a_restart_and_a_hard_reboot_after_a_snapshot_leave_no_mount(node):
    node.driver.connect_volume(connection(), ONE)
    node.run_guest(ONE, f"volume-{VOLUME}.snapshot-1")
    node.start_again()
    node.driver.connect_volume(connection(name=f"volume-{VOLUME}.snapshot-1"), ONE)
    assert node.driver.disconnect_volume(connection(name=f"volume-{VOLUME}.snapshot-1"), ONE) is False
    assert not node.mounted


def test_another_server_with_the_same_volume_keeps_the_share_mounted(node):
    for instance in (ONE, TWO):
        node.driver.connect_volume(connection(), instance)
    assert node.driver.disconnect_volume(connection(), ONE) is True
    assert node.mounted


@pytest.mark.expects_log("we don't think it's in use")
def test_detaching_what_nobody_attached_changes_nothing(node):
    assert node.driver.disconnect_volume(connection(), ONE) is False
    assert not node.mounted


def test_a_share_that_cannot_be_mounted_is_said_and_can_be_tried_again(node, monkeypatch):
    def refuse(*_):
        raise processutils.ProcessExecutionError(stderr="mount.lustre: no such file system")

    with monkeypatch.context() as patched:
        patched.setattr(volume.mount.nova.privsep.fs, "mount", refuse)
        with pytest.raises(processutils.ProcessExecutionError, match="no such file system"):
            node.driver.connect_volume(connection(), ONE)
    node.driver.connect_volume(connection(), ONE)
    assert node.mounted


def ask_for_file(point):
    path = f"{point}/volume-{VOLUME}"
    return [(["env", "LC_ALL=C", "stat", "--format=%F", path], point, 10), (["cat", f"{path}.info"], point, 10)]


def test_of_a_share_that_was_not_mounted_only_the_file_is_asked_for(node):
    node.driver.connect_volume(connection(), ONE)
    (point,) = node.mounted
    assert node.runner.commands == ask_for_file(point)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """The kernel's list of mounts, as a file."""
    lines = tmp_path / "mounts"
    lines.write_text("proc /proc proc rw 0 0\n")
    monkeypatch.setattr(volume, "_MOUNTS", str(lines))
    return lines


def show(kernel, node):
    kernel.write_text("".join(f"{share} {point} lustre rw 0 0\n" for point, (_, share, _) in node.mounted.items()))


def test_a_mounted_share_is_asked_with_a_time_limit(node, kernel):
    node.driver.connect_volume(connection(), ONE)
    show(kernel, node)
    node.runner.commands.clear()
    node.driver.connect_volume(connection(), TWO)
    (point,) = node.mounted
    asked = (["stat", "--file-system", "--format=%T", point], point, 10)
    assert node.runner.commands == [asked, *ask_for_file(point)]


def test_a_share_that_does_not_answer_is_an_error_and_no_hang(node, kernel):
    node.driver.connect_volume(connection(), ONE)
    show(kernel, node)
    node.runner.hung.update(node.mounted)
    with pytest.raises(exception.StaleVolumeMount, match="is mounted and cannot be used: no answer within 10 s"):
        node.driver.connect_volume(connection(), TWO)


def test_a_share_whose_state_is_an_error_is_not_used(node, kernel):
    node.driver.connect_volume(connection(), ONE)
    show(kernel, node)
    (point,) = node.mounted
    node.runner.trouble[point] = "Cannot send after transport endpoint shutdown"
    with pytest.raises(exception.StaleVolumeMount, match="endpoint shutdown"):
        node.driver.connect_volume(connection(), TWO)


def test_a_share_that_answers_no_longer_when_the_file_is_asked_for_is_not_counted(node):
    node.runner.hung.add(node.driver._get_device_path(connection()))
    with pytest.raises(exception.StaleVolumeMount, match="no answer within 10 s"):
        node.driver.connect_volume(connection(), ONE)
    assert not node.mounted


def test_a_file_that_nova_may_not_look_at_is_left_to_qemu(node):
    node.runner.trouble[node.driver._get_device_path(connection())] = "Permission denied"
    node.driver.connect_volume(connection(), ONE)
    assert node.mounted


HERE = connection()
THERE = connection(name=f"volume-{COPY}", export="mds@tcp:/lustre/fast", format="qcow2")


@pytest.fixture
def moved(node, cinder):
    """The file of HERE has gone: its guest uses that of THERE, as Cinder knows."""
    node.runner.trouble[node.driver._get_device_path(HERE)] = "No such file or directory"
    cinder.attach(VOLUME, ONE, THERE["data"])
    return node


def point_of(node, wanted):
    return node.driver._get_mount_path(wanted)


def test_a_volume_whose_file_has_moved_is_attached_from_where_cinder_says_and_nova_learns_that(moved):
    wanted = connection() | {"multiattach": True}
    moved.driver.connect_volume(wanted, ONE)
    point = point_of(moved, THERE)
    assert wanted["data"] == {**THERE["data"], "device_path": f"{point}/volume-{COPY}"}
    assert (wanted["serial"], wanted["multiattach"]) == (VOLUME, True)
    assert list(moved.mounted) == [point]
    assert moved.driver.disconnect_volume(wanted, ONE) is False
    assert not moved.mounted


def test_the_share_of_before_stays_mounted_for_other_volumes(moved):
    other = connection(name="volume-other") | {"serial": "other"}
    moved.driver.connect_volume(other, ONE)
    moved.driver.connect_volume(connection(), ONE)
    assert set(moved.mounted) == {point_of(moved, HERE), point_of(moved, THERE)}


def test_a_volume_that_cinder_knows_nowhere_else_is_refused_with_the_file_and_the_remedy(moved, cinder):
    cinder.attach(VOLUME, ONE, HERE["data"])
    remedy = rf"(\S*volume-{VOLUME}) is not there; Cinder says that it is \1, which is not there.*nova-manage volu"
    with pytest.raises(exception.InvalidVolume, match=remedy):
        moved.driver.connect_volume(connection(), ONE)
    assert not moved.mounted


def test_a_volume_that_is_not_where_cinder_says_either_is_refused(moved):
    moved.runner.trouble[moved.driver._get_device_path(THERE)] = "No such file or directory"
    with pytest.raises(
        exception.InvalidVolume, match=rf"is not there; Cinder says that it is \S*/volume-{COPY}, which"
    ):
        moved.driver.connect_volume(connection(), ONE)
    assert not moved.mounted


def test_a_volume_of_which_cinder_cannot_be_asked_is_refused_with_the_reason(moved):
    with pytest.raises(exception.InvalidVolume, match="is not there; Cinder cannot be asked where it is: No volume"):
        moved.driver.connect_volume(connection(), TWO)
    assert not moved.mounted


OVERLAY = f"volume-{VOLUME}.snapshot-1"


@pytest.fixture
def overlaid(node, cinder):
    """A service died when a guest had begun to write to the file of a snapshot, which Nova has not recorded."""
    record = f"{node.driver._get_device_path(HERE)}.info"
    node.runner.texts[record] = json.dumps({"active": OVERLAY, "snapshot-1": OVERLAY})
    cinder.attach(VOLUME, ONE, connection(name=OVERLAY, format="qcow2")["data"])
    return node


def test_a_server_starts_with_the_file_that_its_guest_has_written_to_last(overlaid, cinder):
    wanted = connection()
    overlaid.driver.connect_volume(wanted, ONE)
    assert (wanted["data"]["name"], wanted["data"]["format"]) == (OVERLAY, "qcow2")
    overlaid.driver.connect_volume(wanted, ONE)
    assert len(cinder.asked) == 1
    assert overlaid.driver.disconnect_volume(wanted, ONE) is False
    assert not overlaid.mounted


def test_a_server_does_not_start_with_an_old_file_when_cinder_cannot_be_asked(overlaid, cinder):
    cinder.trouble = exception.CinderConnectionFailed(reason="refused")
    with pytest.raises(exception.InvalidVolume, match=f"was written to before {OVERLAY} was made; Cinder cannot be"):
        overlaid.driver.connect_volume(connection(), ONE)
    assert not overlaid.mounted


def test_cinder_knows_better_than_the_record_what_a_server_starts_with(overlaid, cinder):
    cinder.attach(VOLUME, ONE, HERE["data"])  # the snapshot is being taken back
    wanted = connection()
    overlaid.driver.connect_volume(wanted, ONE)
    assert wanted["data"]["name"] == HERE["data"]["name"]


@pytest.mark.parametrize("text", ["", "{}", "[]", "1", f'{{"active": "volume-{VOLUME}"}}'])
def test_a_record_that_says_nothing_else_is_no_reason_to_ask_cinder(overlaid, cinder, text):
    overlaid.runner.texts = dict.fromkeys(overlaid.runner.texts, text)
    overlaid.driver.connect_volume(connection(), ONE)
    assert cinder.asked == []


@pytest.fixture
def started_again(moved):
    """Nova's service died when it had moved the guest: it knows the guest's file, and the old place of the volume."""
    moved.driver.connect_volume(connection(), ONE)
    moved.run_guest(ONE, f"volume-{COPY}")
    moved.start_again()
    return moved


@pytest.mark.expects_log("we don't think it's in use")
def test_a_disk_that_was_moved_by_a_service_that_died_is_detached_from_where_it_is(started_again):
    assert started_again.driver.disconnect_volume(connection(), ONE) is False
    assert not started_again.mounted


@pytest.mark.expects_log("we don't think it's in use")
def test_a_hard_reboot_after_such_a_death_leaves_no_mount(started_again):
    wanted = connection()
    started_again.driver.disconnect_volume(wanted, ONE)
    started_again.driver.connect_volume(wanted, ONE)
    assert list(started_again.mounted) == [point_of(started_again, THERE)]
    started_again.driver.disconnect_volume(wanted, ONE)
    assert not started_again.mounted


@pytest.mark.expects_log("we don't think it's in use")
@pytest.mark.expects_log("A mount of the volume may be left if it has moved: Cinder cannot be asked")
def test_a_disk_is_detached_when_cinder_cannot_be_asked_too(started_again, cinder):
    cinder.trouble = exception.CinderConnectionFailed(reason="refused")
    assert started_again.driver.disconnect_volume(connection(), ONE) is False
    assert list(started_again.mounted) == [point_of(started_again, THERE)]


@pytest.mark.expects_log("we don't think it's in use")
def test_a_disk_that_is_not_counted_is_detached_once_when_cinder_knows_nowhere_else(started_again, cinder):
    cinder.attach(VOLUME, ONE, HERE["data"])
    assert started_again.driver.disconnect_volume(connection(), ONE) is False
    assert list(started_again.mounted) == [point_of(started_again, THERE)]


@pytest.mark.expects_log("we don't think it's in use")
def test_cinder_is_not_asked_for_volumes_of_a_server_that_has_none_here(moved, cinder):
    moved.driver.disconnect_volume(connection(), ONE)
    assert cinder.asked == []


def test_a_share_that_does_not_answer_stays_counted_until_it_does(node, kernel):
    node.driver.connect_volume(connection(), ONE)
    show(kernel, node)
    node.runner.hung = set(node.mounted)
    with pytest.raises(exception.StaleVolumeMount, match="no answer within 10 s"):
        node.driver.disconnect_volume(connection(), ONE)
    node.runner.hung.clear()
    assert node.driver.disconnect_volume(connection(), ONE) is False
    assert not node.mounted


def test_libvirt_grows_the_file_when_a_volume_in_use_is_extended(node):
    assert node.driver.extend_volume(connection(), ONE, 2**31) == 2**31


def test_the_usual_runner_is_made_when_nova_makes_the_driver(node):
    assert volume.LibvirtLustreVolumeDriver(node.host)._runner.root_helper == ""
