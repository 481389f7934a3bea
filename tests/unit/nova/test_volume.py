# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

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


def test_a_share_that_is_not_mounted_is_not_asked(node):
    node.driver.connect_volume(connection(), ONE)
    assert node.runner.commands == []


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
    node.driver.connect_volume(connection(), TWO)
    (point,) = node.mounted
    assert node.runner.commands == [(["stat", "--file-system", "--format=%T", point], point, 10)]


def test_a_share_that_does_not_answer_is_an_error_and_no_hang(node, kernel):
    node.driver.connect_volume(connection(), ONE)
    show(kernel, node)
    node.runner.is_hung = True
    with pytest.raises(exception.StaleVolumeMount, match="is mounted and cannot be used: no answer within 10 s"):
        node.driver.connect_volume(connection(), TWO)


def test_libvirt_grows_the_file_when_a_volume_in_use_is_extended(node):
    assert node.driver.extend_volume(connection(), ONE, 2**31) == 2**31


def test_the_usual_runner_is_made_when_nova_makes_the_driver(node):
    assert volume.LibvirtLustreVolumeDriver(node.host)._runner.root_helper == ""
