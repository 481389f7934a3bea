# SPDX-License-Identifier: Apache-2.0
"""A file system that is full, and a quota that is reached: said to whoever wants more, and to nobody else."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import botocore.exceptions
import pytest
from tests.functional import plainly, stand
from tests.functional.client import Client
from tests.functional.filesystem import in_a_file
from tests.functional.plainly import Asker, quoted

from lustack.mapping import layout
from lustack.server.instance import Instance

pytestmark = pytest.mark.timeout(600)

MIB = 1024**2
ACCOUNT = "AUTH_test"
FREED_LIMIT_S = 120
NO_ROOM = 507
# Less mkfs.xfs refuses: mkfs.xfs(8), "filesystems smaller than 300 MB".
SIZES_GIB = {"xfs": 300 / 1024, "ext4": 48 / 1024, "btrfs": 0.5}


@pytest.fixture(scope="module", params=["xfs", "ext4"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The served directory, on a small file system of its own."""
    directory = tmp_path_factory.mktemp(request.param)
    with in_a_file(directory, request.param, SIZES_GIB[request.param]) as mount_point:
        yield mount_point / "served"


@pytest.fixture(scope="module")
def served(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with stand.running(plainly.plan(root, tmp_path_factory.mktemp("small") / "state")) as served:
        yield served


@pytest.fixture
def asker(served: Instance) -> Iterator[Asker]:
    with Client(served.access) as client:
        yield Asker(client)


@pytest.fixture
def container(root: Path, asker: Asker, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The directory of a container with one object, `before`."""
    name = f"c{abs(hash(request.node.nodeid))}"
    assert asker.ask("PUT", quoted(name)).status == 201
    assert asker.ask("PUT", quoted(name, "before"), {"X-Object-Meta-Colour": "blue"}, b"before").status == 201
    yield root / ACCOUNT / name
    for row in asker.ask("GET", quoted(name)).body.splitlines():
        asker.ask("DELETE", quoted(name, row))


@contextlib.contextmanager
def full(root: Path) -> Iterator[None]:
    """Fill a file system to the last block for the time of a block, as a job would."""
    filler = root.parent / "filler"
    with filler.open("wb", buffering=0) as file:
        free = free_bytes(root)
        with contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, free - MIB)
        file.seek(0, os.SEEK_END)
        for size in (65536, 4096, 512, 1):
            write_until_full(file, size)
        os.fsync(file.fileno())
        for number in range(100_000):  # the inodes that are left
            try:
                (root.parent / f"filler{number}").touch()
            except OSError:
                break
    try:
        yield
    finally:
        for path in root.parent.glob("filler*"):
            path.unlink()
        os.sync()
        wait_for_room(root, free // 2)


def write_until_full(file, size: int) -> None:
    with contextlib.suppress(OSError):
        while file.write(bytes(size)):
            pass


def wait_for_room(root: Path, more_than: int) -> None:
    """XFS frees what was unlinked a moment later, in the background (fs/xfs/xfs_icache.c, inodegc)."""
    limit_s = time.monotonic() + FREED_LIMIT_S
    while free_bytes(root) <= more_than:
        assert time.monotonic() < limit_s
        time.sleep(0.05)


def find_temporary(root: Path) -> list[str]:
    prefix = os.fsdecode(layout.TEMPORARY_PREFIX)
    return [name for _, _, names in os.walk(root) for name in names if name.startswith(prefix)]


def free_bytes(root: Path) -> int:
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize


def chunked(size: int) -> Iterator[bytes]:
    for _ in range(size // 65536):
        yield bytes(65536)


def assert_nothing_happened(asker: Asker, root: Path, container: Path) -> None:
    """The container is as the fixture made it."""
    assert find_temporary(root) == []
    assert asker.ask("GET", quoted(container.name)).body == b"before\n"
    assert os.listdir(container) == ["before"]
    answer = asker.ask("GET", quoted(container.name, "before"))
    assert (answer.status, answer.body, answer.headers["x-object-meta-colour"]) == (200, b"before", "blue")


@pytest.mark.parametrize("size", [64 * 1024, 8 * MIB])
@pytest.mark.parametrize("name", ["new", "before", "in/a/new/directory"])
def test_a_put_on_a_full_file_system_gets_507_and_leaves_nothing(
    asker: Asker, root: Path, container: Path, name: str, size: int
) -> None:
    path = quoted(container.name, name)
    with full(root):
        for _ in range(plainly.TOO_MANY_ERRORS):
            answer = asker.ask("PUT", path, {}, bytes(size))
            assert (answer.status, b"no room left" in answer.body) == (NO_ROOM, True)
        assert asker.ask("PUT", path, {}, chunked(size)).status == NO_ROOM
        assert_nothing_happened(asker, root, container)
    assert_nothing_happened(asker, root, container)
    assert asker.ask("PUT", path, {}, bytes(size)).status == 201
    assert asker.ask("GET", path).body == bytes(size)


def test_the_room_of_a_refused_upload_comes_back_at_once(asker: Asker, root: Path, container: Path) -> None:
    free = free_bytes(root)
    answer = asker.ask("PUT", quoted(container.name, "new"), {}, chunked(free + 4 * MIB))
    assert answer.status == NO_ROOM
    wait_for_room(root, free - MIB)
    assert_nothing_happened(asker, root, container)


def test_others_read_while_some_are_refused(served: Instance, asker: Asker, root: Path, container: Path) -> None:
    path = quoted(container.name, "before")
    statuses = []
    stop = threading.Event()

    def read() -> None:
        with Client(served.access) as client:
            while not stop.is_set():
                statuses.append(client.send("GET", path).status)

    with full(root):
        thread = threading.Thread(target=read)
        thread.start()
        try:
            refused = 0
            while refused < 2 * plainly.TOO_MANY_ERRORS or len(statuses) < 10:
                assert asker.ask("PUT", quoted(container.name, "new"), {}, bytes(MIB)).status == NO_ROOM
                refused += 1
        finally:
            stop.set()
            thread.join()
    assert set(statuses) == {200}


def test_a_delete_on_a_full_file_system_makes_room(asker: Asker, root: Path, container: Path) -> None:
    names = [f"{number}" for number in range(20)]
    for name in names:
        assert asker.ask("PUT", quoted(container.name, name), {}, bytes(256 * 1024)).status == 201
    with full(root):
        for name in names:
            assert asker.ask("DELETE", quoted(container.name, name)).status == 204
            assert asker.ask("GET", quoted(container.name, name)).status == 404
        assert_nothing_happened(asker, root, container)
        assert asker.ask("PUT", quoted(container.name, "new"), {}, bytes(MIB)).status == 201


def test_a_post_on_a_full_file_system_is_done_or_refused_whole(asker: Asker, root: Path, container: Path) -> None:
    path = quoted(container.name, "before")
    long = {f"X-Object-Meta-{number}": "x" * 200 for number in range(15)}
    with full(root):
        for headers in ({"X-Object-Meta-Colour": "red"}, {"X-Object-Meta-Colour": "green", **long}):
            old = asker.ask("HEAD", path).headers["x-object-meta-colour"]
            answer = asker.ask("POST", path, headers)
            assert answer.status in {202, NO_ROOM}
            expected = headers["X-Object-Meta-Colour"] if answer.status == 202 else old
            assert asker.ask("HEAD", path).headers["x-object-meta-colour"] == expected
        assert asker.ask("GET", path).body == b"before"
    assert asker.ask("POST", path, {"X-Object-Meta-Colour": "yellow", **long}).status == 202
    assert asker.ask("HEAD", path).headers["x-object-meta-colour"] == "yellow"


def test_a_container_on_a_full_file_system_is_made_or_refused(asker: Asker, root: Path, container: Path) -> None:
    with full(root):
        for number in range(40):
            answer = asker.ask("PUT", quoted(f"{container.name}-{number}"))
            assert answer.status in {201, 202, NO_ROOM}, answer
        for number in range(40):
            assert asker.ask("DELETE", quoted(f"{container.name}-{number}")).status in {204, 404}


def test_s3_says_so_too(served: Instance, asker: Asker, root: Path, container: Path) -> None:
    access = served.access
    config = botocore.config.Config(retries={"max_attempts": 0})
    s3 = boto3.client(
        "s3",
        endpoint_url=access.s3_endpoint,
        aws_access_key_id=access.s3_access_key,
        aws_secret_access_key=access.s3_secret_key,
        region_name="us-east-1",
        config=config,
    )
    with contextlib.closing(s3), full(root):
        for _ in range(plainly.TOO_MANY_ERRORS):
            with pytest.raises(botocore.exceptions.ClientError) as caught:
                s3.put_object(Bucket=container.name, Key="new", Body=bytes(MIB))
            error = caught.value.response
            # S3 has no such status; this is what Swift makes of its own quotas.
            assert (error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"]) == (400, "EntityTooLarge")
            assert "no room left" in error["Error"]["Message"]
        assert s3.get_object(Bucket=container.name, Key="before")["Body"].read() == b"before"
        assert_nothing_happened(asker, root, container)
        s3.delete_object(Bucket=container.name, Key="before")
    assert os.listdir(container) == []


@contextlib.contextmanager
def quota(container: Path, limit: str) -> Iterator[None]:
    """A limit for what lies below a container.

    As of a project on Lustre, XFS or ext4; but those need a kernel with quota (CONFIG_XFS_QUOTA, CONFIG_QFMT_V2), and
    their root may exceed some. Of btrfs it holds everywhere and for everybody.
    """
    container.rmdir()
    mount_point = next(parent for parent in container.parents if parent.is_mount())
    for command in (("quota", "enable", mount_point), ("subvolume", "create", container)):
        subprocess.run(["btrfs", *command], check=True, capture_output=True)
    subprocess.run(["btrfs", "qgroup", "limit", limit, container], check=True)
    try:
        yield
    finally:
        subprocess.run(["btrfs", "qgroup", "limit", "none", container], check=True)


@pytest.mark.parametrize("root", ["btrfs"], indirect=True)
def test_a_quota_refuses_where_it_is_set_and_nowhere_else(asker: Asker, container: Path, root: Path) -> None:
    other = quoted(f"{container.name}-other")
    assert asker.ask("PUT", other).status == 201
    assert asker.ask("DELETE", quoted(container.name, "before")).status == 204
    with quota(container, "2M"):
        assert (
            asker.ask("PUT", quoted(container.name, "before"), {"X-Object-Meta-Colour": "blue"}, b"before").status
            == 201
        )
        path = quoted(container.name, "in/a/new/directory")
        for _ in range(plainly.TOO_MANY_ERRORS):
            assert asker.ask("PUT", path, {}, bytes(8 * MIB)).status == NO_ROOM
            assert asker.ask("PUT", other + "/o", {}, bytes(8 * MIB)).status == 201
        assert_nothing_happened(asker, root, container)
        assert asker.ask("POST", quoted(container.name, "before"), {"X-Object-Meta-A": "b"}).status in {202, NO_ROOM}
        assert asker.ask("DELETE", quoted(container.name, "before")).status == 204
    assert asker.ask("PUT", path, {}, bytes(8 * MIB)).status == 201
    assert asker.ask("DELETE", other + "/o").status == 204


def test_nothing_that_was_asked_above_left_a_traceback_in_a_log(served: Instance) -> None:
    assert "Traceback" not in plainly.read_logs(served)
