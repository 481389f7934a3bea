# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
from tests.listings import POLICY
from tests.objects import swift_conf
from tests.unit.sync.sinks.test_rings import swift_dir

from lustack.errors import ConfigurationError
from lustack.sync import world
from lustack.sync.errors import StateError
from lustack.sync.sinks.rings import Policy
from lustack.sync.sinks.swift import SwiftSink

__all__ = ("swift_conf", "swift_dir")

SILVER = Policy(1, "silver", "other")


def test_policies_are_all_of_ours_or_those_that_are_named(playground):
    settings = playground.settings
    assert world.choose_policies(settings, [POLICY, SILVER]) == (POLICY, SILVER)
    assert world.choose_policies(replace(settings, policies=("silver",)), [POLICY, SILVER]) == (SILVER,)
    with pytest.raises(ConfigurationError, match="one of gold, silver"):
        world.choose_policies(replace(settings, policies=("bronze",)), [POLICY, SILVER])


def test_everything_is_opened_and_closed_again(playground, swift_dir):
    settings = replace(playground.settings, swift_dir=str(swift_dir), state_dir=str(playground.base / "state2"))
    with world.opened(settings) as found:
        assert isinstance(found.sink, SwiftSink)
        assert [policy.name for policy in found.policies] == ["gold"]


def test_two_of_a_kind_do_not_work_with_one_state(tmp_path):
    with world.locked(str(tmp_path), "daemon"):
        with pytest.raises(StateError, match="another daemon works with it"), world.locked(str(tmp_path), "daemon"):
            pass
        with world.locked(str(tmp_path), "command"):
            pass
    with world.locked(str(tmp_path), "daemon"):
        pass


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"daemon\.lock"), world.locked(str(tmp_path / "file" / "x"), "daemon"):
        pass
