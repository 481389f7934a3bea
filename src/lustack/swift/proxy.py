# SPDX-License-Identifier: Apache-2.0
"""The short path, `egg:lustack#proxy`: a proxy that reaches readable files without an object server's socket.

    [app:proxy-server]
    use = egg:lustack#proxy
    lustre_object_server_conf = /etc/swift/object-server.conf

It is Swift's proxy. Only for policies whose disk file is ours the controller of objects hands a request to the object
server in this process, where the stock one opens a connection: four methods, the same four in which Swift's own
controllers of replicated and of erasure coded objects differ.

Rule 1: the answer is the one that the stock proxy would have made of the object server's answer.
Rule 2: a request goes to one place: the file system is the same everywhere, so there is nobody else to ask.

Source: swift/proxy/controllers/obj.py, swift/proxy/controllers/base.py of 2.38.3.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from swift.common.http import (
    HTTP_CLIENT_CLOSED_REQUEST,
    HTTP_CONFLICT,
    HTTP_OK,
    HTTP_PARTIAL_CONTENT,
    HTTP_PRECONDITION_FAILED,
    HTTP_REQUEST_TIMEOUT,
    HTTP_SERVICE_UNAVAILABLE,
    is_success,
)
from swift.common.storage_policy import POLICIES
from swift.common.swob import HTTPAccepted, HTTPPreconditionFailed, Response, normalize_etag
from swift.common.utils import Timestamp, close_if_possible
from swift.common.wsgi import loadwsgi
from swift.proxy.controllers.base import get_cache_key, is_good_source, update_headers
from swift.proxy.controllers.obj import ReplicatedObjectController
from swift.proxy.server import Application, parse_per_policy_config

from lustack.swift import embedded
from lustack.swift.embedded import Answer, Upload
from lustack.swift.faults import RETRY_AFTER_S
from lustack.swift.policies import is_ours
from lustack.swift.reader import PosixDiskFileReader, Span
from lustack.swift.sendfile import StraightBody, way_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SENDFILE = "egg:lustack#sendfile"
_READING = frozenset({"GET", "HEAD"})
_COUNTED = {
    HTTP_REQUEST_TIMEOUT: "object.client_timeouts",
    HTTP_CLIENT_CLOSED_REQUEST: "object.client_disconnects",
}


class FileObjectController(ReplicatedObjectController):
    """Requests for objects that are files."""

    _allowed: ClassVar[frozenset[str]] = frozenset()

    @property
    def allowed_methods(self) -> Any:
        """What clients may ask for: the same for every request.

        Swift looks at every attribute of every controller for it, which takes a tenth of a small request (measured).
        """
        cls = type(self)
        if not cls._allowed:
            cls._allowed = frozenset(super().allowed_methods)
        return cls._allowed

    def container_info(self, account: str, container: str, req: Any) -> Any:
        """What is known of the container; for a GET or HEAD what this request knows already. Its parts are not copied.

        Swift has looked it up to choose this controller. Looking again copies all of it deeply, and chooses the nodes
        that an upload tells, which is much of what the application does for a small request (bench/README.md).
        """
        known = req.environ.get("swift.infocache", {}).get(get_cache_key(account, container))
        if known is None or req.method not in _READING:
            return super().container_info(account, container, req)
        return {**known, "storage_policy": int(known["storage_policy"] or 0)}

    def _backend_requests(self, req: Any, n_outgoing: int, *args: Any, **kwargs: Any) -> Any:
        """The headers of one request, which names every container server, however many nodes the ring has."""
        return super()._backend_requests(req, 1, *args, **kwargs)

    def _get_or_head_response(self, req: Any, node_iter: Any, partition: int, policy: Any) -> Response:
        path = self._path(policy.object_ring, partition)
        own = {
            "HTTP_X_TRANS_ID": self.trans_id,
            "HTTP_CONNECTION": "close",
            "HTTP_USER_AGENT": self.app.backend_user_agent,
        }
        if self.app.object_server.log_requests:
            # Nothing else reads it, and quoting the address is much work.
            own["HTTP_REFERER"] = req.as_referer()
        answer = self.app.object_server.ask(embedded.environ_like(req.environ, path, own))
        if is_good_source(answer.status, self.server_type):
            return _found(req, answer)
        return self._best(req, answer)

    def _store_object(
        self, req: Any, data_source: Iterator[bytes], nodes: Any, partition: int, outgoing_headers: Any
    ) -> Response:
        policy = POLICIES.get_by_index(req.headers["X-Backend-Storage-Policy-Index"])
        headers = outgoing_headers[0]
        if headers.get("Content-Length") == "0":
            # Middleware that copies says 0 when it does not know. Source: swift/proxy/controllers/obj.py:807.
            del headers["Content-Length"]
            headers["Transfer-Encoding"] = "chunked"
        path = self._path(policy.object_ring, partition)
        environ = embedded.environ_of("PUT", path, headers, Upload(req, data_source))
        if req.environ.get("swift.callback.update_footers"):
            embedded.add_footers(environ, lambda: self._get_footers(req))
        answer = self.app.object_server.ask(environ)
        return self._stored(req, answer)

    def _stored(self, req: Any, answer: Answer) -> Response:
        if answer.status in _COUNTED:
            self.logger.increment(_COUNTED[answer.status])
        if answer.status == HTTP_PRECONDITION_FAILED:
            answer.read()
            return HTTPPreconditionFailed(request=req)
        if answer.status == HTTP_CONFLICT:
            answer.read()
            return HTTPAccepted(request=req)
        response = self._best(req, answer, with_headers=False)
        if is_success(answer.status):
            response.headers["etag"] = normalize_etag(dict(answer.headers)["Etag"])
        response.last_modified = Timestamp(req.headers["X-Timestamp"])
        return response

    def _post_object(self, req: Any, obj_ring: Any, partition: int, headers: Any) -> Response:
        return self._send(req, obj_ring, partition, headers)

    def _delete_object(
        self,
        req: Any,
        obj_ring: Any,
        partition: int,
        headers: Any,
        node_count: int | None = None,
        node_iterator: Any = None,
    ) -> Response:
        return self._send(req, obj_ring, partition, headers)

    def _send(self, req: Any, obj_ring: Any, partition: int, headers: Any) -> Response:
        environ = embedded.environ_of(req.method, self._path(obj_ring, partition), headers[0])
        return self._best(req, self.app.object_server.ask(environ))

    def _path(self, obj_ring: Any, partition: int) -> str:
        device = obj_ring.get_part_nodes(partition)[0]["device"]
        return f"/{device}/{partition}/{self.account_name}/{self.container_name}/{self.object_name}"

    def _best(self, req: Any, answer: Answer, *, with_headers: bool = True) -> Response:
        """What the proxy says when a single object server answered this: 503 for what only a server can mend."""
        headers = [answer.headers] if with_headers else None
        kind = f"{self.server_type} {req.method}"
        body = answer.read()
        response = self.best_response(req, [answer.status], [answer.reason], [body], kind, headers=headers)
        if response.status_int == HTTP_SERVICE_UNAVAILABLE:
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return response


def _found(req: Any, answer: Answer) -> Response:
    """As swift.proxy.controllers.base.GetOrHeadHandler.get_working_response."""
    headers = {key.lower(): value for key, value in answer.headers}
    response = Response(request=req)
    response.status = answer.status
    update_headers(response, answer.headers)
    if req.method == "GET" and answer.status in (HTTP_OK, HTTP_PARTIAL_CONTENT):
        response.app_iter = _straighten(answer.body, req.environ)
    else:
        close_if_possible(answer.body)
    response.environ["swift_x_timestamp"] = headers.get("x-timestamp")
    response.accept_ranges = "bytes"
    response.content_length = headers.get("content-length")
    if headers.get("content-type"):
        response.charset = None
        response.content_type = headers["content-type"]
    return response


def _straighten(body: Any, environ: Mapping[str, Any]) -> Any:
    """The body, by sendfile where the client's connection allows it and it is worth it."""
    way = way_of(environ)
    span = iter(body) if isinstance(body, PosixDiskFileReader) else body
    if way is None or not isinstance(span, Span) or span.stop - span.position <= span.chunk_bytes:
        return body
    return StraightBody(span, way)


