# SPDX-License-Identifier: Apache-2.0
"""A compute node whose mounts are names in a set: Nova's own bookkeeping of mounts runs unchanged on it."""

from __future__ import annotations

import os
import uuid
import warnings
from dataclasses import dataclass, field

import pytest

with warnings.catch_warnings():
    # What OpenStack and its libraries say about themselves when they are imported is theirs to mend.
    warnings.simplefilter("ignore")
    import nova.conf
    import nova.privsep.fs
    import nova.privsep.path
    import nova.virt.libvirt.driver
    from cinderclient import exceptions as cinder_errors
    from nova import exception, objects
    from nova.virt.libvirt.volume import mount
    from nova.volume import cinder as client
    from oslo_utils import fileutils

from lustack.brick.errors import CommandError, NoAnswerError
from lustack.nova.volume import LibvirtLustreVolumeDriver


@dataclass
class Disk:
    source_path: str
    source_type: str = "file"


@dataclass
class Guest:
    uuid: str
    disks: list[Disk]

    def get_all_disks(self):
        return self.disks


@dataclass
class Host:
    """Stands for Nova's connection to libvirt."""

    guests: list[Guest] = field(default_factory=list)

    def list_guests(self, *, only_running):
        return self.guests

    def find_secret(self, usage_type, usage_id):
        return None


class Runner:
    """Runs nothing; says what it was asked to run, and fails on demand.

    Attributes:
        hung: paths that are not told about in time.
        trouble: path -> what the kernel says about it.
        texts: path -> what the file holds.
    """

    def __init__(self):
        self.commands = []
        self.hung = set()
        self.trouble = {}
        self.texts = {}

    def run(self, command, *, key, limit_s, as_root=False):
        self.commands.append((list(command), key, limit_s))
        if command[-1] in self.hung:
            raise NoAnswerError(" ".join(command), limit_s)
        if command[-1] in self.trouble:
            raise CommandError(" ".join(command), 1, f"stat: cannot statx: {self.trouble[command[-1]]}")
        if command[0] == "cat" and command[-1] not in self.texts:
            raise CommandError(" ".join(command), 1, "cat: No such file or directory")
        return self.texts.get(command[-1], "lustre\n")


@dataclass
class Node:
    """A compute node.

    Attributes:
        host: libvirt.
        runner: commands with a time limit.
        mounted: mount point -> (type, share, arguments).
    """

    host: Host
    runner: Runner
    mounted: dict[str, tuple[str, str, tuple[str, ...]]]

    def run_guest(self, instance, name):
        """A guest runs with a file of the one mounted share as its disk."""
        (point,) = self.mounted
        self.host.guests.append(Guest(instance.uuid, [Disk(f"{point}/{name}"), Disk("/dev/vg/other", "block")]))

    @property
    def driver(self):
        return LibvirtLustreVolumeDriver(self.host, self.runner)

    def start_again(self):
        """What a new nova-compute does: it forgets, and looks at the disks of the guests."""
        mount.get_manager()._reset_state()
        mount.get_manager().host_up(self.host)


class Cinder:
    """What Nova and Cinder have in their databases; the code of Nova that asks for it runs unchanged.

    Attributes:
        asked: contexts of the questions.
        trouble: what each question ends with.
    """

    def __init__(self):
        self._attachments = {}
        self.asked = []
        self.trouble = None

    def attach(self, volume, instance, data, kind="lustre"):
        """An attachment that both know of."""
        self._attachments[str(uuid.uuid5(uuid.NAMESPACE_OID, volume))] = (volume, instance.uuid, kind, data)

    def find_mapping(self, asking, volume, instance_uuid):
        for number, known in self._attachments.items():
            if known[:2] == (volume, instance_uuid):
                return objects.BlockDeviceMapping(attachment_id=number)
        raise exception.VolumeBDMNotFound(volume_id=volume)

    def connect(self, asking, microversion=None, skip_version_check=False):
        self.asked.append(asking)
        if self.trouble:
            raise self.trouble
        return self

    @property
    def attachments(self):
        return self

    def show(self, number):
        if number not in self._attachments:
            raise cinder_errors.NotFound(404)
        _, instance, kind, data = self._attachments[number]
        return Answer({"id": number, "instance": instance, "connection_info": {**data, "driver_volume_type": kind}})


@dataclass
class Answer:
    content: dict

    def to_dict(self):
        return self.content


@pytest.fixture
def cinder(monkeypatch):
    made = Cinder()
    objects.register_all()
    monkeypatch.setattr(client, "cinderclient", made.connect)
    monkeypatch.setattr(objects.BlockDeviceMapping, "get_by_volume_and_instance", made.find_mapping)
    return made


@pytest.fixture
def node(tmp_path, monkeypatch):
    made = Node(Host(), Runner(), {})

    def add(fstype, share, point, options):
        made.mounted[point] = (fstype, share, tuple(options))

    monkeypatch.setattr(nova.privsep.fs, "mount", add)
    monkeypatch.setattr(nova.privsep.fs, "umount", made.mounted.pop)
    monkeypatch.setattr(nova.privsep.path, "rmdir", lambda point: None)
    monkeypatch.setattr(fileutils, "ensure_tree", lambda point: None)
    monkeypatch.setattr(os.path, "ismount", made.mounted.__contains__)
    conf = nova.conf.CONF
    conf([], project="nova", default_config_files=[])
    conf.set_override("lustre_mount_point_base", str(tmp_path), "libvirt")
    made.start_again()
    yield made
    mount.get_manager()._reset_state()
    conf.reset()
    conf.clear_override("lustre_mount_point_base", "libvirt")
