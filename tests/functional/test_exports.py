# SPDX-License-Identifier: Apache-2.0
"""Exports with a real Swift: existing directories are containers where they are, online, whatever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import swiftclient
from tests.functional import nodes
from tests.functional.filesystem import in_a_file
from tests.functional.test_reconcile import ODD_NAMES, Site, daemon, wait_for
from tests.objects import NEEDS_ROOT
from tests.ports import find_ports

from lustack.mapping import names
from lustack.server import instance
from lustack.server.supervise import Launcher, Supervisor
from lustack.server.topology import Host, Program

FILES = 3000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    base = tmp_path_factory.mktemp("exports")
    with instance.running(Host(base / "data", base / "state", port=0, sync=False)) as served:
        found = Site(served, base)
        found.swift.put_container("ordinary")
        yield found


@pytest.fixture(autouse=True)
def closed(site) -> Iterator[None]:
    yield
    site.swift.close()
    site.s3.close()


@pytest.fixture
def directory(site, tmp_path) -> Iterator[Path]:
    """A directory that the test exports as the container `results`."""
    path = tmp_path / "projects" / "results"
    path.mkdir(parents=True)
    yield path
    export(site, "remove", "AUTH_test", "results", code=None)


def command(site: Site, *arguments: str | Path, conf: Path | None = None) -> list[str]:
    return [*map(str, site.command()[:-3]), "export", *map(str, arguments), "--config-file", str(conf or site.conf)]


def export(site: Site, *arguments: str | Path, code: int | None = 0) -> str:
    done = subprocess.run(
        command(site, *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False
    )
    assert code in (None, done.returncode), done.stdout
    return done.stdout


def trouble(site: Site, *, forget: bool = False) -> str:
    """What the daemon said last, the one before too unless that is forgotten; empty: nothing."""
    status = site.conf.parent / "sync" / "status.json"
    if forget:
        status.unlink(missing_ok=True)
    return str(json.loads(status.read_text())["trouble"]) if status.exists() else ""


def write(directory: Path, path: bytes | str, body: bytes = b"body") -> Path:
    place = directory / os.fsdecode(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(body)
    return place


def tree(directory: Path) -> dict[str, int]:
    """Every file of a tree without odd names, and its size."""
    return {str(path.relative_to(directory)): path.stat().st_size for path in directory.rglob("*") if path.is_file()}


def listing(site: Site, container: str = "results") -> dict[str, int]:
    rows = site.swift.get_container(container, full_listing=True)[1]
    return {row["name"]: row["bytes"] for row in rows}


class Jobs(threading.Thread):
    """Changes a tree until it is told to stop, by the operations that jobs make."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.stop = threading.Event()
        self.changes = 0
        self.error: OSError | None = None

    def run(self) -> None:
        dice = random.Random(7)
        try:
            while not self.stop.wait(0.002):
                self.change(dice, f"{dice.randrange(30):02}/{dice.randrange(FILES // 30):04}")
                self.changes += 1
        except OSError as error:
            self.error = error

    def change(self, dice: random.Random, name: str) -> None:
        path = self.directory / name
        what = dice.randrange(4)
        if what == 0:
            write(self.directory, f"{name}.new", b"n" * dice.randrange(100))
        elif what == 1 and path.exists():
            with path.open("ab") as file:
                file.write(b"more")
        elif what == 2:
            path.unlink(missing_ok=True)
        elif path.exists():
            path.rename(path.with_name(f"{path.name}.moved"))


