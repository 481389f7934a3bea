# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lustack.server import readiness
from lustack.server.topology import Access, Program


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        status = self.server.answers.get(self.path.split("?")[0], 404)
        if status == "hang up":
            self.close_connection = True
            return
        self.server.asked.append((self.path, dict(self.headers)))
        self.send_response(status)
        if "auth" in self.path and status == 200:
            self.send_header("X-Auth-Token", "tk")
        self.end_headers()

    def log_message(self, *what):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.answers = {"/healthcheck": 200, "/auth/v1.0": 200, "/v1/AUTH_test": 204}
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def find_missing(server):
    base = f"http://127.0.0.1:{server.server_port}"
    access = Access(f"{base}/auth/v1.0", f"{base}/v1/AUTH_test", "test:tester", "testing", base, "", "")
    programs = [Program("memcached", ()), Program("proxy-server", (), server.server_port)]
    return readiness.find_missing(programs, access)


def test_nothing_is_missing_when_everything_answers(server):
    assert find_missing(server) is None
    path, headers = server.asked[-1]
    assert (path, headers["X-Auth-Token"]) == ("/v1/AUTH_test?limit=1", "tk")


@pytest.mark.parametrize(
    ("path", "answer", "sentence"),
    [
        ("/healthcheck", 503, r"proxy-server on port \d+ \(status 503\)"),
        ("/healthcheck", "hang up", r"proxy-server on port \d+ \(no answer\)"),
        ("/auth/v1.0", 500, r"the login of test:tester \(status 500\)"),
        ("/v1/AUTH_test", 503, r"the account of test:tester \(status 503\)"),
    ],
)
def test_what_does_not_answer_is_named(server, path, answer, sentence):
    server.answers[path] = answer
    assert re.fullmatch(sentence, find_missing(server))


def test_nobody_there_is_no_answer(server):
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as other:
        port = other.server_port
    assert readiness.find_missing([Program("proxy-server", (), port)], None).endswith("(no answer)")
