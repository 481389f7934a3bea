# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.waiting import LIMIT_S

from lustack.sync.sinks.http import Answer, Connections, Node, NodeError, Request


class Handler(BaseHTTPRequestHandler):
    """Echoes what was asked; closes the connection when it is told to."""

    protocol_version = "HTTP/1.1"

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        text = b"\n".join([self.command.encode(), self.path.encode(), body])
        self.server.asked.append((self.client_address, dict(self.headers)))
        self.send_response(202)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-Found", "Yes")
        if "close" in self.path:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)
        if "drop" in self.path:
            # Without saying so, as a server does whose idle connections have a limit.
            self.close_connection = True

    do_GET = do_UPDATE = do_HEAD = handle_any

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.asked = []
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def node(server):
    return Node("127.0.0.1", server.server_address[1], "sda", 7)


@pytest.fixture
def connections():
    with contextlib.closing(Connections(timeout_s=LIMIT_S)) as found:
        yield found


def request(path="c", body=b"", method="UPDATE"):
    return Request(method, ("a", path), {"X-Timestamp": "1"}, {"marker": "ä b"}, body)


def test_a_request_says_where_and_what(server, node, connections):
    answer = connections.ask(node, request("ü \0", b"rows"))
    assert answer.body.decode() == "UPDATE\n/sda/7/a/%C3%BC%20%00?marker=%C3%A4+b\nrows"
    assert (answer.status, answer.headers["x-found"], answer.is_success) == (202, "Yes", True)
    headers = server.asked[0][1]
    assert headers["X-Timestamp"] == "1"
    assert headers["X-Backend-Allow-Reserved-Names"] == "true"


def test_a_request_without_a_query_has_none(node, connections):
    answer = connections.ask(node, Request("GET", ("a",), {}, {}))
    assert answer.body == b"GET\n/sda/7/a\n"


def test_a_connection_is_used_again(server, node, connections):
    for _ in range(3):
        connections.ask(node, request())
    assert len({address for address, _ in server.asked}) == 1


@pytest.mark.parametrize("path", ["close", "drop"])
def test_a_connection_that_was_closed_is_made_anew(server, node, connections, path):
    for _ in range(3):
        connections.ask(node, request(path))
    assert len({address for address, _ in server.asked}) == 3


def test_a_server_that_is_down_is_named(connections):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        node = Node("127.0.0.1", listener.getsockname()[1], "sda", 7)
    with pytest.raises(NodeError, match=rf"127.0.0.1:{node.port}/sda: .*refused") as caught:
        connections.ask(node, request())
    assert caught.value.retryable


def test_a_server_that_says_nothing_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        node = Node("127.0.0.1", listener.getsockname()[1], "sda", 7)
        with contextlib.closing(Connections(timeout_s=0.1)) as connections:
            with pytest.raises(NodeError, match="timed out"):
                connections.ask(node, request())


def test_a_server_that_goes_away_is_named(server, node, connections):
    connections.ask(node, request("drop"))
    server.shutdown()
    server.server_close()
    with pytest.raises(NodeError):
        connections.ask(node, request())


def test_an_answer_is_a_success_or_not():
    assert not Answer(404, {}, b"").is_success
    assert not Answer(199, {}, b"").is_success


def test_a_request_has_a_name():
    assert str(request()) == "UPDATE /a/c"
