# SPDX-License-Identifier: Apache-2.0
"""What operators and users of jobs call, with a real Swift: fsck, status, wait, and a second daemon that takes over."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.functional.filesystem import in_a_file
from tests.functional.test_reconcile import Site, daemon, wait_for
from tests.objects import NEEDS_ROOT

from lustack.server import instance
from lustack.server.topology import Host

pytestmark = NEEDS_ROOT

NOBODY = 65534
FILES = 1500
TAKE_OVER_S = 60.0


def opened(place: str) -> Path:
    """A directory through which everybody may go."""
    os.chmod(place, 0o711)
    return Path(place)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """On ext4, whose attributes hold 4 KiB: what is bigger lies in sidecars."""
    base = tmp_path_factory.mktemp("operators")
    with (
        # Everybody must get to the device: pytest makes its directories for one user alone.
        tempfile.TemporaryDirectory() as place,
        in_a_file(opened(place), "ext4", 0.5) as mount_point,
        instance.running(Host(mount_point / "data", base / "state", port=0, sync=False)) as served,
    ):
        found = Site(served, base)
        with found.conf.open("a") as conf:
            conf.write("sweep_age_s = 0\n")
        yield found


@pytest.fixture(autouse=True)
def empty(site: Site) -> Iterator[None]:
    yield
    shutil.rmtree(site.account, ignore_errors=True)
    site.reconcile("--force", "--restart", "AUTH_test")
    for container in site.swift.get_account()[1]:
        site.swift.delete_container(container["name"])
    site.swift.close()
    site.s3.close()


def command(site: Site, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "lustack.cli.main", *arguments, "--config-file", str(site.conf)]


def fsck(site: Site, *arguments: str, code: int = 0) -> dict[str, list[str]]:
    """The paths that were found, by kind."""
    call = command(site, "fsck", "--json", "--settle", "1", *arguments)
    done = subprocess.run(call, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    kinds = json.loads(done.stdout.splitlines()[-1])["report"]["kinds"]
    base = str(site.account.resolve()) + "/"
    return {
        kind: sorted(path.removeprefix(base).removeprefix("AUTH_test/") for path, _ in found["samples"])
        for kind, found in kinds.items()
    }


def test_what_jobs_do_behind_the_daemons_back_is_found_and_mended(site):
    site.swift.put_container("c")
    big = {f"X-Object-Meta-{number:02}": "v" * 200 for number in range(18)}
    for name in ("gone", "same", "damaged"):
        site.swift.put_object("c", name, b"body", headers=big if name == "gone" else {})
    wait_for(lambda: len(site.listed("c")) == 3)
    assert fsck(site) == {}
    (site.account / "c" / "gone").unlink()
    os.setxattr(site.account / "c" / "damaged", "user.lustack.data", b"{")
    site.write("c/new")
    site.write("c/a%file")
    (site.account / "c" / os.fsdecode(b"\xff")).touch()
    (site.account / "c" / "link").symlink_to("new")
    site.write("adopted/o")
    expected = {
        "extra-row": ["c/gone"],
        # The row still says what PUT wrote; the file is a bare one by now.
        "wrong-row": ["c/damaged"],
        "missing-row": ["c/a", "c/new"],
        "damaged-metadata": ["c/damaged"],
        "stale-twin": ["c/a%file"],
        "directory-without-container": ["adopted"],
        "unlistable-name": ["c/\udcff"],
        "special-file": ["c/link"],
    }
    found = fsck(site, code=1)
    [sidecar] = found.pop("orphan-sidecar")
    assert found == expected
    assert os.path.exists(sidecar)
    # What nobody can read is told and never erased.
    assert set(fsck(site, "--repair", code=1)) == {*expected, "orphan-sidecar"}
    assert not os.path.exists(sidecar)
    left = fsck(site, code=1)
    assert left == {kind: expected[kind] for kind in ("damaged-metadata", "unlistable-name", "special-file")}
    assert site.listed("c") == ["a", "damaged", "new", "same"]
    assert site.listed("adopted") == ["o"]
    assert os.getxattr(site.account / "c" / "damaged", "user.lustack.data") == b"{"


def test_a_check_that_was_killed_goes_on_and_counts_nothing_twice(site):
    site.swift.put_container("c")
    for number in range(FILES):
        site.write(f"c/{number:05}", b"")
    call = command(site, "fsck", "--settle", "0", "--rate", "100", "--json")
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    journal = site.conf.parent / "sync"
    wait_for(lambda: any(json.loads(path.read_text())["names"] for path in journal.glob("fsck-*.json")))
    process.kill()
    process.communicate()
    done = subprocess.run([*call, "--rate", "0"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stderr
    *_, report = map(json.loads, done.stdout.splitlines())
    # A prefix of the names was checked before it was killed: only the rest comes as lines now.
    assert report["report"]["kinds"]["missing-row"]["count"] == FILES
    assert len(done.stdout.splitlines()) < FILES
    assert list(journal.glob("fsck-*.json")) == []


def test_while_jobs_and_the_daemon_work_nothing_is_drift(site):
    site.swift.put_container("c")
    stop = threading.Event()

    def job() -> None:
        number = 0
        while not stop.wait(0.005):
            number += 1
            site.write(f"c/{number % 97:02}/{number % 13}", b"x" * (number % 5))
            with contextlib.suppress(FileNotFoundError):
                (site.account / "c" / f"{(number + 40) % 97:02}" / f"{number % 13}").unlink()

    with daemon(site):
        thread = threading.Thread(target=job)
        thread.start()
        try:
            # So long that no daemon is as late, however busy the machine is.
            found = fsck(site, "--settle", "20")
            assert set(found) <= {"moving"}, found
        finally:
            stop.set()
            thread.join()
        subprocess.run(command(site, "sync", "wait", str(site.account)), check=True, timeout=180)
        assert fsck(site) == {}


def status(site: Site, conf: Path | None = None) -> dict[str, object]:
    call = [*command(site, "sync", "status", "--json")[:-1], str(conf or site.conf)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["is_alive"] else 1)
    return found


def wait_as_nobody(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a job of a user calls at its end: without a configuration that it may read."""
    # Nobody may read this interpreter's library, so what the command needs is loaded before. Nor can nobody write down
    # which lines were reached.
    script = (
        "import contextlib, io, os, sys\n"
        "import lustack.cli.main, lustack.sync.opts, lustack.sync.waiting\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    lustack.cli.main.main(['sync', 'wait', '--help'])\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "sys.exit(lustack.cli.main.main(sys.argv[1:]))\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    call = [sys.executable, "-P", "-W", "ignore", "-c", script, "sync", "wait", *arguments]
    return subprocess.run(call, env=env, cwd="/", capture_output=True, text=True, timeout=120, check=False)


def test_when_wait_returns_everything_before_it_is_listed(site):
    site.swift.put_container("c")
    place = str(site.account / "c")
    with daemon(site):
        wait_for(lambda: status(site).get("state") == "running")
        wait_for((site.account.parent / ".lustack" / "fence").exists)
        for number in range(5):
            for each in range(20):
                site.write(f"c/{number}/{each:02}")
            done = wait_as_nobody(site, place)
            assert done.returncode == 0, done.stderr
            assert len(site.listed("c")) == 20 * (number + 1)
    assert status(site).get("state") == "stopped"
    done = wait_as_nobody(site, place, "--timeout", "1")
    assert done.returncode == 3
    assert "not everything was listed within 1 s" in done.stderr
    assert os.listdir(site.account.parent / ".lustack" / "fence") == []


@contextlib.contextmanager
def started(site: Site, conf: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([*site.command("run")[:-1], str(conf or site.conf)], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_when_the_daemon_dies_the_one_that_stands_by_takes_over(site):
    site.swift.put_container("c")
    with started(site) as first:
        wait_for(lambda: status(site).get("pid") == first.pid)
        with started(site) as second:
            # Long enough to be there, and to find that another one works.
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(6)
            assert status(site).get("pid") == first.pid
            first.kill()
            killed_s = time.monotonic()
            wait_for(lambda: (found := status(site)).get("pid") == second.pid and found["is_alive"])
            assert time.monotonic() - killed_s < TAKE_OVER_S
            site.write("c/o")
            wait_for(lambda: site.listed("c") == ["o"])


def test_daemons_of_two_machines_agree_which_of_them_works(site, tmp_path: Path):
    """Each has a state of its own, as on another machine."""
    confs = [tmp_path / "one.conf", tmp_path / "two.conf"]
    for conf in confs:
        text = site.conf.read_text().replace(f"{site.conf.parent}/sync\n", f"{tmp_path}/{conf.stem}\n")
        conf.write_text(f"{text}coordination_url = file://{tmp_path}/locks\n")
    site.swift.put_container("c")
    with started(site, confs[0]) as first:
        wait_for(lambda: status(site, confs[0]).get("state") == "running")
        with started(site, confs[1]):
            wait_for(lambda: status(site, confs[1]).get("state") == "standby")
            assert status(site, confs[0])["state"] == "running"
            first.kill()
            killed_s = time.monotonic()
            wait_for(lambda: status(site, confs[1]).get("state") == "running")
            assert time.monotonic() - killed_s < TAKE_OVER_S
            site.write("c/o")
            wait_for(lambda: site.listed("c") == ["o"])


def test_a_device_knows_its_daemon_by_its_fence(site, tmp_path: Path):
    done = wait_as_nobody(site, str(tmp_path))
    assert done.returncode == 1
    assert "no daemon looks after this" in done.stderr
