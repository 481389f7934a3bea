# SPDX-License-Identifier: Apache-2.0
"""Object metadata <-> bytes.

A file carries up to four attribute blobs: what PUT wrote and what POST wrote, each in a part for its owner
(`user.*`) and a part that only the system may write (`trusted.*`). Each blob is a JSON object with a version.

Rule 1: what PUT wrote and what POST wrote stay apart, so that system metadata survives a POST
(Source: swift/obj/diskfile.py:2965-2985).
Rule 2: everything here is native text; HTTP's encodings are the business of the callers.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from lustack.errors import LustackError

VERSION = 1
_SYSTEM_PREFIXES = ("x-object-sysmeta-", "x-object-transient-sysmeta-")
_TIMESTAMP = re.compile(r"[0-9]{10}\.[0-9]{5}(?:_[0-9a-f]{1,16})?")
_FORMS = {
    "X-Timestamp": _TIMESTAMP,
    "Content-Type-Timestamp": _TIMESTAMP,
    "X-Delete-At": re.compile(r"[0-9]{1,10}"),
}
"""Headers that Swift's object server parses without a net."""

_SYSTEM_PART = b'"system"'
"""The key that says so; only a header whose value is this very word looks the same."""

_IN_NO_HEADER = re.compile("[\r\n\0\ud800-\udc7f\udd00-\udfff]")
"""What HTTP cannot carry: JSON can hold line breaks, and halves of characters that no encoding takes. From U+DC80 to
U+DCFF are the bytes that are no UTF-8. Source: PEP 383."""

_NS = 1_000_000_000
_TICK_NS = 10_000
_CLOCKS_DIFFER_NS = 300 * _NS
"""More than the clocks of two nodes ever differ."""


