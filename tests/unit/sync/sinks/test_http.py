# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import socket
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.waiting import LIMIT_S

from lustack.sync.sinks.http import Answer, Connections, Node, NodeError, Request


class Handler(BaseHTTPRequestHandler):
    """Echoes what was asked; closes the connection when it is told to."""

    protocol_version = "HTTP/1.1"

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        assert self.server.may_talk.wait(LIMIT_S)
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
        found.may_talk = threading.Event()
        found.may_talk.set()
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


class Silent:
    """A server that takes connections and says nothing, and a clock."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.node = Node("127.0.0.1", self.listener.getsockname()[1], "sda", 7)
        self.now_s = 1000.0
        self.connections = Connections(timeout_s=0.05, monotonic_s=lambda: self.now_s)

    def close(self):
        self.connections.close()
        self.listener.close()

    def said(self, *, is_spare=True):
        with pytest.raises(NodeError) as caught:
            self.connections.ask(self.node, request(), is_spare=is_spare)
        return caught.value.why


@pytest.fixture
def silent():
    with contextlib.closing(Silent()) as found:
        yield found


def test_a_server_that_says_nothing_is_left_alone_for_a_while_where_others_can_answer(silent):
    assert [silent.said() for _ in range(3)] == ["timed out", *["it said nothing lately"] * 2]
    assert silent.said(is_spare=False) == "timed out"
    silent.now_s += 31.0
    assert [silent.said(), silent.said()] == ["timed out", "it said nothing lately"]


def test_one_request_at_a_time_tries_whether_it_is_back(silent):
    silent.said()
    silent.now_s += 31.0
    assert [silent.connections._is_avoided(silent.node) for _ in range(3)] == [False, True, True]


def test_a_server_that_is_back_is_asked_as_ever(silent):
    silent.said()
    silent.listener.accept()[0].close()
    silent.now_s += 31.0
    answers = threading.Thread(target=lambda: answer_once(silent.listener))
    answers.start()
    silent.connections._timeout_s = LIMIT_S
    assert silent.connections.ask(silent.node, request(), is_spare=True).status == 204
    answers.join()
    assert not silent.connections._is_avoided(silent.node)


def answer_once(listener):
    connection, _ = listener.accept()
    with connection:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


def test_where_nothing_comes_no_idle_connection_is_trusted(server, node, connections):
    connections.ask(node, request())
    [[idle]] = connections._idle.values()
    idle.sock.settimeout(0.05)
    # A second one, of another thread.
    connections._exchange(HTTPConnection(node.host, node.port, timeout=LIMIT_S), node, request())
    connections._idle[node.host, node.port].reverse()
    server.may_talk.clear()
    with pytest.raises(NodeError, match="timed out"):
        connections.ask(node, request())
    server.may_talk.set()
    assert not any(connections._idle.values())
    assert connections.ask(node, request()).is_success


def test_a_machine_that_is_not_there_is_waited_for_less_long(monkeypatch):
    waited_s = []

    def never(_address, timeout, *_):
        waited_s.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", never)
    with pytest.raises(NodeError, match="timed out"):
        Connections().ask(Node("192.0.2.1", 6201, "sda", 7), request())
    assert waited_s == [10.0]


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
