# SPDX-License-Identifier: Apache-2.0
"""The disk file manager: what `diskfile_module = egg:lustack#posix` names.

`swift.obj.diskfile.BaseDiskFileManager` parses Swift's own options and finds devices; what walks hash directories,
moves files or compares them is switched off, because nothing of that exists in a tree of readable files.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from swift.common.exceptions import DiskFileNotExist
from swift.common.storage_policy import REPL_POLICY
from swift.common.utils import Timestamp, hash_path
from swift.obj.diskfile import BaseDiskFileManager, get_async_dir, get_tmp_dir, write_pickle

from lustack.swift.device import Device
from lustack.swift.diskfile import PosixDiskFile
from lustack.swift.placement import Key
from lustack.swift.reader import PosixDiskFileReader
from lustack.swift.settings import Settings
from lustack.swift.writer import PosixDiskFileWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SUFFIX_LENGTH = 3
"""Swift sorts asynchronous updates by the last digits of the hash. Source: swift/obj/diskfile.py:1494."""

_READ_BYTES = 256 * 1024
"""How much one call reads, unless Swift's `disk_chunk_size` is set: each call is an errand of a thread."""


class PosixDiskFileManager(BaseDiskFileManager):
    """Hands out disk files whose objects are readable files."""

    diskfile_cls = PosixDiskFile
    policy = REPL_POLICY
    reader_cls = PosixDiskFileReader
    writer_cls = PosixDiskFileWriter

    def __init__(self, conf: Mapping[str, str], logger: Any) -> None:
        """Reads the options.

        Args:
            conf: section of object-server.conf.
            logger: Swift's logger.

        Raises:
            ConfigurationError: a `lustre_*` option is not usable.
        """
        super().__init__(conf, logger)
        self.settings = Settings.from_conf(conf)
        self._devices: dict[str, Device] = {}
        self.read_bytes = self.disk_chunk_size if "disk_chunk_size" in conf else _READ_BYTES

    def get_diskfile(self, device: str, partition: Any, *path: Any, **kwargs: Any) -> PosixDiskFile:
        """The disk file of an object; its partition plays no part. Asks the file system nothing.

        Args:
            device: name of the device.
            partition: of the ring.
            path: account, container, object and the policy, as Swift passes them.
            kwargs: `open_expired` counts, the rest is for other disk files.
        """
        root = os.path.join(self.devices, device)
        account, container, name = path[:3]
        opened = self._devices.get(root)
        if opened is None:
            opened = Device(root, self.settings, self.logger, lambda: bool(self.get_dev_path(device)))
            self._devices[root] = opened
        open_expired = bool(kwargs.get("open_expired"))
        disk_file = PosixDiskFile(self, opened, Key(account, container, name), open_expired=open_expired)
        disk_file.sync = self.settings.sync_of(path[3].name)
        return disk_file

    def pickle_async_update(self, device: str, *update: Any) -> None:
        """Keeps a container update that failed, on a local disk: each node's object-updater sends its own.

        Source: swift/obj/diskfile.py:1477; the file's name and place in the spool are Swift's.

        Args:
            device: name of the device.
            update: account, container, object, the update, its timestamp and the policy, as Swift passes them.
        """
        account, container, obj, data, timestamp, policy = update
        root = os.path.join(self.settings.spool_dir, device)
        digest = hash_path(account, container, obj)
        name = digest + "-" + Timestamp(timestamp).internal
        target = os.path.join(root, get_async_dir(policy), digest[-_SUFFIX_LENGTH:], name)
        write_pickle(data, target, os.path.join(root, get_tmp_dir(policy)))
        self.logger.increment("async_pendings")

    def get_hashes(self, *_: Any, **__: Any) -> dict[str, str]:
        """No hashes: the replicator has nothing to compare here."""
        return {}

    def yield_hashes(self, *_: Any, **__: Any) -> Iterator[Any]:
        """No hashes."""
        return iter(())

    def yield_suffixes(self, *_: Any, **__: Any) -> Iterator[Any]:
        """No suffixes."""
        return iter(())

    def object_audit_location_generator(self, *_: Any, **__: Any) -> Iterator[Any]:
        """Nothing for the stock auditor: `lustack fsck` and the hasher do its work."""
        return iter(())

    def clear_auditor_status(self, *_: Any, **__: Any) -> None:
        """There is no auditor status."""

    def get_diskfile_and_filenames_from_hash(self, *_: Any, **__: Any) -> Any:
        """Nothing is found by its hash.

        Raises:
            DiskFileNotExist: always.
        """
        raise DiskFileNotExist
