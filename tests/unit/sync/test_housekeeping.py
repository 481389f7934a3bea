# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from tests.exported import export, rewrite
from tests.listings import sidecar_store

from lustack.mapping import layout
from lustack.sync.errors import StoppedError
from lustack.sync.housekeeping import Litter, Sweeper, Swept

TEMPORARY = ".lustack.tmp.0123456789abcdef"
KEY = "0123456789abcdef0123456789abcdef"


def sweep(playground, later_s=1000.0, wait=lambda _seconds: False, age_s=100.0, **options):
    sweeper = Sweeper(age_s, age_s, wait, lambda: time.time() + later_s, **options)
    with playground.device() as device:
        return sweeper.sweep(device)


def write_tombstone(playground, lock=True):
    path = playground.root / os.fsdecode(layout.tombstone_path(KEY))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"1600000000.00000")
    if lock:
        lock_path = playground.root / os.fsdecode(layout.lock_path(KEY))
        lock_path.parent.mkdir(exist_ok=True)
        lock_path.touch()
    return path


def test_old_temporary_files_go_wherever_they_are(playground):
    paths = [playground.write(f"{folder}{TEMPORARY}") for folder in ("", "d/e/")]
    (playground.root / ".lustack" / "sidecars" / "00").mkdir(parents=True)
    paths.append(playground.root / ".lustack" / "sidecars" / "00" / TEMPORARY)
    paths[-1].touch()
    assert sweep(playground, later_s=50.0) == Swept()
    assert sweep(playground) == Swept(temporaries=3)
    assert not any(path.exists() for path in paths)


@pytest.mark.parametrize(
    "name", [".lustack.tmp.0123", ".lustack.tmp.0123456789abcdeX", "lustack.tmp.0123456789abcdef", "o"]
)
def test_files_with_another_name_stay(playground, name):
    path = playground.write(name)
    assert sweep(playground) == Swept()
    assert path.exists()


def test_what_is_no_regular_file_stays(playground):
    path = playground.container / TEMPORARY
    path.symlink_to("/etc/hosts")
    assert sweep(playground) == Swept()
    assert path.is_symlink()


def test_links_are_not_followed(playground):
    (playground.base / "outside").mkdir()
    (playground.base / "outside" / TEMPORARY).touch()
    (playground.container / "link").symlink_to(playground.base / "outside")
    assert sweep(playground) == Swept()


def test_old_tombstones_go(playground):
    path = write_tombstone(playground)
    (path.parent / "stray").touch()
    assert sweep(playground, later_s=50.0) == Swept()
    assert sweep(playground) == Swept(tombstones=1)
    assert not path.exists()
    assert (path.parent / "stray").exists()


def test_a_tombstone_without_a_lock_file_stays(playground):
    path = write_tombstone(playground, lock=False)
    assert sweep(playground) == Swept()
    assert path.exists()


def test_empty_hidden_directories_go(playground):
    hidden = playground.root / os.fsdecode(layout.HIDDEN_CONTAINERS)
    (hidden / "a").mkdir(parents=True)
    (hidden / "b" / "%00c").mkdir(parents=True)
    assert sweep(playground) == Swept(directories=1)
    assert [path.name for path in hidden.iterdir()] == ["b"]


class Vanishing(Sweeper):
    """Somebody else removes each file just before."""

    def __init__(self, *options, at):
        super().__init__(*options)
        self.looks = 0
        self.at = at

    def _is_old(self, directory, name, age_s):
        self.looks += 1
        if self.looks == self.at:
            os.unlink(name, dir_fd=directory.fd)
        found = super()._is_old(directory, name, age_s)
        if self.looks == self.at - 10:
            os.unlink(name, dir_fd=directory.fd)
        return found


@pytest.mark.parametrize("at", [1, 11])
def test_a_file_that_somebody_else_removes_is_no_trouble(playground, at):
    playground.write(TEMPORARY)
    sweeper = Vanishing(1.0, 1.0, lambda _seconds: False, lambda: time.time() + 1000, at=at)
    with playground.device() as device:
        assert sweeper.sweep(device) == Swept()


