# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from swift.common.header_key_dict import HeaderKeyDict
from swift.common.storage_policy import POLICIES
from swift.common.swob import Request
from tests.objects import SwiftLog, at, close_locks

from lustack.errors import ConfigurationError
from lustack.swift import embedded
from lustack.swift.embedded import Answer, EmbeddedObjectServer, Upload


@pytest.fixture
def conf_file(swift_conf: Path, tmp_path: Path) -> Path:
    path = tmp_path / "object-server.conf"
    (tmp_path / "devices" / "d").mkdir(parents=True)
    path.write_text(
        f"[DEFAULT]\ndevices = {tmp_path}/devices\nmount_check = false\nclient_timeout = 7\n"
        "[pipeline:main]\npipeline = object-server\n"
        f"[app:object-server]\nuse = egg:swift#object\nlustre_spool_dir = {tmp_path}\n"
    )
    return path


@pytest.fixture
def server(conf_file: Path) -> Iterator[EmbeddedObjectServer]:
    server = embedded.load(str(conf_file), {}, SwiftLog())
    yield server
    close_locks(server._diskfile_router[POLICIES[0]])


def put(server: EmbeddedObjectServer, chunks: list[bytes], **headers: str) -> Answer:
    wanted = {"X-Timestamp": at(1).internal, "Content-Type": "text/plain", "Transfer-Encoding": "chunked", **headers}
    upload = Upload(Request.blank("/"), iter(chunks))
    return server.ask(embedded.environ_of("PUT", "/d/0/a/c/o", wanted, upload))


def get(server: EmbeddedObjectServer, **headers: str) -> Answer:
    original = {"REQUEST_METHOD": "GET", "HTTP_X_BACKEND_STORAGE_POLICY_INDEX": "0"}
    return server.ask(embedded.environ_like(original, "/d/0/a/c/o", headers))


class TestLoad:
    def test_the_options_are_those_of_the_file_and_what_overrides_them(self, conf_file):
        server = embedded.load(str(conf_file), {"client_timeout": "3"}, SwiftLog())
        assert server.client_timeout == 3
        assert embedded.load(str(conf_file), {}, SwiftLog()).client_timeout == 7

    def test_requests_are_logged_once_and_that_is_by_the_proxy(self, server):
        assert server.log_requests is False

    def test_without_the_file_nothing_starts(self, tmp_path):
        with pytest.raises(ConfigurationError, match=r"lustre_object_server_conf = '/nowhere'"):
            embedded.load("/nowhere", {})


class TestAsk:
    def test_what_was_put_is_got(self, server):
        assert put(server, [b"hel", b"lo"]).status == 201
        answer = get(server)
        assert (answer.status, answer.reason, answer.read()) == (200, "OK", b"hello")
        assert dict(answer.headers)["Content-Length"] == "5"

    def test_a_header_of_the_environment_replaces_the_clients(self, server):
        put(server, [b"hello"])
        assert get(server, HTTP_RANGE="bytes=1-2").read() == b"el"

    def test_an_exception_of_swift_is_an_answer(self, server):
        answer = get(server)
        assert (answer.status, answer.reason) == (404, "Not Found")
        assert answer.read().startswith(b"<html>")

    def test_values_lose_the_blanks_that_a_socket_would_have_taken(self, server):
        put(server, [b"x"], **{"X-Object-Meta-Color": " red\t"})
        answer = get(server)
        answer.read()
        assert dict(answer.headers)["X-Object-Meta-Color"] == "red"


class TestFooters:
    def test_they_are_asked_for_after_the_last_byte(self, server):
        seen = []

        def chunks():
            yield b"hello"
            seen.append("last byte")

        def footers():
            seen.append("footers")
            return HeaderKeyDict({"Etag": "5D41402abc4b2a76b9719d911017c592", "X-Object-Sysmeta-A": "b"})

        headers = {"X-Timestamp": at(1).internal, "Content-Type": "text/plain", "Content-Length": "5"}
        environ = embedded.environ_of("PUT", "/d/0/a/c/o", headers, Upload(Request.blank("/"), chunks()))
        embedded.add_footers(environ, footers)
        assert server.ask(environ).status == 201
        assert seen == ["last byte", "footers"]
        answer = get(server)
        answer.read()
        assert dict(answer.headers)["X-Object-Sysmeta-A"] == "b"

    def test_an_etag_in_them_is_checked(self, server):
        headers = {"X-Timestamp": at(1).internal, "Content-Type": "text/plain", "Content-Length": "5"}
        environ = embedded.environ_of("PUT", "/d/0/a/c/o", headers, Upload(Request.blank("/"), iter([b"hello"])))
        embedded.add_footers(environ, lambda: HeaderKeyDict({"Etag": "0" * 32}))
        assert server.ask(environ).status == 422
        assert get(server).status == 404


class TestUpload:
    def test_it_ends_with_nothing_and_stays_at_its_end(self):
        upload = Upload(Request.blank("/"), iter([b"a", b"b"]))
        assert [upload.read(1) for _ in range(4)] == [b"a", b"b", b"", b""]

    def test_more_than_the_largest_object_is_413(self, server, monkeypatch):
        monkeypatch.setattr("swift.common.constraints.MAX_FILE_SIZE", 5)
        assert put(server, [b"hel", b"lo!"]).status == 413
        assert put(server, [b"hel", b"lo"]).status == 201


def test_a_body_is_closed_when_it_was_read():
    class Body(list):
        closed = False

        def close(self) -> None:
            self.closed = True

    body = Body([b"a", b"b"])
    assert Answer(200, "OK", [], body).read() == b"ab"
    assert body.closed
