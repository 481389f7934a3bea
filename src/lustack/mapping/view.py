# SPDX-License-Identifier: Apache-2.0
"""What a file looks like as an object.

Rule 1: nothing in a blob is believed before the stamp matches. `cp -a` carries attributes to other files, and
jobs write to files that Swift made.
Rule 2: what cannot be parsed is reported in `ObjectView.problems`, and the file is served as a bare one.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from lustack.mapping.metadata import (
    Blobs,
    CorruptMetadataError,
    DataLayer,
    MetaLayer,
    Stamp,
    is_from_future,
    parse_data,
    parse_meta,
    timestamp_text,
)

S3_ETAG_HEADER = "X-Object-Sysmeta-S3Api-Etag"
OVERRIDE_PREFIX = "x-object-sysmeta-container-update-override-"
"""Source: swift/common/request_helpers.py OBJECT_SYSMETA_CONTAINER_UPDATE_OVERRIDE_PREFIX."""

_OVERRIDE_ETAG_HEADER = "X-Object-Sysmeta-Container-Update-Override-Etag"
_DATA_ONLY = frozenset({"content-length", "deleted", "etag", "x-static-large-object"})
"""Headers of the data layer that a POST never hides. Source: swift/obj/diskfile.py RESERVED_DATAFILE_META."""

_OF_THE_BYTES = frozenset({"content-length", "etag", "x-static-large-object", "x-timestamp"})
"""Headers that describe the bytes, besides system metadata: they fall when a job has written."""

_SIZE = re.compile(r"[0-9]{1,19}")
_SWIFT_BYTES = re.compile(r"\s*;\s*swift_bytes=[^;]*")
"""How Swift notes the size of a big object in its type. Source: swift/common/middleware/slo.py:1592."""

EMPTY_ETAG = "d41d8cd98f00b204e9800998ecf8427e"
"""MD5 of no bytes."""

OCTET_STREAM = "application/octet-stream"

_NS = 1_000_000_000


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


def posix_time_ns(mtime_ns: int, ctime_ns: int, now_ns: int) -> int:
    """The time that a file of a job shows: its mtime unless that is impossible.

    A time in the future would make Swift refuse the next PUT, so then ctime counts, or at last a second ago.
    """
    if _NS <= mtime_ns <= now_ns:
        return mtime_ns
    return ctime_ns if _NS <= ctime_ns <= now_ns else now_ns - _NS


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
        view = _with_meta(view, meta, layer)
    return replace(view, problems=tuple(problems)) if problems else view


@dataclass(frozen=True)
class Defaults:
    """What `describe` needs to know besides the file.

    Attributes:
        now_ns: the time of the request, which may come late: what expires is removed with the time of its end.
        content_type: for files that carry none.
        trusted: whether system metadata counts only in `trusted.*`.
        clock_ns: the time, if `now_ns` is earlier.
    """

    now_ns: int
    content_type: str = OCTET_STREAM
    trusted: bool = True
    clock_ns: int = 0


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
    if is_from_future(layer.headers, max(defaults.now_ns, defaults.clock_ns)):
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
    return {**_bare(stamp, seen, content_type), **_without_bytes(kept), "X-Timestamp": time}


def _with_meta(view: ObjectView, meta: MetaLayer, layer: DataLayer | None) -> ObjectView:
    """With what a POST said. That a job wrote later says nothing about the type of its bytes."""
    if view.origin is Origin.SWIFT:
        return replace(view, meta={**meta.headers, **meta.system})
    headers, data = _without_bytes(meta.headers), view.data
    written = layer.headers.get("X-Timestamp", "") if layer is not None else ""
    if headers.get("Content-Type-Timestamp", "") > written:
        data = {**data, "Content-Type": headers["Content-Type"]}
    return replace(view, data=data, meta={**headers, **meta.system})


def _without_bytes(headers: dict[str, str]) -> dict[str, str]:
    """Headers of an owner on bytes of which Swift does not know how many they are."""
    if "Content-Type" not in headers:
        return headers
    return {**headers, "Content-Type": _SWIFT_BYTES.sub("", headers["Content-Type"])}


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