def test_at_most_half_of_the_time_is_spent_working(playground):
    waits = []

    class Slow(Sweeper):
        def _is_old(self, directory, name, age_s):
            time.sleep(0.06)
            return False

    def wait(seconds):
        waits.append(seconds)
        return False

    playground.write(TEMPORARY)
    with playground.device() as device:
        Slow(1.0, 1.0, wait).sweep(device)
    # It rests again when this machine keeps it waiting.
    assert waits[0] >= 0.06


def test_whoever_must_stop_stops(playground):
    class Slow(Sweeper):
        def _is_old(self, directory, name, age_s):
            time.sleep(0.06)
            return False

    playground.write(TEMPORARY)
    with playground.device() as device, pytest.raises(StoppedError):
        Slow(1.0, 1.0, lambda _seconds: True).sweep(device)


def test_what_goes_is_told_and_stays_in_a_dry_run(playground):
    paths = [playground.write(TEMPORARY), write_tombstone(playground), make_sidecar(playground)]
    (playground.root / os.fsdecode(layout.HIDDEN_CONTAINERS) / "a").mkdir(parents=True)
    told = []
    swept = sweep(playground, tell=told.append, dry_run=True)
    assert swept == Swept(temporaries=1, tombstones=1, sidecars=1)
    kinds = ["temporaries", "tombstones", "sidecars"]
    assert sorted(told) == sorted(Litter(kind, str(path)) for kind, path in zip(kinds, paths, strict=True))
    assert all(path.exists() for path in paths)
    assert sweep(playground) == Swept(temporaries=1, tombstones=1, sidecars=1, directories=1)
    assert not any(path.exists() for path in paths)


def make_sidecar(playground):
    store, path = sidecar_store(playground), playground.write("big")
    fd = os.open(path, os.O_RDONLY)
    try:
        store.write(fd, "user.lustack.data", b"x" * 70_000)
        value = os.getxattr(fd, "user.lustack.data")
    finally:
        os.close(fd)
    path.unlink()
    identifier = os.fsdecode(value.rpartition(b" ")[2])
    return playground.root / os.fsdecode(layout.SIDECARS) / identifier[:2] / identifier


class TestExports:
    def write_big(self, playground, store):
        path = playground.base / "x" / "big"
        path.touch()
        fd = os.open(path, os.O_RDONLY)
        store.write(fd, "user.lustack.data", b"x" * 70_000)
        os.close(fd)
        return path

    @pytest.fixture
    def found(self, playground):
        return export(playground.root, playground.base / "x")

    def test_old_temporary_files_in_an_export_go(self, playground, found):
        path = playground.base / "x" / TEMPORARY
        path.touch()
        (path.parent / "d").mkdir()
        assert sweep(playground) == Swept(temporaries=1)
        assert not path.exists()

    def test_files_of_an_export_refer_to_sidecars_of_the_device(self, playground, found):
        path = self.write_big(playground, sidecar_store(playground))
        assert sweep(playground) == Swept()
        path.unlink()
        assert sweep(playground) == Swept(sidecars=1)

    def test_while_an_export_is_away_every_sidecar_is_in_use(self, playground, found):
        self.write_big(playground, sidecar_store(playground)).unlink()
        (playground.base / "x").rename(playground.base / "away")
        assert sweep(playground) == Swept()

    def test_one_on_another_file_system_has_its_own(self, playground, found):
        rewrite(playground.root, replace(found, is_foreign=True))
        apart = playground.root / os.fsdecode(layout.foreign_sidecars_path(*found.key))
        apart.mkdir(parents=True)
        with playground.device() as device:
            path = self.write_big(playground, device.observer_of(*found.key).store)
        assert sweep(playground) == Swept()
        path.unlink()
        assert sweep(playground) == Swept(sidecars=1)
        [left] = apart.glob("*/*")
        assert not left.name.isalnum()


def test_what_users_leave_at_the_fence_goes_whatever_it_is(playground):
    fence = playground.root / os.fsdecode(layout.FENCE)
    fence.mkdir()
    (fence / "file").touch()
    (fence / "link").symlink_to("/etc/hosts")
    (fence / "empty").mkdir()
    (fence / "full").mkdir()
    (fence / "full" / "o").touch()
    assert sweep(playground, later_s=50.0) == Swept()
    told = []
    assert sweep(playground, tell=told.append, dry_run=True).temporaries == len(told) == 4
    assert len(list(fence.iterdir())) == 4
    assert sweep(playground) == Swept(temporaries=3)
    assert [path.name for path in fence.iterdir()] == ["full"]
