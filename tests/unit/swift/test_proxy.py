# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from swift.common import storage_policy
from swift.common.concurrency import Timeout, sleep
from swift.common.exceptions import ChunkReadError
from swift.common.http import is_success
from swift.common.ring import RingData
from swift.common.swob import Request, Response
from swift.common.utils import logs
from swift.common.wsgi import loadapp
from swift.proxy.controllers.base import headers_to_account_info, headers_to_container_info
from swift.proxy.controllers.obj import ReplicatedObjectController
from tests.objects import SwiftLog, at, close_locks

from lustack.swift import faults
from lustack.swift.embedded import Answer, EmbeddedObjectServer
from lustack.swift.proxy import FileApplication, FileObjectController
from lustack.swift.sendfile import SendfileMiddleware, Slice, Way, Whole

ORIGIN = "http://example.net"


class RecordingServer(EmbeddedObjectServer):
    """It notes what it would tell the container servers."""

    def async_update(
        self, op: str, account: str, container: str, obj: str, host: str, *args: Any, **kwargs: Any
    ) -> None:
        self.__dict__.setdefault("told", []).append((op, account, container, obj, host))


class Body:
    """What a client sends, with whatever happens to it."""

    def __init__(self, *parts: bytes | Callable[[], bytes]) -> None:
        self._parts = iter(parts)

    def read(self, _size: int = -1) -> bytes:
        part = next(self._parts, b"")
        return part() if callable(part) else part


class Stage:
    """Our proxy over an empty device; the container `c` is of our policy, `s` of the stock one."""

    def __init__(self, path: Path, object_nodes: int = 1) -> None:
        self.path = path
        self.devices = path / "devices"
        (self.devices / "d").mkdir(parents=True)
        for name, nodes in (("account", 1), ("container", 2), ("object", object_nodes), ("object-1", 1)):
            save_ring(path / f"{name}.ring.gz", nodes)
        (path / "object-server.conf").write_text(
            f"[DEFAULT]\ndevices = {self.devices}\nmount_check = false\n"
            f"[app:main]\nuse = egg:swift#object\nlustre_spool_dir = {path}\n"
        )
        self.log = SwiftLog()
        self.conf = {"swift_dir": str(path), "client_timeout": "0.2", "allow_open_expired": "true"}
        self.app = FileApplication(self.conf, self.log)
        self.app.object_server.__class__ = RecordingServer
        self.time = 0.0

    @property
    def told(self) -> list[tuple[str, ...]]:
        return self.app.object_server.__dict__.pop("told", [])

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Request:
        self.time += 1
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        headers = {"X-Timestamp": at(self.time).internal, **headers}
        request = Request.blank("/v1/a/" + path, method=method, headers=headers)
        if body is not None:
            request.environ["wsgi.input"] = body if isinstance(body, Body) else Body(body)
            if "CONTENT_LENGTH" not in request.environ:
                request.environ["HTTP_TRANSFER_ENCODING"] = "chunked"
        request.environ["swift.infocache"] = {
            f"container/a/{name}": headers_to_container_info({"X-Backend-Storage-Policy-Index": index}, 204)
            for name, index in (("c", "0"), ("s", "1"))
        }
        return request

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        response = self.request(method, path, body, **headers).get_response(self.app)
        if method != "HEAD":
            response.body = response.body
        return response

    def put(self, path: str, body: bytes = b"hello", **headers: str) -> Response:
        return self.call("PUT", path, body, **headers)


def controller(stage: Stage) -> FileObjectController:
    return FileObjectController(stage.app, account_name="a", container_name="c", object_name="o")


def save_ring(path: Path, nodes: int) -> None:
    devices = [
        {"id": number, "device": "d", "ip": f"127.0.0.{number + 1}", "port": 1, "region": 1, "zone": 1, "weight": 1}
        for number in range(nodes)
    ]
    RingData([[device["id"]] for device in devices], devices, 32).save(str(path))


@pytest.fixture
def stage(swift_conf: Path, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "stage")
    yield stage
    close(stage)


def close(stage: Stage) -> None:
    stage.app.watchdog.kill()
    close_locks(stage.app.object_server._diskfile_router[storage_policy.POLICIES[0]])


