# SPDX-License-Identifier: Apache-2.0
"""Where an object lies, and where a new one goes.

Most objects lie at the plain place of their name; one open answers. A name can lie elsewhere when something else
had its place first (a twin), or when it is a marker, an attribute of a directory. Among several the first counts:

1. a regular file at the plain place,
2. the marker on the directory of that name,
3. a regular file at the twin's place.

Rule 1: nothing that exists is moved to make room, and nothing but a regular file is ever replaced.
Rule 2: nothing is opened here but with O_PATH, so a FIFO or a device cannot stall a request.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from lustack.mapping import layout, names
from lustack.mapping.metadata import CorruptMetadataError, parse_data
from lustack.posix.errors import CorruptAttributeError, XattrUnsupportedError
from lustack.posix.tree import open_beneath, proc_path
from lustack.posix.xattrs import AttributeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lustack.mapping.layout import AttributeNames
    from lustack.posix.xattrs import Sidecars
    from lustack.swift.device import Home

_NOTHING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.ENAMETOOLONG})
_NO_ATTRIBUTE = frozenset({errno.ENODATA, errno.EOPNOTSUPP})
_ATTEMPTS = 8
"""How often a place is looked for again when the tree changes under a request."""

_MOST_DIRECTORIES = 64
"""How many places of one directory are looked at: planted twins at each level would double them each time."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Key:
    """The full name of an object.

    Attributes:
        account: account name.
        container: container name.
        name: object name.
    """

    account: str
    container: str
    name: str

    @cached_property
    def hash(self) -> str:
        """The key of its lock and its tombstone."""
        return layout.object_hash(self.account, self.container, self.name)

    def __str__(self) -> str:
        return f"/{self.account}/{self.container}/{self.name}"


@dataclass(frozen=True)
class Place:
    """An entry below a home's directory (`Home.fd`).

    Attributes:
        directory: path of the directory that holds it, or, for a marker, that is it.
        entry: name of the file in it, empty for a marker.
        attributes: where its metadata is.
    """

    directory: bytes
    entry: bytes
    attributes: AttributeNames = layout.FILE_ATTRIBUTES

    @property
    def path(self) -> bytes:
        """Path below the home's directory."""
        return self.directory + b"/" + self.entry if self.entry else self.directory

    @property
    def is_marker(self) -> bool:
        """Whether the object is a directory."""
        return not self.entry


@dataclass(frozen=True)
class Found:
    """An object that exists.

    Attributes:
        place: where.
        fd: an O_PATH descriptor, owned by whoever holds this.
        status: of that descriptor.
    """

    place: Place
    fd: int
    status: os.stat_result


def plain_place(path: bytes) -> Place:
    """The place of a file with this path."""
    directory, _, entry = path.rpartition(b"/")
    return Place(directory, entry)


def find(home: Home, key: Key) -> Found | None:
    """Looks an object up.

    Args:
        home: of its container.
        key: the object.

    Returns:
        The object, whose descriptor the caller owns; None if there is none.

    Raises:
        OSError: the file system fails.
    """
    plain = plain_place(home.path + b"/" + names.encode(key.name))
    try:
        found = _inspect(home, plain)
    except FileNotFoundError:
        # Most misses end here, with two opens.
        found = None
        if not key.name.endswith("/") and not has_twins(home):
            return None
    except OSError as error:
        _raise_strange(error)
        found = None
    if found is not None:
        return found
    # The last look is for a twin that got its plain place back while it was looked for.
    for place in itertools.chain(_places(home, key.name), (plain,)):
        found = _look(home, place)
        if found is not None:
            return found
    return None


def find_hidden(home: Home, key: Key, shown: Place) -> Iterator[Found]:
    """Every object of this name but the one that counts: what a job put into a better place hides the others.

    Args:
        home: of its container.
        key: the object.
        shown: where the one is that counts.

    Yields:
        Objects whose descriptors the caller owns.

    Raises:
        OSError: the file system fails.
    """
    if not key.name.endswith("/") and not has_twins(home):
        return
    for place in _places(home, key.name):
        found = None if place == shown else _look(home, place)
        if found is not None:
            yield found


def do_again(act: Callable[[], _Result]) -> _Result:
    """Does something up to `_ATTEMPTS` times, because others may make and remove directories at the same time.

    What stood in the way once may not the next time: another place is looked for.

    Raises:
        OSError: what the last attempt raised.
    """
    for _ in range(_ATTEMPTS - 1):
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError):
            return act()
    return act()


def is_free(home: Home, place: Place) -> bool:
    """Whether nothing is at a place of a file."""
    return _kind(home.fd, place.path) is None


