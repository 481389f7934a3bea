# SPDX-License-Identifier: Apache-2.0
"""Object metadata <-> bytes, and what a file looks like as an object.

A file carries up to four attribute blobs: what PUT wrote and what POST wrote, each in a part for its owner
(`user.*`) and a part that only the system may write (`trusted.*`). Each blob is a JSON object with a version.

Rule 1: nothing in a blob is believed before the stamp matches. `cp -a` carries attributes to other files, and
jobs write to files that Swift made.
Rule 2: what cannot be parsed is reported in `ObjectView.problems`, and the file is served as a bare one.
Rule 3: what PUT wrote and what POST wrote stay apart, so that system metadata survives a POST
(Source: swift/obj/diskfile.py:2965-2985).
Rule 4: everything here is native text; HTTP's encodings are the business of the callers.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lustack.errors import LustackError

VERSION = 1
EMPTY_ETAG = "d41d8cd98f00b204e9800998ecf8427e"
"""MD5 of no bytes."""

OCTET_STREAM = "application/octet-stream"
S3_ETAG_HEADER = "X-Object-Sysmeta-S3Api-Etag"
OVERRIDE_PREFIX = "x-object-sysmeta-container-update-override-"
"""Source: swift/common/request_helpers.py OBJECT_SYSMETA_CONTAINER_UPDATE_OVERRIDE_PREFIX."""

_OVERRIDE_ETAG_HEADER = "X-Object-Sysmeta-Container-Update-Override-Etag"
_SYSTEM_PREFIXES = ("x-object-sysmeta-", "x-object-transient-sysmeta-")
_DATA_ONLY = frozenset({"content-length", "deleted", "etag", "x-static-large-object"})
"""Headers of the data layer that a POST never hides. Source: swift/obj/diskfile.py RESERVED_DATAFILE_META."""

_OF_THE_BYTES = frozenset({"content-length", "etag", "x-static-large-object", "x-timestamp"})
"""Headers that describe the bytes, besides system metadata: they fall when a job has written."""

_TIMESTAMP = re.compile(r"[0-9]{10}\.[0-9]{5}(?:_[0-9a-f]{1,16})?")
_SIZE = re.compile(r"[0-9]{1,19}")
_FORMS = {
    "X-Timestamp": _TIMESTAMP,
    "Content-Type-Timestamp": _TIMESTAMP,
    "X-Delete-At": re.compile(r"[0-9]{1,10}"),
}
"""Headers that Swift's object server parses without a net."""

_NS = 1_000_000_000
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
        data_version: Lustre's data version, None elsewhere.
    """

    inode: int
    size_bytes: int
    mtime_ns: int
    data_version: int | None = None

    def etag(self) -> str:
        """An S3 entity tag for bytes whose MD5 nobody knows: it changes with them, and its dash says it is no MD5."""
        text = f"{self.inode}:{self.size_bytes}:{self.mtime_ns}:{self.data_version}"
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + "-1"


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


class Origin(enum.Enum):
    """Who wrote the bytes of an object."""

    SWIFT = "swift"
    CHANGED = "changed"
    POSIX = "posix"


@dataclass(frozen=True)
class ObjectView:
    """A file as an object.

    Attributes:
        origin: who wrote the bytes.
        data: the data layer as Swift wants it; without ETag where nobody knows it.
        meta: what POST wrote, None if nothing holds.
        problems: sentences about blobs that were not believed.
    """

    origin: Origin
    data: dict[str, str]
    meta: dict[str, str] | None = None
    problems: tuple[str, ...] = ()

    @property
    def etag(self) -> str | None:
        """MD5 of the bytes, None while nobody knows it."""
        return self.data.get("ETag")

    def merged(self) -> dict[str, str]:
        """Both layers as one, as a GET shows them."""
        if self.meta is None:
            return dict(self.data)
        merged = dict(self.meta)
        merged.update({key: value for key, value in self.data.items() if _outlives_post(key)})
        if self.data["X-Timestamp"] > merged.get("Content-Type-Timestamp", ""):
            merged["Content-Type"] = self.data["Content-Type"]
            merged.pop("Content-Type-Timestamp", None)
        return merged


@dataclass(frozen=True)
class Row:
    """What a container listing holds about an object, besides its timestamps.

    Attributes:
        size_bytes: length of the object.
        content_type: with Swift's own parameters (`swift_bytes`).
        etag: with Swift's own parameters (`s3_etag`, `slo_etag`, ...).
    """

    size_bytes: int
    content_type: str
    etag: str


def timestamp_text(time_ns: int) -> str:
    """Nanoseconds since 1970 -> Swift's normal form, cut to 10 us. Source: swift/common/utils/timestamp.py."""
    return f"{time_ns // _NS:010d}.{time_ns % _NS // 10_000:05d}"


