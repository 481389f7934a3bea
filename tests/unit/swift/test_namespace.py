# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import logging
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from swift.common.ring import RingData
from swift.common.swob import HTTPForbidden, Request, Response
from swift.common.utils import logs
from tests.exported import export
from tests.objects import SwiftLog

from lustack.errors import ConfigurationError
from lustack.mapping import names
from lustack.swift import faults, namespace


class FakeProxy:
    """A proxy with containers in memory: name -> index of the policy."""

    def __init__(self) -> None:
        self.containers: dict[str, int] = {}
        self.answers: dict[str, str] = {}
        self.seen: list[str] = []

    def __call__(self, environ, start_response):
        request = Request(environ)
        self.seen.append(request.method)
        _, _, container, obj = request.split_path(2, 4, True)
        response = self.answer_container(request, container) if container and not obj else Response(status=200)
        response.status = self.answers.get(request.method, response.status)
        return response(environ, start_response)

    def answer_container(self, request: Request, container: str) -> Response:
        status = 204 if container in self.containers else 404
        if request.method == "PUT":
            status = 201
            self.containers.setdefault(container, int(request.headers.get("X-Policy", "0")))
        headers = {"X-Backend-Storage-Policy-Index": str(self.containers.get(container, 0))}
        if request.method == "DELETE":
            self.containers.pop(container, None)
        return Response(status=status, headers=headers)


class Stage:
    """The filter before a proxy, over an empty device."""

    def __init__(self, path: Path) -> None:
        self.root = path / "devices" / "d"
        self.root.mkdir(parents=True)
        device = {"id": 0, "device": "d", "ip": "127.0.0.1", "port": 1, "region": 1, "zone": 1, "weight": 1}
        RingData([[0]], [None, device], 32).save(str(path / "object.ring.gz"))
        self.proxy = FakeProxy()
        conf = {"devices": str(path / "devices"), "swift_dir": str(path)}
        self.filter = namespace.NamespaceMiddleware(self.proxy, conf, SwiftLog())

    def call(self, method: str, path: str, environ: dict | None = None, **headers: str) -> Response:
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        request = Request.blank(urllib.parse.quote(path), environ=environ, method=method, headers=headers)
        self.proxy.seen.clear()
        return request.get_response(self.filter)

    def directory(self, container: str) -> Path:
        return self.root / os.fsdecode(names.container_path("a", container))


@pytest.fixture
def stage(swift_conf, tmp_path) -> Stage:
    return Stage(tmp_path)


class TestPut:
    def test_a_container_is_a_directory(self, stage):
        assert stage.call("PUT", "/v1/a/c").status_int == 201
        assert stage.directory("c").is_dir()
        assert stage.call("PUT", "/v1/a/c").status_int == 201

    def test_one_of_another_policy_is_none(self, stage):
        assert stage.call("PUT", "/v1/a/c", X_Policy="1").status_int == 201
        assert os.listdir(stage.root) == []

    def test_one_of_a_policy_that_nobody_knows_is_none(self, stage):
        stage.call("PUT", "/v1/a/c", X_Policy="7")
        assert os.listdir(stage.root) == []

    def test_one_that_swift_refuses_is_none(self, stage):
        stage.proxy.answers["PUT"] = "403 Forbidden"
        assert stage.call("PUT", "/v1/a/c").status_int == 403
        assert os.listdir(stage.root) == []

    @pytest.mark.parametrize(
        "container",
        ["caf\xe9 \N{SNOWMAN}", "x" * 256, "\N{SNOWMAN}" * 85, "..", ".lustack", ".lustack.tmp.x", "50%", "%dir"],
    )
    def test_any_name_has_its_directory(self, stage, container):
        assert stage.call("PUT", "/v1/a/" + container).status_int == 201
        assert stage.directory(container).is_dir()
        assert stage.call("DELETE", "/v1/a/" + container).status_int == 204
        assert os.listdir(stage.root) == []

    def test_hidden_containers_lie_below_the_reserved_directory(self, stage):
        assert stage.call("PUT", "/v1/a/\0versions\0c").status_int == 201
        assert (stage.root / ".lustack/reserved/a/%00versions%00c").is_dir()
        assert stage.call("DELETE", "/v1/a/\0versions\0c").status_int == 204
        assert os.listdir(stage.root) == [".lustack"]
        assert os.listdir(stage.root / ".lustack" / "reserved") == []

    def test_no_account_reaches_the_reserved_directory(self, stage):
        stage.call("PUT", "/v1/.lustack/c")
        assert not (stage.root / ".lustack").exists()

    def test_a_link_in_its_place_is_said(self, stage):
        stage.root.joinpath("a").mkdir()
        stage.directory("c").symlink_to(stage.root)
        response = stage.call("PUT", "/v1/a/c")
        assert response.status == "403 Forbidden"
        assert b"in the way" in response.body


