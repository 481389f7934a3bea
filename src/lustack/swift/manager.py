# SPDX-License-Identifier: Apache-2.0
"""The disk file manager: what `diskfile_module = egg:lustack#posix` names.

`swift.obj.diskfile.BaseDiskFileManager` parses Swift's own options and finds devices; what walks hash directories,
moves files or compares them is switched off, because nothing of that exists in a tree of readable files.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from swift.common.exceptions import DiskFileDeviceUnavailable, DiskFileNotExist
from swift.common.storage_policy import REPL_POLICY
from swift.common.utils import Timestamp, hash_path, write_pickle
from swift.obj.diskfile import BaseDiskFileManager, get_async_dir, get_tmp_dir

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


class PosixDiskFileManager(BaseDiskFileManager):  # type: ignore[misc] # Swift is not typed
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

    def get_diskfile(
        self,
        device: str,
        partition: Any,
        account: str,
        container: str,
        obj: str,
        policy: Any,
        **kwargs: Any,  # noqa: ARG002, PLR0913 - Swift's signature
    ) -> PosixDiskFile:
        """The disk file of an object; the partition plays no part.

        Raises:
            DiskFileDeviceUnavailable: the device is not mounted.
        """
        path = self.get_dev_path(device)
        if not path:
            raise DiskFileDeviceUnavailable
        opened = self._devices.setdefault(path, Device(path))
        return PosixDiskFile(
            self, opened, Key(account, container, obj), open_expired=bool(kwargs.get("open_expired"))
        )

    def pickle_async_update(  # noqa: PLR0913 - Swift's signature
        self, device: str, account: str, container: str, obj: str, data: Any, timestamp: Any, policy: Any
    ) -> None:
        """Keeps a container update that failed, on a local disk: each node's object-updater sends its own.

        Source: swift/obj/diskfile.py:1484; the file's name and place in the spool are Swift's.
        """
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