def posix_time_ns(mtime_ns: int, ctime_ns: int, now_ns: int) -> int:
    """The time that a file of a job shows: its mtime unless that is impossible.

    A time in the future would make Swift refuse the next PUT, so then ctime counts, or at last a second ago.
    """
    for time_ns in (mtime_ns, ctime_ns):
        if _NS <= time_ns <= now_ns:
            return time_ns
    return now_ns - _NS


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
    stamp = [layer.stamp.inode, layer.stamp.size_bytes, layer.stamp.mtime_ns, layer.stamp.data_version]
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
    stamp = document.get("stamp")
    if not isinstance(stamp, list) or len(stamp) != len(Stamp.__dataclass_fields__) or not all(map(_is_number, stamp)):
        raise CorruptMetadataError("the stamp is not four numbers")
    layer = DataLayer(Stamp(*stamp), _headers(document, "headers", trusted=trusted))
    if document.get("system") is True and trusted:
        layer = replace(layer, system=_system_of(data_system, layer))
    elif not trusted and isinstance(document.get("system"), dict):
        layer = replace(layer, system=_headers(document, "system", trusted=False))
    return layer


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


def describe(stamp: Stamp, ctime_ns: int, blobs: Blobs, defaults: Defaults) -> ObjectView:
    """What a file looks like as an object.

    Args:
        stamp: the file's bytes now.
        ctime_ns: st_ctime_ns.
        blobs: its attributes.
        defaults: what to say where the attributes say nothing.
    """
    problems: list[str] = []
    layer = _believe(parse_data, blobs.data, blobs.data_system, defaults, problems)
    meta = _believe(parse_meta, blobs.meta, blobs.meta_system, defaults, problems)
    seen = timestamp_text(posix_time_ns(stamp.mtime_ns, ctime_ns, defaults.now_ns))
    if layer is None or layer.stamp.inode != stamp.inode:
        view = ObjectView(Origin.POSIX, _bare(stamp, seen, defaults.content_type))
    elif layer.stamp != stamp:
        view = ObjectView(Origin.CHANGED, _changed(layer, stamp, seen, defaults.content_type))
    elif "X-Timestamp" in layer.headers:
        view = ObjectView(Origin.SWIFT, _fresh(layer, stamp, defaults.content_type))
    else:
        view = ObjectView(Origin.POSIX, _hashed(layer, stamp, seen, defaults.content_type))
    if meta is not None and meta.inode == stamp.inode and _is_in_force(meta, view):
        view = replace(view, meta={**meta.headers, **meta.system})
    return replace(view, problems=tuple(problems))


@dataclass(frozen=True)
class Defaults:
    """What `describe` needs to know besides the file.

    Attributes:
        now_ns: the time.
        content_type: for files that carry none.
        trusted: whether system metadata counts only in `trusted.*`.
    """

    now_ns: int
    content_type: str = OCTET_STREAM
    trusted: bool = True


def is_from_future(headers: dict[str, str], now_ns: int) -> bool:
    """Whether a timestamp is later than any clock: the file's owner forged it, to win against every request."""
    latest = timestamp_text(now_ns + _CLOCKS_DIFFER_NS)
    return any(headers.get(key, "") > latest for key in ("X-Timestamp", "Content-Type-Timestamp"))


def with_etag(view: ObjectView, etag: str) -> ObjectView:
    """The same object now that the MD5 of its bytes is known."""
    data = {key: value for key, value in view.data.items() if key not in (S3_ETAG_HEADER, _OVERRIDE_ETAG_HEADER)}
    return replace(view, data={**data, "ETag": etag})


