# SPDX-License-Identifier: Apache-2.0
"""A driver without services: the share is a directory, Cinder's records are plain objects, commands are real.

Rule 1: what a test plants is a fault of a command (`fail_at`), as a kill or a full disk would be one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cinder.volume import configuration
from cinder.volume.drivers import remotefs
from oslo_concurrency import processutils
from oslo_config import cfg

from lustack.brick.client import LustreClient
from lustack.cinder.driver import LustreDriver
from lustack.cinder.opts import VOLUME_OPTS

SHARE = "10.0.0.1@tcp:/scratch/volumes"
GIB = 1 << 30


class CutError(Exception):
    """The service was killed before a command."""


def run(*command: Any, process_input: str | None = None, **options: Any) -> tuple[str, str]:
    """Runs a command as Cinder's `utils.execute` does for root, but for its code between fork and exec.

    That would start the measuring of coverage anew in each child, which takes many times longer than what it runs;
    nor are programs of ours measured here.
    """
    words = [str(word) for word in command]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(words, input=process_input, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise processutils.ProcessExecutionError(done.stdout, done.stderr, done.returncode, " ".join(words))
    return done.stdout, done.stderr


@contextlib.contextmanager
def opened_by_a_guest(path: Path) -> Iterator[None]:
    """Have a qcow2 file open for writing, as a guest has."""
    command = ["qemu-io", "-f", "qcow2", path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(b"length\n")
            process.stdin.flush()
            # It answers when it has opened the file.
            assert b"GiB" in process.stdout.readline()
            yield
        finally:
            process.stdin.close()


class Client(LustreClient):
    """A client that mounts by making a directory."""

    mounted: set[str]
    failures: list[Exception]

    def is_mounted(self, point: str) -> bool:
        return point in self.mounted

    def _mount_at(self, share: str, point: str, flags: list[str]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.mounted.add(point)


@dataclass
class Type:
    extra_specs: dict[str, str] = field(default_factory=dict)


class Context:
    """Whoever asks; may do everything."""

    def elevated(self) -> Context:
        return self


@dataclass
class Volume:
    """As much of Cinder's volume as a driver uses."""

    size: int = 1
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    provider_location: str | None = SHARE
    status: str = "available"
    attach_status: str = "detached"
    encryption_key_id: str | None = None
    multiattach: bool = False
    volume_type: Type | None = None
    volume_type_id: str | None = None
    admin_metadata: dict[str, str] = field(default_factory=dict)
    volume_attachment: list[Any] = field(default_factory=list)
    host: str = "here@lustre#scratch/volumes"
    obj_context: Any = field(default_factory=Context)
    glance_metadata: Any = None
    launched_at: str | None = "2026-01-01T00:00:00"
    _name_id: str | None = None
    saves: int = 0
    has_loaded: bool = False
    recorded: dict[str, str] = field(default_factory=dict)

    def obj_load_attr(self, name: str) -> None:
        """Reads from the database."""
        setattr(self, name, dict(self.recorded))

    def obj_attr_is_set(self, name: str) -> bool:
        """Whether Cinder has loaded something of it."""
        return self.has_loaded

    @property
    def name_id(self) -> str:
        return self._name_id or self.id

    @property
    def name(self) -> str:
        return f"volume-{self.name_id}"

    def __getitem__(self, key: str) -> Any:
        return getattr(self, key)

    @contextlib.contextmanager
    def obj_as_admin(self) -> Iterator[None]:
        yield

    def update(self, fields: dict[str, Any]) -> None:
        """What a driver wants to have recorded."""
        for name, value in fields.items():
            setattr(self, name, value)

    def save(self) -> None:
        self.saves += 1
        self.recorded = dict(self.admin_metadata)


@dataclass
class Attachment:
    connection_info: dict[str, Any] = field(default_factory=dict)

    def save(self) -> None:
        pass


@dataclass
class Snapshot:
    volume: Volume
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "available"
    progress: str = "0%"
    display_name: str | None = None
    encryption_key_id: str | None = None
    obj_context: Any = None
    volume_size: int = 0

    def __post_init__(self) -> None:
        self.volume_size = self.volume_size or self.volume.size

    @property
    def volume_id(self) -> str:
        return self.volume.id

    def save(self) -> None:
        pass