class CorruptMetadataError(LustackError):
    """A metadata blob that cannot be read.

    Attributes:
        why: what is wrong with it.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the metadata cannot be read: {self.why}"


@dataclass(frozen=True)
class Stamp:
    """The identity of the bytes that metadata describes.

    Attributes:
        inode: st_ino (on Lustre it is made of the FID).
        size_bytes: st_size.
        mtime_ns: st_mtime_ns.
    """

    inode: int
    size_bytes: int
    mtime_ns: int

    def etag(self) -> str:
        """See `opaque_etag`."""
        return opaque_etag(self.inode, self.size_bytes, self.mtime_ns)


@dataclass(frozen=True)
class DataLayer:
    """What PUT wrote (or what the hasher learned of a file that a job wrote).

    Attributes:
        stamp: the bytes that it describes.
        headers: metadata of the owner, X-Timestamp, ETag, Content-Type among them.
        system: metadata that only the system may write.
    """

    stamp: Stamp
    headers: dict[str, str]
    system: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MetaLayer:
    """What POST wrote.

    Attributes:
        inode: the file that it was written to.
        headers: metadata of the owner with X-Timestamp, and Content-Type with Content-Type-Timestamp if POST set it.
        system: transient system metadata.
    """

    inode: int
    headers: dict[str, str]
    system: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Blobs:
    """The attribute values of one file, None where there is none.

    Attributes:
        data: `user.lustack.data`.
        data_system: `trusted.lustack.data`.
        meta: `user.lustack.meta`.
        meta_system: `trusted.lustack.meta`.
    """

    data: bytes | None = None
    data_system: bytes | None = None
    meta: bytes | None = None
    meta_system: bytes | None = None


def timestamp_text(time_ns: int) -> str:
    """Nanoseconds since 1970 -> Swift's normal form, cut to 10 us. Source: swift/common/utils/timestamp.py."""
    digits = "%015d" % (time_ns // _TICK_NS)  # noqa: UP031 (the quickest way, for each file of a tree)
    return digits[:-5] + "." + digits[-5:]


def opaque_etag(inode: int, size_bytes: int, mtime_ns: int) -> str:
    """An S3 entity tag for bytes whose MD5 nobody knows: it changes with them, and its dash says it is no MD5."""
    # Clients keep it: what it is made of never changes, the room for a data version (decision 0016) included.
    text = f"{inode}:{size_bytes}:{mtime_ns}:None"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + "-1"


def is_system(key: str) -> bool:
    """Whether only the system may write this header: a file's owner could forge what it protects."""
    lower = key.lower()
    return lower.startswith(_SYSTEM_PREFIXES) or lower == "x-static-large-object"


def render_data(layer: DataLayer, replaced: DataLayer | None = None, *, trusted: bool) -> Blobs:
    """A data layer as the blobs to store; `data_system` first, `data` last.

    The system's part keeps what the layer in force names too, so that a crash between the two writes mixes nothing.

    Args:
        layer: what to store.
        replaced: the layer in force where the blobs go, None if there is none.
        trusted: true where `trusted.*` attributes can be written: system metadata goes there, else beside the rest.
    """
    # Version 1 has room for a data version, which nothing fills: decision 0016.
    stamp = [layer.stamp.inode, layer.stamp.size_bytes, layer.stamp.mtime_ns, None]
    document: dict[str, Any] = {"version": VERSION, "stamp": stamp, "headers": layer.headers}
    system = None
    if layer.system and trusted:
        document["system"] = True
        part: dict[str, Any] = {"version": VERSION, "inode": layer.stamp.inode, "headers": layer.system}
        if replaced is not None and _time_of(replaced) != _time_of(layer):
            part["replaced"] = {_time_of(replaced): replaced.system}
        system = _render(part)
    elif layer.system:
        document["system"] = layer.system
    return Blobs(data=_render(document), data_system=system)


def parse_data(data: bytes, data_system: bytes | None, *, trusted: bool) -> DataLayer:
    """The inverse of `render_data`.

    Raises:
        CorruptMetadataError: a blob is not one of ours.
    """
    document = _parse(data)
    layer = DataLayer(_stamp(document), _headers(document, "headers", trusted=trusted))
    if document.get("system") is True and trusted:
        layer = replace(layer, system=_system_of(data_system, layer))
    elif not trusted and isinstance(document.get("system"), dict):
        layer = replace(layer, system=_headers(document, "system", trusted=False))
    return layer


def names_system_part(blob: bytes) -> bool:
    """Whether the system's part of this `user.*` blob counts at all, and so has to be read; told without parsing."""
    return _SYSTEM_PART in blob


def render_meta(layer: MetaLayer, old: MetaLayer | None, *, trusted: bool) -> Blobs:
    """A meta layer as the blobs to store; `meta_system` first, `meta` last.

    The system's part keeps what the part in force names too, so that a crash between the two writes loses neither.

    Args:
        layer: what to store.
        old: the layer in force where the blobs go, None if there is none.
        trusted: as for `render_data`.
    """
    document: dict[str, Any] = {"version": VERSION, "inode": layer.inode, "headers": layer.headers}
    system = None
    if layer.system and trusted:
        document["system"] = True
        generations = {} if old is None else {old.headers["X-Timestamp"]: old.system}
        generations[layer.headers["X-Timestamp"]] = layer.system
        system = _render({"version": VERSION, "inode": layer.inode, "generations": generations})
    elif layer.system:
        document["system"] = layer.system
    return Blobs(meta=_render(document), meta_system=system)


def parse_meta(meta: bytes, meta_system: bytes | None, *, trusted: bool) -> MetaLayer:
    """The inverse of `render_meta`.

    Raises:
        CorruptMetadataError: a blob is not one of ours.
    """
    document = _parse(meta)
    if type(document.get("inode")) is not int:
        raise CorruptMetadataError("the inode is not a number")
    layer = MetaLayer(document["inode"], _headers(document, "headers", trusted=trusted))
    if "X-Timestamp" not in layer.headers:
        raise CorruptMetadataError("X-Timestamp is missing")
    if "Content-Type-Timestamp" in layer.headers and "Content-Type" not in layer.headers:
        raise CorruptMetadataError("Content-Type is missing")
    if document.get("system") is True and trusted:
        system = _generations(meta_system).get(layer.headers["X-Timestamp"], {})
        layer = replace(layer, system=system)
    elif not trusted and isinstance(document.get("system"), dict):
        layer = replace(layer, system=_headers(document, "system", trusted=False))
    return layer


def merge_meta(old: MetaLayer | None, new: MetaLayer) -> MetaLayer:
    """Two POSTs on one object: the newer one decides, for Content-Type by its own timestamp.

    Source: swift/obj/diskfile.py:2874, where two .meta files are merged.
    """
    if old is None or old.inode != new.inode:
        return new
    winner, loser = (old, new) if old.headers["X-Timestamp"] > new.headers["X-Timestamp"] else (new, old)
    time = "Content-Type-Timestamp"
    if loser.headers.get(time, "") <= winner.headers.get(time, ""):
        return winner
    content_type = {key: loser.headers[key] for key in ("Content-Type", time)}
    return replace(winner, headers={**winner.headers, **content_type})


def is_from_future(headers: dict[str, str], now_ns: int) -> bool:
    """Whether a timestamp is later than any clock: the file's owner forged it, to win against every request."""
    latest = timestamp_text(now_ns + _CLOCKS_DIFFER_NS)
    return any(headers.get(key, "") > latest for key in ("X-Timestamp", "Content-Type-Timestamp"))


def _system_of(blob: bytes | None, layer: DataLayer) -> dict[str, str]:
    if blob is None:
        raise CorruptMetadataError("the system's part is missing")
    document = _parse(blob)
    if document.get("inode") != layer.stamp.inode:
        raise CorruptMetadataError("the system's part is of another file")
    replaced = document.get("replaced")
    if isinstance(replaced, dict) and _time_of(layer) in replaced:
        return _headers(replaced, _time_of(layer), trusted=False)
    return _headers(document, "headers", trusted=False)


def _time_of(layer: DataLayer) -> str:
    return layer.headers.get("X-Timestamp", "")


def _generations(blob: bytes | None) -> dict[str, dict[str, str]]:
    """The system's parts of the last two POSTs by their X-Timestamp."""
    if blob is None:
        return {}
    found = _parse(blob).get("generations")
    if not isinstance(found, dict):
        raise CorruptMetadataError("generations is not an object")
    return {time: _headers(found, time, trusted=False) for time in found}


def _headers(document: dict[str, Any], key: str, *, trusted: bool) -> dict[str, str]:
    """Checked headers of a document; where `trusted.*` is used, system metadata does not count here."""
    found = document.get(key)
    if not isinstance(found, dict):
        raise CorruptMetadataError(f"{key} is not an object")
    for name, value in found.items():
        if not isinstance(value, str) or _IN_NO_HEADER.search(name + value):
            raise CorruptMetadataError(f"header {name!r} is no header")
        form = _FORMS.get(name.title())
        if form is not None and not form.fullmatch(value):
            raise CorruptMetadataError(f"{name} is {value!r}")
    return {name: value for name, value in found.items() if not (trusted and is_system(name))}


def _stamp(document: dict[str, Any]) -> Stamp:
    stamp = document.get("stamp")
    if not isinstance(stamp, list) or [type(part) for part in stamp] != [int, int, int, type(None)]:
        raise CorruptMetadataError("the stamp is not three numbers and a null")
    return Stamp(*stamp[:-1])


def _render(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _parse(blob: bytes) -> dict[str, Any]:
    try:
        document = json.loads(blob)
    except (ValueError, RecursionError):
        raise CorruptMetadataError("it is not JSON") from None
    if not isinstance(document, dict):
        raise CorruptMetadataError("it is not an object")
    if document.get("version") != VERSION:
        raise CorruptMetadataError(f"version {document.get('version')!r}, this lustack reads {VERSION}")
    return document
