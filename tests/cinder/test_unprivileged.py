# SPDX-License-Identifier: Apache-2.0
"""Services that do not run as root, with Cinder's real rootwrap, its filters and ours."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from tests.cinder import api, rootwrapped, stand
from tests.cinder.rootwrapped import UID
from tests.cinder.stand import TIMEOUT_S, wait_for

pytestmark = pytest.mark.timeout(TIMEOUT_S)

OWN = "nas_secure_file_operations = true\nnas_secure_file_permissions = true\n"
BACKENDS = {"own": OWN, "root": "", "foreign": OWN}


def prepare(running: stand.Stand) -> None:
    rootwrapped.prepare(running)
    for name in ("own", "backups"):
        running.share(name).chmod(0o770)
        os.chown(running.share(name), UID, UID)
    running.share("foreign").chmod(0o755)


@pytest.fixture(scope="module")
def cinder() -> Iterator[api.Cinder]:
    with (
        rootwrapped.reachable_directory() as root,
        rootwrapped.root_for(root),
        stand.running(root, BACKENDS, prepare=prepare) as running,
    ):
        found = api.Cinder(running)
        found.wait_for_services("own", "root", others=2)
        for name in BACKENDS:
            found.make_type(name, volume_backend_name=name)
            found.make_type(f"{name}-qcow2", volume_backend_name=name, lustre__format="qcow2")
        yield found


# Raw as its own user and qcow2 as root go every way at least once.
LONG = [pytest.param(kind, marks=pytest.mark.long) for kind in ("root", "own-qcow2")]


@pytest.mark.parametrize("kind", ["own", "root-qcow2", *LONG])
def test_volumes_live_without_root(cinder: api.Cinder, kind: str):
    directory = cinder.stand.share(kind.removesuffix("-qcow2"))
    before = set(directory.iterdir())
    volume = cinder.create(1, kind)
    path = cinder.active_path(volume)
    is_own = kind.startswith("own")
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == ((UID, 0o660) if is_own else (0, 0o666))
    cinder.write(volume, 0x41, 3)
    snapshot = cinder.snapshot(volume)
    cinder.write(volume, 0x42, 5)
    cinder.api.volumes.extend(volume, 2)
    cinder.volume(volume)
    clone = cinder.create(2, kind, source_volid=volume.id)
    copy = cinder.create(2, kind, snapshot_id=snapshot.id)
    cinder.gone(snapshot)
    image_id = cinder.upload(volume, "qcow2")
    from_image = cinder.create(3, kind, imageRef=image_id)
    for each in (volume, clone, from_image):
        cinder.check(each)
        cinder.holds(each, (0x41, 3), (0x42, 5))
    cinder.holds(copy, (0x41, 3), (0x00, 5))
    assert cinder.share_of(volume) == directory
    cinder.gone(volume, clone, copy, from_image)
    assert set(directory.iterdir()) == before


# Another user without rights, as libvirt's guests are.
GUEST = 64055


def test_files_that_libvirt_gave_to_its_guests_are_still_the_service_s(cinder: api.Cinder):
    volume = cinder.create(1, "own")
    cinder.write(volume, 0x41, 3)
    first, second = cinder.snapshot(volume, "first"), cinder.snapshot(volume, "second")
    cinder.write(volume, 0x42, 5)
    for path in cinder.share_of(volume).glob(f"*{volume.id}*"):
        if path.suffix != ".info":  # which is no disk
            os.chown(path, GUEST, GUEST)
    clone = cinder.create(2, "own", source_volid=volume.id)
    cinder.api.volumes.extend(volume, 2)
    cinder.volume(volume)
    cinder.gone(first, second)
    assert cinder.active_path(volume).stat().st_uid == GUEST
    cinder.api.volumes.extend(volume, 3)
    cinder.volume(volume)
    for each in (volume, clone):
        cinder.check(each)
        cinder.holds(each, (0x41, 3), (0x42, 5))
    cinder.gone(volume, clone)


@pytest.mark.parametrize("kind", ["root-qcow2", *LONG])
def test_backups_are_made_without_root(cinder: api.Cinder, kind: str):
    volume = cinder.create(1, kind)
    cinder.write(volume, 0x41, 3)
    backup = cinder.backup(volume)
    restored = cinder.create(1, kind)
    cinder.restore(backup, restored)
    cinder.holds(restored, (0x41, 3))
    # Root could not open them on a share that squashes root.
    assert rootwrapped.find_viewers(cinder.stand) == {UID}
    cinder.gone(backup, volume, restored)


def test_a_share_of_somebody_else_is_named_with_the_option_that_helps(cinder: api.Cinder):
    said = rf"\[foreign\] lustre_shares_config: .*user {UID} cannot write there .*owner.*nas_secure_file_operations"
    wait_for(lambda: re.search(said, cinder.stand.log("volume"), re.DOTALL), "the log says it")


def test_only_what_the_filters_allow_was_run_as_root(cinder: api.Cinder):
    assert "Unauthorized command" not in cinder.stand.log("volume") + cinder.stand.log("backup")