def listing_row(view: ObjectView) -> Row:
    """What the container's listing should hold. Source: swift/obj/server.py:606 (_check_container_override)."""
    merged = view.merged()
    found = {
        "size": merged["Content-Length"],
        "content-type": merged["Content-Type"],
        "etag": merged.get("ETag", ""),
    }
    for key, value in merged.items():
        if key.lower().startswith(OVERRIDE_PREFIX):
            found[key[len(OVERRIDE_PREFIX) :].lower()] = value
    size = found["size"] if _SIZE.fullmatch(found["size"]) else merged["Content-Length"]
    return Row(int(size), found["content-type"], found["etag"])


_Layer = TypeVar("_Layer", DataLayer, MetaLayer)


def _believe(
    parse: Callable[..., _Layer], blob: bytes | None, system: bytes | None, defaults: Defaults, problems: list[str]
) -> _Layer | None:
    """One layer, None if there is none, or if it cannot be believed: that is a problem of this layer alone."""
    if not blob:
        return None
    try:
        layer = parse(blob, system, trusted=defaults.trusted)
    except CorruptMetadataError as error:
        problems.append(str(error))
        return None
    if is_from_future(layer.headers, defaults.now_ns):
        problems.append("the metadata is from the future")
        return None
    return layer


def _fresh(layer: DataLayer, stamp: Stamp, content_type: str) -> dict[str, str]:
    """The data layer of a file whose bytes are those that PUT wrote."""
    headers = {"Content-Type": content_type, **_etag_of(layer, stamp), **layer.headers, **layer.system}
    return {**headers, "Content-Length": str(stamp.size_bytes)}


def _bare(stamp: Stamp, seen: str, content_type: str) -> dict[str, str]:
    """The data layer of a file that carries nothing of ours."""
    headers = {"X-Timestamp": seen, "Content-Type": content_type, "Content-Length": str(stamp.size_bytes)}
    return {**headers, **_etag_of(None, stamp)}


def _etag_of(layer: DataLayer | None, stamp: Stamp) -> dict[str, str]:
    """What stands for the ETag where a layer has none: without any the container server fails."""
    if layer is not None and "ETag" in layer.headers:
        return {}
    if stamp.size_bytes == 0:
        return {"ETag": EMPTY_ETAG}
    return {S3_ETAG_HEADER: stamp.etag(), _OVERRIDE_ETAG_HEADER: f"; s3_etag={stamp.etag()}"}


def _changed(layer: DataLayer, stamp: Stamp, seen: str, content_type: str) -> dict[str, str]:
    """A job wrote to the file: what its owner said stays, what describes the bytes goes."""
    kept = {key: value for key, value in layer.headers.items() if key.lower() not in _OF_THE_BYTES}
    time = max(seen, layer.headers.get("X-Timestamp", seen))
    return {**_bare(stamp, seen, content_type), **kept, "X-Timestamp": time}


def _hashed(layer: DataLayer, stamp: Stamp, seen: str, content_type: str) -> dict[str, str]:
    """A file of a job whose MD5 the hasher wrote down."""
    headers = {"X-Timestamp": seen, "Content-Type": content_type, **_etag_of(layer, stamp)}
    return {**headers, **layer.headers, "Content-Length": str(stamp.size_bytes)}


def _is_in_force(meta: MetaLayer, view: ObjectView) -> bool:
    """A POST counts when it is newer than the PUT; on the bytes of a job it always does."""
    return view.origin is not Origin.SWIFT or meta.headers["X-Timestamp"] > view.data["X-Timestamp"]


def _outlives_post(key: str) -> bool:
    lower = key.lower()
    return lower in _DATA_ONLY or lower.startswith("x-object-sysmeta-")


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
        if not isinstance(value, str) or not _is_header(name + value):
            raise CorruptMetadataError(f"header {name!r} is no header")
        form = _FORMS.get(name.title())
        if form is not None and not form.fullmatch(value):
            raise CorruptMetadataError(f"{name} is {value!r}")
    return {name: value for name, value in found.items() if not (trusted and is_system(name))}


def _is_header(text: str) -> bool:
    """Whether HTTP can carry it: JSON can hold line breaks, and halves of characters that no encoding takes."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return not any(char in text for char in "\r\n\0")


def _is_number(value: object) -> bool:
    return value is None or type(value) is int


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
