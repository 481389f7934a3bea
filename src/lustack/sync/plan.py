# SPDX-License-Identifier: Apache-2.0
"""What to do about one name: from what the file is and what the listing says.

| file      | listing | relation  | action  | because                                                            |
|-----------|---------|-----------|---------|--------------------------------------------------------------------|
| present   | nothing | -         | PUT     | the listing lacks it                                               |
| present   | row     | same      | NOTHING |                                                                    |
| present   | row     | different | PUT     | a job changed the file, or an update of the listing was lost       |
| absent    | nothing | -         | NOTHING |                                                                    |
| absent    | row     | older     | DELETE  | somebody removed the file                                          |
| absent    | row     | newer     | LEAVE   | the row is newer than our look: an upload that ends just now       |
| unknown   | any     | -         | LEAVE   | what cannot be looked at is not gone                               |

Rule 1: the timestamp of a row is that of the observation, taken before it; then the last row sent describes the file
at or after its last change, whatever the order in which rows arrive. A timestamp of Swift's own that is later wins.
Rule 2: what listings show as `last_modified` is the row's second timestamp: the file's own time. Swift keeps the newer
of two (container/backend.py update_new_item_from_existing), so a row may show a later one than the file forever.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from lustack.mapping.metadata import timestamp_text
from lustack.mapping.view import ObjectView, Origin, listing_row

NORMAL_LENGTH = 16
"""Characters of a timestamp without its offset. Source: swift/common/utils/timestamp.py NORMAL_FORMAT."""

_DELETED = (0, "application/deleted", "noetag", "")
"""Size, Content-Type, ETag of the row of an object that is gone. Source: swift/container/backend.py delete_object."""

_PARAMETER = re.compile(
    r"(?:\s*;\s*([^()<>@,;:\"/\[\]?={}\x00-\x20\x7f]+)\s*"
    r"(?:=\s*([^()<>@,;:\"/\[\]?={}\x00-\x20\x7f]+|\"(?:[^\"\\]|\\.)*\"))?)"
)
"""Source: swift/common/utils/__init__.py _rfc_extension_pattern."""

_TICKS = 100_000
"""A timestamp counts units of 10 microseconds."""


class Seen(enum.StrEnum):
    """What is known about the file of a name."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Relation(enum.StrEnum):
    """How a row stands to the file, or to the moment when the file was found missing."""

    NO_ROW = "no row"
    SAME = "same"
    DIFFERENT = "different"
    OLDER = "older"
    NEWER = "newer"


class Action(enum.StrEnum):
    """What to do with the row of one name."""

    NOTHING = "nothing"
    PUT = "put"
    DELETE = "delete"
    LEAVE = "leave"


TABLE = {
    (Seen.PRESENT, Relation.NO_ROW): Action.PUT,
    (Seen.PRESENT, Relation.SAME): Action.NOTHING,
    (Seen.PRESENT, Relation.DIFFERENT): Action.PUT,
    (Seen.ABSENT, Relation.NO_ROW): Action.NOTHING,
    (Seen.ABSENT, Relation.OLDER): Action.DELETE,
    (Seen.ABSENT, Relation.NEWER): Action.LEAVE,
    (Seen.UNKNOWN, Relation.NO_ROW): Action.LEAVE,
    (Seen.UNKNOWN, Relation.OLDER): Action.LEAVE,
    (Seen.UNKNOWN, Relation.NEWER): Action.LEAVE,
}
"""Every pair that `relate` can give."""


class Wanted(NamedTuple):
    """The row that a file should have. A tuple, because there is one for each file of the tree.

    Attributes:
        size_bytes: length of the object.
        content_type: with Swift's own parameters (`swift_bytes`).
        etag: with Swift's own parameters (`s3_etag`, `slo_etag`, ...).
        modified: what the listing shows as `last_modified`, a timestamp in normal form.
        floor: the row's timestamp is at least this, in internal form.
        is_hashed: whether the MD5 of the bytes is known.
    """

    size_bytes: int
    content_type: str
    etag: str
    modified: str
    floor: str = ""
    is_hashed: bool = True


class ListedRow(NamedTuple):
    """A row as a listing shows it. A tuple, because there are as many as files.

    Attributes:
        name: the object.
        size_bytes: its length.
        content_type: without `swift_bytes`.
        etag: with all parameters.
        modified: `last_modified` as a timestamp in normal form.
    """

    name: str
    size_bytes: int
    content_type: str
    etag: str
    modified: str


