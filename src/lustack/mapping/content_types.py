# SPDX-License-Identifier: Apache-2.0
"""The Content-Type of a file that no client ever named one for, from its name alone.

The table is Python's own and not the machine's `/etc/mime.types`, so that every node says the same.
"""

from __future__ import annotations

import mimetypes
from functools import lru_cache

from lustack.mapping.view import OCTET_STREAM

_TABLE = mimetypes.MimeTypes(filenames=())


def guess(name: str) -> str:
    """The media type for an object name, `application/octet-stream` if its suffix says nothing."""
    stem, dot, suffix = name.rpartition(".")
    return _of_suffix(suffix.lower()) if dot and stem and "/" not in suffix else OCTET_STREAM


@lru_cache(maxsize=1024)
def _of_suffix(suffix: str) -> str:
    return _TABLE.types_map[True].get("." + suffix, OCTET_STREAM)
