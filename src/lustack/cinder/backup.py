# SPDX-License-Identifier: Apache-2.0
"""Backups of volumes as files on a Lustre share.

    cinder.conf:  backup_driver = lustack.cinder.backup.LustreBackupDriver
                  backup_lustre_share = 10.0.0.1@tcp:/scratch/backups

Rule 1: the share is mounted when something is read or written, not only at start: a client that was evicted or rebooted
    without its mounts does not write backups into the directory below the mount point.
Rule 2: a chunk appears whole or not at all, and what Cinder is told is there survives a crash.
Rule 3: importing this module registers the connector of `lustack.brick`, so that volumes are read as raw bytes.
"""

from __future__ import annotations

import contextlib
import os
from typing import IO, Any, Final, Self

from cinder import coordination, exception, interface, utils
from cinder.backup.drivers import posix
from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_log import log as logging

from lustack.brick import connector
from lustack.brick.bounded import BoundedRunner
from lustack.brick.client import LustreClient
from lustack.cinder import recorder
from lustack.cinder.faults import translated
from lustack.cinder.opts import BACKUP_OPTS

LOG = logging.getLogger(__name__)
cfg.CONF.register_opts(BACKUP_OPTS)

_ANSWER_LIMIT_S: Final = 10.0
_MODE: Final = 0o660
_PART: Final = ".part"
# Names of what is no chunk yet.
_CUT_OFF: Final = (_PART, recorder.SUFFIX)


@interface.backupdriver
class LustreBackupDriver(posix.PosixBackupDriver):
    """Keeps backups on a Lustre share that it mounts itself."""

    def __init__(self, context: Any) -> None:
        root_helper = utils.get_root_helper()
        base = os.path.realpath(cfg.CONF.backup_lustre_mount_point_base)
        self._share = cfg.CONF.backup_lustre_share
        if not self._share:
            raise exception.InvalidConfigurationValue(option="backup_lustre_share", value=self._share)
        options = cfg.CONF.backup_lustre_mount_options
        self._client = LustreClient(root_helper, base, options, execute=processutils.execute)
        self._runner = BoundedRunner(root_helper)
        super().__init__(context, backup_path=self._mount())

    @staticmethod
    def get_driver_options() -> list[Any]:
        """The options that the driver reads."""
        return [*BACKUP_OPTS, *posix.posixbackup_service_opts]

    @translated
    def check_for_setup_error(self) -> None:
        """See that backups can be written.

        Raises:
            InvalidConfigurationValue: the share is there but not writable.
        """
        path = self._mount()
        if not os.access(path, os.W_OK | os.X_OK):
            reason = f"{self._share} is not writable for uid {os.geteuid()}: change the owner of the directory"
            raise exception.VolumeDriverException(message=reason)

    @translated
    @coordination.synchronized("lustre-backup-mount")
    def _mount(self) -> str:
        """See that the share is mounted and answers; where.

        Raises:
            VolumeDriverException: it cannot be mounted, or does not answer.
        """
        point = self._client.get_mount_point(self._share)
        self._client.mount_patiently(self._share, (), cfg.CONF.backup_lustre_mount_attempts)
        self._runner.run(["stat", "-f", point], key=point, limit_s=_ANSWER_LIMIT_S)
        return point

    def put_container(self, container: str) -> None:
        """Make the directory of a backup."""
        self._mount()
        super().put_container(container)

    def get_container_entries(self, container: str, prefix: str) -> list[str]:
        """The chunks of a backup."""
        self._mount()
        names: list[str] = super().get_container_entries(container, prefix)
        return [name for name in names if not name.endswith(_CUT_OFF)]

    def get_object_writer(self, container: str, object_name: str, extra_metadata: Any = None) -> Any:
        """A chunk to write."""
        return _Chunk(os.path.join(self.backup_path, container, object_name))

    def get_object_reader(self, container: str, object_name: str, extra_metadata: Any = None) -> Any:
        """A chunk to read."""
        self._mount()
        return super().get_object_reader(container, object_name, extra_metadata)

    def delete_backup(self, backup: Any) -> None:
        """Remove a backup, and what is left of it where its making was cut off."""
        super().delete_backup(backup)
        container, prefix = backup["container"], backup["service_metadata"]
        if container is None or prefix is None:
            return
        with contextlib.suppress(FileNotFoundError):  # it went with the last chunk
            for name in super().get_container_entries(container, prefix):
                self.delete_object(container, name)

    def delete_object(self, container: str, object_name: str) -> None:
        """Remove a chunk, and its directory when it was the last."""
        self._mount()
        super().delete_object(container, object_name)
        directory = os.path.join(self.backup_path, container)
        # Only empty ones go, and never the root of the share.
        while os.path.realpath(directory) != os.path.realpath(self.backup_path):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
                directory = os.path.dirname(directory)
                continue
            break


class _Chunk:
    """A file that gets its name, durably, when it is complete and durable."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: IO[bytes] = open(path + _PART, "wb")  # noqa: SIM115 - closed by __exit__
        os.fchmod(self._file.fileno(), _MODE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.close(is_complete=kind is None)

    def write(self, content: bytes) -> int:
        """Write some bytes; returns how many."""
        return self._file.write(content)

    def close(self, *, is_complete: bool = True) -> None:
        """Give the file its name, or drop it."""
        if self._file.closed:
            return
        with self._file:
            if is_complete:
                self._file.flush()
                os.fsync(self._file.fileno())
        if is_complete:
            os.rename(self._path + _PART, self._path)
            recorder.sync(os.fsencode(self._path))
        else:
            os.unlink(self._path + _PART)


connector.register()