class Bench:
    """A driver and what it works on."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.root = root
        (root / "conversion").mkdir(exist_ok=True)
        (root / "shares").write_text(f"{SHARE}\n")
        self.commands: list[tuple[str, ...]] = []
        self.fail_at: int | None = None
        settings = configuration.Configuration(
            [*VOLUME_OPTS, *remotefs.nas_opts, *remotefs.volume_opts], config_group="lustre"
        )
        defaults = {
            "lustre_shares_config": str(root / "shares"),
            "lustre_mount_point_base": str(root / "mnt"),
            "nas_secure_file_operations": "false",
            "nas_secure_file_permissions": "true",
        }
        for name, value in (defaults | options).items():
            cfg.CONF.set_override(name, value, "lustre")
        self.driver = LustreDriver(configuration=settings, execute=self.execute, host="here@lustre")
        # The volumes that Cinder's database has, of those that a test puts there.
        self.database: list[Volume] = []
        self.driver._list_volumes = self.list_volumes
        client = self.driver._remotefsclient
        client.__class__ = Client
        client.mounted, client.failures = set(), []
        self.client = client

    def execute(self, *command: str, **options: Any) -> Any:
        self.commands.append(command)
        if self.fail_at is not None and len(self.commands) > self.fail_at:
            raise CutError(command)
        return run(*command, **options)

    def list_volumes(self, context: Context, filters: dict[str, str]) -> list[Volume]:
        assert context
        return [each for each in self.database if all(getattr(each, key) == value for key, value in filters.items())]

    def set_up(self) -> None:
        self.driver.do_setup(None)

    @property
    def share(self) -> Path:
        return Path(self.client.get_mount_point(SHARE))

    def create(self, size: int = 1, specs: dict[str, str] | None = None, **more: Any) -> Volume:
        volume = Volume(size, volume_type=Type(specs or {}), **more)
        volume.provider_location = self.driver.create_volume(volume)["provider_location"]
        return volume

    def names(self) -> list[str]:
        return sorted(path.name for path in self.share.iterdir())

    def active(self, volume: Volume) -> tuple[Path, str]:
        """The file that a host would be told, and its format."""
        found = self.driver.initialize_connection(volume, {})["data"]
        return self.share / found["name"], found["format"]

    def write(self, volume: Volume, pattern: int, offset_mib: int) -> None:
        self._io(volume, f"write -P {pattern} {offset_mib}M 64k")

    def reads(self, volume: Volume, pattern: int, offset_mib: int) -> bool:
        return self.reads_all(volume, (pattern, offset_mib))

    def reads_all(self, volume: Volume, *expected: tuple[int, int]) -> bool:
        """Whether a guest reads these patterns at these MiB."""
        commands = [f"read -P {pattern} {offset_mib}M 64k" for pattern, offset_mib in expected]
        return "verification failed" not in self._io(volume, *commands)

    def _io(self, volume: Volume, *commands: str) -> str:
        path, image_format = self.active(volume)
        words = [word for command in commands for word in ("-c", command)]
        done = subprocess.run(
            ["qemu-io", "-f", image_format, *words, path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or "verification failed" in done.stdout, done.stdout + done.stderr
        return done.stdout

    def describe(self, volume: Volume) -> dict[str, Any]:
        """What qemu-img says of the active file."""
        path, image_format = self.active(volume)
        out = subprocess.run(
            ["qemu-img", "info", "--output=json", "-f", image_format, path], capture_output=True, check=True
        )
        return json.loads(out.stdout)

    def cut(self, call: Callable[[], Any]) -> Iterator[int]:
        """Run something again and again, cut off before its first command, its second and so on, until it gets through.

        Yields:
            The number of commands that were run before it was cut off.
        """
        for count in range(100):
            self.commands.clear()
            self.fail_at = count
            try:
                call()
            except CutError:
                self.fail_at = None
                yield count
                continue
            finally:
                self.fail_at = None
            return
        raise AssertionError("it never got through")
