# SPDX-License-Identifier: Apache-2.0
"""Swift names <-> paths, total for every Swift name and reversible from the path alone.

A name is cut at its slashes; each component becomes a directory entry. Almost every component is stored as it
is. What POSIX cannot hold plainly is written with the marks of this table, and a plain entry that happens to
look like one of our marks gets its `%` escaped, so that nothing is ambiguous:

| entry            | stands for                                                                       |
|------------------|----------------------------------------------------------------------------------|
| `%`              | an empty component (`a//b` is `a/%/b`, a trailing slash with content is `a/%`)    |
| `%2E` + rest     | a component that begins with a dot and would be `.`, `..` or a reserved name      |
| `%00`            | NUL, which Swift's object versioning puts in names                                |
| `%25`            | a `%` of the name, only where the literal would read as a mark                    |
| `<c>%dir`        | the directory `<c>` while a file `<c>` exists (a twin)                            |
| `<c>%file`       | the file `<c>` while something else is called `<c>` (a twin)                      |
| `<240..253>%+`   | a component of more than 255 bytes goes on in the next entry                      |

Rule 1: `decode(encode(name)) == name` for every name.
Rule 2: `encode(decode(path)) == path` for every path that decodes to a name, twins aside; so every file has at
most one name, and each name one plain place and its twins.
Rule 3: the twin of one name is never the place of another: plain entries end in no mark, of neither kind. A job's
own entry that does (a directory `a%file`) has no name.
Rule 4: only this module knows the marks.

Everything works on bytes: a path is whatever bytes the file system holds.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NewType

from lustack.errors import LustackError
from lustack.mapping import layout

ObjectName = NewType("ObjectName", str)
RelPath = NewType("RelPath", bytes)

NAME_MAX = 255
"""Bytes of a directory entry. Source: limits.h; statfs f_namelen of Lustre, ext4, XFS."""

MAX_OBJECT_NAME_BYTES = 1024
"""Swift's default max_object_name_length. Source: swift/common/constraints.py."""

EMPTY = b"%"
CONTINUED = b"%+"
_CHUNK_MAX = NAME_MAX - len(CONTINUED)
_CHUNK_MIN = 240
_FIRST_CONTINUATION, _FIRST_LEAD = 0x80, 0xC0
"""Bytes of UTF-8 from the first up to before the second are inside a character. Source: RFC 3629."""

_MARK = re.compile(rb"%(?:00|25)")
_MARKED = {b"%00": b"\0", b"%25": b"%"}
_ODD_FIRST = (b"/", b".")
# Every way to match begins with a byte that is rare, so that a search is quick.
_ODD = re.compile(rb"[%\0]|/(?:[/.]|\Z)")
_LONG = re.compile(rb"[^/]{256}")


class Kind(enum.Enum):
    """What an entry is; the value is the mark of its twins."""

    FILE = b"%file"
    DIRECTORY = b"%dir"


@dataclass(frozen=True)
class Step:
    """The two places of one component of a name.

    Attributes:
        plain: where it lies unless something else has that name; holds a `/` where the component was cut.
        twin: where it lies otherwise.
    """

    plain: bytes
    twin: bytes


class UnrepresentableNameError(LustackError):
    """A path that cannot be an object.

    Attributes:
        path: the path, relative to the container.
        rule: why, as the end of the sentence "... cannot be an object:".
    """

    def __init__(self, path: bytes, rule: str) -> None:
        super().__init__(path, rule)
        self.path = path
        self.rule = rule

    def __str__(self) -> str:
        return f"{self.path!r} cannot be an object: {self.rule}"


def encode(name: str) -> RelPath:
    """The plain place of an object below its container.

    Args:
        name: a Swift object name: not empty, any characters.

    Returns:
        The path, without a leading slash; each entry 1 to 255 bytes, none of them `.`, `..` or reserved.
    """
    raw = name.encode("utf-8", "surrogateescape")
    if is_plain(raw):
        return RelPath(raw)
    return RelPath(b"/".join(step.plain for step in steps(name)))


def steps(name: str) -> list[Step]:
    """The places of every component of an object name, from the container down to the file."""
    components = name.encode("utf-8", "surrogateescape").split(b"/")
    found = [_step(component, Kind.DIRECTORY) for component in components[:-1]]
    return [*found, _step(components[-1], Kind.FILE)]


def directory_steps(name: str) -> list[Step]:
    """The places of every component of a directory: `name` is an object name without its trailing slash."""
    return [_step(component, Kind.DIRECTORY) for component in name.encode("utf-8", "surrogateescape").split(b"/")]


