# SPDX-License-Identifier: Apache-2.0
"""Disks of a running guest when kill -9 takes cinder-volume or nova-compute in the middle.

Afterwards the commands of doc/volumes.md, step 7, put it right. The guest writes on all the time, and what it wrote is
there in the end.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.cinder.stand import wait_for
from tests.openstack import guest as guest_image
from tests.openstack import hypervisor, marks
from tests.openstack.cloud import Cloud
from tests.openstack.console import DISK, GIB_SECTORS, Console
from tests.openstack.crew import PROGRAMS
from tests.openstack.gates import (
    ASKED,
    COMPLETED,
    COMPLETING,
    COMPUTE,
    GIVING,
    LOCATED,
    SWITCHED,
    SWITCHING,
    VOLUME,
    Gates,
)
from tests.openstack.stand import Stand

pytestmark = pytest.mark.timeout(3600)

ROOT_DISK = "vda"


@dataclass
class Guest:
    """A server with a raw disk that it writes to.

    Attributes:
        mark: checksum of what is on the disk where no guest writes.
        device: what the guest calls the disk.
        block: where its counter is.
    """

    cloud: Cloud
    server: object
    console: Console
    disk: object
    mark: str
    device: str = DISK
    block: int = guest_image.BLOCK

    def counter(self) -> int:
        return self.console.counter(self.device)

    def retype(self) -> None:
        self.cloud.volumes.retype_volume(self.disk.id, "qcow2", migration_policy="on-demand")

    def find_copies(self) -> list:
        volumes = self.cloud.volumes.volumes(all_projects=True)
        return [each for each in volumes if each.migration_status == f"target:{self.disk.id}"]

    def known(self) -> str:
        """The attachment that Nova knows."""
        attached = self.cloud.servers.volume_attachments(self.server.id)
        (found,) = [each.attachment_id for each in attached if each.volume_id == self.disk.id]
        return found

    def given(self) -> list[str]:
        """The attachments that Cinder knows."""
        return [each.id for each in self.cloud.volumes.attachments(volume_id=self.disk.id)]

    def check_file(self, file: str, image_format: str) -> None:
        """The guest uses this file and nothing else, and Cinder and Nova have the same attachment."""
        found = self.cloud.disk(self.server, self.disk)
        assert (found["file"], found["format"]) == (file, image_format)
        assert self.cloud.chain_of(self.disk) == [file]
        assert self.given() == [self.known()]

    def check_boot(self, written: int) -> None:
        """The guest boots, and finds what it wrote."""
        self.console.wait_for_boot()
        self.cloud.server(self.server)
        assert self.held() >= written

    def held(self) -> int:
        """The counter that the guest finds on the disk."""
        return int(self.console.disk(self.device, GIB_SECTORS).rpartition(" ")[2])

    def reboot(self) -> None:
        """A hard reboot, after which the guest finds what it wrote."""
        written = self.counter()
        self.cloud.servers.reboot_server(self.server.id, "HARD")
        self.check_boot(written)

    def check_reboot(self, file: str, image_format: str) -> None:
        """It finds its disk again after a hard reboot."""
        self.reboot()
        self.check_file(file, image_format)

    def stop(self) -> int:
        """Stop the server; what it had written for sure."""
        written = self.counter()
        self.cloud.servers.stop_server(self.server.id)
        self.cloud.server(self.server, "SHUTOFF")
        return written

    def start(self, written: int) -> None:
        self.cloud.servers.start_server(self.server.id)
        self.check_boot(written)

    def check_start(self, file: str, image_format: str) -> None:
        """It finds its disk again after a stop and a start."""
        self.start(self.stop())
        self.check_file(file, image_format)

    def check_detach(self) -> None:
        """Nothing is lost when the disk is detached by Nova."""
        written = self.counter()
        self.cloud.detach(self.server, self.disk)
        self.check_whole(written)

    def check_use(self, file: str, image_format: str) -> None:
        self.check_reboot(file, image_format)
        self.check_detach()

    def check_whole(self, written: int) -> None:
        """Nothing is lost of a disk that nobody uses now."""
        assert self.cloud.counter_of(self.disk, self.block) >= written
        assert marks.find_mark(self.cloud, self.disk) == self.mark
        assert self.cloud.volumes.get_volume(self.disk.id).status == "available"


@pytest.fixture(scope="module")
def gates(stand: Stand) -> Iterator[Gates]:
    if not stand.crew.processes:
        pytest.skip("the services are another process's, and cannot be killed here")
    found = Gates(stand)
    found.open()
    try:
        found.restart(COMPUTE)
        found.restart(VOLUME)
        yield found
    finally:
        found.close()


class Booted:
    """A server for one test after the other; a new one after a test that failed.

    Attributes:
        found: the server and its console.
    """

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.found: tuple | None = None

    def get(self) -> tuple:
        if self.found is None:
            self.found = self.cloud.boot("server", self.cloud.make_volume("root", "raw", image_id=self.cloud.image.id))
        return self.found


@pytest.fixture(scope="module")
def booted(cloud: Cloud, gates: Gates) -> Iterator[Booted]:
    yield Booted(cloud)
    cloud.delete_everything()
    assert cloud.left_over() == []


@pytest.fixture
def guest(cloud: Cloud, booted: Booted, gates: Gates) -> Iterator[Guest]:
    server, console = booted.get()
    disk = cloud.make_volume("disk", "raw")
    found = Guest(cloud, server, console, disk, marks.mark(cloud, disk))
    cloud.attach(server, disk)
    console.disk(DISK, GIB_SECTORS)
    yield found
    gates.reset()
    if cloud.volumes.get_volume(disk.id).status == "available":
        cloud.delete_volumes(disk)
    else:
        booted.found = None


@pytest.fixture
def rooted(cloud: Cloud, booted: Booted, gates: Gates) -> Iterator[Guest]:
    """A server with no disk but that which it has booted from, and which it writes to."""
    path = guest_image.labelled("writing", cloud.stand.site.root)
    with path.open("rb") as file:
        image = cloud.connection.image.create_image(
            "writing", data=file, disk_format="raw", container_format="bare", wait=True
        )
    path.unlink()
    root = cloud.make_volume("root", "raw", image_id=image.id)
    cloud.connection.image.delete_image(image.id)
    mark = marks.mark(cloud, root)
    server, console = cloud.boot("other", root)
    yield Guest(cloud, server, console, root, mark, ROOT_DISK, guest_image.ROOT_BLOCK)
    gates.reset()


def run(cloud: Cloud, *command: object) -> str:
    """What a command says on standard output.

    Raises:
        AssertionError: it failed; with all that it said.
    """
    environment = cloud.stand.crew.environment
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def heal(cloud: Cloud, volume, *words: str) -> list[str]:
    """`cinder reset-state --state error`, then `lustack volume heal`; what is left to be deleted."""
    cloud.volumes.reset_volume_status(volume, status="error")
    site = cloud.stand.site
    command = [PROGRAMS / "lustack", "volume", "heal", volume.id, "--config-file", site.etc / "cinder.conf", *words]
    return [line.split()[-1] for line in run(cloud, *command).splitlines() if "cinder delete" in line]


def test_a_retype_is_finished_when_cinder_volume_died_while_nova_copied(cloud: Cloud, guest: Guest, gates: Gates):
    gates.hold_at(ASKED)
    guest.retype()
    gates.wait_at(ASKED)
    gates.kill(VOLUME)
    gates.release(ASKED)
    gates.restart(VOLUME)

    def is_over() -> bool:
        found = cloud.volumes.get_volume(guest.disk.id)
        return (found.status, found.migration_status, found.volume_type) == ("in-use", "success", "qcow2")

    wait_for(is_over, "the retype is over")
    assert cloud.disk(guest.server, guest.disk)["format"] == "qcow2"
    guest.check_detach()


def hold_retype(guest: Guest, gates: Gates):
    """Retype a disk, and hold Nova while it copies; the copy."""
    gates.hold_at(ASKED)
    guest.retype()
    gates.wait_at(ASKED)
    (copy,) = guest.find_copies()
    return copy


@pytest.mark.parametrize("number", [1, 2])
def test_a_retype_is_healed_when_cinder_volume_died_while_it_swapped(
    cloud: Cloud, guest: Guest, gates: Gates, number: int
):
    copy = hold_retype(guest, gates)
    gates.kill_at(LOCATED, number)
    gates.release(ASKED)
    gates.wait_for_death(VOLUME)
    gates.kill(COMPUTE)  # it waits for an answer
    gates.restart(VOLUME)
    gates.restart(COMPUTE)
    assert heal(cloud, guest.disk) == [copy.id]
    cloud.delete_volumes(copy)
    guest.check_file(f"volume-{copy.id}", "qcow2")
    if number == 1:  # with Nova's record of before
        guest.check_detach()
        cloud.attach(guest.server, guest.disk)
        guest.held()
    guest.check_use(f"volume-{copy.id}", "qcow2")


def test_a_retype_is_healed_when_nova_compute_died_while_it_copied(cloud: Cloud, guest: Guest, gates: Gates):
    gates.kill_at(ASKED)
    guest.retype()
    gates.wait_for_death(COMPUTE)
    gates.restart(COMPUTE)
    (copy,) = guest.find_copies()
    with pytest.raises(AssertionError, match="virsh blockjob SERVER DISK --abort"):
        heal(cloud, guest.disk)
    hypervisor.virsh(cloud.stand.libvirt, "blockjob", guest.server.id, DISK, "--abort")
    assert heal(cloud, guest.disk) == [copy.id]
    cloud.delete_volumes(copy)
    guest.check_use(f"volume-{guest.disk.id}", "raw")


def cut_off_when_switched(cloud: Cloud, guest: Guest, gates: Gates) -> str:
    """Retype a disk, kill nova-compute when the guest uses the copy, and heal that; the name of the copy's file."""
    gates.kill_at(SWITCHED)
    guest.retype()
    gates.wait_for_death(COMPUTE)
    gates.restart(COMPUTE)
    (copy,) = guest.find_copies()
    assert heal(cloud, guest.disk) == [copy.id]
    cloud.delete_volumes(copy)
    return f"volume-{copy.id}"


