# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import mounts
from tests.waiting import wait_for

from lustack.brick import rawview
from lustack.brick.errors import RawViewError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a FUSE export is mounted")


def make(path: Path, *options: str) -> str:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, path, "64M"], check=True)
    return str(path)


def io(image: str, command: str) -> str:
    return subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", command, image], check=True, capture_output=True, text=True
    ).stdout


def can_write(image: str) -> bool:
    """Whether nobody else has the image open."""
    done = subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 64k", image], check=False, capture_output=True)
    return done.returncode == 0 and b"failed" not in done.stdout


@needs_root
def test_a_chain_is_read_and_written_as_one_file_of_raw_bytes(tmp_path: Path):
    bottom = make(tmp_path / "bottom")
    io(bottom, "write -P 65 1M 64k")
    image = make(tmp_path / "top", "-b", bottom, "-F", "qcow2")
    io(image, "write -P 66 2M 64k")
    view = rawview.open_view(image)
    assert os.stat(view.path).st_size == 64 << 20
    with open(view.path, "r+b") as file:
        file.seek(1 << 20)
        assert file.read(4) == b"AAAA"
        file.seek(2 << 20)
        assert file.read(4) == b"BBBB"
        file.seek(3 << 20)
        file.write(b"C" * 65536)
    view.close()
    assert not os.path.exists(view.path)
    assert "failed" not in io(image, "read -P 67 3M 64k")
    assert "failed" not in io(bottom, "read -P 0 3M 64k")


@needs_root
def test_nothing_outlives_a_service_that_is_killed(tmp_path: Path):
    image = make(tmp_path / "image")
    code = (
        f"from lustack.brick import rawview; view = rawview.open_view({image!r}); print(view.path, flush=True); input()"
    )
    service = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with service:
        path = service.stdout.readline().decode().strip()
        assert rawview._is_mounted(path)
        service.send_signal(signal.SIGKILL)
        service.wait()
        wait_for(lambda: not os.path.exists(os.path.dirname(path)))
        assert not rawview._is_mounted(path)
    io(image, "write -P 1 0 64k")  # it is unlocked


@needs_root
def test_the_daemon_ends_with_its_keeper_however_that_ends(tmp_path: Path):
    view = rawview.open_view(make(tmp_path / "image"))
    view._keeper.kill()
    with pytest.raises(RawViewError):
        view.close()
    wait_for(lambda: not rawview._is_mounted(view.path))
    # It lets the image go a moment after the mount.
    wait_for(lambda: can_write(str(tmp_path / "image")))
    rawview._remove_place(view.path)


