# SPDX-License-Identifier: Apache-2.0
"""Mounts shares through os-brick's executor.

Rule 1: a mount point is named after what is mounted, not after the servers: when their addresses change, what is
    mounted stays where it is.
Rule 2: os-brick's own client refuses types of mounts that it does not know (remotefs.py:40), so its `__init__` is
    skipped; the rest is its own.
Rule 3: the mount command has a time limit of ours: with those of oslo.concurrency the child lives on under eventlet,
    and the error is of a class that nobody can name (measured, eventlet 0.40).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from os_brick import executor
from os_brick.remotefs import remotefs

from lustack.brick.bounded import BoundedRunner
from lustack.brick.errors import CommandError, MountError, NoAnswerError, UnfitMountError
from lustack.lustre import mounts

MOUNT_LIMIT_S: Final = 90.0
"""How long a mount may take; Lustre itself gives up on a server that does not answer after about a minute."""

RETRY_PAUSE_S: Final = 1.0
"""How long to wait before a mount is tried again."""

_MOUNTS: Final = "/proc/self/mounts"


class LustreClient(remotefs.RemoteFsClient):
    """Mounts shares below a base directory."""

    def __init__(
        self,
        root_helper: str,
        mount_base: str,
        mount_options: str = "",
        execute: Callable[..., Any] | None = None,
        runner: BoundedRunner | None = None,
    ) -> None:
        executor.Executor.__init__(self, root_helper, execute=execute)
        self._mount_type = "lustre"
        self._mount_base = mount_base
        self._mount_options = mount_options or None
        self._runner = runner or BoundedRunner(root_helper)

    def get_mount_point(self, device_name: str) -> str:
        """The directory where a share is or would be mounted.

        Raises:
            ShareSyntaxError: the text names no share.
        """
        identity = mounts.parse_share(device_name).identity
        return os.path.join(self._mount_base, self._get_hash_str(identity))

    def mount(self, share: str, flags: Sequence[str] | None = None) -> None:
        """Mount a share unless it is mounted; check that it is the right one.

        Args:
            share: as it is configured.
            flags: more arguments for mount, for example `["-o", "noatime"]`.

        Raises:
            MountError: it cannot be mounted.
            ShareSyntaxError: the text names no share.
            UnfitMountError: something else is mounted there.
        """
        point = self.get_mount_point(share)
        if not self.is_mounted(point):
            try:
                os.makedirs(point, exist_ok=True)
            except OSError as error:
                why = f"{point} cannot be made: {error.strerror}: change the owner of a directory above it, or "
                raise MountError(
                    share, f"{why}the option that says where shares are mounted (…mount_point_base)"
                ) from error
            self._mount_at(share, point, list(flags or []))
        self._check_identity(share, point)

    def mount_patiently(self, share: str, flags: Sequence[str], attempts: int, pause_s: float = RETRY_PAUSE_S) -> None:
        """Mount a share, trying again when it cannot be mounted.

        Args:
            share: as it is configured.
            flags: more arguments for mount.
            attempts: how often to try; at least once.
            pause_s: seconds between attempts.

        Raises:
            MountError: none succeeded.
            ShareSyntaxError: the text names no share.
            UnfitMountError: something else is mounted there.
        """
        left = attempts
        while True:
            left -= 1
            try:
                self.mount(share, flags)
            except MountError as error:
                if left <= 0:
                    raise MountError(share, f"{error.reason} ({attempts} attempts)") from error
            else:
                return
            time.sleep(pause_s)

    def is_mounted(self, point: str) -> bool:
        """Whether something is mounted at a directory; never asks the file system that is mounted there."""
        with open(_MOUNTS, "rb") as lines:
            return mounts.is_mount_point(lines, os.fsencode(point))

    def find_faults(self, share: str) -> list[str]:
        """What the options of a mounted share make impossible, as sentences with the remedy; empty: nothing."""
        found = self._find_lustre(self.get_mount_point(share))
        if found is None:
            return []
        # Volumes need no attributes of users, and a directory of the service may hold them without.
        return [fault for fault in mounts.find_faults(found.options) if "user_xattr" not in fault]

    def _mount_at(self, share: str, point: str, flags: list[str]) -> None:
        options = ["-o", self._mount_options] if self._mount_options else []
        command = ["mount", "-t", self._mount_type, *options, *flags, share, point]
        try:
            self._runner.run(command, key=f"mount {point}", limit_s=MOUNT_LIMIT_S, as_root=True)
        except CommandError as error:
            # Another process was quicker: what counts is what is mounted now.
            if not self.is_mounted(point):
                raise MountError(share, error.message.strip() or f"exit code {error.code}") from error
        except NoAnswerError as error:
            raise MountError(share, f"no answer within {MOUNT_LIMIT_S:g} s; is the server reachable?") from error

    def _check_identity(self, share: str, point: str) -> None:
        found = self._find_lustre(point)
        if found is not None and found.share.identity != mounts.parse_share(share).identity:
            raise UnfitMountError(share, f"{found.share} is mounted at {point}: unmount it")

    @staticmethod
    def _find_lustre(point: str) -> mounts.Mount | None:
        with open(_MOUNTS, "rb") as lines:
            found = [mount for mount in mounts.parse_mounts(lines) if mount.point == os.fsencode(point)]
        return found[-1] if found else None