class TestChosen:
    def test_only_policies_of_ours_take_the_short_path(self, stage):
        ours, _ = stage.app.get_controller(stage.request("GET", "c/o"))
        stock, _ = stage.app.get_controller(stage.request("GET", "s/o"))
        assert (ours, stock) == (FileObjectController, ReplicatedObjectController)

    @pytest.fixture
    def closed_logs(self) -> Iterator[None]:
        """Swift keeps the connections to the system's log as long as the process lives."""
        before = set(getattr(logs.get_swift_logger, "handler4logger", ()))
        yield
        for logger in set(logs.get_swift_logger.handler4logger) - before:
            with contextlib.closing(logs.get_swift_logger.handler4logger.pop(logger)) as handler:
                logger.removeHandler(handler)

    def test_paste_finds_it_by_the_name_that_the_configuration_has(self, stage, closed_logs):
        conf = stage.path / "proxy-server.conf"
        conf.write_text(f"[app:main]\nuse = egg:lustack#proxy\nswift_dir = {stage.path}\nlog_level = CRITICAL\n")
        app = loadapp(str(conf))
        app.watchdog.kill()
        assert isinstance(app, FileApplication)
        assert app.get_policy_options(None).sorting_method == "shuffle"

    def test_the_filter_that_sends_files_is_the_first_of_every_pipeline(self, stage, closed_logs):
        conf = stage.path / "proxy-server.conf"
        conf.write_text(
            "[DEFAULT]\nlog_level = CRITICAL\n[pipeline:main]\npipeline = healthcheck proxy-server\n"
            "[filter:healthcheck]\nuse = egg:swift#healthcheck\n"
            f"[app:proxy-server]\nuse = egg:lustack#proxy\nswift_dir = {stage.path}\n"
        )
        app = loadapp(str(conf))
        app._pipeline_final_app.watchdog.kill()
        assert type(app) is SendfileMiddleware


class TestSendfile:
    LONG = bytes(range(256)) * 4096

    def call(self, stage: Stage, way: Way | None, **headers: str) -> list[type]:
        request = stage.request("GET", "c/o", **headers)
        request.environ["lustack.way"] = way
        response = request.get_response(stage.app)
        kinds = []
        for chunk in response.app_iter:
            kinds.append(type(chunk))
            if way is not None:
                way.is_open = True
        response.app_iter.close()
        return kinds

    def test_a_long_body_goes_by_the_way_if_there_is_one(self, stage):
        stage.put("c/o", self.LONG)
        assert self.call(stage, Way(None)) == [Whole, Slice]
        assert self.call(stage, Way(None), Range="bytes=5-1000000") == [Whole, Slice]
        assert self.call(stage, None) == [bytes] * 4

    def test_a_short_one_and_a_document_of_several_ranges_do_not(self, stage):
        stage.put("c/o", self.LONG)
        assert self.call(stage, Way(None), Range="bytes=0-9") == [bytes]
        assert Slice not in self.call(stage, Way(None), Range="bytes=0-9,500000-900000")


