# SPDX-License-Identifier: Apache-2.0
"""As much of Glance's API as Cinder needs: images as files in a directory, no users, no policies.

The real one takes part in the full stack; here the driver's own way of reading and writing images is tested.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

_TIME = "2026-01-01T00:00:00Z"


def _describe(image_id: str, given: dict) -> dict:
    whole = {
        "id": image_id,
        "status": "queued",
        "name": "image",
        "visibility": "private",
        "container_format": "bare",
        "disk_format": "raw",
        "min_disk": 0,
        "min_ram": 0,
        "size": None,
        "virtual_size": None,
        "checksum": None,
        "protected": False,
        "owner": "stand",
        "tags": [],
        "created_at": _TIME,
        "updated_at": _TIME,
        "self": f"/v2/images/{image_id}",
        "file": f"/v2/images/{image_id}/file",
        "schema": "/v2/schemas/image",
    }
    return whole | given


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # a connection for each request: no thread waits for the next one
    images: dict[str, dict]
    directory: Path

    def log_message(self, *args) -> None:
        pass

    def _answer(self, status: int, body: object = None) -> None:
        payload = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if payload else "text/plain")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _read(self) -> bytes:
        return b"".join(self._receive())

    def _receive(self) -> Iterator[bytes]:
        """What was sent, in parts."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    @property
    def _words(self) -> list[str]:
        return self.path.split("?")[0].strip("/").split("/")

    def do_GET(self) -> None:
        match self._words:
            case ["versions"]:
                self._answer(200, {"versions": [{"id": "v2.9", "status": "CURRENT"}]})
            case ["v2", "images"]:
                self._answer(200, {"images": list(self.images.values())})
            case ["v2", "images", image_id] if image_id in self.images:
                self._answer(200, self.images[image_id])
            case ["v2", "images", image_id, "file"] if image_id in self.images:
                self._send_file(self.directory / image_id)
            case ["v2", "schemas", "image"]:
                self._answer(200, {"name": "image", "properties": {key: {} for key in _describe("", {})}})
            case _:
                self._answer(404)

    def _send_file(self, path: Path) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        with path.open("rb") as file:
            self.connection.sendfile(file)

    def do_POST(self) -> None:
        image_id = str(uuid.uuid4())
        self.images[image_id] = _describe(image_id, json.loads(self._read() or b"{}"))
        self._answer(201, self.images[image_id])

    def do_PUT(self) -> None:
        image_id = self._words[2]
        size = 0
        with (self.directory / image_id).open("wb") as file:
            for part in self._receive():
                size += len(part)
                # Most of an image is holes.
                if part.count(0) == len(part):
                    file.seek(len(part), os.SEEK_CUR)
                else:
                    file.write(part)
            file.truncate(size)
        self.images[image_id] |= {"status": "active", "size": size}
        self._answer(204)

    def do_PATCH(self) -> None:
        image_id = self._words[2]
        for change in json.loads(self._read()):
            self.images[image_id][change["path"].strip("/")] = change.get("value")
        self._answer(200, self.images[image_id])

    def do_DELETE(self) -> None:
        self.images.pop(self._words[2], None)
        self._answer(204)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[str]:
    """Serve images; yields the URL."""
    directory.mkdir()
    handler = type("Handler", (_Handler,), {"images": {}, "directory": directory})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
