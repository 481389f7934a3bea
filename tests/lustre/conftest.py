# SPDX-License-Identifier: Apache-2.0
"""A mounted Lustre to test on, if the environment names one:

    LUSTACK_TEST_LUSTRE        where the whole file system is mounted on this machine, with `user_xattr,flock`
    LUSTACK_TEST_LUSTRE_MDT    its MDTs, with commas between them (default: every one whose changelog is in /dev)
    LUSTACK_TEST_LUSTRE_USER   a changelog user of each of them in the same order, as `cl1,cl2`, or one for all
                               (default: registered by `lctl` for the time of the tests, if the MDTs are here)

    LUSTACK_TEST_LUSTRE=/mnt/lustre python -m pytest tests/lustre

Run it as root. It works in a directory of its own that it removes, asks for no network, and clears the records of the
users that it was given. Each test that does not run says why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from lustack.lustre import client, mounts, users

POINT = os.environ.get("LUSTACK_TEST_LUSTRE", "")
SPEED_S = float(os.environ.get("LUSTACK_TEST_LUSTRE_PATIENCE_S", "10"))
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in Path(item.path).parents:
            # Emulated machines are slow.
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def lustre():
    """The client for the file system under test."""
    if not POINT:
        pytest.skip("LUSTACK_TEST_LUSTRE does not name a mounted Lustre (see tests/lustre/conftest.py)")
    if os.geteuid() != 0:
        pytest.skip("a changelog is for root only")
    found = client.connect(POINT)
    mount = mounts.find_mount(client.read_mounts(), os.fsencode(os.path.realpath(POINT)))
    faults = mounts.find_faults(mount.options)
    if faults:
        pytest.fail("it is not mounted as lustack needs it: " + "; ".join(faults))
    return found


@pytest.fixture(scope="session")
def top(lustre):
    """An own directory of this run, as a path."""
    path = Path(tempfile.mkdtemp(prefix="lustack-test-", dir=POINT))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tmp_path(top):
    """On Lustre, whatever a test takes it for."""
    return Path(tempfile.mkdtemp(dir=top))


@pytest.fixture(scope="session")
def mdts(lustre):
    named = tuple(each.strip() for each in os.environ.get("LUSTACK_TEST_LUSTRE_MDT", "").split(",") if each.strip())
    found = named or lustre.mdts()
    if not found:
        pytest.skip("no changelog device is in /dev")
    return found


@pytest.fixture(scope="session")
def changelog_users(lustre, mdts):
    """Our user of each MDT."""
    given = [each for each in os.environ.get("LUSTACK_TEST_LUSTRE_USER", "").split(",") if each]
    if given:
        numbers = [each.rpartition(":")[2].partition("-")[0].strip() for each in given]
        yield dict(zip(mdts, numbers * len(mdts) if len(numbers) == 1 else numbers, strict=False))
        return
    registered = {mdt: register(mdt) for mdt in mdts}
    yield registered
    for mdt, user in registered.items():
        subprocess.run(["lctl", "--device", mdt, "changelog_deregister", user], check=False, capture_output=True)


def register(mdt):
    """Registers a user for the default types; Lustre before 2.15 knows neither names nor masks of users."""
    try:
        done = subprocess.run(
            ["lctl", "--device", mdt, "changelog_register"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("LUSTACK_TEST_LUSTRE_USER is not set, and there is no `lctl` to register a user")
    try:
        return users.parse_registered(done.stdout)[1]
    except ValueError:
        pytest.skip(f"LUSTACK_TEST_LUSTRE_USER is not set, and `lctl` registered none for {mdt}: {done.stderr.strip()}")


class MountedGround:
    """See `tests.contract.test_lustre.FakeGround`."""

    patience_s = SPEED_S

    def __init__(self, lustre, mdts, users, top):
        self.lustre, self.mdts, self.users = lustre, mdts, users
        self.top = os.path.relpath(top, lustre.point).encode()

    def real(self, path):
        return os.path.join(os.fsencode(self.lustre.point), path)

    def write(self, path, content):
        with open(self.real(path), "wb") as file:
            file.write(content)

    def mkdir(self, path, *mdts):
        """On an MDT, if `lfs` is there to say so; else where Lustre puts it."""
        if mdts and shutil.which("lfs"):
            numbers = ",".join(str(int(self.mdts[each].rpartition("MDT")[2], 16)) for each in mdts)
            subprocess.run(["lfs", "mkdir", "-i", numbers, self.real(path)], check=True)
        else:
            os.mkdir(self.real(path))

    def rmdir(self, path):
        os.rmdir(self.real(path))

    def link(self, old, new):
        os.link(self.real(old), self.real(new))

    def unlink(self, path):
        os.unlink(self.real(path))

    def rename(self, old, new):
        os.rename(self.real(old), self.real(new))

    def truncate(self, path, size_bytes):
        os.truncate(self.real(path), size_bytes)


@pytest.fixture
def ground(lustre, mdts, changelog_users, tmp_path):
    if set(changelog_users) < set(mdts):
        pytest.skip("LUSTACK_TEST_LUSTRE_USER names fewer users than there are MDTs")
    return MountedGround(lustre, mdts, changelog_users, tmp_path)


def pytest_terminal_summary(terminalreporter):
    skipped = [each for each in terminalreporter.stats.get("skipped", []) if "tests/lustre/" in each.nodeid]
    passed = [each for each in terminalreporter.stats.get("passed", []) if "tests/lustre/" in each.nodeid]
    if skipped or passed:
        reasons = sorted({str(each.longrepr[2]) for each in skipped})
        terminalreporter.write_line(f"on Lustre: {len(passed)} passed, {len(skipped)} did not run")
        for reason in reasons:
            terminalreporter.write_line(f"  {reason}")
