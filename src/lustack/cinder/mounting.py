# SPDX-License-Identifier: Apache-2.0
"""The part of the driver that knows shares: reading them, mounting them, seeing that they answer.

Rule 1: no call to a share is made in the service's own thread before the share has answered to a child in time.
Rule 2: a share that fails is said once, when it begins to fail and when it is well again; the others go on.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Sequence
from typing import Any, Final

from cinder import exception
from oslo_log import log as logging

from lustack.brick.bounded import BoundedRunner
from lustack.brick.client import LustreClient
from lustack.brick.errors import BrickError, CommandError, UnfitMountError
from lustack.cinder import shares as configured
from lustack.cinder.errors import UnknownShareError
from lustack.errors import ConfigurationError, LustackError

LOG = logging.getLogger(__name__)

# A share that answered so recently is not asked again.
_FRESH_S: Final = 3.0
_PROBE: Final = ".lustack-probe"
_STAT_FIELDS: Final = 3
_LIST: Final = "the list of shares"


class MountingMixin:
    """Mounts shares and watches them; a part of `LustreDriver`."""

    # What the other parts of the driver provide.
    configuration: Any
    shares: dict[str, str]
    _mounted_shares: list[str]
    _execute_as_root: bool
    _remotefsclient: LustreClient
    _runner: BoundedRunner

    def _init_mounting(self) -> None:
        self._known: dict[str, configured.ConfiguredShare] = {}
        self._answered_s: dict[str, float] = {}
        self._failing: dict[str, str] = {}

    def _check_programs(self) -> None:
        """Refuse to start without what every volume needs.

        Raises:
            VolumeDriverException: a program is missing; says which package has it.
        """
        path = os.environ.get("PATH", os.defpath) + ":/sbin:/usr/sbin"
        for program, package in (("mount.lustre", "the Lustre client"), ("qemu-img", "qemu-utils or qemu-img")):
            if shutil.which(program, path=path) is None:
                raise exception.VolumeDriverException(message=f"{program} is not installed: install {package}")

    def _load_shares_config(self, share_file: str | None = None) -> None:
        """Read which shares there are; what cannot be understood changes nothing.

        Raises:
            ConfigurationError: the file is missing, empty or wrong; says what must change.
        """
        self._known = read_shares(self.configuration)
        self.shares = {address: share.flags for address, share in self._known.items()}

    def _ensure_shares_mounted(self) -> None:
        """Mount what is configured; a share that cannot be is left out and said once."""
        try:
            self._load_shares_config()
        except ConfigurationError as error:
            if not self._known:
                raise
            self._say_failing(_LIST, error)
        else:
            self._say_well(_LIST)
        mounted = []
        for address in self._known:
            try:
                self._ensure_share_mounted(address)
            except LustackError as error:
                self._say_failing(address, error)
            else:
                mounted.append(address)
                self._say_well(address)
        self._mounted_shares = mounted

    def _ensure_share_mounted(self, share: str) -> None:
        """See that a share is mounted, fit for volumes, and answers.

        Args:
            share: its address, perhaps with servers of the past.

        Raises:
            UnknownShareError: it is not configured.
            MountError: it cannot be mounted.
            NoAnswerError: it does not answer in time.
            UnfitMountError: it is mounted in a way that would lose data.
        """
        found = self._find_configured(share)
        point = self._remotefsclient.get_mount_point(found.address)
        if not self._remotefsclient.is_mounted(point):
            self._answered_s.pop(point, None)
            attempts = self.configuration.lustre_mount_attempts
            self._remotefsclient.mount_patiently(found.address, found.flags.split(), attempts)
        if time.monotonic() - self._answered_s.get(point, -_FRESH_S) < _FRESH_S:
            return
        is_new = point not in self._answered_s
        self._ask(point)
        if is_new:
            self._check_fitness(found, point)
        self._answered_s[point] = time.monotonic()

    def _find_configured(self, location: str) -> configured.ConfiguredShare:
        if not self._known:
            self._load_shares_config()
        try:
            return configured.find(self._known, location)
        except UnknownShareError:
            self._load_shares_config()  # somebody may have added it since
            return configured.find(self._known, location)

    def _say_unless_configured(self, location: str) -> None:
        """Say it when there are volumes on a share that is not configured; one that is has been tried before."""
        try:
            self._find_configured(location)
        except LustackError as error:
            self._say_failing(location, error)

    def _ask(self, point: str) -> tuple[int, int]:
        """Total and free bytes of the file system of a mount point, from a child."""
        limit_s = self.configuration.lustre_answer_timeout
        out = self._runner.run(["stat", "-f", "-c", "%S %b %a", point], key=point, limit_s=limit_s)
        block_bytes, blocks, free = (int(word) for word in out.split()[:_STAT_FIELDS])
        return block_bytes * blocks, block_bytes * free

    def _check_fitness(self, share: configured.ConfiguredShare, point: str) -> None:
        """See that nobody else may write there; make an image as a guest's qemu would: that needs rights, and locks."""
        faults = self._remotefsclient.find_faults(share.address)
        if faults:
            raise UnfitMountError(share.address, "; ".join(faults))
        limit_s = self.configuration.lustre_answer_timeout
        mode = int(self._runner.run(["stat", "-c", "%a", point], key=point, limit_s=limit_s), 8)
        if mode & stat.S_IWOTH:
            # Such as by a link with the name of a volume, or of the probe below, which root would follow.
            fault = f"everybody may write there (mode {mode:o}), and so replace volumes: chmod o-w the directory"
            raise UnfitMountError(share.address, fault)
        probe = os.path.join(point, f"{_PROBE}.{os.uname().nodename}.{os.getpid()}")
        for command in (["qemu-img", "create", "-q", "-f", "raw", probe, "64K"], ["rm", "-f", probe]):
            try:
                self._runner.run(command, key=point, limit_s=limit_s, as_root=self._execute_as_root)
            except CommandError as error:
                raise UnfitMountError(share.address, self._explain(error.message)) from error

    def _explain(self, message: str) -> str:
        if "lock" in message:
            return f"qemu cannot lock files ({message.strip()}): mount with -o flock (lustre_mount_options)"
        if "Read-only" in message:
            return f"it is read-only ({message.strip()}): see lustre_mount_options and the servers"
        if "Permission denied" in message or "Operation not permitted" in message:
            who = "root (is root squashed?)" if self._execute_as_root else f"user {os.geteuid()}"
            return (
                f"{who} cannot write there ({message.strip()}): change the owner of the directory, or "
                "nas_secure_file_operations (true: as the service's user, false: as root)"
            )
        return message.strip()

    def _get_mount_point_for_share(self, path: str) -> str:
        """The directory where a share is mounted, whatever servers its address names."""
        return self._remotefsclient.get_mount_point(path)

    def _get_capacity_info(self, share: str) -> tuple[int, int, int]:
        """Total, free and used bytes of a share.

        Raises:
            NoAnswerError: it does not answer in time.
        """
        total, free = self._ask(self._get_mount_point_for_share(share))
        return total, free, total - free

    def _say_failing(self, what: str, error: BrickError | LustackError) -> None:
        if self._failing.get(what) != str(error):
            self._failing[what] = str(error)
            LOG.error("[%s] %s: %s: %s", self.configuration.config_group, name_option(self.configuration), what, error)

    def _say_well(self, what: str) -> None:
        if self._failing.pop(what, None) is not None:
            LOG.info("%s is well again", what)


def name_option(configuration: Any) -> str:
    """The options that say which shares a back end has."""
    is_single = configuration.nas_host and configuration.nas_share_path
    return "nas_host and nas_share_path" if is_single else "lustre_shares_config"


def read_shares(configuration: Any) -> dict[str, configured.ConfiguredShare]:
    """The shares that a back end is configured with, by address.

    Args:
        configuration: of the back end, as Cinder hands it over.

    Raises:
        ConfigurationError: the file is missing, empty or wrong; says what must change.
    """
    section = f"[{configuration.config_group}]"
    option = name_option(configuration)
    if option == "lustre_shares_config":
        where = configuration.lustre_shares_config
        lines: Sequence[str] = _read_lines(where, section)
    else:
        where = section
        lines = [f"{configuration.nas_host}:{configuration.nas_share_path}"]
    found = configured.parse_lines(lines, where, option)
    if not found:
        raise ConfigurationError(section, option, where, "a file that names at least one share")
    return found


def _read_lines(path: str, section: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(section, "lustre_shares_config", path, f"a file of text ({error})") from error
