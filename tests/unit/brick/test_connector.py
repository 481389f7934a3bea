# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from os_brick.initiator import connector as factory

from lustack.brick import connector, rawview

SHARE = "10.0.0.1@tcp:/scratch/volumes"


@pytest.fixture
def brick(tmp_path: Path) -> connector.LustreConnector:
    connector.register()
    made = factory.InitiatorConnector.factory(
        "lustre", "", conn={"mount_point_base": str(tmp_path)}, expect_raw_disk=True
    )
    made._remotefsclient.mount = lambda share, flags=None: None
    Path(made._remotefsclient.get_mount_point(SHARE)).mkdir()
    return made


@pytest.fixture
def image(brick: connector.LustreConnector) -> Path:
    path = Path(brick._remotefsclient.get_mount_point(SHARE)) / "volume-1"
    with path.open("wb") as file:
        file.truncate(4096)
    return path


@pytest.mark.parametrize("architecture", ["x86_64", "s390x", "ppc64le", "aarch64"])
def test_os_brick_knows_the_connector_everywhere(architecture: str):
    assert factory.get_connector_mapping(architecture)["LUSTRE"] == "lustack.brick.connector.LustreConnector"


def test_a_raw_volume_is_its_own_file(brick: connector.LustreConnector, image: Path):
    properties = {"export": SHARE, "name": "volume-1", "format": "raw", "options": "-o flock"}
    device = brick.connect_volume(properties)
    assert device == {"path": str(image)}
    assert brick.get_volume_paths(properties) == [str(image)]
    assert brick.extend_volume(properties) == 4096
    brick.disconnect_volume(properties, device)


def test_a_qcow2_volume_is_shown_through_a_view_until_it_is_disconnected(
    brick: connector.LustreConnector, image: Path, monkeypatch: pytest.MonkeyPatch
):
    class View:
        path = "/view"
        closed = 0

        def close(self) -> None:
            self.closed += 1

    view = View()
    monkeypatch.setattr(rawview, "open_view", lambda path, root_helper: view)
    properties = {"export": SHARE, "name": "volume-1", "format": "qcow2"}
    device = brick.connect_volume(properties)
    assert device == {"path": "/view"}
    brick.disconnect_volume(properties, device)
    brick.disconnect_volume(properties, None)
    assert view.closed == 1


def test_a_connector_can_be_made_without_a_connection():
    assert factory.InitiatorConnector.factory("LUSTRE", "").get_search_path() == "/var/lib/cinder/mnt"
