# SPDX-License-Identifier: Apache-2.0
"""Talks to the OpenStack of the tests, and looks at what is behind it.

Rule 1: what a service says is compared with what qemu-img, libvirt, the kernel and the guest's console say.
"""

from __future__ import annotations

import json
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

from openstack import exceptions
from tests.cinder import api
from tests.cinder.stand import wait_for
from tests.openstack import catalogue, database, guest, hypervisor, settings
from tests.openstack.console import Console
from tests.openstack.stand import BACKENDS, Stand

LIMIT_S = 900.0
KINDS = tuple(BACKENDS)
FLAVOR = "tiny"
IMAGE = "guest"


class Cloud:
    """A client, with the types, the flavor and the image that the tests need."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.connection = catalogue.connect(stand.site, "demo")
        self.volumes = self.connection.block_storage
        self.servers = self.connection.compute
        wait_for(lambda: len(list(self.volumes.backend_pools())) == len(BACKENDS), "Cinder knows its pools")
        wait_for(stand.cinder.can_back_up, "the scheduler knows cinder-backup")
        for name in BACKENDS:
            self.make_type(name, volume_backend_name=name)
        self.flavor = self.servers.find_flavor(FLAVOR) or self.servers.create_flavor(
            name=FLAVOR, ram=128, vcpus=1, disk=1
        )
        self.image = self.connection.image.find_image(IMAGE) or self._upload(stand.image)

    def _upload(self, path: Path):
        with path.open("rb") as file:
            return self.connection.image.create_image(
                IMAGE, data=file, disk_format="qcow2", container_format="bare", wait=True
            )

    def close(self) -> None:
        self.connection.close()

    def make_type(self, name: str, **specs: str):
        if found := self.volumes.find_type(name):
            return found
        made = self.volumes.create_type(name=name)
        self.volumes.update_type_extra_specs(made, **specs)
        return made

    # Things and their states.

    def settled(self, get, thing, *wanted: str):
        """The thing, once its status is one of these and nothing more is done with it."""

        def look():
            found = get(thing.id)
            is_bad = "error" in found.status.lower() and found.status not in wanted
            assert not is_bad, f"{found.name}: {found.status} {getattr(found, 'fault', '')}\n{self.last_errors()}"
            return found if found.status in wanted and not getattr(found, "task_state", None) else None

        return wait_for(look, f"{thing.name}: {' or '.join(wanted)}", LIMIT_S)

    def gone(self, delete, get, *things) -> None:
        """Delete things, and wait until they are gone."""
        for thing in things:
            delete(thing.id)

            def is_gone(thing=thing) -> bool:
                try:
                    found = get(thing.id)
                except exceptions.NotFoundException:
                    return True
                assert "error" not in found.status.lower(), f"{thing.name}: {found.status}\n{self.last_errors()}"
                return False

            wait_for(is_gone, f"{thing.name} is gone", LIMIT_S)

    def last_errors(self) -> str:
        """What services have logged last at ERROR."""
        root, lines = self.stand.site.root, []
        for path in (*root.glob("*.log"), *root.glob("log/nova-*.out")):
            found = [line for line in path.read_text(errors="replace").splitlines() if " ERROR " in line]
            lines += [f"{path.name}: {line[:400]}" for line in found[-20:]]
        return "\n".join(lines)

    # Volumes.

    def volume(self, volume, *wanted: str):
        return self.settled(self.volumes.get_volume, volume, *(wanted or ("available",)))

    def make_volume(self, name: str, kind: str, size_gib: int = 1, **options):
        return self.volume(self.volumes.create_volume(name=name, size=size_gib, volume_type=kind, **options))

    def delete_volumes(self, *volumes) -> None:
        self.gone(self.volumes.delete_volume, self.volumes.get_volume, *volumes)

    def snapshot(self, volume, name: str):
        made = self.volumes.create_snapshot(volume_id=volume.id, name=name, force=True)
        return self.settled(self.volumes.get_snapshot, made, "available")

    def delete_snapshots(self, *snapshots) -> None:
        self.gone(self.volumes.delete_snapshot, self.volumes.get_snapshot, *snapshots)

    def backup(self, volume):
        made = self.volumes.create_backup(volume_id=volume.id, name="backup", force=True)
        return self.settled(self.volumes.get_backup, made, "available")

    def restore(self, backup, volume) -> None:
        self.volumes.restore_backup(backup.id, volume=volume.id)
        self.settled(self.volumes.get_backup, backup, "available")
        self.volume(volume)

    def delete_backups(self, *backups) -> None:
        self.gone(self.volumes.delete_backup, self.volumes.get_backup, *backups)

    def upload(self, volume, name: str, disk_format: str):
        """Make an image of a volume that nobody uses."""
        made = self.volumes.upload_volume_to_image(volume, name, disk_format=disk_format, container_format="bare")
        self.volume(volume)
        found = self.connection.image.get_image(made["image_id"])
        assert found.status == "active", found
        return found

    # Servers.

    def server(self, server, status: str = "ACTIVE"):
        return self.settled(self.servers.get_server, server, status)

    def boot(self, name: str, volume) -> tuple[object, Console]:
        """A server whose root disk is a volume, once its guest is up."""
        disk = {"boot_index": 0, "uuid": volume.id, "source_type": "volume", "destination_type": "volume"}
        made = self.servers.create_server(
            name=name, flavor_id=self.flavor.id, networks="none", block_device_mapping=[disk]
        )
        server = self.server(made)
        console = Console(self.stand.site.state / "nova/instances" / server.id / "console.log")
        console.wait_for_boot()
        return server, console

    def attach(self, server, volume) -> None:
        self.servers.create_volume_attachment(server.id, volume_id=volume.id)
        self.volume(volume, "in-use")

    def detach(self, server, volume, status: str = "available") -> None:
        """Take a disk away from a running guest.

        Args:
            server: the guest's.
            volume: the disk.
            status: of the volume then; `in-use` when another guest has it, too.
        """
        self.servers.delete_volume_attachment(server.id, volume.id)
        self.volume(volume, status)

    def delete_servers(self, *servers) -> None:
        self.gone(self.servers.delete_server, self.servers.get_server, *servers)

    # The truth.

    def share_of(self, volume) -> Path:
        return self.stand.cinder.files / self.volumes.get_volume(volume.id).host.partition("#")[2]

    def name_of(self, volume) -> str:
        """What its files are named after: migrated while it was in use, it has those of its copy."""
        return f"volume-{self.volumes.get_volume(volume.id).migration_id or volume.id}"

    def active_path(self, volume) -> Path:
        share, name = self.share_of(volume), self.name_of(volume)
        record = share / f"{name}.info"
        return share / (json.loads(record.read_text())["active"] if record.exists() else name)

    def files_of(self, volume) -> list[str]:
        return sorted(path.name for path in self.share_of(volume).glob(f"{self.name_of(volume)}*"))

    def recorded_format(self, volume) -> str:
        """What Cinder has recorded in its database."""
        query = (
            "SELECT value FROM cinder.volume_admin_metadata WHERE volume_id = %s AND `key` = 'format' AND deleted = 0"
        )
        return database.ask(self.stand.site.root / "mariadb", query, (volume.id,))[0][0]

    def chain_of(self, volume) -> list[str]:
        """The files that a volume consists of, the active one first.

        Raises:
            AssertionError: the size or the format that Cinder has recorded is not that of the files.
        """
        image_format = self.recorded_format(volume)
        found = api.info(self.active_path(volume), image_format)
        size = self.volumes.get_volume(volume.id).size
        assert found[0]["virtual-size"] == size * api.GIB, (found[0], size)
        return [Path(each["filename"]).name for each in found]

    def counter_of(self, volume, block: int = guest.BLOCK) -> int:
        """The counter of a guest that a volume holds, which nobody uses now.

        Args:
            volume: the volume.
            block: where it is, in 512 bytes.
        """
        copy = self.stand.site.root / "block"
        # What is counted begins at the begin.
        place = [f"if={self.active_path(volume)}", f"of={copy}", "bs=512", f"skip={block}", f"count={block + 1}"]
        command = ["qemu-img", "dd", "-U", "-f", self.recorded_format(volume), "-O", "raw", *place]
        subprocess.run(command, check=True, capture_output=True)
        found = re.match(rb"GUEST-WROTE \w+ (\d+)", copy.read_bytes())
        assert found, copy.read_bytes()[:64]
        return int(found.group(1))

    def disks(self, server) -> list[dict[str, str]]:
        """What the guest really has: file, format and serial number of each disk."""
        text = hypervisor.virsh(self.stand.libvirt, "dumpxml", server.id)
        found = []
        for disk in ET.fromstring(text).iterfind("devices/disk"):
            source, driver = disk.find("source"), disk.find("driver")
            found.append(
                {
                    "file": Path(source.get("file")).name,
                    "format": driver.get("type"),
                    "serial": disk.findtext("serial"),
                    "io": driver.get("io"),
                }
            )
        return found

    def disk(self, server, volume) -> dict[str, str]:
        return next(disk for disk in self.disks(server) if disk["serial"] == volume.id)

    def mounts(self) -> list[str]:
        """What Nova has mounted."""
        base = f"{settings.mounts(self.stand.site)}/"
        with open("/proc/self/mounts") as lines:
            return [line.split(" ")[1] for line in lines if f" {base}" in line]

    def delete_everything(self) -> None:
        """Also what Cinder keeps for itself, the volumes of its cache of images."""
        self.delete_servers(*self.servers.servers())
        self.delete_backups(*self.volumes.backups())
        self.delete_snapshots(*self.volumes.snapshots())
        self.delete_volumes(*self.volumes.volumes(all_projects=True))

    def left_over(self) -> list[str]:
        """What is there though nobody has a volume: files in shares, backups, guests, mounts of Nova."""
        shares = self.stand.cinder.share("")
        found = [str(path.relative_to(shares)) for path in shares.rglob("*") if path.is_file()]
        return found + self.mounts() + hypervisor.virsh(self.stand.libvirt, "list", "--all", "--name").split()
