# SPDX-License-Identifier: Apache-2.0
"""A mounted Lustre to test on, if the environment names one:

    LUSTACK_TEST_LUSTRE        where the whole file system is mounted on this machine; without `user_xattr,flock` the
                               tests of Swift and of the daemon do not run
    LUSTACK_TEST_LUSTRE_MDT    MDTs, with commas between them (default: every one whose changelog is in /dev)
    LUSTACK_TEST_LUSTRE_USER   a changelog user of each of them in the same order, as `cl1,cl2`, or one for all
                               (default: registered by `lctl` for the time of the tests, if the MDTs are here)

    LUSTACK_TEST_LUSTRE=/mnt/lustre python -m pytest tests/lustre

Run it as root. It needs pytest, and what the wheel needs with the extras `sync` and `swift` (without Swift its tests
do not run); pytest-timeout and hypothesis are used if they are there. It works in a directory of its own that it
removes, asks for no network, and clears the records of the users that it was given. Each test that does not run says
why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from lustack.lustre import client, mounts, users
from lustack.lustre.changelog import scan

POINT = os.environ.get("LUSTACK_TEST_LUSTRE", "")
# So late a client may send the record of a close, as it keeps files open. Source: llite, opencache_max_ms 60000.
LATE_S = 75.0
SPEED_S = float(os.environ.get("LUSTACK_TEST_LUSTRE_PATIENCE_S", LATE_S))
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
    if "ro" in mount_options():
        pytest.skip(f"{POINT} is mounted read-only")
    return found


def mount_options():
    """Of the mount that is tested."""
    mount = mounts.find_mount(client.read_mounts(), os.fsencode(os.path.realpath(POINT)))
    return frozenset() if mount is None else mount.options


@pytest.fixture(scope="session")
def for_swift(lustre):
    """The mount has what Swift and the daemon need; changelogs and identities work without."""
    faults = mounts.find_faults(mount_options())
    if faults:
        pytest.skip(f"{POINT} is not mounted as Swift needs it: " + "; ".join(faults))


@pytest.fixture(scope="session")
def changelog_users(lustre):
    """Our user of each MDT, as far as there is one; what waits for it is cleared."""
    found = named_users(lustre.mdts())
    registered = {}
    for mdt in lustre.mdts():
        if mdt not in found:
            registered[mdt] = register(mdt)
    known = {**found, **{mdt: user for mdt, user in registered.items() if user}}
    for mdt, user in known.items():
        skip_records(lustre, mdt, user)
    yield known
    for mdt, user in registered.items():
        if user:
            subprocess.run(["lctl", "--device", mdt, "changelog_deregister", user], check=False, capture_output=True)


@pytest.fixture(scope="session")
def mdts(lustre, changelog_users):
    """The MDTs that can be tested."""
    if not lustre.mdts():
        pytest.skip("no changelog device is in /dev")
    if not changelog_users:
        pytest.skip("LUSTACK_TEST_LUSTRE_USER is not set, and `lctl` registered no user on this machine")
    return tuple(mdt for mdt in lustre.mdts() if mdt in changelog_users)


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


def named_users(all_mdts):
    """What the environment says: LUSTACK_TEST_LUSTRE_USER in the order of LUSTACK_TEST_LUSTRE_MDT, or of all MDTs."""
    named = [each.strip() for each in os.environ.get("LUSTACK_TEST_LUSTRE_MDT", "").split(",") if each.strip()]
    given = [each.strip() for each in os.environ.get("LUSTACK_TEST_LUSTRE_USER", "").split(",") if each.strip()]
    numbers = [each.rpartition(":")[2].partition("-")[0] for each in given]
    chosen = named or list(all_mdts)
    return dict(zip(chosen, numbers * len(chosen) if len(numbers) == 1 else numbers, strict=False))


def skip_records(lustre, mdt, user):
    """Clears what is in the log from before."""
    log, last = lustre.open_changelog(mdt, 1, follow=False), 0
    until_s = time.monotonic() + 120
    while (piece := log.read(1.0)) != b"" and time.monotonic() < until_s:
        last = max([last, *(record[2] for record in scan(piece or b""))])
    log.close()
    if last:
        lustre.clear(mdt, user, last)


def register(mdt):
    """Registers a user for the default types (Lustre before 2.15 knows no others); None where that does not work."""
    try:
        command = ["lctl", "--device", mdt, "changelog_register"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return users.parse_registered(done.stdout)[1]
    except (FileNotFoundError, ValueError):
        return None


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
            numbers = ",".join(str(number_of(self.mdts[each])) for each in mdts)
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
    """A directory on an MDT that we have a user of."""
    path = tmp_path / "ground"
    if set(lustre.mdts()) - set(mdts):
        if not shutil.which("lfs"):
            pytest.skip("there is no user for every MDT, and no `lfs` to put the test on those that have one")
        subprocess.run(["lfs", "mkdir", "-i", str(number_of(mdts[0])), str(path)], check=True)
    else:
        path.mkdir()
    return MountedGround(lustre, mdts, changelog_users, path)


@pytest.fixture
def whole_ground(ground):
    """Where every MDT can be read: a source reads all or none."""
    missing = set(ground.lustre.mdts()) - set(ground.mdts)
    if missing:
        pytest.skip(f"a source reads all MDTs, and there is no user for {', '.join(sorted(missing))}")
    return ground


def number_of(mdt):
    return int(mdt.rpartition("MDT")[2], 16)


def pytest_terminal_summary(terminalreporter):
    skipped = [each for each in terminalreporter.stats.get("skipped", []) if "tests/lustre/" in each.nodeid]
    passed = [each for each in terminalreporter.stats.get("passed", []) if "tests/lustre/" in each.nodeid]
    if skipped or passed:
        reasons = sorted({str(each.longrepr[2]) for each in skipped})
        terminalreporter.write_line(f"on Lustre: {len(passed)} passed, {len(skipped)} did not run")
        for reason in reasons:
            terminalreporter.write_line(f"  {reason}")