def account_path(account: str) -> RelPath:
    """Path of an account's directory, relative to the device root."""
    return RelPath(_split(_escape(account.encode("utf-8", "surrogateescape"), top=True)))


@lru_cache(maxsize=1024)
def container_path(account: str, container: str) -> RelPath:
    """Path of a container's directory, relative to the device root.

    Swift's hidden containers (their names start with NUL) lie below `.lustack/`.
    """
    entry = _split(_escape(container.encode("utf-8", "surrogateescape")))
    plain = account_path(account) + b"/" + entry
    if container.startswith("\0"):
        plain = layout.HIDDEN_CONTAINERS + b"/" + plain
    return RelPath(plain)


def decode(path: bytes) -> ObjectName:
    """The object name of a regular file.

    Args:
        path: path of the file, relative to its container.

    Returns:
        The name. A twin has the name that it stands for.

    Raises:
        UnrepresentableNameError: no name leads to this path, or Swift could not hold it.
    """
    if is_plain(path):
        return to_name(path, path)
    parts = [decode_entry(entry, kind)[0] for entry, kind in _joined(path)]
    return to_name(b"/".join(parts), path)


def decode_directory(path: bytes) -> ObjectName:
    """What a directory below a container stands for: the part of objects' names before a slash.

    Args:
        path: path of the directory, relative to its container.

    Raises:
        UnrepresentableNameError: no name leads through it, or the part is empty.
    """
    if is_plain(path):
        return to_name(path, path)
    parts = [decode_entry(entry, kind)[0] for entry, kind in _joined(path, last=Kind.DIRECTORY)]
    return to_name(b"/".join(parts), path)


def is_plain(path: bytes) -> bool:
    """Whether a path is its name, byte for byte: no mark in it, and nothing that needs one."""
    if path[:1] in _ODD_FIRST or _ODD.search(path):
        return False
    return len(path) <= NAME_MAX or not _LONG.search(path)


def decode_account(path: bytes) -> str:
    """The account whose directory has this path below the device root: one entry, or more of a long name.

    Raises:
        UnrepresentableNameError: an entry is reserved, or no account would lie there.
    """
    return _decode_directory(path, top=True)


def decode_container(path: bytes) -> str:
    """The container whose directory has this path below its account: one entry, or more of a long name.

    Raises:
        UnrepresentableNameError: no container would lie there.
    """
    return _decode_directory(path, top=False)


def decode_entry(entry: bytes, kind: Kind, *, top: bool = False) -> tuple[bytes, bool]:
    """One entry (joined, where it was cut) -> (component, whether the entry is a twin).

    Raises:
        UnrepresentableNameError: the entry is reserved, or looks like ours but no name leads to it.
    """
    if is_reserved(entry, top=top):
        raise UnrepresentableNameError(entry, "the name is reserved for lustack")
    base = entry[: -len(kind.value)] if _is_twin(entry, kind) else entry
    component = _plain(base, top=top)
    if _escape(component, top=top) != base:
        raise UnrepresentableNameError(entry, "it ends in one of lustack's marks, but lustack would not set it there")
    return component, base is not entry


def is_reserved(entry: bytes, *, top: bool = False) -> bool:
    """Whether an entry belongs to lustack itself: a temporary file, or the reserved directory at the root."""
    return entry.startswith(layout.TEMPORARY_PREFIX) or (top and entry == layout.RESERVED)


def is_continued(entry: bytes) -> bool:
    """Whether the component of this directory goes on in the entries below it."""
    return entry.endswith(CONTINUED) and len(entry) >= _CHUNK_MIN + len(CONTINUED)


def join(entries: list[bytes]) -> bytes:
    """Entries of one cut component, outermost first -> the whole.

    Raises:
        UnrepresentableNameError: the whole would not have been cut like this.
    """
    whole = b"".join(entry[: -len(CONTINUED)] for entry in entries[:-1]) + entries[-1]
    path = b"/".join(entries)
    if _split(whole) != path:
        raise UnrepresentableNameError(path, "%+ marks a component that goes on, but this one need not")
    return whole