def test_a_retype_is_healed_when_nova_compute_died_with_the_guest_switched(cloud: Cloud, guest: Guest, gates: Gates):
    file = cut_off_when_switched(cloud, guest, gates)
    guest.check_file(file, "qcow2")
    guest.check_reboot(file, "qcow2")
    guest.check_start(file, "qcow2")
    guest.check_detach()


def test_a_root_disk_is_healed_when_nova_compute_died_with_the_guest_switched(
    cloud: Cloud, rooted: Guest, gates: Gates
):
    file = cut_off_when_switched(cloud, rooted, gates)
    rooted.check_start(file, "qcow2")
    rooted.check_reboot(file, "qcow2")
    written = rooted.counter()
    cloud.delete_servers(rooted.server)
    cloud.volume(rooted.disk)
    rooted.check_whole(written)
    cloud.delete_volumes(rooted.disk)


def is_gone(cloud: Cloud, volume_id: str) -> bool:
    return volume_id not in [each.id for each in cloud.volumes.volumes(all_projects=True)]


def complete_without_nova(cloud: Cloud, guest: Guest, gates: Gates) -> str:
    """Kill nova-compute while Cinder completes a retype, which Cinder goes on with; the name of the copy's file."""
    copy = hold_retype(guest, gates)
    gates.hold_at(LOCATED)
    gates.release(ASKED)
    gates.wait_at(LOCATED)
    gates.kill(COMPUTE)
    gates.release(LOCATED)
    wait_for(lambda: is_gone(cloud, copy.id), "the copy is deleted")
    wait_for(guest.given, "the volume has the attachment of its copy")
    found = cloud.volumes.get_volume(guest.disk.id)
    assert (found.status, found.migration_status) == ("in-use", "success")
    gates.restart(COMPUTE)
    assert guest.given() != [guest.known()]
    return f"volume-{copy.id}"


