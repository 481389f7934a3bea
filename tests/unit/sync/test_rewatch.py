# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.exported import damage, export

from lustack.sync.errors import DeviceMissingError
from lustack.sync.rewatch import rewatch, roots_of
from lustack.sync.sources.fake import FakeSource
from lustack.sync.sources.roots import Root


@dataclass
class Reading:
    """What counts of a reader."""

    source: object
    device: str


def test_the_root_of_the_device_comes_first(playground):
    export(playground.root, playground.base / "exported")
    assert roots_of(str(playground.root)) == [
        Root(str(playground.root)),
        Root(str(playground.base / "exported"), b"a/e"),
    ]


def test_sources_that_can_watch_other_directories_and_those_that_cannot_are_left_alone(playground):
    export(playground.root, playground.base / "exported")
    source = FakeSource()
    assert rewatch([Reading(object(), ""), Reading(source, str(playground.root))])
    assert [root.prefix for root in source.roots] == [b"", b"a/e"]


def test_a_device_about_whose_exports_nobody_knows_is_tried_again(playground):
    export(playground.root, playground.base / "exported")
    damage(playground.root)
    source = FakeSource()
    assert not rewatch([Reading(source, str(playground.root))])
    assert source.roots == ()
    with pytest.raises(DeviceMissingError):
        roots_of(str(playground.base / "absent"))
