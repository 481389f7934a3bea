# SPDX-License-Identifier: Apache-2.0
"""Long bodies on the short path: by sendfile, or as bytes where a filter must see them."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.functional import stand
from tests.functional.client import Client

from lustack.server.instance import Instance

BODY = random.Random(1).randbytes(20 * 1024 * 1024 + 7)
SECRET = base64.b64encode(bytes(range(32))).decode()
KEYS = {"keymaster": {"use": "egg:swift#keymaster", "encryption_root_secret": SECRET}}
ENCRYPTION = {**KEYS, "encryption": {"use": "egg:swift#encryption"}}


@pytest.fixture(scope="module")
def encrypting(file_system: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """A Swift that encrypts what it stores."""
    root = file_system / "encrypting"
    host = stand.plan(root, tmp_path_factory.mktemp("encrypting") / "state", stand.ours_and_stock(root))
    at = host.pipeline.index("namespace")
    pipeline = (*host.pipeline[:at], "keymaster", "encryption", *host.pipeline[at:])
    with stand.running(
        replace(host, pipeline=pipeline, filter_options={**host.filter_options, **ENCRYPTION})
    ) as served:
        yield served


@pytest.fixture(scope="module", params=["as it is", "encrypting"])
def either(request: pytest.FixtureRequest, served: Instance, encrypting: Instance) -> Instance:
    return served if request.param == "as it is" else encrypting


@pytest.fixture
def client(either: Instance) -> Iterator[Client]:
    with Client(either.access) as client:
        assert client.send("PUT", "/long").status in (201, 202)
        yield client


@pytest.mark.parametrize("policy", ["gold", "silver"])
def test_every_byte_arrives_whoever_wants_to_see_it(client: Client, policy: str) -> None:
    assert client.send("PUT", f"/{policy}", {"X-Storage-Policy": policy}).status in (201, 202)
    put = client.send("PUT", f"/{policy}/o", body=BODY)
    assert (put.status, put.headers["etag"]) == (201, hashlib.md5(BODY).hexdigest())
    for _ in range(2):  # the connection stays in use
        assert client.send("GET", f"/{policy}/o").body == BODY
    for first, last in ((0, 0), (5, 9_000_000), (1_000_000, len(BODY) - 1)):
        part = client.send("GET", f"/{policy}/o", {"Range": f"bytes={first}-{last}"})
        assert (part.status, part.body) == (206, BODY[first : last + 1])
    parts = client.send("GET", f"/{policy}/o", {"Range": "bytes=0-1000000,5000000-9000000"}).body
    assert BODY[5_000_000:9_000_001] in parts


def test_what_is_stored_is_the_file_unless_it_is_encrypted(
    served: Instance, encrypting: Instance, file_system: Path
) -> None:
    for instance, name in ((served, "served"), (encrypting, "encrypting")):
        with Client(instance.access) as client:
            client.send("PUT", "/plain")
            client.send("PUT", "/plain/o", body=BODY)
        stored = (file_system / name / "ours" / "AUTH_test" / "plain" / "o").read_bytes()
        assert (stored == BODY) == (name == "served")
        assert len(stored) == len(BODY)


def test_segments_of_a_large_object_come_one_after_the_other(client: Client) -> None:
    half = len(BODY) // 2
    for number, part in enumerate((BODY[:half], BODY[half:])):
        assert client.send("PUT", f"/long/part-{number}", body=part).status == 201
    assert client.send("PUT", "/long/whole", {"X-Object-Manifest": "long/part-"}).status == 201
    assert client.send("GET", "/long/whole").body == BODY
    manifest = b'[{"path": "/long/part-0"}, {"path": "/long/part-1"}]'
    assert client.send("PUT", "/long/static?multipart-manifest=put", body=manifest).status == 201
    assert client.send("GET", "/long/static").body == BODY