def test_nova_gets_its_attachment_back_when_cinder_has_completed_a_retype_without_it(
    cloud: Cloud, guest: Guest, gates: Gates
):
    file = complete_without_nova(cloud, guest, gates)
    assert heal(cloud, guest.disk, "--attachment", guest.known()) == []
    guest.check_file(file, "qcow2")
    guest.check_detach()  # with Nova's record of before
    cloud.attach(guest.server, guest.disk)
    guest.held()
    guest.check_use(file, "qcow2")


def test_a_root_disk_is_found_again_when_cinder_has_completed_its_retype_without_nova(
    cloud: Cloud, rooted: Guest, gates: Gates
):
    file = complete_without_nova(cloud, rooted, gates)
    assert heal(cloud, rooted.disk, "--attachment", rooted.known()) == []
    rooted.check_reboot(file, "qcow2")
    rooted.check_start(file, "qcow2")
    written = rooted.counter()
    cloud.delete_servers(rooted.server)
    cloud.volume(rooted.disk)
    rooted.check_whole(written)
    cloud.delete_volumes(rooted.disk)


def test_an_attachment_that_cinder_deleted_with_the_copy_comes_back(cloud: Cloud, guest: Guest, gates: Gates):
    copy = hold_retype(guest, gates)
    gates.hold_at(GIVING)
    gates.release(ASKED)
    gates.wait_at(GIVING)
    wait_for(lambda: is_gone(cloud, copy.id), "the copy is deleted")
    gates.kill(VOLUME)
    gates.kill(COMPUTE)  # it waits for an answer
    gates.release(GIVING)
    gates.restart(VOLUME)
    gates.restart(COMPUTE)
    assert guest.given() == []
    assert heal(cloud, guest.disk) == []
    guest.check_file(f"volume-{copy.id}", "qcow2")
    guest.check_reboot(f"volume-{copy.id}", "qcow2")
    guest.check_start(f"volume-{copy.id}", "qcow2")
    guest.check_detach()