class SentRow(NamedTuple):
    """A row to be written.

    Attributes:
        name: the object.
        timestamp: of the observation, in internal form.
        size_bytes: length of the object.
        content_type: with Swift's own parameters.
        etag: with Swift's own parameters.
        modified: `last_modified` as a timestamp; empty for an object that is gone.
    """

    name: str
    timestamp: str
    size_bytes: int
    content_type: str
    etag: str
    modified: str

    @property
    def is_deleted(self) -> bool:
        """Whether the object is gone."""
        return not self.modified


def decide(seen: Seen, wanted: Wanted | None, listed: ListedRow | None, observed_ns: int) -> Action:
    """What to do about one name.

    Args:
        seen: what is known about the file.
        wanted: its row, None unless it is present.
        listed: the row in the listing, None if there is none.
        observed_ns: time taken before the file was looked at.
    """
    return TABLE[seen, relate(wanted, listed, observed_ns)]


def relate(wanted: Wanted | None, listed: ListedRow | None, observed_ns: int) -> Relation:
    """How the row stands to the file."""
    if listed is None:
        return Relation.NO_ROW
    if wanted is not None:
        return Relation.SAME if is_same(wanted, listed) else Relation.DIFFERENT
    return Relation.NEWER if listed.modified > timestamp_text(observed_ns) else Relation.OLDER


def is_same(wanted: Wanted, listed: ListedRow) -> bool:
    """Whether the listing shows what it should."""
    if wanted.etag != listed.etag or wanted.modified > listed.modified:
        return False
    if ";" in wanted.content_type:
        return show(wanted) == (listed.content_type, listed.size_bytes)
    return wanted.content_type == listed.content_type and wanted.size_bytes == listed.size_bytes


def show(row: Wanted | SentRow) -> tuple[str, int]:
    """Content-Type and size as a listing shows them.

    Source: swift/common/utils/__init__.py override_bytes_from_content_type.
    """
    content_type, _, parameters = row.content_type.partition(";")
    size_bytes = row.size_bytes
    for key, value in _PARAMETER.findall(";" + parameters):
        if key.strip() != "swift_bytes":
            content_type += f";{key.strip()}={value.strip()}"
        elif value.strip().isdecimal():
            size_bytes = int(value)
    return content_type, size_bytes


def want(view: ObjectView) -> Wanted:
    """The row that an object should have."""
    modified = view.merged()["X-Timestamp"]
    floor = view.data["X-Timestamp"]
    if view.origin is not Origin.SWIFT:
        floor = just_after(floor)
    row = listing_row(view)
    is_hashed = view.etag is not None
    return Wanted(row.size_bytes, row.content_type, row.etag, modified[:NORMAL_LENGTH], floor, is_hashed)


def put(name: str, wanted: Wanted, observed_ns: int) -> SentRow:
    """The row that says what a file is."""
    return put_at(name, wanted, timestamp_text(observed_ns))


def put_at(name: str, wanted: Wanted, observed: str) -> SentRow:
    """The same with the time of the observation as a timestamp."""
    size_bytes, content_type, etag, modified, floor, _ = wanted
    timestamp = max(observed, floor)
    # Half the price of calling the class: there is one for each file.
    return tuple.__new__(SentRow, (name, timestamp, size_bytes, content_type, etag, modified))


def is_of_swift(wanted: Wanted) -> bool:
    """Whether a row says what the PUT of an object said, and nothing came after it."""
    return wanted.floor[:NORMAL_LENGTH] == wanted.modified


def repeat(name: str, wanted: Wanted) -> SentRow:
    """The row that Swift itself sent for the PUT of an object: it changes nothing where that one arrived."""
    return SentRow(name, wanted.floor, wanted.size_bytes, wanted.content_type, wanted.etag, wanted.modified)


def delete(name: str, observed_ns: int) -> SentRow:
    """The row that says that an object is gone."""
    return SentRow(name, timestamp_text(observed_ns), *_DELETED)


def just_after(timestamp: str) -> str:
    """The first timestamp in normal form that is later than this one."""
    seconds, ticks = timestamp[:NORMAL_LENGTH].split(".")
    total = int(seconds) * _TICKS + int(ticks) + 1
    return f"{total // _TICKS:010d}.{total % _TICKS:05d}"
