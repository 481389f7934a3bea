# SPDX-License-Identifier: Apache-2.0
"""Objects of a disk file manager, handled as Swift's object server handles them; shared by several kinds of tests."""

from __future__ import annotations

import contextlib
import logging
import os
import urllib.parse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from swift.common import storage_policy, utils
from swift.common.concurrency import sleep, tpool
from swift.common.exceptions import DiskFileNotExist
from swift.common.swob import Request, Response
from swift.common.utils import Timestamp
from swift.obj.server import ObjectController

from lustack.mapping import layout, names
from lustack.posix.xattrs import AttributeStore
from lustack.swift.attributes import Attributes
from lustack.swift.manager import PosixDiskFileManager
from lustack.swift.threads import POOL

SWIFT_CONF = """\
[swift-hash]
swift_hash_path_suffix = tests
[storage-policy:0]
name = gold
default = yes
diskfile_module = egg:lustack#posix
[storage-policy:1]
name = silver
"""

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: trusted attributes, mounts, other users")

START_S = 1_700_000_000
"""A time in the past from which tests count."""


def at(time: float | Timestamp, offset: int = 0) -> Timestamp:
    """A time of a request, in seconds from START_S."""
    return time if isinstance(time, Timestamp) else Timestamp(START_S + time, offset=offset)


class SwiftLog(logging.LoggerAdapter):
    """A logger with the methods that Swift's has besides; what it counts is in `counted`."""

    txn_id = thread_locals = None

    def __init__(self) -> None:
        super().__init__(logging.getLogger("swift.tests"), {})
        self.counted: list[str] = []

    def increment(self, metric: str, *_: Any, **__: Any) -> None:
        self.counted.append(metric)

    timing = timing_since = update_stats = transfer_rate = increment


@pytest.fixture
def swift_conf(tmp_path: Path) -> Iterator[Path]:
    """A swift.conf with our policy and a stock one, read by what Swift is in this process.

    Policies are read once, when their module is imported; so they are read again here and after the test.
    """
    before = utils.SWIFT_CONF_FILE, utils.HASH_PATH_SUFFIX
    conf = tmp_path / "swift.conf"
    conf.write_text(SWIFT_CONF)
    utils.SWIFT_CONF_FILE, utils.HASH_PATH_SUFFIX = str(conf), b"tests"
    storage_policy.reload_storage_policies()
    with no_thread_pool():
        yield conf
    utils.SWIFT_CONF_FILE, utils.HASH_PATH_SUFFIX = before
    storage_policy.reload_storage_policies()


