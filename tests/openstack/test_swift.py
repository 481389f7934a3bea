# SPDX-License-Identifier: Apache-2.0
"""A Swift that `lustack config render` has configured for Keystone: who may do what, by token and by S3."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import botocore.exceptions
import pytest
from swiftclient.utils import generate_temp_url
from tests.openstack import objects
from tests.openstack.objects import Person, Swift
from tests.openstack.stand import Stand

pytestmark = pytest.mark.timeout(1800)

MIB = 1 << 20
OWN, OTHER = ("demo", "demo"), ("cinder-internal", "cinder-internal")


@pytest.fixture(scope="module")
def swift(stand: Stand) -> Iterator[Swift]:
    with objects.running(stand) as found:
        yield found
        assert "Traceback" not in found.log()


@pytest.fixture
def owner(swift: Swift) -> Person:
    """A member of a project, as most users are."""
    return swift.person(*OWN)


@pytest.fixture
def stranger(swift: Swift) -> Person:
    """A member of another project."""
    return swift.person(*OTHER)


def status(swift: Swift, person: Person | None, method: str, path: str, body: bytes = b"") -> int:
    return swift.ask(method, path, person.token if person else "", body).status


def make(swift: Swift, owner: Person, container: str, name: str, body: bytes) -> str:
    """Make an object in a container; its path."""
    path = swift.path(owner, container, name)
    assert status(swift, owner, "PUT", swift.path(owner, container)) in {201, 202}
    assert status(swift, owner, "PUT", path, body) == 201
    return path


def refused(swift: Swift, access: str, secret: str, bucket: str) -> int:
    """The status that a client of S3 gets which asks for what is in a bucket."""
    with swift.s3(access, secret) as client, pytest.raises(botocore.exceptions.ClientError) as error:
        client.list_objects_v2(Bucket=bucket)
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_the_swift_client_uploads_lists_and_downloads_with_a_token_of_keystone(
    swift: Swift, owner: Person, tmp_path: Path
) -> None:
    content = os.urandom(2 * MIB)
    (tmp_path / "run.out").write_bytes(content)
    swift.client(owner, "upload", "results", "run.out", "--object-name", "today/run.out", place=tmp_path)
    directory = swift.directory(owner, "results")
    assert (directory / "today/run.out").read_bytes() == content
    (directory / "by-a-job").write_bytes(content[:MIB])
    assert "today/run.out" in swift.client(owner, "list", "results", place=tmp_path).split()
    swift.client(owner, "download", "results", "today/run.out", "by-a-job", "--output-dir", "got", place=tmp_path)
    assert (tmp_path / "got/today/run.out").read_bytes() == content
    assert (tmp_path / "got/by-a-job").read_bytes() == content[:MIB]
    swift.client(owner, "delete", "results", "today/run.out", place=tmp_path)
    assert not (directory / "today").exists()


def test_what_keystone_says_is_remembered(swift: Swift, owner: Person) -> None:
    assert status(swift, owner, "GET", swift.path(owner)) in {200, 204}
    # Source: keystonemiddleware 13.0.1, auth_token/_cache.py.
    assert swift.remembers(f"tokens/{hashlib.sha256(owner.token.encode()).hexdigest()}")


def test_a_token_of_another_project_is_refused(swift: Swift, owner: Person, stranger: Person) -> None:
    path = make(swift, owner, "own", "o", b"own")
    for other in (stranger, swift.person("reader", "demo")):
        for method, asked in (
            *(("GET", path), ("HEAD", path), ("PUT", path), ("POST", path), ("DELETE", path)),
            *(("GET", swift.path(owner, "own")), ("PUT", swift.path(owner, "new")), ("GET", swift.path(owner))),
        ):
            assert (method, asked, status(swift, other, method, asked)) == (method, asked, 403)
    assert status(swift, None, "GET", path) == 401
    assert swift.ask("GET", path, "gAAAAABnonsense").status == 401
    assert swift.directory(owner, "own").joinpath("o").read_bytes() == b"own"
    assert not swift.directory(owner, "new").exists()
    # It has an account of its own.
    assert swift.ask("GET", make(swift, stranger, "own", "o", b"other"), stranger.token).body == b"other"


def test_a_container_is_opened_to_another_project_and_to_everybody(
    swift: Swift, owner: Person, stranger: Person
) -> None:
    path, container = make(swift, owner, "shared", "o", b"shared"), swift.path(owner, "shared")
    readers = {"X-Container-Read": f"{stranger.project_id}:*"}
    assert swift.ask("POST", container, owner.token, headers=readers).status == 204
    assert swift.ask("GET", path, stranger.token).body == b"shared"
    assert status(swift, stranger, "PUT", path, b"no") == 403
    assert status(swift, None, "GET", path) == 401
    assert swift.ask("POST", container, owner.token, headers={"X-Container-Read": ".r:*"}).status == 204
    assert swift.ask("GET", path).body == b"shared"
    assert status(swift, None, "GET", container) == 401


def test_a_signed_url_needs_no_token(swift: Swift, owner: Person) -> None:
    path = make(swift, owner, "signed", "o", b"signed")
    key = {"X-Container-Meta-Temp-URL-Key": "mykey"}
    assert swift.ask("POST", swift.path(owner, "signed"), owner.token, headers=key).status == 204
    assert swift.ask("GET", generate_temp_url(path, 3600, "mykey", "GET")).body == b"signed"
    assert swift.ask("GET", generate_temp_url(path, 3600, "other", "GET")).status == 401


def test_s3_knows_credentials_of_keystone(swift: Swift, owner: Person) -> None:
    content = os.urandom(6 * MIB)
    access, secret = swift.keys(owner)
    with swift.s3(access, secret) as client:
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="a/b", Body=content[:MIB])
        assert (swift.directory(owner, "bucket") / "a/b").read_bytes() == content[:MIB]
        assert [each["Key"] for each in client.list_objects_v2(Bucket="bucket")["Contents"]] == ["a/b"]
        assert client.get_object(Bucket="bucket", Key="a/b")["Body"].read() == content[:MIB]
        upload = {"Bucket": "bucket", "Key": "parts"}
        upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
        parts = [
            {"PartNumber": number, "ETag": client.upload_part(**upload, PartNumber=number, Body=body)["ETag"]}
            for number, body in ((1, content[: 5 * MIB]), (2, content[5 * MIB :]))
        ]
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        assert client.get_object(Bucket="bucket", Key="parts")["Body"].read() == content
        # The same account as that of a token.
        assert swift.ask("GET", swift.path(owner, "bucket", "a/b"), owner.token).body == content[:MIB]
        client.delete_object(Bucket="bucket", Key="a/b")
        assert not (swift.directory(owner, "bucket") / "a").exists()
    # Else each request would ask Keystone twice. Source: swift 2.38.3, s3api/s3token.py.
    assert swift.remembers(f"s3secret/{access}")


def test_s3_refuses_who_has_no_credentials_for_it(swift: Swift, owner: Person, stranger: Person) -> None:
    make(swift, owner, "private", "o", b"own")
    access, secret = swift.keys(owner)
    with swift.s3(access, secret) as client:
        assert client.get_object(Bucket="private", Key="o")["Body"].read() == b"own"
    assert refused(swift, access, "wrong", "private") == 403
    assert refused(swift, "nobody", secret, "private") == 403
    # Buckets of another project are in another account, and that may not be named.
    access, secret = swift.keys(stranger)
    assert refused(swift, access, secret, "private") == 404
    assert refused(swift, f"{access}:{owner.project_id}", secret, "private") == 403
