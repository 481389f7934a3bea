# SPDX-License-Identifier: Apache-2.0
"""Proxy filter `egg:lustack#namespace`: containers are directories.

It belongs directly before the last `proxy-logging`, right of everything that makes requests of its own:

    [filter:namespace]
    use = egg:lustack#namespace
    devices = /srv/node

- PUT of a container makes its directory, so that jobs can copy files to it at once.
- DELETE of a container is refused with 409 while files or directory markers are in the directory, whether Swift has
  seen them or not; afterwards the directory, and the account's when it is empty, are removed.
- An export is a container that only an administrator makes and removes: DELETE of it, or of its account, is refused.
  While its directory is out of reach, requests for its objects get their 503 here: ten of an object server would make
  the proxy leave it alone for a minute, and everybody would suffer.
- When the object server says that there is no room, the client gets the 507 that it should.
- A static large object of files whose MD5 nobody knows yet is refused with 400, and "503" for each such file, until
  the background hasher has read them.

Names that would reach `.lustack/` need no rule here: `lustack.mapping.names` gives every Swift name another place.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from swift.common.storage_policy import POLICIES
from swift.common.swob import HTTPConflict, HTTPException, HTTPServiceUnavailable, Request, wsgi_to_str
from swift.common.utils import get_logger
from swift.proxy.controllers.base import get_container_info

from lustack.errors import ConfigurationError
from lustack.mapping import names
from lustack.swift import containers, faults
from lustack.swift.calls import Bounds, Calls
from lustack.swift.gate import Gate
from lustack.swift.policies import is_ours, root_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# It makes 500 of a 507. Of a 413 that speaks of a quota it makes a client error with these words.
# Source: swift/common/middleware/s3api/s3request.py:2162,2280.
_NO_ROOM_FOR_S3 = "413 Request Entity Too Large"
_HASHED_AFTER_S = "10"
_EXPORT = "This container is a directory that an administrator exports; `lustack export remove` ends that.\n"
_EXPORTS = "Containers of this account are directories that an administrator exports (`lustack export list`).\n"
_BOUNDS = Bounds(places=2, deadline_s=30, patience_s=5)
_Result = TypeVar("_Result")
_CONFLICT = "The directory of this container is not empty: {} is in it, listed or not. Remove it first.\n"


class NamespaceMiddleware:
    """The filter. Blocking calls run in Swift's thread pool."""

    def __init__(self, app: Any, conf: Mapping[str, str], logger: Any = None) -> None:
        """Remembers where the devices are.

        Args:
            app: the rest of the pipeline.
            conf: the filter's section.
            logger: for tests; Swift's own otherwise.

        Raises:
            ConfigurationError: `devices` is not an absolute path.
        """
        self.app = app
        self.logger = logger or get_logger(conf, log_route="namespace")
        self._calls: dict[str, Calls] = {}
        self.devices = conf.get("devices", "/srv/node")
        self.swift_dir = conf.get("swift_dir", "/etc/swift")
        if not self.devices.startswith("/"):
            raise ConfigurationError("[filter:namespace]", "devices", self.devices, "an absolute path")
        self.gate = Gate(self.devices, self.swift_dir, self.logger)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Handles one request (PEP 3333)."""
        try:
            answer = self._answer(Request(environ))
        except HTTPException as error:
            answer = _with_no_room(error, environ)
        return answer(environ, start_response)

    def _answer(self, request: Request) -> Any:
        try:
            parts = request.split_path(2, 4, True)
        except ValueError:
            return self.app
        _, account, container, obj = (part and wsgi_to_str(part) for part in parts)
        if obj:
            self.gate.check(account, container)
            return self._object(request)
        if container and request.method == "PUT":
            return self._put(request, account, container)
        if container and request.method == "DELETE":
            return self._delete(request, account, container)
        if not container and request.method == "DELETE":
            return self._delete_account(request, account)
        return self.app

    def _object(self, request: Request) -> Any:
        if request.method == "HEAD" and request.environ.get("swift.source") == "SLO":
            return self._segment(request)
        if request.method not in ("PUT", "POST", "DELETE"):
            return self.app
        return _with_no_room(request.get_response(self.app), request.environ)

    def _segment(self, request: Request) -> Any:
        """What the SLO filter asks about a segment: it needs the ETag, and fails if there is none."""
        response = request.get_response(self.app)
        if response.is_success and not response.etag:
            return HTTPServiceUnavailable(request=request, headers={"Retry-After": _HASHED_AFTER_S})
        return response

    def _put(self, request: Request, account: str, container: str) -> Any:
        response = request.get_response(self.app)
        if not response.is_success:
            return response
        root = self._root(request, account, container)
        if root is None or self.gate.find(account, container):
            return response
        with faults.writing(self.logger, f"/{account}/{container}"):
            self._run(root, containers.make, names.container_path(account, container))
        return response

    def _delete(self, request: Request, account: str, container: str) -> Any:
        denied = self._denied(request)
        if denied is not None:
            return denied
        root = self._root(request, account, container)
        if root is None:
            return self.app
        if self.gate.find(account, container):
            return HTTPConflict(request=request, body=_EXPORT.encode(), content_type="text/plain")
        path = names.container_path(account, container)
        with faults.writing(self.logger, f"/{account}/{container}"):
            found = self._run(root, containers.first_object, path)
        if found is not None:
            return HTTPConflict(
                request=request,
                body=_CONFLICT.format(os.fsdecode(found)).encode("utf-8", "replace"),
                content_type="text/plain",
            )
        response = request.get_response(self.app)
        if response.is_success:
            with faults.writing(self.logger, f"/{account}/{container}"):
                self._run(root, self._remove, path)
        return response

    def _delete_account(self, request: Request, account: str) -> Any:
        """Swift's reaper would remove every object of the account, thus every file of its exports."""
        denied = self._denied(request)
        if denied is not None:
            return denied
        if self.gate.has_exports(account):
            return HTTPConflict(request=request, body=_EXPORTS.encode(), content_type="text/plain")
        return self.app

    def _run(self, root: str, call: Callable[..., _Result], path: bytes) -> _Result:
        """Runs a call for a container's directory in one of the few threads that each device has for them."""
        if root not in self._calls:
            self._calls[root] = Calls(root, self.logger, _BOUNDS)
        return self._calls[root].line().run(call, root, path)

    def _denied(self, request: Request) -> Any:
        """What the authorisation says, before anybody learns what is in the directory."""
        authorize = request.environ.get("swift.authorize")
        return authorize(request) if authorize else None

    def _root(self, request: Request, account: str, container: str) -> str | None:
        """The device root of the container's policy, None if the policy is not ours."""
        info = get_container_info(request.environ, self.app, swift_source="LU")
        policy = POLICIES.get_by_index(info["storage_policy"])
        return root_of(policy, self.devices, self.swift_dir) if policy and is_ours(policy) else None

    def _remove(self, root: str, path: bytes) -> None:
        """The container is gone; a file that came in between stays, and says so in the log."""
        try:
            containers.remove(root, path)
        except OSError as error:
            self.logger.warning("the directory of the deleted container %r stays: %s", path, error)


def _with_no_room(response: Any, environ: Mapping[str, Any]) -> Any:
    """The same answer; with the right status when the file system has no room."""
    if response.status == faults.NO_ROOM_STATUS:
        response.status = _NO_ROOM_FOR_S3 if environ.get("swift.source") == "S3" else "507 Insufficient Storage"
    return response


def filter_factory(global_conf: Mapping[str, str], **local_conf: str) -> Callable[[Any], NamespaceMiddleware]:
    """paste.deploy's entry point."""
    conf = {**global_conf, **local_conf}
    return lambda app: NamespaceMiddleware(app, conf)