@contextlib.contextmanager
def no_thread_pool() -> Iterator[None]:
    """Make in this thread the calls that servers make in others: coverage does not see those."""
    threads = tpool._nthreads
    tpool.set_num_threads(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        tpool.setup()
    try:
        with _threads(0):
            yield
    finally:
        tpool.killall()
        tpool.set_num_threads(threads)


@contextlib.contextmanager
def thread_pool() -> Iterator[None]:
    """Threads, also where `no_thread_pool` holds: for what hangs. Their descriptor is there from the beginning."""
    with _threads(4):
        POOL.run(int)
        yield


@contextlib.contextmanager
def _threads(most: int) -> Iterator[None]:
    before, POOL.most = POOL.most, most
    try:
        yield
    finally:
        POOL.close()
        POOL.most = before


@pytest.fixture
def files(swift_conf: Path, tmp_path: Path) -> Iterator[Files]:
    """Objects of our manager in an empty directory."""
    with contextlib.closing(Files(tmp_path / "devices")) as found:
        yield found


class Objects:
    """The objects of one container, through any disk file manager."""

    def __init__(self, manager: Any, container: str = "c") -> None:
        self.manager = manager
        self.container = container

    def disk_file(self, name: str, **options: Any) -> Any:
        policy = storage_policy.POLICIES[0]
        return self.manager.get_diskfile("d", "0", "a", self.container, name, policy, **options)

    @contextlib.contextmanager
    def upload(self, name: str, body: bytes = b"") -> Iterator[Any]:
        """A writer that holds the bytes and has not published them."""
        writer = self.disk_file(name).writer(size=len(body))
        try:
            writer.open()
            if body:
                writer.write(body)
            sleep()  # what it began gets its turn
            yield writer
        finally:
            writer.close()

    def put(self, name: str, body: bytes = b"", time: float | Timestamp = 1, **headers: str) -> None:
        """PUT; headers are written with underscores."""
        with self.upload(name, body) as writer:
            self.publish(writer, time, **headers)

    def publish(self, writer: Any, time: float | Timestamp, **headers: str) -> None:
        size, etag = writer.chunks_finished()
        metadata = {"X-Timestamp": at(time).internal, "Content-Length": str(size), "ETag": etag}
        writer.put({**metadata, "Content-Type": "text/plain", **dashed(headers)})
        writer.commit(at(time))

    def get(self, name: str) -> bytes:
        disk_file = self.disk_file(name)
        with disk_file.open():
            reader = disk_file.reader()
        return b"".join(reader)

    def head(self, name: str, **options: Any) -> dict[str, Any]:
        return dict(self.disk_file(name, **options).read_metadata())

    def post(self, name: str, time: float | Timestamp, **headers: str) -> None:
        self.disk_file(name).write_metadata({"X-Timestamp": at(time).internal, **dashed(headers)})

    def delete(self, name: str, time: float | Timestamp) -> None:
        self.disk_file(name).delete(at(time))

    def has(self, name: str) -> bool:
        try:
            self.disk_file(name).read_metadata()
        except DiskFileNotExist:
            return False
        return True


class Files(Objects):
    """The same through our manager, with the files below them."""

    def __init__(self, devices: Path, conf: dict[str, str] | None = None, container: str = "c") -> None:
        self.root = devices / "d"
        self.root.mkdir(parents=True, exist_ok=True)
        self.log = SwiftLog()
        conf = {"devices": str(devices), "mount_check": "false", "lustre_spool_dir": str(devices), **(conf or {})}
        super().__init__(PosixDiskFileManager(conf, self.log), container)

    @property
    def directory(self) -> Path:
        """The container's."""
        return self.root / os.fsdecode(names.container_path("a", self.container))

    @property
    def device(self) -> Any:
        return self.disk_file("x").device

    def distrust(self) -> None:
        """Go on as on a file system without `trusted.*`, or without being root."""
        device = self.device
        device._attributes = Attributes(AttributeStore(device.sidecars), trusted=False)

    def close(self) -> None:
        close_locks(self.manager)

    def write(self, path: str | bytes, content: bytes = b"", mtime_ns: int | None = None) -> Path:
        """Do what a job does: write a file below the container's directory."""
        file = self.directory / os.fsdecode(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        if mtime_ns is not None:
            os.utime(file, ns=(mtime_ns, mtime_ns))
        return file

    def tree(self) -> list[str]:
        """Every entry below the container's directory, directories with a slash at their end."""
        found = []
        for top, directories, files in os.walk(self.directory):
            relative = os.path.relpath(top, self.directory)
            prefix = "" if relative == "." else relative + "/"
            found += [prefix + name + "/" for name in directories] + [prefix + name for name in files]
        return sorted(found)

    def sidecars(self) -> list[str]:
        folder = self.root / os.fsdecode(layout.SIDECARS)
        return sorted(path.name for path in folder.glob("*/*"))

    def temporary_files(self) -> list[Path]:
        return list(self.root.rglob(os.fsdecode(layout.TEMPORARY_PREFIX) + "*"))


def close_locks(manager: PosixDiskFileManager) -> None:
    """Close what a manager keeps open for good."""
    for device in manager._devices.values():
        device.locks.close()


def dashed(headers: dict[str, str]) -> dict[str, str]:
    """Keyword arguments as headers: X_Object_Meta_A -> X-Object-Meta-A."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


class Server:
    """Swift's object server in this process, on our policy."""

    def __init__(self, files: Files, conf: dict[str, str] | None = None) -> None:
        devices = str(files.root.parent)
        conf = {"devices": devices, "mount_check": "false", "lustre_spool_dir": devices, **(conf or {})}
        self.app = ObjectController(conf, SwiftLog())
        self.app._diskfile_router.policy_to_manager[storage_policy.POLICIES[0]] = files.manager

    def call(
        self, method: str, name: str, time: float | Timestamp = 1, body: bytes | None = None, **headers: str
    ) -> Response:
        """One request for an object of the account `a` and the container `c`."""
        headers = {"X-Timestamp": at(time).internal, "Content-Type": "text/plain", **dashed(headers)}
        path = "/d/0/a/c/" + urllib.parse.quote(name)
        response = Request.blank(path, method=method, headers=headers, body=body).get_response(self.app)
        response.body = response.body
        return response
