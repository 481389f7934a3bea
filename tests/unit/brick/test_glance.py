# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from os_brick.initiator import connector as factory

from lustack.brick import connector, glance
from lustack.errors import ConfigurationError

SHARE = "10.0.0.1@tcp:/scratch/volumes"


@pytest.fixture
def restored() -> Iterator[None]:
    before = connector._default_base
    yield
    connector.set_mount_base(before)


@pytest.mark.usefixtures("restored")
def test_the_filter_leaves_the_application_alone_and_says_where_shares_are_mounted(tmp_path: Path):
    application = object()
    assert glance.filter_factory({"here": "/"}, lustre_mount_point_base=str(tmp_path))(application) is application
    # As glance_store asks for it: with what Cinder said of the volume, which has no place of ours.
    made = factory.InitiatorConnector.factory("lustre", "", conn={"export": SHARE, "name": "volume-1"})
    assert Path(made._remotefsclient.get_mount_point(SHARE)).parent == tmp_path


@pytest.mark.usefixtures("restored")
def test_without_an_option_the_place_stays_as_it_was():
    before = connector._default_base
    glance.filter_factory({})
    assert connector._default_base == before


@pytest.mark.parametrize(("option", "value"), [("lustre_mount_base", "/mnt"), ("lustre_mount_point_base", "mnt")])
def test_an_option_that_cannot_be_meant_is_refused(option: str, value: str):
    with pytest.raises(ConfigurationError, match=option):
        glance.filter_factory({}, **{option: value})
