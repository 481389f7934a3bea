# SPDX-License-Identifier: Apache-2.0
"""Stock clients read what cp wrote, at any size and without flags, before and after the daemon knows its MD5.

rclone is there as a system package (bindep.txt). The AWS command line is its own distribution with a botocore of its
own, which would quarrel with boto3's: it gets a virtual environment for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from tests.functional import plainly, stand
from tests.functional.client import Client, log_in
from tests.functional.plainly import quoted

from lustack.server.instance import Instance

pytestmark = pytest.mark.timeout(600)

MIB = 1024**2
ACCOUNT = "AUTH_test"
CONTAINER = "copied"
# Nothing, one byte, around the size up to which a request learns the MD5, more than one part of boto3 (8 MiB).
SIZES = (0, 1, 65536, 65537, 20 * MIB)
# The daemon waits `settle_s` after a change, and reads at a limited rate.
HASHED_LIMIT_S = 120


@dataclass(frozen=True)
class Copied:
    """Files that cp wrote.

    Attributes:
        served: what serves them.
        directory: of the container.
        client: a connection.
    """

    served: Instance
    directory: Path
    client: Client

    def assert_same(self, target: Path) -> None:
        """Every file is there, byte by byte."""
        assert digest_all(target) == digest_all(self.directory)

    def rows(self) -> list[dict[str, object]]:
        return json.loads(self.client.send("GET", quoted(CONTAINER) + "?format=json").body)


def digest_all(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in directory.iterdir()}


@pytest.fixture(scope="module", params=["before", "after"])
def copied(
    request: pytest.FixtureRequest, file_system: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Copied]:
    """`before` the daemon knows anything but names and sizes, or `after` it has read every file."""
    top = tmp_path_factory.mktemp(f"clients-{request.param}")
    for size in SIZES:
        (top / f"{size}").write_bytes(os.urandom(size))
    is_after = request.param == "after"
    plan = plainly.plan(file_system / f"clients-{request.param}", top / "state", sync=is_after)
    with stand.running(plan) as served, Client(served.access) as client:
        copied = Copied(served, Path(served.host.directory) / ACCOUNT / CONTAINER, client)
        assert client.send("PUT", quoted(CONTAINER)).status == 201
        subprocess.run(["cp", *(top / f"{size}" for size in SIZES), copied.directory], check=True)
        if is_after:
            wait_for(lambda: len(copied.rows()) == len(SIZES) and all(row["hash"] for row in copied.rows()))
        else:
            assert plainly.reconcile(served).returncode == 0
            assert [row["name"] for row in copied.rows() if not row["hash"]] == sorted(map(str, SIZES[1:]))
        yield copied


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HASHED_LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def run(command: Sequence[str | Path], more: dict[str, str], cwd: Path) -> None:
    """Run a client, which must succeed and have nothing to complain about."""
    assert complain(command, more, cwd) == ""


def complain(command: Sequence[str | Path], more: dict[str, str], cwd: Path) -> str:
    """Run a client, which must succeed, and return what it says on standard error."""
    environment = {"HOME": str(cwd), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **more}
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


def swift_environment(copied: Copied) -> dict[str, str]:
    access = copied.served.access
    return {"ST_AUTH": access.auth_url, "ST_USER": access.user, "ST_KEY": access.key}


def s3_environment(copied: Copied) -> dict[str, str]:
    access = copied.served.access
    return {
        "AWS_ACCESS_KEY_ID": access.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": access.s3_secret_key,
        "AWS_ENDPOINT_URL": access.s3_endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def test_swift_download(copied: Copied, tmp_path: Path) -> None:
    swift = Path(sys.executable).with_name("swift")
    run([swift, "download", CONTAINER, "--output-dir", tmp_path / "down"], swift_environment(copied), tmp_path)
    copied.assert_same(tmp_path / "down")


def test_curl(copied: Copied, tmp_path: Path) -> None:
    (tmp_path / "down").mkdir()
    token = log_in(copied.served.access)["X-Auth-Token"]
    for size in SIZES:
        url = f"{copied.served.access.storage_url}/{CONTAINER}/{size}"
        command = ["curl", "-sSf", "-H", f"X-Auth-Token: {token}", "-o", tmp_path / "down" / str(size), url]
        run(command, {}, tmp_path)
    copied.assert_same(tmp_path / "down")


@pytest.fixture
def s3(copied: Copied) -> Iterator[object]:
    access = copied.served.access
    client = boto3.client(
        "s3",
        endpoint_url=access.s3_endpoint,
        aws_access_key_id=access.s3_access_key,
        aws_secret_access_key=access.s3_secret_key,
        region_name="us-east-1",
    )
    with contextlib.closing(client):
        yield client


def test_boto3(copied: Copied, tmp_path: Path, s3) -> None:
    for size in SIZES:
        s3.download_file(CONTAINER, str(size), str(tmp_path / str(size)))
    copied.assert_same(tmp_path)


def test_what_s3_lists_is_what_it_says_of_each(copied: Copied, s3) -> None:
    listed = {row["Key"]: (row["ETag"], row["Size"]) for row in s3.list_objects_v2(Bucket=CONTAINER)["Contents"]}
    heads = {name: s3.head_object(Bucket=CONTAINER, Key=name) for name in listed}
    big = {name: listed[name] for name in listed if int(name) > 65536}
    assert {name: (heads[name]["ETag"], heads[name]["ContentLength"]) for name in big} == big
    assert {name: size for name, (_, size) in listed.items()} == {str(size): size for size in SIZES}


@pytest.fixture(scope="session")
def aws(suite_cache: Path) -> Path:
    """The AWS command line in a virtual environment of its own: it wants an older docutils than Swift's suite."""
    program = suite_cache.parent / "awscli" / "bin" / "aws"
    if not program.exists():
        venv.create(program.parents[1], with_pip=True, clear=True)
        pip = [program.with_name("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "awscli"], check=True)
    return program


def test_aws_s3_cp(copied: Copied, tmp_path: Path, aws: Path) -> None:
    source = f"s3://{CONTAINER}/"
    run([aws, "s3", "cp", "--recursive", source, tmp_path / "down"], s3_environment(copied), tmp_path)
    copied.assert_same(tmp_path / "down")


def test_rclone_of_swift(copied: Copied, tmp_path: Path) -> None:
    more = {f"RCLONE_CONFIG_HERE_{key[3:]}": value for key, value in swift_environment(copied).items()}
    more |= {"RCLONE_CONFIG_HERE_TYPE": "swift", "RCLONE_CONFIG": "/dev/null"}
    said = complain(["rclone", "copy", f"here:{CONTAINER}", tmp_path / "down"], more, tmp_path)
    copied.assert_same(tmp_path / "down")
    # Its library for Swift takes an answer without an ETag for a damaged one; what it wrote is right nevertheless. Its
    # library for S3 (below) knows that there may be none. Source: github.com/ncw/swift, ObjectOpenFile.Close.
    unknown = [row["name"] for row in copied.rows() if not row["hash"] and int(row["bytes"]) > 65536]
    assert all(f"ERROR : {name}: Failed to copy: Object Corrupted" in said for name in unknown)
    assert unknown or said == ""


def test_rclone_of_s3(copied: Copied, tmp_path: Path) -> None:
    access = copied.served.access
    more = {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_HERE_TYPE": "s3",
        "RCLONE_CONFIG_HERE_PROVIDER": "Other",
        "RCLONE_CONFIG_HERE_ENDPOINT": access.s3_endpoint,
        "RCLONE_CONFIG_HERE_ACCESS_KEY_ID": access.s3_access_key,
        "RCLONE_CONFIG_HERE_SECRET_ACCESS_KEY": access.s3_secret_key,
    }
    run(["rclone", "copy", f"here:{CONTAINER}", tmp_path / "down"], more, tmp_path)
    copied.assert_same(tmp_path / "down")
