# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from tests.listings import POLICY

from lustack.sync.errors import DeviceMissingError
from lustack.sync.fences import Fences

NONCE = "0" * 32


@pytest.fixture
def fences(playground):
    found = Fences(playground.settings, [POLICY])
    found.prepare(POLICY)
    return found


def test_who_waits_is_found_and_may_pass(fences, playground):
    place = playground.root / ".lustack" / "fence"
    assert fences.pending() == []
    (place / NONCE).touch()
    waiting = fences.pending()
    assert waiting == [(POLICY, [NONCE.encode()])]
    (place / ("1" * 32)).touch()
    fences.let_pass(waiting)
    assert [each.name for each in place.iterdir()] == ["1" * 32]


def test_nobody_waits_on_a_device_that_is_away(fences, playground):
    playground.root.rename(playground.base / "away")
    assert fences.pending() == []
    fences.let_pass([(POLICY, [b"x"])])
    with pytest.raises(DeviceMissingError):
        fences.prepare(POLICY)