class TestDelete:
    def test_the_directory_goes_with_the_container(self, stage):
        stage.call("PUT", "/v1/a/c")
        (stage.directory("c") / "empty").mkdir()
        assert stage.call("DELETE", "/v1/a/c").status_int == 204
        assert os.listdir(stage.root) == []

    def test_files_of_jobs_keep_it_and_one_is_named(self, stage):
        stage.call("PUT", "/v1/a/c")
        (stage.directory("c") / "dir").mkdir()
        (stage.directory("c") / "dir" / "caf\xe9").touch()
        response = stage.call("DELETE", "/v1/a/c")
        assert response.status_int == 409
        assert "is not empty: dir/caf\xe9 is in it" in response.body.decode()
        assert "DELETE" not in stage.proxy.seen

    def test_a_name_that_is_no_text_is_named_as_well_as_it_can_be(self, stage):
        stage.call("PUT", "/v1/a/c")
        with open(bytes(stage.directory("c")) + b"/x\xff", "wb"):
            pass
        assert b"not empty: x? is in it" in stage.call("DELETE", "/v1/a/c").body

    def test_authorisation_is_asked_before_anything_is_told(self, stage):
        stage.call("PUT", "/v1/a/c")
        (stage.directory("c") / "secret").touch()
        denied = {"swift.authorize": lambda request: HTTPForbidden(request=request)}
        response = stage.call("DELETE", "/v1/a/c", denied)
        assert response.status_int == 403
        assert b"secret" not in response.body
        assert stage.call("DELETE", "/v1/a/c", {"swift.authorize": lambda _: None}).status_int == 409

    def test_one_of_another_policy_is_left_alone(self, stage):
        stage.call("PUT", "/v1/a/c", X_Policy="1")
        stage.directory("c").mkdir(parents=True)
        assert stage.call("DELETE", "/v1/a/c").status_int == 204
        assert stage.directory("c").is_dir()

    def test_what_swift_keeps_keeps_its_directory(self, stage):
        stage.call("PUT", "/v1/a/c")
        stage.proxy.answers["DELETE"] = "409 Conflict"
        assert stage.call("DELETE", "/v1/a/c").status_int == 409
        assert stage.directory("c").is_dir()

    def test_an_account_that_a_job_made_stays(self, stage):
        (stage.root / "a").mkdir()
        stage.call("PUT", "/v1/a/c")
        stage.call("DELETE", "/v1/a/c")
        assert os.listdir(stage.root) == ["a"]

    @pytest.mark.expects_log(r"^WARNING swift.tests: the directory of the deleted container b'a/c' stays: .* not empty")
    def test_a_file_that_comes_in_between_stays_and_is_reported(self, stage):
        stage.call("PUT", "/v1/a/c")
        answer = stage.proxy.answer_container

        def write_first(request, container):
            if request.method == "DELETE":
                (stage.directory("c") / "late").touch()
            return answer(request, container)

        stage.proxy.answer_container = write_first
        assert stage.call("DELETE", "/v1/a/c").status_int == 204
        assert (stage.directory("c") / "late").exists()

    @pytest.mark.expects_log("^ERROR swift.tests: /a/c: the file system failed")
    def test_a_file_system_that_fails_is_500(self, stage):
        stage.call("PUT", "/v1/a/c")
        stage.filter.devices = str(stage.root / ("x" * 300))
        assert stage.call("DELETE", "/v1/a/c").status_int == 500


