# SPDX-License-Identifier: Apache-2.0
"""What is written about mounts: shares as administrators name them, and lines of /proc/mounts.

    share = NID list, ":/", name of the file system, optional "/" sub-directory
    10.0.0.1@tcp,10.1.0.1@o2ib:10.0.0.2@tcp:/scratch/project/volumes
    `,` separates the NIDs of one server, `:` the servers that take over from each other.

Rule 1: texts are compared by what they mean: `10.0.0.1:/fs` and `10.0.0.1@tcp:/fs/` are one share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lustack.lustre.errors import ShareSyntaxError

# Source: lustre_disk.h, LUSTRE_MAXFSNAME 8; mkfs.lustre(8) for the characters.
_FSNAME: Final = re.compile(r"[A-Za-z0-9_-]{1,8}")
# ADDRESS@NETWORK; an address may be a host name. Networks: tcp, o2ib, kfi, gni ... with a number. Source: lnetctl(8).
_NID: Final = re.compile(r"(\[?[A-Za-z0-9._:%-]+\]?)(@[a-z][a-z0-9]*)?")
_DEFAULT_NETWORK: Final = "@tcp"
# In /proc/mounts blanks, tabs, newlines and backslashes are octal. Source: fs/proc_namespace.c, mangle().
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_FIELDS: Final = 4


@dataclass(frozen=True)
class Share:
    """A Lustre file system, or a directory in it, as it is mounted.

    Attributes:
        servers: the management servers in order, each with its NIDs.
        fsname: name of the file system.
        subdirectory: below its root, without slashes at the ends; empty: the root.
    """

    servers: tuple[tuple[str, ...], ...]
    fsname: str
    subdirectory: str = ""

    def __str__(self) -> str:
        return f"{self.source}/{self.subdirectory}" if self.subdirectory else self.source

    @property
    def source(self) -> str:
        """The share of the whole file system."""
        return ":".join(",".join(nids) for nids in self.servers) + f":/{self.fsname}"

    @property
    def identity(self) -> str:
        """What is mounted, whatever the addresses of its servers are: `fsname/sub/directory`."""
        return f"{self.fsname}/{self.subdirectory}" if self.subdirectory else self.fsname


@dataclass(frozen=True)
class Mount:
    """A line of /proc/mounts about Lustre.

    Attributes:
        share: what is mounted.
        point: where.
        options: as the kernel shows them.
    """

    share: Share
    point: bytes
    options: frozenset[str]


def parse_share(text: str) -> Share:
    """The share that a text names.

    Raises:
        ShareSyntaxError: it names none.
    """
    stripped = text.strip()
    servers, separator, path = stripped.partition(":/")
    if not separator:
        raise ShareSyntaxError(text, "`:/` is missing between the servers and the file system")
    fsname, *parts = [part for part in path.split("/") if part] or [""]
    if not _FSNAME.fullmatch(fsname):
        raise ShareSyntaxError(text, f"{fsname!r} is no name of a file system (at most 8 letters, digits, - and _)")
    if any(part in {".", ".."} for part in parts):
        raise ShareSyntaxError(text, "`.` and `..` have no place in the path")
    if any(character.isspace() or ord(character) < ord(" ") for character in servers):
        raise ShareSyntaxError(text, "a blank is in the list of servers")
    return Share(tuple(_parse_server(text, each) for each in _split_servers(servers)), fsname, "/".join(parts))


def parse_mounts(lines: Iterable[bytes]) -> list[Mount]:
    """The Lustre mounts in /proc/mounts, in its order; lines that name no share are left out.

    Args:
        lines: as the file has them.
    """
    return [mount for line in lines if (mount := _parse_line(line)) is not None]


def is_mount_point(lines: Iterable[bytes], point: bytes) -> bool:
    """Whether something is mounted at a directory, as /proc/mounts says: the file system itself is not asked.

    Args:
        lines: as the file has them.
        point: absolute, without symbolic links.
    """
    fields = (line.decode("utf-8", "surrogateescape").split(" ") for line in lines)
    points = (_unescaped(found[1]).encode("utf-8", "surrogateescape") for found in fields if len(found) >= _FIELDS)
    return point in points


def find_mount(mounts: Iterable[Mount], path: bytes) -> Mount | None:
    """The mount that a path is on, as far as the names tell; None if it is below none.

    Args:
        mounts: the later hides the earlier at the same point.
        path: absolute and without symbolic links.
    """
    best: Mount | None = None
    for mount in mounts:
        within = path == mount.point or path.startswith(mount.point.rstrip(b"/") + b"/")
        if within and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def find_faults(options: Iterable[str]) -> list[str]:
    """What is wrong with mount options, as sentences that say the remedy; empty: nothing.

    Source: measured on Lustre 2.17: the default is `nouser_xattr`; `localflock` locks within one node only, silently.
    """
    present = set(options)
    return [remedy for option, remedy in _REMEDIES.items() if option in present]


_REMEDIES: Final = {
    "nouser_xattr": "user attributes are off (the default of Lustre): mount with -o user_xattr",
    "noflock": "locks are off: mount with -o flock",
    "localflock": "locks do not reach other nodes: mount with -o flock instead of localflock",
    "ro": "it is mounted read-only",
    "32bitapi": "inode numbers are cut to 32 bits: mount without -o 32bitapi",
}


def _split_servers(text: str) -> list[str]:
    """Splits at the colons that are not inside brackets (IPv6)."""
    return re.split(r":(?![^\[]*\])", text)


def _parse_server(text: str, server: str) -> tuple[str, ...]:
    nids = []
    for nid in server.split(","):
        found = _NID.fullmatch(nid)
        if found is None:
            raise ShareSyntaxError(text, f"{nid!r} is no address of a server")
        nids.append(found[1] + (found[2] or _DEFAULT_NETWORK))
    return tuple(nids)


def _parse_line(line: bytes) -> Mount | None:
    fields = line.decode("utf-8", "surrogateescape").split(" ")
    if len(fields) < _FIELDS or fields[2] != "lustre":
        return None
    try:
        share = parse_share(_unescaped(fields[0]))
    except ShareSyntaxError:
        return None  # servers show their targets with the same type, as /dev/sdb
    point = _unescaped(fields[1]).encode("utf-8", "surrogateescape")
    return Mount(share, point, frozenset(fields[3].split(",")))


def _unescaped(field: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), field)