class FileApplication(Application):
    """Swift's proxy with our controller for the objects of our policies."""

    def __init__(self, conf: Mapping[str, Any], logger: Any = None, **kwargs: Any) -> None:
        """Reads the options.

        Args:
            conf: the section of the proxy; `lustre_object_server_conf` names the file that says how files are
                handled, `object-server.conf` in `swift_dir` by default.
            logger: for tests; Swift's own otherwise.
            kwargs: rings, for tests.

        Raises:
            ConfigurationError: that file is not there or has an option of ours that is not usable.
        """
        super().__init__(conf, logger, **kwargs)
        path = conf.get("lustre_object_server_conf", os.path.join(self.swift_dir, "object-server.conf"))
        overrides = {"client_timeout": str(self.client_timeout)}
        self.object_server = embedded.load(path, overrides, logger)
        for policy in POLICIES:
            if is_ours(policy):
                self.obj_controller_router.policy_to_controller_cls[int(policy)] = FileObjectController

    def modify_wsgi_pipeline(self, pipe: Any) -> None:
        """Puts the filter that sends files before all others; Swift asks when it makes a pipeline."""
        super().modify_wsgi_pipeline(pipe)
        context = loadwsgi.loadcontext(loadwsgi.FILTER, _SENDFILE, global_conf=pipe.context.global_conf)
        context.protocol, context.name = "paste.filter_factory", "sendfile"
        pipe.insert_filter(context)


def app_factory(global_conf: Mapping[str, str], **local_conf: str) -> FileApplication:
    """paste.deploy's entry point."""
    conf: dict[str, Any] = {**global_conf, **local_conf}
    conf["policy_config"] = parse_per_policy_config(conf)
    app = FileApplication(conf)
    app.check_config()
    return app