class TestReading:
    def test_get_and_head_show_the_file(self, stage):
        assert stage.put("c/o", X_Object_Meta_Color="red", Content_Type="text/x").status_int == 201
        assert (stage.devices / "d" / "a" / "c" / "o").read_bytes() == b"hello"
        got, seen = stage.call("GET", "c/o"), stage.call("HEAD", "c/o")
        assert (got.status_int, got.body, seen.status_int) == (200, b"hello", 200)
        for response in (got, seen):
            assert response.headers["X-Object-Meta-Color"] == "red"
            assert response.headers["Content-Type"] == "text/x"
            assert response.headers["Etag"] == "5d41402abc4b2a76b9719d911017c592"
            assert response.headers["Accept-Ranges"] == "bytes"
            assert response.content_length == 5

    def test_what_is_not_there_is_404(self, stage):
        assert stage.call("GET", "c/o").status == "404 Not Found"
        assert stage.call("HEAD", "c/o").status_int == 404

    def test_a_page_of_another_origin_may_read_what_its_container_allows(self, stage):
        stage.put("c/o")
        request = stage.request("GET", "c/o", Origin=ORIGIN)
        request.environ["swift.infocache"]["container/a/c"]["cors"]["allow_origin"] = "*"
        assert request.get_response(stage.app).headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Origin" not in stage.call("GET", "c/o", Origin=ORIGIN).headers

    def test_who_reads_is_told_what_is_known_of_the_container_already(self, stage):
        request = stage.request("GET", "c/o")
        known = request.environ["swift.infocache"]["container/a/c"]
        for index, policy in (("1", 1), (None, 0)):
            known["storage_policy"] = index
            assert controller(stage).container_info("a", "c", request) == {**known, "storage_policy": policy}

    def test_who_writes_is_told_where_the_listing_is(self, stage):
        known = controller(stage).container_info("a", "c", stage.request("PUT", "c/o"))
        assert [node["ip"] for node in known["nodes"]] == ["127.0.0.1", "127.0.0.2"]

    def test_of_a_container_that_nobody_looked_up_swift_finds_out(self, stage):
        request = stage.request("GET", "c/o")
        request.environ["swift.infocache"]["account/a"] = headers_to_account_info({}, 404)
        known = controller(stage).container_info("a", "other", request)
        assert (is_success(known["status"]), known["nodes"]) == (False, None)

    def test_an_object_server_that_keeps_a_log_is_told_what_the_client_asked_for(self, stage):
        asked = []
        server = stage.app.object_server
        server.ask = lambda environ: asked.append(environ) or type(server).ask(server, environ)
        for server.log_requests in (False, True):
            stage.call("GET", "c/o")
        assert [environ.get("HTTP_REFERER") for environ in asked] == [None, "GET http://localhost/v1/a/c/o"]

    def test_an_odd_name_arrives_as_it_was_sent(self, stage):
        name = "c/%C3%A4%20%25%3F%0A%2Fo%2F"
        assert stage.put(name).status_int == 201
        assert stage.call("GET", name).body == b"hello"
        assert stage.told[0][3] == "ä %?\n/o/"

    @pytest.mark.parametrize(
        ("headers", "status", "body"),
        [
            ({"Range": "bytes=1-2"}, 206, b"el"),
            ({"If_None_Match": "5d41402abc4b2a76b9719d911017c592"}, 304, b""),
            ({"If_Match": "other"}, 412, b""),
        ],
    )
    def test_conditions_and_ranges_are_the_object_servers_business(self, stage, headers, status, body):
        stage.put("c/o")
        response = stage.call("GET", "c/o", **headers)
        assert response.status_int == status
        assert response.body.startswith(body)

    @pytest.mark.parametrize("headers", [{"Range": "bytes=10-"}, {"If_None_Match": "*"}])
    def test_an_answer_without_the_bytes_says_that_there_are_ranges(self, stage, headers):
        stage.put("c/o")
        assert stage.call("GET", "c/o", **headers).headers["Accept-Ranges"] == "bytes"

    def test_several_ranges_come_as_one_document(self, stage):
        stage.put("c/o")
        response = stage.call("GET", "c/o", Range="bytes=0-1,3-4")
        assert response.status_int == 206
        assert response.headers["Content-Type"].startswith("multipart/byteranges;boundary=")
        assert b"bytes 3-4/5\r\n\r\nlo\r\n" in response.body
        assert response.content_length == len(response.body)

    def test_middleware_learns_when_the_object_was_written(self, stage):
        stage.put("c/o")
        request = stage.request("HEAD", "c/o")
        request.get_response(stage.app)
        assert request.environ["swift_x_timestamp"] == at(1).normal

    def test_the_query_of_the_client_arrives(self, stage):
        stage.put("c/o")
        assert stage.call("GET", "c/o?multipart-manifest=get").body == b"hello"

    def test_the_content_type_stays_as_it_is(self, stage):
        stage.put("c/o", Content_Type="text/x;a=b")
        assert stage.call("GET", "c/o").headers["Content-Type"] == "text/x;a=b"

    def test_an_answer_without_a_content_type_is_one_too(self, stage):
        stage.app.object_server.ask = lambda _: Answer(200, "OK", [("Content-Length", "2")], [b"ab"])
        assert stage.call("GET", "c/o").body == b"ab"


