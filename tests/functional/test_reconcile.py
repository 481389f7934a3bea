# SPDX-License-Identifier: Apache-2.0
"""`lustack sync` against a real Swift: what jobs do to files is listed, and what Swift does itself is left alone."""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import swiftclient

from lustack.mapping import names
from lustack.server import instance
from lustack.server.instance import Instance
from lustack.server.topology import Host

ODD_NAMES = [
    *("a", "a.b", "b/c/d", "-", " x ", "new\nline", "ünï/cödé", "50%.txt", "%25", "a%2Fb", "tab\t", "'\"", "*?", "~"),
    *(".hidden", "dir.with.dots/..x", "\U0001f600", "l" * 255, "/".join(["deep"] * 100)),
]
LIMIT_S = 180


class Site:
    """A served directory, the command beside it, and clients."""

    def __init__(self, served: Instance, base: Path) -> None:
        self.served = served
        self.account = Path(served.host.directory) / "AUTH_test"
        self.conf = base / "sync.conf"
        text = (
            f"[sync]\nswift_dir = {served.host.etc}\ndevices = {served.host.node}\nstate_dir = {base}/sync\n"
            "missing_rows = 10\nbatch_rows = {}\ninterval_s = 0.2\n"
        )
        self.conf.write_text(text.format(50))
        # Thousands of rows take so long that nobody misses the middle, however seldom he may look.
        self.slow_conf = base / "slow.conf"
        self.slow_conf.write_text(text.format(1))
        access = served.access
        self.swift = swiftclient.Connection(access.auth_url, access.user, access.key, retries=5)
        self.s3 = boto3.client(
            "s3",
            endpoint_url=access.s3_endpoint,
            aws_access_key_id=access.s3_access_key,
            aws_secret_access_key=access.s3_secret_key,
            region_name="us-east-1",
        )

    def command(self, *arguments: str, conf: Path | None = None) -> list[str]:
        options = ("--config-file", str(conf or self.conf))
        return [sys.executable, "-P", "-m", "lustack.cli.main", "sync", *arguments, *options]

    def reconcile(self, *arguments: str, code: int = 0) -> dict[str, object]:
        done = subprocess.run(
            self.command("reconcile", "--json", *arguments), capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout.splitlines()[-1])["report"]

    def listed(self, container: str) -> list[str]:
        return [row["name"] for row in self.swift.get_container(container, full_listing=True)[1]]

    def write(self, path: str, body: bytes = b"body") -> Path:
        place = self.account / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body)
        return place

    def tool(self, *command: str) -> str:
        """Run a program of Swift with this Swift's swift.conf."""
        launch = [sys.executable, "-m", "lustack.server.launch", "--parent", str(os.getpid())]
        conf = ["--swift-conf", f"{self.served.host.etc}/swift.conf"]
        done = subprocess.run([*launch, *conf, *command], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    base = tmp_path_factory.mktemp("reconcile")
    with instance.running(Host(base / "data", base / "state", port=0, sync=False)) as served:
        yield Site(served, base)


@pytest.fixture(autouse=True)
def empty(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "site" in request.fixturenames:
        site: Site = request.getfixturevalue("site")
        hidden = site.account.parent / ".lustack" / "reserved" / site.account.name
        for tree in (site.account, hidden):
            shutil.rmtree(tree, ignore_errors=True)
        site.reconcile("--force")
        for container in site.swift.get_account()[1]:
            # Swift does not delete a sharded one before its sharder has told the root that the shards are empty.
            if container["name"] != "sharded":
                site.swift.delete_container(container["name"])
        site.swift.close()
        site.s3.close()


def test_what_a_job_makes_can_be_downloaded_and_what_it_removes_is_gone(site):
    site.swift.put_container("box")
    for name in ODD_NAMES:
        site.write(f"box/{os.fsdecode(names.encode(name))}", name.encode())
    os.mkfifo(site.account / "box" / "fifo")
    (site.account / "box" / "link").symlink_to("a")
    report = site.reconcile()
    assert (report["put"], report["deleted"], report["errors"]) == (len(ODD_NAMES), 0, [])
    assert site.listed("box") == sorted(ODD_NAMES, key=str.encode)
    for name in ODD_NAMES:
        assert site.swift.get_object("box", name)[1] == name.encode()
    assert site.s3.get_object(Bucket="box", Key="50%.txt")["Body"].read() == b"50%.txt"
    shutil.rmtree(site.account / "box" / "b")
    (site.account / "box" / "a").rename(site.account / "box" / "z")
    report = site.reconcile()
    assert (report["put"], report["deleted"]) == (1, 2)
    assert site.listed("box") == sorted({*ODD_NAMES, "z"} - {"a", "b/c/d"}, key=str.encode)
    assert site.reconcile()["same"] == report["files"]


def test_a_listing_shows_size_time_and_tag_of_the_file(site):
    site.swift.put_container("box")
    path = site.write("box/o.txt", b"12345")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    site.reconcile()
    [row] = site.swift.get_container("box")[1]
    assert (row["bytes"], row["content_type"]) == (5, "text/plain")
    assert row["last_modified"] == "2020-09-13T12:26:40.000000"
    head = site.swift.head_object("box", "o.txt")
    assert head["x-timestamp"] == "1600000000.00000"
    [found] = site.s3.list_objects_v2(Bucket="box")["Contents"]
    assert found["ETag"].strip('"').endswith("-1")


def test_what_swift_wrote_itself_is_no_difference(site):
    swift = site.swift
    swift.put_container("box", headers={"X-Versions-Enabled": "true"})
    swift.put_container("segments")
    swift.put_object("box", "plain", b"1")
    swift.put_object("box", "plain", b"22")
    swift.put_object("box", "typed", b"1", content_type="text/html; charset=UTF-8; a=b")
    swift.put_object("box", "nothing", b"")
    swift.put_object("box", "marker/", b"", content_type="application/directory")
    swift.put_object("box", "folder", b"", content_type="application/directory")
    swift.put_object("box", "folder/inner", b"1")
    swift.put_object("box", "file", b"1")
    swift.put_object("box", "file/below", b"1")
    for name in ODD_NAMES:
        swift.put_object("box", f"odd/{name}", b"1")
    swift.post_object("box", "plain", {"X-Object-Meta-A": "b"})
    swift.post_object("box", "typed", {"Content-Type": "application/x-new; c=d"})
    etags = [swift.put_object("segments", f"{number}", b"x" * 2**20) for number in range(2)]
    manifest = [{"path": f"/segments/{number}", "etag": etag} for number, etag in enumerate(etags)]
    swift.put_object("box", "slo", json.dumps(manifest), query_string="multipart-manifest=put")
    swift.put_object("box", "dlo", b"", headers={"X-Object-Manifest": "segments/0"})
    swift.put_object("box", "link", b"", headers={"X-Symlink-Target": "box/plain"})
    upload = site.s3.create_multipart_upload(Bucket="segments", Key="parts")["UploadId"]
    part = site.s3.upload_part(Bucket="segments", Key="parts", PartNumber=1, UploadId=upload, Body=b"x" * 5 * 2**20)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    site.s3.complete_multipart_upload(Bucket="segments", Key="parts", UploadId=upload, MultipartUpload=parts)
    swift.delete_object("box", "nothing")
    # An update of a listing that took too long is sent later.
    wait_for(lambda: (found := site.reconcile("--dry-run"))["put"] == found["deleted"] == 0)
    report = site.reconcile("--dry-run")
    assert (report["put"], report["deleted"], report["left"], report["left_alone"]) == (0, 0, 0, [])
    assert report["same"] == report["files"] > 20
    swift.post_container("box", {"X-Versions-Enabled": "false"})


def test_what_swift_writes_right_after_one_command_upon_another_is_listed(site):
    site.swift.put_container("c")
    for number in range(4):
        path = site.write("c/o", b"by a job" * (number + 1))
        assert site.reconcile()["put"] == 1
        path.write_bytes(b"again")
        assert site.reconcile()["put"] == 1
        site.swift.put_object("c", "o", b"by swift")
        wait_for(lambda: [row["bytes"] for row in site.swift.get_container("c")[1]] == [8])


def test_a_job_may_change_what_swift_wrote(site):
    site.swift.put_container("c")
    site.swift.put_object("c", "o", b"by swift", headers={"X-Object-Meta-Color": "blue"})
    path = site.account / "c" / "o"
    with path.open("ab") as file:
        file.write(b" and by a job")
    assert site.reconcile()["put"] == 1
    [row] = site.swift.get_container("c")[1]
    headers, body = site.swift.get_object("c", "o")
    assert body == b"by swift and by a job"
    assert row["bytes"] == len(body) == int(headers["content-length"])
    assert headers["x-object-meta-color"] == "blue"
    site.swift.put_object("c", "o", b"swift again")
    expected = [(11, hashlib.md5(b"swift again").hexdigest())]
    wait_for(lambda: [(row["bytes"], row["hash"]) for row in site.swift.get_container("c")[1]] == expected)
    assert site.reconcile()["put"] == 0


def test_a_directory_becomes_a_container_unless_it_was_one_that_was_deleted(site):
    site.write("fresh/o")
    site.swift.put_container("old")
    assert site.reconcile()["adopted"] == 1
    assert site.listed("fresh") == ["o"]
    wait_for(lambda: {found["name"] for found in site.swift.get_account()[1]} >= {"fresh", "old"})
    site.swift.delete_container("old")
    site.write("old/o")
    report = site.reconcile()
    assert report["adopted"] == 0
    assert report["left_alone"] == [["AUTH_test/old", "deleted in Swift, but there is a directory"]]
    with pytest.raises(swiftclient.ClientException, match="404"):
        site.swift.get_container("old")
    shutil.rmtree(site.account / "old")


def test_a_directory_of_nobody_stays_nobodys(site):
    stray = Path(site.served.host.directory) / "home" / "alice"
    stray.mkdir(parents=True)
    (stray / "letter").touch()
    assert site.reconcile()["left_alone"] == [["home", "Swift has no such account"]]
    shutil.rmtree(stray.parent)


def test_a_copied_container_with_twins_can_be_read(site):
    site.swift.put_container("c")
    site.swift.put_object("c", "a", b"file")
    site.swift.put_object("c", "a/b", b"below")
    site.swift.put_object("c", "x/y", b"below")
    site.swift.put_object("c", "x", b"file")
    subprocess.run(["cp", "-r", site.account / "c", site.account / "copy"], check=True)
    (site.account / "copy" / "a").unlink()
    site.reconcile()
    assert site.listed("copy") == ["a/b", "x", "x/y"]
    assert site.swift.get_object("copy", "a/b")[1] == b"below"
    assert site.swift.get_object("copy", "x")[1] == b"file"


def test_many_rows_go_with_their_directory_only_if_a_human_insists(site):
    site.swift.put_container("c")
    for number in range(20):
        site.write(f"c/{number}")
    site.reconcile()
    shutil.rmtree(site.account / "c")
    report = site.reconcile(code=1)
    assert "20 objects would vanish" in report["errors"][0]
    assert len(site.listed("c")) == 20
    (site.account / "c").mkdir()
    assert site.reconcile()["deleted"] == 20
    assert site.listed("c") == []


def test_a_comparison_that_is_killed_goes_on_where_it_was(site):
    for container in ("c", "d"):
        site.swift.put_container(container)
        for number in range(3000):
            site.write(f"{container}/{number:05}", b"")
    slowly = site.command("reconcile", conf=site.slow_conf)
    killed = subprocess.Popen(slowly, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: site.listed("c"))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(site.listed("c")) < 3000
    stopped = subprocess.Popen(site.command("reconcile"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: site.listed("d"))
    stopped.send_signal(signal.SIGTERM)
    code = stopped.wait(LIMIT_S)
    report = site.reconcile()
    assert code in {0, 3}
    if code == 3:
        assert report["files"] < 6000
    assert len(site.listed("c")) == len(site.listed("d")) == 3000


def wait_for(condition, limit_s: float = LIMIT_S):
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def daemon(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(site.command("run"), stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        _, said = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, said


def test_the_daemon_follows_learns_hashes_and_outlives_the_servers(site):
    site.swift.put_container("c")
    with daemon(site):
        path = site.write("c/o", b"0123456789" * 20_000)
        wait_for(lambda: site.listed("c") == ["o"])
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        wait_for(lambda: site.swift.get_container("c")[1][0]["hash"] == digest)
        assert site.swift.head_object("c", "o")["etag"] == digest
        supervisor = site.served.supervisor
        os.kill(supervisor.pids()["container-server"], signal.SIGKILL)
        path.unlink()
        site.write("c/p")
        time.sleep(1.0)
        # Starts again what ended; in this thread, because the servers die with the thread that started them.
        wait_for(lambda: supervisor.tick() is not None and supervisor.pids().get("container-server"))
        wait_for(lambda: site.listed("c") == ["p"])


def shard(site: Site, container: str, rows: int) -> None:
    """Spreads a container over shards with so many rows each, with the tools that operators use."""
    base = Path(str(site.served.host.databases)).parent
    account = urllib.parse.urlsplit(site.served.access.storage_url).path.rpartition("/")[2]
    [database] = [
        path
        for path in Path(str(site.served.host.databases)).glob("*/containers/*/*/*/*.db")
        if site.tool("swift-container-info", str(path)).count(f"Container: {container}\n")
        and account in site.tool("swift-container-info", str(path))
    ]
    conf = configparser.ConfigParser(interpolation=None)
    conf.read(f"{site.served.host.etc}/container-server.conf")
    conf["container-sharder"] = {
        "internal_client_conf_path": f"{site.served.host.etc}/internal-client.conf",
        "shard_container_threshold": str(rows),
        "cleave_batch_size": "100",
        "cleave_row_batch_size": "1000",
    }
    path = base / "sharder.conf"
    with path.open("w") as file:
        conf.write(file)
    site.tool("swift-manage-shard-ranges", str(database), "find_and_replace", str(rows), "--enable")
    for _ in range(6):
        site.tool("swift-container-sharder", str(path), "once")


def test_a_sharded_container_is_followed_at_its_shards(site):
    site.swift.put_container("sharded", headers={"X-Container-Sharding": "true"})
    for number in range(100):
        site.write(f"sharded/{number:03}")
    site.reconcile()
    shard(site, "sharded", 30)
    ranges = subprocess.run(
        ["find", str(site.served.host.databases), "-name", "*.db"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(ranges) > 3
    assert site.reconcile("--dry-run")["same"] == 100
    site.write("sharded/000a")
    site.write("sharded/050", b"changed")
    (site.account / "sharded" / "099").unlink()
    site.write("sharded/zzz")
    report = site.reconcile()
    assert (report["put"], report["deleted"]) == (3, 1)
    expected = sorted({f"{number:03}" for number in range(99)} | {"000a", "zzz"})
    assert site.listed("sharded") == expected
    assert {row["name"]: row["bytes"] for row in site.swift.get_container("sharded")[1]}["050"] == 7
    assert site.reconcile()["same"] == len(expected)
    assert site.reconcile("AUTH_test/sharded/05")["same"] == 10
