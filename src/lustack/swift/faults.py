# SPDX-License-Identifier: Apache-2.0
"""Errors of the file system -> what Swift's object server understands. The only boundary of the storage policy.

| the file system says            | the client gets                                                     |
|---------------------------------|---------------------------------------------------------------------|
| ENOSPC, EDQUOT                  | 507 (see below)                                                     |
| EACCES, EPERM                   | 403                                                                 |
| ENOENT, ESTALE, ENXIO           | 404 when reading, 503 when writing (the tree changed meanwhile)     |
| ENOTDIR, ELOOP, EXDEV, EISDIR, EEXIST | 404 when reading, 403 when writing (see below)                |
| the directory of an export is not there, or the table of exports is damaged | 503: nothing is gone |
| nothing, for too long           | 503 with Retry-After                                                |
| that the device is not mounted  | 507, which a proxy makes a 503                                      |
| anything else, EIO for one      | 500 without a traceback, and an ERROR line in the log               |

A stock proxy shuts a node out for a minute when it answers 507, and tells the client 503. With one shared file
system that would turn one user's full quota into everybody's outage, so no room is answered as a client error
whose reason says what it means; `lustack.swift.namespace` makes it a 507 again on its way out.
What is in the way of an object (a symbolic link in the place of its container, say) is no 503 for the same reason.
Source: swift/proxy/controllers/obj.py:885, swift/common/error_limiter.py:77.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from swift.common.exceptions import DiskFileDeviceUnavailable, DiskFileNotExist, DiskFileXattrNotSupported
from swift.common.swob import HTTPException

from lustack.exports.errors import ExportMissingError
from lustack.mapping.exports import ExportsDamagedError
from lustack.posix.errors import XattrUnsupportedError
from lustack.swift.calls import StalledError
from lustack.swift.device import DeviceMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NO_ROOM_STATUS = "413 Insufficient Storage"
"""What the object server answers when there is no room; its reason is the mark."""

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_CHANGED = frozenset({errno.ENOENT, errno.ESTALE, errno.ENXIO})
_IN_THE_WAY = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.EISDIR, errno.EEXIST})
_GONE = _CHANGED | _IN_THE_WAY


RETRY_AFTER_S = 10
"""When a client may ask again that met a file system which does not answer."""


class UnavailableError(DiskFileDeviceUnavailable, DiskFileXattrNotSupported):
    """The device is not there. The object server expects the first when it gets a disk file, the second later."""


def http_error(status: str, text: str, headers: Mapping[str, str] | None = None) -> HTTPException:
    """An answer that ends a request, as an exception that the object server passes on."""
    return HTTPException(status=status, body=text + "\n", content_type="text/plain", headers=headers)


@contextmanager
def reading(logger: Any, name: str) -> Iterator[None]:
    """Translates while an object is looked up or read.

    Args:
        logger: Swift's logger.
        name: the object, for the log.
    """
    try:
        with _device(logger, name):
            yield
    except OSError as error:
        if error.errno in _GONE:
            raise DiskFileNotExist from error
        raise _other(error, logger, name) from error


@contextmanager
def writing(logger: Any, name: str) -> Iterator[None]:
    """Translates while an object is written or removed.

    Args:
        logger: Swift's logger.
        name: the object, for the log.
    """
    try:
        with _device(logger, name):
            yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise http_error(NO_ROOM_STATUS, "The file system has no room left, or a quota is reached.") from error
        if error.errno in _IN_THE_WAY:
            text = "Something that is no directory, or a link, is in the way of this object."
            raise http_error("403 Forbidden", text) from error
        if error.errno in _GONE:
            text = "The directories of this object changed while it was written. Try again."
            raise http_error("503 Service Unavailable", text) from error
        raise _other(error, logger, name) from error


def out_of_reach() -> HTTPException:
    """What is said of an object that nobody can look for now."""
    return http_error("503 Service Unavailable", "The directory of this container is out of reach. Try again later.")


@contextmanager
def _device(logger: Any, name: str) -> Iterator[None]:
    """Translates what is wrong with the device as such."""
    try:
        yield
    except XattrUnsupportedError as error:
        logger.error("%s: %s", name, error)  # noqa: TRY400 - the sentence says it, no traceback
        raise DiskFileXattrNotSupported(str(error)) from error
    except (ExportMissingError, ExportsDamagedError) as error:
        logger.error("%s: %s", name, error)  # noqa: TRY400 - the sentence says it, no traceback
        raise out_of_reach() from error
    except DeviceMissingError as error:
        raise UnavailableError(str(error)) from error
    except StalledError as error:
        text = "The file system does not answer. Try again."
        raise http_error("503 Service Unavailable", text, {"Retry-After": str(RETRY_AFTER_S)}) from error


def _other(error: OSError, logger: Any, name: str) -> HTTPException:
    if error.errno in _FORBIDDEN:
        return http_error("403 Forbidden", "The file system does not permit this.")
    logger.error("%s: the file system failed: %s", name, error)
    return http_error("500 Internal Error", "The file system failed.")