class TestWriting:
    def test_every_container_server_is_told_by_one_request(self, swift_conf, tmp_path):
        stage = Stage(tmp_path / "many", object_nodes=3)
        stage.put("c/o")
        assert sorted(stage.told) == [("PUT", "a", "c", "o", "127.0.0.1:1"), ("PUT", "a", "c", "o", "127.0.0.2:1")]
        assert stage.call("DELETE", "c/o").status_int == 204
        assert {update[0] for update in stage.told} == {"DELETE"}
        close(stage)

    def test_a_post_replaces_what_a_put_said(self, stage):
        stage.put("c/o", X_Object_Meta_Color="red")
        assert stage.call("POST", "c/o", X_Object_Meta_Shape="round").status_int == 202
        seen = stage.call("HEAD", "c/o").headers
        assert (seen.get("X-Object-Meta-Color"), seen["X-Object-Meta-Shape"]) == (None, "round")

    def test_what_is_not_there_cannot_be_changed_or_removed(self, stage):
        assert stage.call("POST", "c/o").status_int == 404
        assert stage.call("DELETE", "c/o").status_int == 404

    def test_an_older_put_is_accepted_and_changes_nothing(self, stage):
        stage.put("c/o", b"new", X_Timestamp=at(50).internal)
        assert stage.put("c/o", b"old", X_Timestamp=at(49).internal).status_int == 202
        assert stage.call("GET", "c/o").body == b"new"

    def test_if_none_match_protects_what_is_there(self, stage):
        assert stage.put("c/o", If_None_Match="*").status_int == 201
        assert stage.put("c/o", b"other", If_None_Match="*").status_int == 412
        assert stage.call("GET", "c/o").body == b"hello"

    def test_a_wrong_etag_is_refused(self, stage):
        assert stage.put("c/o", Etag="0" * 32).status_int == 422
        assert stage.call("GET", "c/o").status_int == 404

    def test_the_etag_and_the_time_are_said(self, stage):
        response = stage.put("c/o")
        assert response.headers["Etag"] == "5d41402abc4b2a76b9719d911017c592"
        assert response.last_modified.timestamp() == at(1)

    def test_a_length_of_0_from_middleware_means_that_it_is_not_known(self, stage):
        assert stage.call("PUT", "c/o", b"hello", Content_Length="0").status_int == 201
        assert stage.call("GET", "c/o").body == b"hello"

    def test_middleware_may_say_more_after_the_last_byte(self, stage):
        request = stage.request("PUT", "c/o", b"hello")
        request.environ["swift.callback.update_footers"] = lambda footers: footers.update({"X-Object-Sysmeta-A": "b"})
        assert request.get_response(stage.app).status_int == 201
        assert stage.call("HEAD", "c/o").headers["X-Object-Sysmeta-A"] == "b"

    def test_too_much_is_413(self, stage, monkeypatch):
        monkeypatch.setattr("swift.common.constraints.MAX_FILE_SIZE", 4)
        assert stage.put("c/o").status_int == 413

    def test_a_client_that_goes_away_leaves_nothing(self, stage):
        def go_away() -> bytes:
            raise ChunkReadError

        assert stage.call("PUT", "c/o", Body(b"he", go_away)).status_int == 499
        assert stage.call("PUT", "c/o", b"he", Content_Length="5").status_int == 499
        assert stage.log.counted.count("object.client_disconnects") == 2
        assert not list((stage.devices / "d").rglob("*.tmp.*"))
        assert not stage.call("GET", "c/o").is_success

    def test_a_client_that_sends_nothing_for_too_long_is_408(self, stage):
        def wait() -> bytes:
            with Timeout(5):
                sleep(4)
            return b"late"

        assert stage.call("PUT", "c/o", Body(b"he", wait)).status_int == 408
        assert "object.client_timeouts" in stage.log.counted


def test_clients_may_ask_for_what_they_may_on_stock(stage):
    ours, path = stage.app.get_controller(stage.request("GET", "c/o"))
    for _ in range(2):
        assert ours(stage.app, **path).allowed_methods == ReplicatedObjectController(stage.app, **path).allowed_methods
    assert stage.call("UPDATE", "c/o").status_int == 405


class TestTrouble:
    @pytest.mark.expects_log("ERROR swift.tests: Object GET returning 503 for")
    def test_what_only_a_server_can_mend_is_503(self, stage):
        shutil.rmtree(stage.devices)
        response = stage.call("GET", "c/o")
        assert (response.status_int, response.headers["Retry-After"]) == (503, "10")

    def test_no_room_is_said_in_the_words_that_the_filter_waits_for(self, stage):
        def refuse(*_: Any, **__: Any) -> None:
            raise faults.http_error(faults.NO_ROOM_STATUS, "full")

        stage.app.object_server.get_diskfile = refuse
        assert stage.put("c/o").status == faults.NO_ROOM_STATUS
