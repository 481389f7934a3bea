# SPDX-License-Identifier: Apache-2.0
"""A compute node whose mounts are names in a set: Nova's own bookkeeping of mounts runs unchanged on it."""

from __future__ import annotations

import os
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
    from nova.virt.libvirt.volume import mount
    from oslo_utils import fileutils

from lustack.brick.errors import NoAnswerError
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
    """Runs nothing; says what it was asked to run, and fails on demand."""

    def __init__(self):
        self.commands = []
        self.is_hung = False

    def run(self, command, *, key, limit_s, as_root=False):
        self.commands.append((list(command), key, limit_s))
        if self.is_hung:
            raise NoAnswerError(" ".join(command), limit_s)
        return "lustre\n"


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
