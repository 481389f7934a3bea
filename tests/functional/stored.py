# SPDX-License-Identifier: Apache-2.0
"""One device as the object server uses it, without the server: what tests do to objects, and what they see."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swift.common.exceptions import DiskFileDeleted, DiskFileNotExist
from swift.common.storage_policy import POLICIES
from swift.common.utils import Timestamp

from lustack.swift.diskfile import PosixDiskFile
from lustack.swift.manager import PosixDiskFileManager

DEVICE = "files"
ACCOUNT, CONTAINER = "AUTH_test", "c"
FIRST_S = 1_700_000_000
NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Seen:
    """An object as a GET shows it."""

    body: bytes
    headers: Mapping[str, str]

    def without_times(self) -> Seen:
        """The same, whenever it was written."""
        kept = {key: value for key, value in self.headers.items() if "Timestamp" not in key}
        return Seen(self.body, kept)


@dataclass
class Objects:
    """The objects of one container on a device.

    Attributes:
        root: the directory of the device.
    """

    root: Path
    _manager: PosixDiskFileManager = field(init=False)

    def __post_init__(self) -> None:
        devices = self.root.parent
        conf = {"devices": str(devices), "mount_check": "false", "lustre_spool_dir": str(devices / "spool")}
        self._manager = PosixDiskFileManager(conf, logging.getLogger("objects"))
        self.directory.mkdir(parents=True, exist_ok=True)

    @property
    def directory(self) -> Path:
        """The directory of the container."""
        return self.root / ACCOUNT / CONTAINER

    def disk_file(self, name: str) -> PosixDiskFile:
        """The disk file of an object."""
        return self._manager.get_diskfile(self.root.name, "0", ACCOUNT, CONTAINER, name, POLICIES.default)

    def put(self, name: str, time_s: float, body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS) -> None:
        """What a PUT does."""
        with self.disk_file(name).create(size=len(body)) as writer:
            writer.write(body)
            self.publish(writer, time_s, body, headers)

    def publish(self, writer: object, time_s: float, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """The end of a PUT."""
        writer.chunks_finished()
        own = {
            "X-Timestamp": timestamp(time_s),
            "ETag": hashlib.md5(body).hexdigest(),
            "Content-Length": str(len(body)),
            "Content-Type": "text/plain",
        }
        writer.put({**own, **headers})
        writer.commit(timestamp(time_s))

    def post(self, name: str, time_s: float, headers: Mapping[str, str]) -> None:
        """What a POST does."""
        self.disk_file(name).write_metadata({"X-Timestamp": timestamp(time_s), **headers})

    def delete(self, name: str, time_s: float) -> None:
        """What a DELETE does."""
        self.disk_file(name).delete(timestamp(time_s))

    def see(self, name: str) -> Seen | None:
        """What a GET shows, None if nothing."""
        try:
            with self.disk_file(name).open() as opened:
                headers = opened.get_metadata()
                body = b"".join(opened.reader())
        except (DiskFileNotExist, DiskFileDeleted):
            return None
        return Seen(body, dict(headers))


def timestamp(time_s: float) -> str:
    """Seconds since the tests' beginning of time, as Swift writes it."""
    return Timestamp(FIRST_S + time_s).internal