def test_an_attachment_comes_back_when_cinder_volume_died_before_it_deleted_the_copy(
    cloud: Cloud, guest: Guest, gates: Gates
):
    gates.kill_at(COMPLETED)
    guest.retype()
    gates.wait_for_death(VOLUME)
    gates.kill(COMPUTE)  # it waits for an answer
    gates.restart(VOLUME)
    gates.restart(COMPUTE)
    assert heal(cloud, guest.disk, "--attachment", guest.known()) == []
    (copy,) = [each for each in cloud.volumes.volumes(all_projects=True) if each.migration_status == "deleting"]
    cloud.volumes.reset_volume_status(copy, status="error", migration_status="none")
    cloud.delete_volumes(copy)
    guest.check_use(f"volume-{copy.id}", "qcow2")


def die_before_completing(guest: Guest, gates: Gates):
    """Kill both where Nova has deleted the attachment that it knows, and Cinder has not begun to complete; the copy."""
    gates.kill_at(COMPLETING)
    guest.retype()
    gates.wait_for_death(VOLUME)
    gates.kill(COMPUTE)  # it waits for an answer
    gates.restart(VOLUME)
    gates.restart(COMPUTE)
    (copy,) = guest.find_copies()
    return copy


def test_a_server_that_was_stopped_when_nova_had_deleted_its_attachment_goes_on_with_the_copy(
    cloud: Cloud, guest: Guest, gates: Gates
):
    copy = die_before_completing(guest, gates)
    written = guest.stop()
    with pytest.raises(AssertionError, match="say with --attachment which Nova has"):
        heal(cloud, guest.disk)
    assert heal(cloud, guest.disk, "--attachment", guest.known()) == [copy.id]
    cloud.delete_volumes(copy)
    guest.start(written)
    guest.check_file(f"volume-{copy.id}", "qcow2")
    guest.check_use(f"volume-{copy.id}", "qcow2")


def lose_disk(cloud: Cloud, guest: Guest) -> int:
    """Reboot a server whose attachment Cinder has no more, so that Nova takes the disk away; what was written."""
    written = guest.counter()
    cloud.servers.reboot_server(guest.server.id, "HARD")
    guest.console.wait_for_boot()
    cloud.server(guest.server)
    known = [each.volume_id for each in cloud.servers.volume_attachments(guest.server.id)]
    assert guest.disk.id not in known
    return written


