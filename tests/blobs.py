# SPDX-License-Identifier: Apache-2.0
"""Metadata blobs for the tests of mapping."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from lustack.mapping import metadata
from lustack.mapping.metadata import Blobs, DataLayer, MetaLayer, Stamp
from lustack.mapping.view import Defaults, ObjectView
from lustack.mapping.view import describe as describe_file

NOW_NS = 1_700_000_000_000_000_000
STAMP = Stamp(inode=42, size_bytes=7, mtime_ns=1_600_000_000_123_456_789)
MTIME = "1600000000.12345"
PUT, POST, LATER = "1650000000.00000", "1660000000.00000", "1670000000.00000"
HEADERS = {
    "X-Timestamp": PUT,
    "Content-Type": "text/plain",
    "ETag": "0123456789abcdef0123456789abcdef",
    "X-Object-Meta-Color": "grün",
}
SYSTEM = {"X-Object-Sysmeta-Secret": "s", "X-Static-Large-Object": "True"}
DEFAULTS = Defaults(NOW_NS)
OWN_ETAG = f"; s3_etag={STAMP.etag()}"

header_values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=20)
header_names = header_values.filter(lambda name: name.title() not in metadata._FORMS and not metadata.is_system(name))
headers = st.dictionaries(header_names, header_values, max_size=4)
system_headers = st.dictionaries(header_values.map("X-Object-Sysmeta-".__add__), header_values, max_size=3)
stamps = st.builds(Stamp, st.integers(0, 2**64), st.integers(0, 2**63), st.integers(-(2**63), 2**63))


def put(*, stamp: Stamp = STAMP, trusted: bool = True, **more: str) -> Blobs:
    return metadata.render_data(DataLayer(stamp, {**HEADERS, **more}, SYSTEM), trusted=trusted)


def post(*, inode: int = 42, trusted: bool = True, **more: str) -> Blobs:
    layer = MetaLayer(
        inode, {"X-Timestamp": POST, "X-Object-Meta-New": "n", **more}, {"X-Object-Transient-Sysmeta-T": "t"}
    )
    return metadata.render_meta(layer, None, trusted=trusted)


def both(data: Blobs, meta: Blobs) -> Blobs:
    return Blobs(data.data, data.data_system, meta.meta, meta.meta_system)


def describe(blobs: Blobs, stamp: Stamp = STAMP, defaults: Defaults = DEFAULTS) -> ObjectView:
    return describe_file(stamp, STAMP.mtime_ns, blobs, defaults)


def forge(blob: bytes | None, **changes: object) -> bytes:
    return json.dumps({**json.loads(blob or b"{}"), **changes}).encode()