def to_name(raw: bytes, path: bytes) -> ObjectName:
    """Decoded bytes -> a name that Swift takes.

    Args:
        raw: the decoded bytes.
        path: where they come from, for the error.

    Raises:
        UnrepresentableNameError: empty, not UTF-8, or too long for Swift.
    """
    if not raw:
        raise UnrepresentableNameError(path, "its name would be empty")
    if len(raw) > MAX_OBJECT_NAME_BYTES:
        raise UnrepresentableNameError(path, f"it has {len(raw)} bytes, Swift takes {MAX_OBJECT_NAME_BYTES}")
    try:
        return ObjectName(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise UnrepresentableNameError(path, "its bytes are not UTF-8") from None


def _decode_directory(path: bytes, *, top: bool) -> str:
    joined = _joined(path, last=Kind.DIRECTORY)
    component, is_twin = decode_entry(joined[0][0], Kind.DIRECTORY, top=top)
    if is_twin or len(joined) > 1:
        raise UnrepresentableNameError(path, "an account or a container has one place and one component")
    return to_name(component, path)


def _step(component: bytes, kind: Kind) -> Step:
    entry = _escape(component)
    return Step(_split(entry), _split(entry + kind.value))


def _joined(path: bytes, last: Kind = Kind.FILE) -> list[tuple[bytes, Kind]]:
    """Cuts a path in entries and joins those of cut components; all but the last are directories."""
    found: list[tuple[bytes, Kind]] = []
    open_parts: list[bytes] = []
    entries = path.split(b"/")
    for index, entry in enumerate(entries):
        is_last = index == len(entries) - 1
        open_parts.append(entry)
        if is_reserved(entry):
            raise UnrepresentableNameError(path, "the name is reserved for lustack")
        if is_last or not is_continued(entry):
            found.append((join(open_parts), last if is_last else Kind.DIRECTORY))
            open_parts = []
    return found


def _escape(component: bytes, *, top: bool = False) -> bytes:
    """The entry of a component, not yet cut. It ends in no mark: the twin of one name is never the place of another."""
    if b"%" not in component:
        return _mandatory(component, top=top)
    # Whether `%25` may stay depends on what becomes of `%`, and so on: each has fewer bytes than the one before.
    chain = [component]
    while (shorter := _unescape(chain[-1])) != chain[-1] and _mandatory(chain[-1], top=top) == chain[-1]:
        chain.append(shorter)
    entry = b""
    for link in reversed(chain):
        entry = _escape_after(link, entry, top=top)
    return entry


def _escape_after(component: bytes, entry_of_unescaped: bytes, *, top: bool) -> bytes:
    """The entry of a component, when the one of `_unescape(component)` is known."""
    plain = _mandatory(component, top=top)
    unescaped = _unescape(plain)
    is_safe = unescaped == component or (plain == component and entry_of_unescaped != component)
    is_marked = is_continued(plain) or any(_is_twin(plain, kind) for kind in Kind)
    return plain if is_safe and not is_marked else _mandatory(component.replace(b"%", b"%25"), top=top)


def _plain(entry: bytes, *, top: bool = False) -> bytes:
    """The component of an entry that is no twin: what the marks say if we would have set them, else itself."""
    if b"%" not in entry:
        return entry
    component = _unescape(entry)
    if component != entry and _escape(component, top=top) == entry:
        return component
    return entry


def _mandatory(component: bytes, *, top: bool) -> bytes:
    """Escapes what no directory entry can be, or what is reserved."""
    if not component:
        return EMPTY
    if component in (b".", b"..") or is_reserved(component, top=top):
        component = b"%2E" + component[1:]
    return component.replace(b"\0", b"%00")


def _unescape(entry: bytes) -> bytes:
    """Takes every mark for one."""
    if entry == EMPTY:
        return b""
    if entry.startswith(b"%2E"):
        entry = b"." + entry[3:]
    return _MARK.sub(lambda mark: _MARKED[mark.group()], entry)


def _is_twin(entry: bytes, kind: Kind) -> bool:
    return entry.endswith(kind.value) and len(entry) > len(kind.value)


def _split(entry: bytes) -> bytes:
    """Cuts an entry of more than 255 bytes, at characters where it can, into a path of entries."""
    parts: list[bytes] = []
    while len(entry) > NAME_MAX:
        cut = _CHUNK_MAX
        while cut > _CHUNK_MIN and _is_bad_cut(entry, cut):
            cut -= 1
        parts.append(entry[:cut] + CONTINUED)
        entry = entry[cut:]
    return b"/".join([*parts, entry])


def _is_bad_cut(entry: bytes, cut: int) -> bool:
    return _FIRST_CONTINUATION <= entry[cut] < _FIRST_LEAD or is_reserved(entry[cut:])