def test_what_a_guest_wrote_is_kept_when_a_reboot_took_its_disk_away_before_it_was_healed(
    cloud: Cloud, guest: Guest, gates: Gates
):
    copy = die_before_completing(guest, gates)
    written = lose_disk(cloud, guest)
    assert heal(cloud, guest.disk) == [copy.id]
    cloud.delete_volumes(copy)
    guest.check_whole(written)
    cloud.attach(guest.server, guest.disk)
    assert guest.held() >= written
    guest.check_use(f"volume-{copy.id}", "qcow2")


def test_what_a_guest_wrote_is_kept_when_a_reboot_took_its_disk_away_that_cinder_has_completed(
    cloud: Cloud, guest: Guest, gates: Gates
):
    file = complete_without_nova(cloud, guest, gates)
    written = lose_disk(cloud, guest)
    guest.check_whole(written)
    cloud.attach(guest.server, guest.disk)
    assert guest.held() >= written
    guest.check_use(file, "qcow2")


def delete_again(cloud: Cloud, snapshot) -> None:
    """`cinder snapshot-reset-state --state error`, then delete it."""
    cloud.volumes.reset_snapshot_status(snapshot, "error")
    cloud.delete_snapshots(snapshot)


def give_up(cloud: Cloud, snapshot) -> None:
    """Let cinder-volume wait no longer for what Nova will not do."""
    cloud.volumes.reset_snapshot_status(snapshot, "error")
    said = f"Nova did not do what snapshot {snapshot.id} needs"
    wait_for(lambda: said in cloud.stand.cinder.log("volume"), "cinder-volume has given up")


def begin_snapshot(cloud: Cloud, volume):
    return cloud.volumes.create_snapshot(volume_id=volume.id, name="cut off", force=True)


def test_a_snapshot_whose_making_was_cut_off_is_deleted_below_the_guest(cloud: Cloud, guest: Guest, gates: Gates):
    gates.hold_at(SWITCHED)
    snapshot = begin_snapshot(cloud, guest.disk)
    gates.wait_at(SWITCHED)
    gates.kill(VOLUME)
    gates.release(SWITCHED)
    gates.restart(VOLUME)
    delete_again(cloud, snapshot)
    guest.check_use(f"volume-{guest.disk.id}.{snapshot.id}", "qcow2")


def test_a_snapshot_is_deleted_when_nova_compute_died_with_the_guest_switched(cloud: Cloud, guest: Guest, gates: Gates):
    gates.kill_at(SWITCHED)
    snapshot = begin_snapshot(cloud, guest.disk)
    gates.wait_for_death(COMPUTE)
    gates.restart(COMPUTE)
    file = f"volume-{guest.disk.id}.{snapshot.id}"
    guest.reboot()  # Nova has recorded the file of before
    assert cloud.disk(guest.server, guest.disk)["file"] == file
    give_up(cloud, snapshot)
    delete_again(cloud, snapshot)
    guest.check_use(file, "qcow2")


def test_a_snapshot_is_taken_back_when_both_died_before_the_guest_has_switched(
    cloud: Cloud, guest: Guest, gates: Gates
):
    gates.hold_at(SWITCHING)
    snapshot = begin_snapshot(cloud, guest.disk)
    gates.wait_at(SWITCHING)
    gates.kill(COMPUTE)
    gates.kill(VOLUME)
    gates.release(SWITCHING)
    gates.restart(VOLUME)
    gates.restart(COMPUTE)
    delete_again(cloud, snapshot)
    guest.check_use(f"volume-{guest.disk.id}", "raw")


def test_a_snapshot_whose_deletion_was_cut_off_is_deleted_again(cloud: Cloud, guest: Guest, gates: Gates):
    first, second = cloud.snapshot(guest.disk, "first"), cloud.snapshot(guest.disk, "second")
    gates.hold_at(ASKED)
    cloud.volumes.delete_snapshot(first.id)  # libvirt commits
    gates.wait_at(ASKED)
    gates.kill(VOLUME)
    gates.release(ASKED)
    gates.restart(VOLUME)
    delete_again(cloud, first)
    gates.kill_at(ASKED)
    cloud.volumes.delete_snapshot(second.id)  # libvirt pulls
    gates.wait_for_death(COMPUTE)
    gates.restart(COMPUTE)
    give_up(cloud, second)
    delete_again(cloud, second)
    guest.check_use(f"volume-{guest.disk.id}.{second.id}", "qcow2")