@needs_root
def test_a_view_belongs_to_who_asked_for_it(tmp_path: Path):
    image, path = make(tmp_path / "image"), tmp_path / "disk"
    path.touch()
    os.chown(path, 65534, 65534)
    command = [sys.executable, "-m", "lustack.brick.rawview", image, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as keeper:
        wait_for(lambda: rawview._is_mounted(str(path)))
        wait_for(lambda: path.stat().st_size == 64 << 20 and path.stat().st_uid == 65534)
        keeper.stdin.close()
        assert keeper.wait() == 0


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that every user may use; /dev/fuse is as udev makes it."""
    mounts.open_fuse()
    with tempfile.TemporaryDirectory(prefix="lustack-") as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


@needs_root
@pytest.mark.parametrize("ending", ["asked", "killed"])
def test_files_are_opened_as_who_asked_where_root_may_do_nothing(reachable: Path, ending: str):
    bottom = make(reachable / "bottom")
    image, path = make(reachable / "image", "-b", bottom, "-F", "qcow2"), reachable / "disk"
    path.touch()
    for each in (path, bottom, image):
        os.chown(each, 65534, 65534)
        os.chmod(each, 0o600)
    # A file system that squashes root does as if root had no rights of its own.
    squashed = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    assert subprocess.run([*squashed, "head", "-c1", image], check=False, capture_output=True).returncode != 0
    command = [*squashed, sys.executable, "-m", "lustack.brick.rawview", image, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as keeper:
        wait_for(lambda: rawview._is_mounted(str(path)))
        wait_for(lambda: path.stat().st_size == 64 << 20 and path.stat().st_uid == 65534)
        with path.open("r+b") as file:
            file.seek(1 << 20)
            file.write(b"C" * 65536)
        if ending == "killed":
            keeper.kill()
        keeper.stdin.close()
        assert keeper.wait() == (0 if ending == "asked" else -signal.SIGKILL)
    wait_for(lambda: not rawview._is_mounted(str(path)))
    wait_for(lambda: can_write(image))
    assert "failed" not in io(image, "read -P 67 1M 64k")


@needs_root
def test_what_neither_user_nor_root_can_show_is_said(reachable: Path):
    image, path = reachable / "image", reachable / "disk"
    image.write_text("no qcow2")
    path.touch()
    for each in (path, image):
        os.chown(each, 65534, 65534)
    done = run_main(str(image), str(path))
    assert done.returncode == 1
    assert done.stderr.count("not in qcow2 format") == 2


@needs_root
def test_no_mount_is_left_of_a_daemon_that_is_killed(tmp_path: Path):
    view = rawview.open_view(make(tmp_path / "image"))
    keeper = view._keeper.pid
    [daemon] = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    os.kill(int(daemon), signal.SIGKILL)
    wait_for(view.has_ended)
    assert not rawview._is_mounted(view.path)
    with pytest.raises(RawViewError, match="exit code"):
        view.close()


def test_a_user_that_has_no_name_has_his_group_alone():
    words = rawview.render_identity(4_000_000_000, 4_000_000_001)
    assert "--groups=4000000001" in words


def test_what_is_no_image_is_not_shown_and_the_reason_is_said(tmp_path: Path):
    (tmp_path / "image").write_text("no qcow2")
    with pytest.raises(RawViewError, match="not in qcow2 format"):
        rawview.open_view(str(tmp_path / "image"))
    with pytest.raises(RawViewError, match="not in qcow2 format"):
        rawview.measure(str(tmp_path / "image"), "qcow2")
    assert rawview.measure(make(tmp_path / "good"), "qcow2") == 64 << 20


def test_a_program_that_cannot_be_started_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rawview, "_find_program", lambda root_helper: [str(tmp_path / "sudo")])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RawViewError, match="sudo: No such file"):
        rawview.open_view(str(tmp_path / "image"))
    assert os.listdir(tmp_path) == []


def test_a_daemon_that_neither_shows_nor_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rawview, "_find_program", lambda root_helper: ["sleep", "0.2"])
    monkeypatch.setattr(rawview, "OPEN_LIMIT_S", 0.05)
    # `sleep` does not take a file as its argument, so it fails with words of its own.
    with pytest.raises(RawViewError):
        rawview.open_view(str(tmp_path / "image"))
    monkeypatch.setattr(rawview, "_find_program", lambda root_helper: ["sh", "-c", "cat"])
    with pytest.raises(RawViewError, match="did not show it"):
        rawview.open_view(str(tmp_path / "image"))


def test_a_daemon_that_does_not_stop_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rawview, "CLOSE_LIMIT_S", 0.05)
    keeper = subprocess.Popen(["sleep", "60"])
    with (tmp_path / "pipe").open("wb") as pipe, (tmp_path / "messages").open("w+b") as messages:
        view = rawview.RawView(str(tmp_path / "place" / "disk"), "image", keeper, pipe, messages)
        with pytest.raises(RawViewError, match="did not stop within"):
            view.close()
    keeper.kill()
    keeper.wait()


def test_a_service_that_is_not_root_goes_through_its_root_helper(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = rawview._find_program("sudo cinder-rootwrap /etc/cinder/rootwrap.conf")
    assert found == ["sudo", "cinder-rootwrap", "/etc/cinder/rootwrap.conf", "lustack-rawview"]


def run_main(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"PATH": path} if path else {})
    command = [sys.executable, "-m", "lustack.brick.rawview", *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False
    )


def test_the_program_says_how_it_is_used_and_what_is_missing(tmp_path: Path):
    assert "usage" in run_main().stderr
    missing = run_main("a", "b", path=str(tmp_path))
    assert missing.returncode == 1
    assert "is not installed" in missing.stderr
