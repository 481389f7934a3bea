# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.objects import NEEDS_ROOT

from lustack.sync import fence, waiting
from lustack.sync.waiting import FenceClosedError, NoFenceError, StillWaitingError


@pytest.fixture
def device(tmp_path):
    return make_device(tmp_path)


def make_device(base):
    root = base / "device"
    (root / ".lustack").mkdir(parents=True)
    (root / ".lustack").chmod(0o700)
    fd = os.open(root, os.O_RDONLY)
    fence.prepare(fd)
    os.close(fd)
    return root


def nonces(device):
    fd = os.open(device, os.O_RDONLY)
    try:
        return fence.pending(fd)
    finally:
        os.close(fd)


def let_pass(device):
    fd = os.open(device, os.O_RDONLY)
    try:
        fence.remove(fd, fence.pending(fd))
    finally:
        os.close(fd)


def test_it_waits_until_the_daemon_has_removed_the_nonce(device):
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        assert len(nonces(device)) == 1
        if len(pauses) == 10:
            let_pass(device)

    waiting.wait_for([str(device)], 60.0, pause)
    assert pauses[:3] == [0.005, 0.01, 0.02]
    assert max(pauses) == 0.2


def test_all_devices_are_waited_for_at_the_same_time(device, tmp_path):
    other = tmp_path / "other"
    other.symlink_to(device)

    def pause(_seconds):
        assert len(nonces(device)) == 2
        let_pass(device)

    waiting.wait_for([str(device), str(other)], 60.0, pause)


def test_who_waits_too_long_takes_his_nonce_along(device):
    now_s = [0.0]

    def pause(seconds):
        now_s[0] += seconds

    with pytest.raises(StillWaitingError, match="not everything was listed within 5 s") as caught:
        waiting.wait_for([str(device)], 5.0, pause, lambda: now_s[0])
    assert caught.value.retryable
    assert nonces(device) == []


def test_who_is_interrupted_takes_his_nonce_along(device):
    def pause(_seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        waiting.wait_for([str(device)], 5.0, pause)
    assert nonces(device) == []


def test_where_one_fence_is_closed_no_nonce_stays(device, tmp_path):
    with pytest.raises(FenceClosedError, match="nothing can be put into"):
        waiting.wait_for([str(device), str(tmp_path)], 5.0)
    assert nonces(device) == []


def test_the_device_is_found_from_any_place_on_it(device, tmp_path):
    (device / "a" / "c").mkdir(parents=True)
    (tmp_path / "link").symlink_to(device / "a")
    for path in (device, device / "a" / "c", device / "not" / "yet", tmp_path / "link"):
        assert waiting.find_device(str(path)) == str(device)
    with pytest.raises(NoFenceError, match="no daemon looks after this"):
        waiting.find_device(str(tmp_path))


def test_a_planted_link_is_no_fence(device, tmp_path):
    trap = tmp_path / "trap"
    (trap / ".lustack").mkdir(parents=True)
    (trap / ".lustack" / "fence").symlink_to(device / ".lustack" / "fence")
    assert not waiting.has_fence(str(trap))
    assert waiting.has_fence(str(device))


@pytest.fixture
def public_device():
    """One that everybody gets to: pytest makes its directories for one user alone."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o711)
        yield make_device(Path(place))


@NEEDS_ROOT
def test_any_user_can_wait_and_see_nothing_else(public_device):
    device = public_device
    (device / ".lustack" / "sidecars").mkdir(mode=0o700)
    (device / ".lustack" / "fence" / ("0" * 32)).touch()
    script = (
        "import os, sys\n"
        "from lustack.sync import waiting\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "root = sys.argv[1]\n"
        "nonce = waiting.Nonce(root)\n"
        "assert nonce.is_there()\n"
        "for call in (lambda: os.listdir(root + '/.lustack'), lambda: os.listdir(root + '/.lustack/fence'),\n"
        "             lambda: os.listdir(root + '/.lustack/sidecars'),\n"
        "             lambda: os.unlink(root + '/.lustack/fence/' + '0' * 32)):\n"
        "    try:\n"
        "        call()\n"
        "    except PermissionError:\n"
        "        continue\n"
        "    raise AssertionError(call)\n"
        "nonce.give_up()\n"
        "assert not nonce.is_there()\n"
    )
    # Nobody cannot write down which lines were reached.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", script, str(device)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
