# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import time

import pytest
from tests.listings import sidecar_store

from lustack.mapping import layout
from lustack.posix.xattrs import REFERENCE_PREFIX
from lustack.sync.observe import Directory
from lustack.sync.orphans import Orphans, collect

NAME = "user.lustack.data"
BIG = b"x" * 70_000


def write_big(playground, path):
    fd = os.open(playground.write(path), os.O_RDONLY)
    try:
        sidecar_store(playground).write(fd, NAME, BIG)
        return os.getxattr(fd, NAME)[len(REFERENCE_PREFIX) :]
    finally:
        os.close(fd)


def place_of(playground, identifier, suffix=""):
    name = os.fsdecode(identifier)
    return playground.root / os.fsdecode(layout.SIDECARS) / name[:2] / (name + suffix)


def find(playground, later_s=1000.0, *, on_walk=lambda: None, age_s=100.0, retired_age_s=500.0):
    orphans = Orphans(age_s, retired_age_s, lambda: time.time() + later_s)
    with playground.device() as device:
        orphans.load(device)
        on_walk()
        directory = Directory.open(device.root.fd, b"a/c")
        try:
            for entry in list(os.scandir(directory.proc)):
                orphans.meet(directory, entry)
        finally:
            directory.close()
        return orphans.found()


def test_a_sidecar_whose_file_is_there_is_none(playground):
    write_big(playground, "o")
    assert find(playground) == []


def test_a_sidecar_whose_file_was_removed_is_one_when_it_is_old(playground):
    identifier = write_big(playground, "o")
    (playground.container / "o").unlink()
    assert find(playground, later_s=50.0) == []
    [found] = find(playground)
    assert found == (identifier, NAME, False, layout.SIDECARS)
    assert playground.root / os.fsdecode(found.path) == place_of(playground, identifier)


@pytest.mark.parametrize("value", [b"small", REFERENCE_PREFIX + b"0" * 32, None])
def test_a_sidecar_that_its_inode_does_not_name_is_one(playground, value):
    identifier = write_big(playground, "o")
    if value is None:
        os.removexattr(playground.container / "o", NAME)
    else:
        os.setxattr(playground.container / "o", NAME, value)
    assert [each.identifier for each in find(playground)] == [identifier]


def test_one_is_put_aside_and_goes_for_good_when_it_lay_there_for_long(playground):
    identifier = write_big(playground, "o")
    (playground.container / "o").unlink()
    with playground.device() as device:
        for each in find(playground):
            collect(device, each)
        aside = place_of(playground, identifier, ".old")
        assert aside.exists()
        assert find(playground, later_s=400.0) == []
        [found] = find(playground)
        assert (found.is_retired, playground.root / os.fsdecode(found.path)) == (True, aside)
        collect(device, found)
        assert not aside.exists()
        collect(device, found)


def test_one_that_was_put_aside_by_mistake_stays(playground):
    identifier = write_big(playground, "o")
    place_of(playground, identifier).rename(place_of(playground, identifier, ".old"))
    assert find(playground) == []


def test_what_cannot_be_parsed_stays(playground):
    identifier = write_big(playground, "o")
    (playground.container / "o").unlink()
    place_of(playground, identifier).write_bytes(b"garbage")
    folder = place_of(playground, identifier).parent
    (folder / "stray").touch()
    os.mkfifo(folder / ("0" * 32))
    assert find(playground) == []


def test_after_a_walk_that_missed_something_nothing_is_one(playground):
    write_big(playground, "o")
    (playground.container / "o").unlink()
    orphans = Orphans(100.0, 500.0, lambda: time.time() + 1000)
    with playground.device() as device:
        orphans.load(device)
        orphans.miss(OSError(errno.ENOENT, ""))
        assert len(orphans.found()) == 1
        orphans.miss(OSError(errno.EACCES, ""))
        assert orphans.found() == []


def test_a_file_that_vanishes_while_it_is_met_keeps_its_sidecar(playground):
    write_big(playground, "o")
    orphans = Orphans(100.0, 500.0, lambda: time.time() + 1000)
    with playground.device() as device:
        orphans.load(device)
        directory = Directory.open(device.root.fd, b"a/c")
        [entry] = list(os.scandir(directory.proc))
        (playground.container / "o").unlink()
        orphans.meet(directory, entry)
        directory.close()
    # The next walk says more.
    assert orphans.found() == []


def test_a_link_in_the_place_of_a_file_does_not_refer_to_its_sidecar(playground):
    write_big(playground, "o")
    orphans = Orphans(100.0, 500.0, lambda: time.time() + 1000)
    with playground.device() as device:
        orphans.load(device)
        directory = Directory.open(device.root.fd, b"a/c")
        [entry] = list(os.scandir(directory.proc))
        (playground.container / "o").unlink()
        (playground.container / "o").symlink_to("x")
        orphans.meet(directory, entry)
        directory.close()
    assert orphans.found() != []


def test_a_device_without_sidecars_has_none(playground):
    assert find(playground) == []