def test_a_tree_is_imported_while_jobs_change_it_and_the_importer_is_killed(site, directory):
    for number in range(FILES):
        write(directory, f"{number % 30:02}/{number // 30:04}", b"x" * (number % 50))
    write(directory, "read/me", b"the bytes of a job")
    jobs = Jobs(directory)
    jobs.start()
    slowly = command(site, "add", "AUTH_test", "results", directory, conf=site.slow_conf)
    importer = subprocess.Popen(slowly, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert b"its objects can be used now" in importer.stderr.readline()
        assert site.swift.get_object("results", "read/me")[1] == b"the bytes of a job"
        site.swift.put_object("results", "read/me", b"the bytes of a client")
        wait_for(lambda: len(listing(site)) > 100)
    finally:
        importer.send_signal(signal.SIGKILL)
        importer.communicate()
    assert (directory / "read" / "me").read_bytes() == b"the bytes of a client"
    assert "importing" in export(site, "list")
    export(site, "add", "AUTH_test", "results", directory)
    jobs.stop.set()
    jobs.join()
    assert jobs.error is None
    assert jobs.changes > 100
    assert "ready" in export(site, "list")
    site.reconcile()
    assert listing(site) == tree(directory)
    assert site.reconcile()["put"] == 0
    checked = [*command(site)[:-3], "fsck", "AUTH_test/results", "--config-file", str(site.conf)]
    done = subprocess.run(checked, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_done_on_either_side_is_seen_on_the_other(site, directory):
    for name in ODD_NAMES:
        write(directory, names.encode(name), name.encode())
    with daemon(site):
        export(site, "add", "AUTH_test", "results", directory, "--no-wait")
        wait_for(lambda: len(listing(site)) == len(ODD_NAMES))
        for name in ODD_NAMES:
            assert site.swift.get_object("results", name)[1] == name.encode()
        assert site.s3.get_object(Bucket="results", Key="50%.txt")["Body"].read() == b"50%.txt"
        site.swift.put_object("results", "deep/er", b"put", headers={"X-Object-Meta-Color": "blue"})
        site.swift.put_object("results", "marker/", b"", content_type="application/directory")
        site.swift.put_object("results", "a/below", b"twin")
        assert (directory / "deep" / "er").read_bytes() == b"put"
        assert site.swift.get_object("results", "a/below")[1] == b"twin"
        assert site.swift.get_object("results", "a")[1] == b"a"
        (directory / "deep" / "er").rename(directory / "moved")
        wait_for(lambda: "moved" in listing(site) and "deep/er" not in listing(site))
        assert site.swift.head_object("results", "moved")["x-object-meta-color"] == "blue"
        for name in ("moved", "a/below", "marker/"):
            site.swift.delete_object("results", name)
        assert not (directory / "moved").exists()
        assert not list(site.account.glob("results*"))
        export(site, "remove", "AUTH_test", "results")
        assert listing(site) == {}
        assert (directory / "50%.txt").read_bytes() == b"50%.txt"
    site.swift.delete_container("results")


def test_events_of_an_export_are_followed_and_what_happened_while_it_was_away_is_found(site, directory):
    conf = site.conf.read_text()
    # Without events nothing would be noticed within an hour.
    site.conf.write_text(conf.replace("interval_s = 0.2", "interval_s = 3600\ncheck_interval_s = 3600"))
    write(directory, "before")
    trouble(site, forget=True)
    try:
        with daemon(site):
            export(site, "add", "AUTH_test", "results", directory)
            assert listing(site) == {"before": 4}
            write(directory, "deep/er")
            (directory / "before").rename(directory / "after")
            wait_for(lambda: listing(site) == {"after": 4, "deep/er": 4})
            away = directory.rename(directory.parent / "away")
            wait_for(lambda: "No such file" in trouble(site))
            write(away, "while/away")
            (away / "after").unlink()
            away.rename(directory)
            wait_for(lambda: listing(site) == {"deep/er": 4, "while/away": 4})
            write(directory, "again")
            wait_for(lambda: "again" in listing(site))
    finally:
        site.conf.write_text(conf)


def test_links_lead_nowhere(site, directory, tmp_path):
    write(tmp_path, "secret", b"secret")
    (directory / "file").symlink_to(tmp_path / "secret")
    (directory / "above").symlink_to("../..")
    export(site, "add", "AUTH_test", "results", directory)
    assert listing(site) == {}
    for name in ("file", "above/secret"):
        with pytest.raises(swiftclient.ClientException, match="404"):
            site.swift.get_object("results", name)
    site.swift.put_object("results", "above/planted/deep", b"x")
    assert not (tmp_path / "planted").exists()
    assert (directory / "above%dir" / "planted" / "deep").read_bytes() == b"x"


def test_an_export_that_is_away_is_out_of_reach_and_nothing_else_is(site, directory):
    for number in range(20):
        write(directory, f"{number}")
    export(site, "add", "AUTH_test", "results", directory)
    site.swift.put_object("ordinary", "o", b"x")
    away = directory.rename(directory.parent / "away")
    directory.mkdir()
    assert "another directory is in its place" in export(site, "list")
    swift = swiftclient.Connection(
        site.served.access.auth_url, site.served.access.user, site.served.access.key, retries=0
    )
    with contextlib.closing(swift):
        wait_for(lambda: refused(lambda: swift.get_object("results", "1")) == 503)
        for _ in range(20):
            assert refused(lambda: swift.get_object("results", "1")) == 503
            assert refused(lambda: swift.put_object("results", "1", b"x")) == 503
            assert swift.get_object("ordinary", "o")[1] == b"x"
        assert refused(lambda: swift.delete_container("results")) == 409
    assert "cannot be used" in str(site.reconcile("--force", code=3)["errors"])
    assert len(listing(site)) == 20
    assert os.listdir(directory) == []
    directory.rmdir()
    away.rename(directory)
    wait_for(lambda: refused(lambda: site.swift.get_object("results", "1")) is None)
    assert site.reconcile()["errors"] == []


def refused(request) -> int | None:
    """The status with which a request was refused, None if it was not."""
    try:
        request()
    except swiftclient.ClientException as error:
        return error.http_status
    return None


@contextlib.contextmanager
def second_node(site: Site) -> Iterator[swiftclient.Connection]:
    """Another proxy with the short path, in a process of its own, as on another machine that mounts the same files."""
    [port] = find_ports(1)
    host = site.served.host
    conf = Path(host.etc, "second-proxy-server.conf")
    ours = Path(host.etc, "proxy-server.conf").read_text()
    conf.write_text(ours.replace(f"bind_port = {site.served.assigned.ports.proxy}", f"bind_port = {port}"))
    supervisor = Supervisor(Launcher(f"{host.etc}/swift.conf", host.logs))
    access = site.served.access
    auth_url, storage_url = (
        url.replace(f":{site.served.assigned.ports.proxy}/", f":{port}/")
        for url in (access.auth_url, access.storage_url)
    )
    swift = swiftclient.Connection(
        auth_url, access.user, access.key, retries=5, os_options={"object_storage_url": storage_url}
    )
    try:
        supervisor.start([Program("second", ("swift-proxy-server", str(conf), "verbose"), port)])
        nodes.wait_for_port(port)
        yield swift
    finally:
        swift.close()
        supervisor.stop()


def test_two_nodes_agree_on_an_export_at_once_and_on_what_each_does_in_it(site, directory):
    write(directory, "of/a job", b"bytes")
    with second_node(site) as second:
        both = (site.swift, second)
        for node in both:
            assert refused(lambda node=node: node.get_object("results", "of/a job")) == 404
        export(site, "add", "AUTH_test", "results", directory)
        for node in both:
            assert node.get_object("results", "of/a job")[1] == b"bytes"
            # A proxy that was asked before believes for 6 seconds that there is none; a HEAD teaches it better.
            wait_for(lambda node=node: refused(lambda: node.head_container("results")) is None)
        for writer, reader in (both, both[::-1]):
            writer.put_object("results", "o", b"one", headers={"X-Object-Meta-Color": "red"})
            assert (directory / "o").read_bytes() == b"one"
            assert reader.head_object("results", "o")["x-object-meta-color"] == "red"
            reader.post_object("results", "o", {"X-Object-Meta-Color": "blue"})
            assert writer.head_object("results", "o")["x-object-meta-color"] == "blue"
            reader.delete_object("results", "o")
            assert refused(lambda node=writer: node.head_object("results", "o")) == 404
            assert not (directory / "o").exists()
        export(site, "remove", "AUTH_test", "results")
        for node in both:
            assert refused(lambda node=node: node.get_object("results", "of/a job")) == 404
    assert (directory / "of" / "a job").read_bytes() == b"bytes"


def test_what_cannot_be_exported_is_refused_with_the_reason(site, directory):
    export(site, "add", "AUTH_test", "results", directory)
    for path, why in (
        (site.account / "ordinary", "outside of the device"),
        (directory.parent, "neither in nor above"),
        ("relative", "an absolute path"),
        (directory / "gone", "No such file"),
    ):
        assert why in export(site, "add", "AUTH_test", "more", path, code=2)
    assert "that exists in Swift" in export(site, "add", "AUTH_nobody", "c", directory, code=2)
    assert "export list" in export(site, "remove", "AUTH_test", "ordinary", code=2)


@NEEDS_ROOT
def test_an_export_may_be_on_another_file_system_that_holds_less_metadata(site, directory, tmp_path):
    big = {f"X-Object-Meta-{number}": "v" * 250 for number in range(16)}
    with in_a_file(tmp_path, "ext4", 0.1) as other:
        (other / "x").mkdir()
        write(other, "x/file")
        export(site, "add", "AUTH_test", "results", other / "x")
        for name in ("file", "new"):
            site.swift.put_object("results", name, name.encode(), headers=big)
            site.swift.post_object("results", name, {**big, "X-Object-Meta-Color": "red"})
            found = site.swift.head_object("results", name)
            assert (found["x-object-meta-color"], found["x-object-meta-15"]) == ("red", "v" * 250)
        apart = Path(site.served.host.directory) / ".lustack" / "foreign"
        assert len(list(apart.glob("*/*/*"))) >= 2
        # An update of a listing that took too long is sent later.
        wait_for(lambda: site.reconcile("--dry-run")["put"] == 0)
        assert listing(site) == {"file": 4, "new": 3}
        for name in ("file", "new"):
            site.swift.delete_object("results", name)
        assert list(apart.glob("*/*/*")) == []
        export(site, "remove", "AUTH_test", "results")
    shutil.rmtree(directory)
