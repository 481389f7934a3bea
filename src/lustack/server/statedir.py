# SPDX-License-Identifier: Apache-2.0
"""The state of a host on disk, and the little that lies in the served directory: its identity and its lock.

Rule 1: every file appears whole or not at all, so a start that was killed is simply done again.
Rule 2: what the databases depend on (the salt of the hashes) is chosen once and never guessed again.
Rule 3: a state belongs to one directory, which carries the same identity: the listings of one must never be
compared with the files of another, or of an empty mount point.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from lustack.errors import ConfigurationError
from lustack.mapping.layout import RESERVED
from lustack.posix.atomic import TemporaryFile, replace_file
from lustack.server import locks, ports, render
from lustack.server.errors import ForeignStateError
from lustack.server.topology import Assigned, Host

RECORD = "serve.json"
IDENTITY = "identity"
_PROBE = "user.lustack.probe"
_SALT_BYTES = 16
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


def make_rings(etc: str, wanted: str) -> None:
    """Write rings, in a process of its own: it imports Swift.

    Args:
        etc: where.
        wanted: which, see `render.rings`.

    Raises:
        ConfigurationError: Swift does not do it.
    """
    command = (sys.executable, "-P", "-m", "lustack.server.rings", etc)
    try:
        subprocess.run(command, input=wanted, text=True, check=True, capture_output=True)
    except subprocess.CalledProcessError as err:
        allowed = f"an installed Swift that can write rings; this one said:\n{err.stderr}"
        raise ConfigurationError("lustack serve", "swift", "swift.common.ring", allowed) from err


@contextmanager
def open_state(host: Host, make_rings: Callable[[str, str], None] = make_rings) -> Iterator[Assigned]:
    """Make or find the state of a host, ready for its servers, and keep everybody else out.

    Everything that a start needs is written here; nothing is started.

    Args:
        host: what is wanted.
        make_rings: does what `make_rings` of this module does.

    Yields:
        What was chosen, now or earlier.

    Raises:
        ConfigurationError: the directory, the state or the port cannot be used; it says why.
    """
    reserved = os.path.join(host.directory, os.fsdecode(RESERVED))
    _refuse_overlap(host)
    with ExitStack() as held:
        with _explained(host.directory):
            os.makedirs(reserved, mode=0o700, exist_ok=True)
            held.enter_context(locks.hold(reserved, host.directory))
        with _explained(host.state):
            os.makedirs(host.state, mode=0o700, exist_ok=True)
            held.enter_context(locks.hold(host.state, host.state))
        require_xattrs(reserved, host.directory)
        _make_places(host)
        assigned = _assign(host, reserved)
        _write_configuration(host, assigned, make_rings)
        yield assigned


@contextmanager
def _explained(directory: str) -> Iterator[None]:
    """Translate what is wrong with a directory that the user named."""
    try:
        yield
    except OSError as err:
        if err.errno not in _NOT_OURS:
            raise
        allowed = f"one that you may write to ({os.strerror(err.errno)})"
        raise ConfigurationError("lustack serve", "directory", directory, allowed) from err


def _refuse_overlap(host: Host) -> None:
    """Databases and logs inside the served directory would be objects."""
    directory, state = (os.path.realpath(path) for path in (host.directory, host.state))
    if os.path.commonpath((directory, state)) == directory:
        raise ConfigurationError("lustack serve", "--state", state, f"outside the served directory {directory}")


def require_xattrs(place: str, shown: str, setxattr: Callable[[int, str, bytes], None] = os.setxattr) -> None:
    """Try whether a directory holds extended attributes: mount options promise what a file system may not do.

    Args:
        place: the directory to try it in.
        shown: what it is about, as the user calls it.
        setxattr: does what `os.setxattr` does.

    Raises:
        ConfigurationError: it does not.
    """
    dirfd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with TemporaryFile.create(dirfd) as probe:
            setxattr(probe.fd, _PROBE, b"1")
    except OSError as err:
        if err.errno != errno.EOPNOTSUPP:
            raise
        allowed = "on a file system with extended attributes of users (mount Lustre with the option user_xattr)"
        raise ConfigurationError("lustack serve", "directory", shown, allowed) from err
    finally:
        os.close(dirfd)


def _make_places(host: Host) -> None:
    for place in (host.etc, host.node, host.databases, host.spool, host.memory, host.cache, host.logs):
        os.makedirs(place, mode=0o700, exist_ok=True)
    os.makedirs(f"{host.databases}/{host.device}", exist_ok=True)
    for policy in host.policies:
        root = host.root_of(policy)
        os.makedirs(root, exist_ok=True)
        _link(f"{host.node}/{policy.device}", root)
        if policy.has_own_spool:
            os.makedirs(f"{host.spool}/{policy.device}", exist_ok=True)
        else:
            _link(f"{host.spool}/{policy.device}", root)


def _link(place: str, target: str) -> None:
    """Make a symbolic link lead to `target`, whatever it led to before."""
    if os.path.islink(place) and os.readlink(place) == target:
        return
    fresh = f"{place}.new"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    os.symlink(target, fresh)
    os.replace(fresh, place)


def _assign(host: Host, reserved: str) -> Assigned:
    """Read what was chosen at the first start, choose what is missing, and remember it."""
    place = f"{host.etc}/{RECORD}"
    record = _read_record(place)
    identity = _identify(host, reserved, record.get("identity"))
    salt = record.get("hash_prefix") or secrets.token_hex(_SALT_BYTES)
    pepper = record.get("hash_suffix") or secrets.token_hex(_SALT_BYTES)
    assigned = Assigned(ports.settle(host.port, record.get("ports", {})), salt, pepper)
    _write(place, json.dumps({"version": 1, "identity": identity, **asdict(assigned)}, indent=1, sort_keys=True))
    return assigned


def _read_record(place: str) -> Mapping[str, Any]:
    text = _read(place)
    if text is None:
        return {}
    try:
        record = json.loads(text)
    except ValueError as err:
        raise ConfigurationError("lustack serve", "file", place, "what was written there, or removed") from err
    if not isinstance(record, dict) or record.get("version") != 1:
        raise ConfigurationError("lustack serve", "file", place, "of a version that this lustack knows (1)")
    return record


def _identify(host: Host, reserved: str, expected: str | None) -> str:
    """The identity of the served directory, made when neither it nor the state has one."""
    place = os.path.join(reserved, IDENTITY)
    found = _read(place)
    if expected is not None and found != expected:
        raise ForeignStateError(host.directory, host.state)
    if found is not None:
        return found
    identity = secrets.token_hex(_SALT_BYTES)
    _write(place, identity)
    return identity


def _write_configuration(host: Host, assigned: Assigned, make: Callable[[str, str], None]) -> None:
    for name, text in render.files(host, assigned).items():
        _write(f"{host.etc}/{name}", text)
    wanted, done = render.rings(host, assigned), f"{host.etc}/rings.json"
    if _read(done) != wanted:
        make(host.etc, wanted)
        _write(done, wanted)


def _read(place: str) -> str | None:
    try:
        with open(place, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _write(place: str, text: str) -> None:
    """Replace a file if it has other content."""
    if _read(place) == text:
        return
    dirfd = os.open(os.path.dirname(place), os.O_RDONLY | os.O_DIRECTORY)
    try:
        replace_file(dirfd, os.fsencode(os.path.basename(place)), text.encode())
    finally:
        os.close(dirfd)
