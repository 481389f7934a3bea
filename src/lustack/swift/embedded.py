# SPDX-License-Identifier: Apache-2.0
"""Swift's object server inside the proxy: the same code, asked by a call instead of over a socket.

Rule 1: what a request means is decided by Swift's own object server. Here is only what the socket did: the environment
of a request, its body, and what middleware says of an object after its last byte (footers; over a socket they are a
MIME document behind the body).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from swift.common import constraints
from swift.common.header_key_dict import HeaderKeyDict
from swift.common.swob import HTTPRequestEntityTooLarge, str_to_wsgi
from swift.common.utils import close_if_possible
from swift.common.wsgi import loadcontext, loadwsgi
from swift.obj.server import ObjectController

from lustack.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_FOOTERS = "lustack.footers"
_INPUT = "wsgi.input"
_CONTENT = frozenset({"CONTENT-LENGTH", "CONTENT-TYPE"})
_BASE = {
    "SCRIPT_NAME": "",
    "QUERY_STRING": "",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "0",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


@dataclass(frozen=True)
class Answer:
    """What an object server says.

    Attributes:
        status: the number.
        reason: the words behind it.
        headers: in its order.
        body: to be iterated over, and to be closed.
    """

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: Iterable[bytes]

    def read(self) -> bytes:
        """The whole body, which is closed."""
        try:
            return b"".join(self.body)
        finally:
            close_if_possible(self.body)


class Upload:
    """The body of a PUT as the object server reads it.

    Counts what passes: no object is larger than Swift allows.
    """

    def __init__(self, request: Any, chunks: Iterator[bytes]) -> None:
        """Reads nothing yet.

        Args:
            request: of the client.
            chunks: what the client sends.
        """
        self._request = request
        self._chunks = chunks
        self._read_bytes = 0

    def read(self, _size: int = -1) -> bytes:
        """The next bytes, as many as come at once; none at the end.

        Raises:
            HTTPException: 413, there are too many.
            ChunkReadError: the client went away.
        """
        chunk = next(self._chunks, b"")
        self._read_bytes += len(chunk)
        if self._read_bytes > constraints.MAX_FILE_SIZE:
            raise HTTPRequestEntityTooLarge(request=self._request)
        return chunk


class EmbeddedObjectServer(ObjectController):
    """Swift's object server, without a socket. One for all requests, as the original."""

    def ask(self, environ: dict[str, Any]) -> Answer:
        """Answers one request.

        Args:
            environ: as `environ_of` or `environ_like` make it.
        """
        started: list[Any] = []
        body = self(environ, lambda status, headers, _=None: started.extend((status, headers)))
        number, _, reason = started[0].partition(" ")
        return Answer(int(number), reason, started[1], body)

    def _do_multi_stage_mime_continue_headers(self, request: Any, obj_input: Any) -> tuple[Any, dict[str, Any]]:
        footers = request.environ.get(_FOOTERS)
        if footers is None:
            return obj_input, {}
        state = {"have_metadata_footer": True, "use_multiphase_commit": False, "mime_documents_iter": footers}
        return obj_input, state

    def _read_metadata_footer(self, mime_documents_iter: Callable[[], HeaderKeyDict]) -> HeaderKeyDict:
        return mime_documents_iter()

    def _drain_mime_request(self, mime_documents_iter: Any, **kwargs: Any) -> None:
        """There is nothing behind the body."""


def load(conf_path: str, overrides: Mapping[str, str], logger: Any = None) -> EmbeddedObjectServer:
    """The object server that a file configures.

    Args:
        conf_path: an object-server.conf, or a directory of such files; what belongs to the socket in it does not count.
        overrides: options that count more.
        logger: for tests; Swift's own otherwise.

    Raises:
        ConfigurationError: there is no such file, or one of our options in it is not usable.
    """
    if not os.path.exists(conf_path):
        allowed = "the path of an object-server.conf, which says where the devices are"
        raise ConfigurationError("proxy-server.conf", "lustre_object_server_conf", conf_path, allowed)
    # The proxy logs every request already.
    conf = {"log_requests": "false", **_options(conf_path), **overrides}
    return EmbeddedObjectServer(conf, logger)


def _options(conf_path: str) -> dict[str, str]:
    """The section of the server with the defaults of its file, whether there is a pipeline before it or not."""
    found = loadcontext(loadwsgi.APP, conf_path)
    context = getattr(found, "app_context", found)
    return {**context.global_conf, **context.local_conf}


def environ_of(method: str, path: str, headers: Mapping[str, Any], upload: Upload | None = None) -> dict[str, Any]:
    """The environment of a request (PEP 3333).

    Args:
        method: PUT, POST or DELETE.
        path: device, partition, account, container and object, as native text.
        headers: as a proxy sends them.
        upload: the body, None if there is none.
    """
    environ = {**_BASE, "REQUEST_METHOD": method, "PATH_INFO": str_to_wsgi(path), _INPUT: upload or BytesIO()}
    for header, value in headers.items():
        name = header.upper()
        key = name.replace("-", "_")
        environ[key if name in _CONTENT else "HTTP_" + key] = str(value).strip(" \t")
    return environ


def environ_like(original: Mapping[str, Any], path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """The environment of a request without a body that has every header of another one.

    Args:
        original: the environment of the client's request, a GET or HEAD.
        path: device, partition, account, container and object, as native text.
        headers: which replace the client's, by their keys in an environment.
    """
    environ = {key: value for key, value in original.items() if key.startswith("HTTP_")}
    environ.update(_BASE)
    environ.update(headers)
    environ["REQUEST_METHOD"] = original["REQUEST_METHOD"]
    environ["QUERY_STRING"] = original.get("QUERY_STRING") or ""
    environ["PATH_INFO"] = str_to_wsgi(path)
    environ[_INPUT] = BytesIO()
    return environ


def add_footers(environ: dict[str, Any], footers: Callable[[], HeaderKeyDict]) -> None:
    """Lets middleware say something of an object after its last byte.

    Args:
        environ: of a PUT.
        footers: is called once, then.
    """
    environ[_FOOTERS] = footers