def choose(home: Home, key: Key) -> Place:
    """Where a new file for this object goes: the caller has found that there is none.

    Args:
        home: of its container.
        key: the object.

    Returns:
        A place whose directory may not exist yet, and whose entry is free.

    Raises:
        FileExistsError: neither the plain place nor the twin's is free, or a regular file's.
    """
    *above, last = names.steps(key.name)
    directory = choose_directory(home, above)
    for entry in (last.plain, last.twin):
        place = plain_place(directory + b"/" + entry)
        if _kind(home.fd, place.path) in (None, stat.S_IFREG):
            return place
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(key))


def choose_directory(home: Home, above: list[names.Step]) -> bytes:
    """The path of a directory, plain where it can be; it may not exist yet."""
    directory = home.path
    for step in above:
        plain, twin = directory + b"/" + step.plain, directory + b"/" + step.twin
        kind = _kind(home.fd, plain)
        is_plain = kind == stat.S_IFDIR or (kind is None and not _is_directory(home.fd, twin))
        directory = plain if is_plain else twin
    return directory


def has_twins(home: Home) -> bool:
    """Whether names of this container may lie at their twin's place."""
    try:
        fd = open_beneath(home.fd, home.path, os.O_PATH | os.O_DIRECTORY)
        try:
            os.getxattr(proc_path(fd), layout.ATTRIBUTE_TWINS)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _NOTHING or error.errno in _NO_ATTRIBUTE:
            return False
        raise
    return True


def note_twins(home: Home) -> None:
    """Notes that names of this container may lie at their twin's place."""
    if has_twins(home):
        return
    fd = open_beneath(home.fd, home.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.setxattr(fd, layout.ATTRIBUTE_TWINS, b"1")
        os.fsync(fd)
    finally:
        os.close(fd)


def directories_of(home: Home, above: list[names.Step]) -> list[bytes]:
    """Every directory that stands for these components, the plain ones first."""
    found = [home.path]
    for step in above:
        places = (directory + b"/" + entry for directory in found for entry in (step.plain, step.twin))
        found = [path for path in places if _is_directory(home.fd, path)][:_MOST_DIRECTORIES]
    return found


def _places(home: Home, name: str) -> Iterator[Place]:
    """Every place where the object may lie, the first one counts."""
    *above, last = names.steps(name)
    for directory in directories_of(home, above):
        yield plain_place(directory + b"/" + last.plain)
    if name.endswith("/"):
        for marked in directories_of(home, names.directory_steps(name[:-1])):
            yield Place(marked, b"", layout.SLASH_ATTRIBUTES)
    else:
        for marked in directories_of(home, names.directory_steps(name)):
            yield Place(marked, b"", layout.PLAIN_ATTRIBUTES)
    for directory in directories_of(home, above):
        yield plain_place(directory + b"/" + last.twin)


def _look(home: Home, place: Place) -> Found | None:
    """The object at a place, None if there is none."""
    try:
        return _inspect(home, place)
    except OSError as error:
        _raise_strange(error)
        return None


def _raise_strange(error: OSError) -> None:
    """Raises what does not only say that nothing is there."""
    if error.errno not in _NOTHING:
        raise error


def _inspect(home: Home, place: Place) -> Found | None:
    """The object at a place, None if something else is there.

    Raises:
        OSError: of the open: nothing is there, or it failed.
    """
    fd = open_beneath(home.fd, place.path, os.O_PATH)
    found = None
    try:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) if place.entry else is_marked(home.sidecars, fd, place.attributes):
            found = Found(place, fd, status)
    finally:
        if found is None:
            os.close(fd)
    return found


def is_marked(sidecars: Sidecars, fd: int, attributes: AttributeNames) -> bool:
    """Whether a directory is a marker. `cp -a` copies the attribute, but not the inode that it names.

    Args:
        sidecars: of the device.
        fd: of the directory; O_PATH is enough.
        attributes: `SLASH_ATTRIBUTES` or `PLAIN_ATTRIBUTES`.
    """
    try:
        value = AttributeStore(sidecars).read(fd, attributes.data)
        return parse_data(value or b"", None, trusted=False).stamp.inode == os.fstat(fd).st_ino
    except (XattrUnsupportedError, CorruptAttributeError, CorruptMetadataError):
        return False


def _kind(root_fd: int, path: bytes) -> int | None:
    """The file type of an entry, None if there is none. A symbolic link counts as something."""
    try:
        fd = open_beneath(root_fd, path, os.O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in _NOTHING:
            return stat.S_IFLNK
        raise
    try:
        return stat.S_IFMT(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _is_directory(root_fd: int, path: bytes) -> bool:
    return _kind(root_fd, path) == stat.S_IFDIR