class TestTheRest:
    @pytest.mark.parametrize("path", ["/v1/a", "/v1/a/c/o", "/v1/a/c"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    def test_other_requests_pass(self, stage, method, path):
        stage.call(method, path)
        assert stage.proxy.seen == [method]
        assert os.listdir(stage.root) == []

    def test_what_is_no_path_of_swift_passes(self, stage):
        def app(environ, start_response):
            return Response(body=b"fine")(environ, start_response)

        stage.filter.app = app
        assert stage.call("GET", "/info").body == b"fine"

    @pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
    def test_no_room_becomes_the_status_that_says_so(self, stage, method):
        stage.proxy.answers[method] = faults.NO_ROOM_STATUS
        assert stage.call(method, "/v1/a/c/o").status == "507 Insufficient Storage"

    @pytest.mark.parametrize(("etag", "status"), [("", 503), ("d41d8cd98f00b204e9800998ecf8427e", 200)])
    def test_a_file_whose_md5_nobody_knows_is_no_segment_yet(self, stage, etag, status):
        stage.filter.app = Response(headers={"Etag": etag} if etag else {})
        assert stage.call("HEAD", "/v1/a/c/o", environ={"swift.source": "SLO"}).status_int == status
        assert stage.call("HEAD", "/v1/a/c/o").status_int == 200

    def test_what_is_no_segment_is_told_as_it_is(self, stage):
        stage.proxy.answers["HEAD"] = "404 Not Found"
        assert stage.call("HEAD", "/v1/a/c/o", environ={"swift.source": "SLO"}).status_int == 404

    def test_s3_hears_what_it_has_words_for(self, stage):
        stage.proxy.answers["PUT"] = faults.NO_ROOM_STATUS
        answer = stage.call("PUT", "/v1/a/c/o", environ={"swift.source": "S3"})
        assert answer.status == "413 Request Entity Too Large"

    def test_an_object_that_is_too_large_stays_one(self, stage):
        stage.proxy.answers["PUT"] = "413 Request Entity Too Large"
        assert stage.call("PUT", "/v1/a/c/o").status == "413 Request Entity Too Large"


class TestConfiguration:
    @pytest.fixture
    def closed_logs(self) -> Iterator[None]:
        """Swift keeps the connection to the system's log as long as the process lives."""
        yield
        logger = logging.getLogger("namespace")
        with contextlib.closing(logs.get_swift_logger.handler4logger.pop(logger)) as handler:
            logger.removeHandler(handler)

    def test_paste_makes_it_from_its_section(self, closed_logs):
        proxy = FakeProxy()
        made = namespace.filter_factory({"swift_dir": "/x", "devices": "/y"}, devices="/z")(proxy)
        assert (made.app, made.swift_dir, made.devices) == (proxy, "/x", "/z")

    def test_devices_must_be_absolute(self, swift_conf):
        with pytest.raises(
            ConfigurationError, match=r"\[filter:namespace\]: devices = 'x', but it must be an absolute"
        ):
            namespace.NamespaceMiddleware(FakeProxy(), {"devices": "x"}, SwiftLog())


class TestExports:
    @pytest.fixture
    def directory(self, stage, tmp_path) -> Path:
        export(stage.root, tmp_path / "x", "a", "e")
        (tmp_path / "x" / "o").touch()
        stage.proxy.containers["e"] = 0
        return tmp_path / "x"

    def test_clients_cannot_delete_one(self, stage, directory):
        response = stage.call("DELETE", "/v1/a/e")
        assert response.status_int == 409
        assert b"lustack export remove" in response.body
        assert "DELETE" not in stage.proxy.seen
        assert directory.is_dir()

    def test_nor_the_account_that_has_one(self, stage, directory):
        response = stage.call("DELETE", "/v1/a")
        assert response.status_int == 409
        assert stage.proxy.seen == []
        assert stage.call("DELETE", "/v1/b").status_int == 200

    def test_who_may_not_is_told_so_first(self, stage, directory):
        environ = {"swift.authorize": lambda request: HTTPForbidden(request=request)}
        for path in ("/v1/a", "/v1/a/e"):
            assert stage.call("DELETE", path, environ).status_int == 403

    def test_it_needs_no_directory_in_the_device(self, stage, directory):
        assert stage.call("PUT", "/v1/a/e").status_int == 201
        assert not stage.directory("e").exists()

    def test_its_objects_are_those_of_any_container(self, stage, directory):
        assert stage.call("GET", "/v1/a/e/o").status_int == 200

    @pytest.mark.expects_log("/a/e: the exported directory .* cannot be used")
    def test_while_it_is_away_its_objects_are_out_of_reach_and_nobody_else_is_troubled(self, stage, directory):
        directory.rename(directory.parent / "away")
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            assert stage.call(method, "/v1/a/e/o").status_int == 503
            assert stage.proxy.seen == []
        assert stage.call("GET", "/v1/a/c/o").status_int == 200
        assert stage.call("GET", "/v1/a/e").status_int in (200, 204)
