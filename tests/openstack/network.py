# SPDX-License-Identifier: Apache-2.0
"""The few answers that Nova asks of Neutron for servers without networks."""

from __future__ import annotations

import contextlib
import http.server
import json
import sys
import threading
from collections.abc import Iterator


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # a connection for each request: no thread waits for the next one

    def log_message(self, *args) -> None:
        pass

    def _answer(self, status: int, body: dict) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        name = path.rpartition("/")[2].removesuffix(".json").replace("-", "_")
        link = {"rel": "self", "href": f"http://{self.headers['Host']}/v2.0/"}
        answers = {
            "": {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]},
            "v2.0": {"resources": []},
        }
        known = {"quota": {}} if path.startswith("v2.0/quotas") else {name: []}
        self._answer(200, answers.get(path, known))

    def do_POST(self) -> None:
        self._answer(404, {"NeutronError": "there are no networks here"})


@contextlib.contextmanager
def running(port: int) -> Iterator[None]:
    """Answer on a port of loopback."""
    # Sockets of this server would become eventlet's, and its threads would wait for each other.
    assert "eventlet" not in sys.modules, "a test imports eventlet"
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="network")
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
