# SPDX-License-Identifier: Apache-2.0
"""Looks at the host: programs, the Lustre client, mounts and what they can do.

Rule: nothing is believed that can be tried; what may hang is done by a child with a time limit.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from lustack.brick.bounded import BoundedRunner
from lustack.brick.errors import CommandError, NoAnswerError
from lustack.doctor.findings import Finding, Verdict, judge
from lustack.errors import LustackError
from lustack.lustre.mounts import Mount, find_faults, find_mount, is_mount_point, parse_mounts

_VERSION: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")

# Takes a lock on a new file, and asks for it again through another description, as qemu does.
_TRY_LOCKS: Final = """
import fcntl, os, sys, tempfile
with tempfile.NamedTemporaryFile(dir=sys.argv[1], prefix=".lustack-doctor-") as file:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fd = os.open(file.name, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("not exclusive")
    except BlockingIOError:
        print("exclusive")
if os.stat(sys.argv[1]).st_mode & 2:
    print("everybody may write there, and so replace volumes")
"""


@dataclass(frozen=True)
class Host:
    """A host as its files and programs show it.

    Attributes:
        runner: runs programs with a time limit.
        mounts: the kernel's list of mounts.
        filesystems: the kernel's list of types of file systems.
        limit_s: how long a mounted share may take to answer.
        become: words before a command that make it run as the service's user; none: as who this is.
    """

    runner: BoundedRunner = field(default_factory=BoundedRunner)
    mounts: str = "/proc/self/mounts"
    filesystems: str = "/proc/filesystems"
    limit_s: float = 10.0
    become: tuple[str, ...] = ()

    def look_at_client(self) -> list[Finding]:
        """Whether `mount -t lustre` can work."""
        helper = shutil.which("mount.lustre", path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")
        with open(self.filesystems, encoding="ascii") as lines:
            is_known = any(line.split()[-1:] == ["lustre"] for line in lines)
        return [
            judge(
                "mount helper",
                helper or "mount.lustre is missing",
                is_good=helper is not None,
                remedy="install the Lustre client's tools (lustre-client-utils, lustre-utils)",
            ),
            judge(
                "kernel module",
                "the kernel knows lustre" if is_known else "the kernel does not know lustre (yet)",
                is_good=is_known,
                remedy="modprobe lustre; if that fails, install the client's module for this kernel",
                otherwise=Verdict.WARNING,
            ),
        ]

    def look_at_program(self, program: str, least: tuple[int, int, int], package: str) -> Finding:
        """Whether a program is there, and new enough.

        Args:
            program: answers to `--version`.
            least: its oldest version that will do.
            package: where it comes from.
        """
        wanted = ".".join(map(str, least))
        remedy = f"install {package} {wanted} or newer"
        try:
            said = self.runner.run([program, "--version"], key=program, limit_s=self.limit_s)
        except (LustackError, OSError) as error:
            return Finding(program, Verdict.BAD, f"it cannot be run: {error}", remedy)
        version = parse_version(said)
        return judge(program, said.strip().partition("\n")[0], is_good=version >= least, remedy=remedy)

    def look_at_mounts(self, base: str) -> list[Finding]:
        """Whether each Lustre mount below a directory answers, and has what volumes need.

        Args:
            base: where the service mounts.
        """
        with open(self.mounts, "rb") as lines:
            found = parse_mounts(lines)
        below = [mount for mount in found if is_below(os.fsdecode(mount.point), base)]
        if not below:
            return [Finding("mounts", Verdict.OK, f"no share is mounted below {base} at this moment")]
        return [finding for mount in below for finding in self._look_at_mount(mount)]

    def look_at_share(self, address: str, point: str) -> list[Finding]:
        """Whether a share is mounted where its service mounts it, and has what volumes need.

        Args:
            address: the share.
            point: where it belongs.
        """
        with open(self.mounts, "rb") as lines:
            is_mounted = is_mount_point(lines, os.fsencode(point))
        if not is_mounted:
            remedy = "start the service, which mounts it, then ask again; if it does not, its log says why"
            return [Finding("share", Verdict.WARNING, f"{address} is not mounted at {point}", remedy)]
        with open(self.mounts, "rb") as lines:
            mount = find_mount(parse_mounts(lines), os.fsencode(point))
        faults = find_faults(mount.options) if mount is not None else []
        return [*self._tell_faults(point, faults), *self._try_locks(point)]

    def _look_at_mount(self, mount: Mount) -> Iterable[Finding]:
        point = os.fsdecode(mount.point)
        yield from self._tell_faults(point, find_faults(mount.options))
        yield from self._try_locks(point)

    @staticmethod
    def _tell_faults(point: str, faults: Iterable[str]) -> Iterable[Finding]:
        for fault in faults:
            if "user_xattr" not in fault:  # volumes need no attributes
                yield Finding("mount options", Verdict.BAD, f"{point}: {fault}", "unmount it and mount it again so")

    def _try_locks(self, point: str) -> Iterable[Finding]:
        command = [*self.become, sys.executable, "-c", _TRY_LOCKS, point]
        try:
            said = self.runner.run(command, key=point, limit_s=self.limit_s)
        except (CommandError, NoAnswerError) as error:
            remedy = "see that the servers answer (lfs check servers), that it is mounted with flock and may be written"
            yield Finding("mount", Verdict.BAD, f"{point}: {_say(error)}", remedy)
            return
        locks, _, rights = said.strip().partition("\n")
        yield judge(
            "locks",
            f"{point}: locks are {locks}",
            is_good=locks == "exclusive",
            remedy="mount with -o flock",
        )
        if rights:
            yield Finding("rights", Verdict.BAD, f"{point}: {rights}", "chmod o-w that directory")


def _say(error: CommandError | NoAnswerError) -> str:
    """What a child died of, without the program that it was."""
    if isinstance(error, CommandError):
        return error.message.strip().rpartition("\n")[2] or f"exit code {error.code}"
    return f"no answer within {error.limit_s:g} s"


def is_below(path: str, base: str) -> bool:
    """Whether a path is inside a directory."""
    return path.startswith(base.rstrip("/") + "/")


def parse_version(text: str) -> tuple[int, int, int]:
    """The first version in a text; zeros if there is none."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)
