# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from dataclasses import replace

import pytest
from tests.exported import read, rewrite
from tests.listings import POLICY

from lustack.errors import ConfigurationError
from lustack.exports.binding import Wish
from lustack.mapping.exports import Exports, Stage
from lustack.sync.errors import SwiftUnavailableError
from lustack.sync.exporting import SPREAD_S, Exporting
from lustack.sync.sinks.fake import FakeContainer
from lustack.sync.sinks.protocol import ContainerKey, Presence
from lustack.sync.sinks.rings import Policy
from lustack.sync.state import Scope
from lustack.sync.survey import Options

KEY = ContainerKey("a", "e")
SILVER = Policy(1, "silver", "silver")


class Desk:
    """An administrator before a device and a Swift."""

    def __init__(self, playground) -> None:
        self.playground = playground
        self.directory = playground.base / "x"
        self.directory.mkdir()
        self.slept_s: list[float] = []
        self.policies = [POLICY]

    def sleep(self, wait_s: float) -> None:
        self.slept_s.append(wait_s)

    @property
    def exporting(self) -> Exporting:
        return Exporting(self.playground.settings.devices, self.policies, self.playground.sink, self.sleep)

    def add(self, account: str = "a", container: str = "e", policy: str = ""):
        return self.exporting.add(Wish(account, container, os.fsencode(self.directory)), policy)

    def refuse(self, *arguments: str) -> str:
        with pytest.raises(ConfigurationError) as caught:
            self.add(*arguments)
        return str(caught.value)

    def state(self):
        return self.playground.sink.get_state(KEY)


@pytest.fixture
def desk(playground) -> Desk:
    return Desk(playground)


@pytest.fixture
def silver(desk) -> Policy:
    (desk.playground.base / "node" / "silver").mkdir()
    desk.policies.append(SILVER)
    return SILVER


class TestAdd:
    def test_the_container_is_made_when_every_node_knows(self, desk):
        bound = desk.add()
        assert desk.state().presence is Presence.EXISTS
        assert desk.slept_s == [SPREAD_S]
        assert read(desk.playground.root) == Exports([bound.export])
        assert not desk.exporting.is_settled(bound)

    def test_the_same_again_goes_on(self, desk):
        desk.playground.sink.failures = 0
        bound = desk.add()
        del desk.playground.sink.containers[KEY]
        assert desk.add() == bound
        assert desk.state().presence is Presence.EXISTS

    def test_one_that_is_ready_stays_as_it_is(self, desk):
        bound = desk.add()
        rewrite(desk.playground.root, replace(bound.export, stage=Stage.READY))
        assert desk.add().export.stage is Stage.READY
        assert desk.slept_s == [SPREAD_S]
        assert desk.exporting.is_settled(bound)
        assert desk.exporting.is_settled(desk.add())

    def test_a_container_that_exists_becomes_the_directory(self, desk):
        desk.playground.sink.containers[KEY] = FakeContainer()
        desk.add()
        assert desk.exporting.find(*KEY).export.path == os.fsencode(desk.directory)

    def test_one_that_was_deleted_comes_back(self, desk):
        desk.playground.sink.containers[KEY] = FakeContainer(Presence.DELETED)
        desk.add()
        assert desk.state().presence is Presence.EXISTS

    def test_an_account_must_exist(self, desk):
        assert "an account that exists in Swift" in desk.refuse("nobody")

    @pytest.mark.parametrize(
        ("account", "container"),
        [("", "e"), (".hidden", "e"), ("a/b", "e"), ("a", ""), ("a", "e/f"), ("a", "\0versions\0e")],
    )
    def test_names_are_such_that_clients_may_use(self, desk, account, container):
        assert "must be the name of" in desk.refuse(account, container)

    def test_an_upload_that_came_in_between_is_not_lost_sight_of(self, desk):
        def upload(_wait_s: float) -> None:
            path = desk.playground.root / "a" / "e" / "late"
            path.parent.mkdir(exist_ok=True)
            path.touch()

        desk.sleep = upload
        desk.playground.sink.containers[KEY] = FakeContainer()
        for _ in range(2):
            assert "move " in desk.refuse()
        (desk.playground.root / "a" / "e" / "late").unlink()
        desk.sleep = desk.slept_s.append
        assert desk.add()

    def test_the_default_policy_comes_first(self, desk, silver):
        assert desk.add().policy == POLICY

    def test_another_policy_can_be_named(self, desk, silver):
        assert desk.add(policy="silver").policy == silver
        assert desk.state().policy_index == 1
        assert read(desk.playground.base / "node" / "silver").get(*KEY)
        assert "one of gold, silver" in desk.refuse("a", "e", "bronze")

    def test_a_container_that_exists_keeps_its_policy(self, desk, silver):
        desk.playground.sink.containers[KEY] = FakeContainer(policy_index=1)
        assert "a container of the storage policy gold" in desk.refuse("a", "e", "gold")
        assert desk.add().policy == silver
        desk.playground.sink.containers[KEY] = FakeContainer(policy_index=7)
        assert "a container of the storage policy gold" in desk.refuse()

    def test_what_failed_can_be_tried_again(self, desk):
        desk.playground.sink.failures = 1
        with pytest.raises(SwiftUnavailableError):
            desk.add()
        assert desk.add()


class TestRemove:
    def test_the_listing_is_emptied_by_a_comparison(self, desk):
        (desk.directory / "o").touch()
        desk.add()
        desk.playground.survey().run(Scope(), Options())
        assert desk.state().object_count == 1
        bound = desk.exporting.remove(*KEY)
        assert not desk.exporting.is_settled(bound)
        assert not desk.exporting.is_settled(desk.exporting.find(*KEY))
        desk.playground.survey().run(Scope(*KEY), Options())
        assert desk.state().object_count == 0
        assert desk.exporting.is_settled(bound)
        assert os.listdir(desk.directory) == ["o"]

    @pytest.mark.parametrize("has_account", [True, False])
    def test_without_a_listing_it_is_forgotten_at_once(self, desk, has_account):
        desk.add()
        del desk.playground.sink.containers[KEY]
        if not has_account:
            desk.playground.sink.accounts.clear()
        assert desk.exporting.is_settled(desk.exporting.remove(*KEY))

    def test_what_is_none_cannot_be_removed(self, desk):
        with pytest.raises(ConfigurationError, match="lustack export list"):
            desk.exporting.remove(*KEY)


def test_all_are_shown_in_order(desk, silver):
    desk.add(container="f", policy="silver")
    desk.directory = desk.playground.base / "y"
    desk.directory.mkdir()
    desk.add()
    first, second = desk.exporting.list()
    assert (first.export.key, first.policy) == (("a", "e"), POLICY)
    assert (second.export.key, second.policy) == (("a", "f"), silver)
    assert desk.exporting.find("a", "f") == second
    desk.directory.rmdir()
    assert desk.exporting.show(first).problem == "No such file or directory"
    assert (desk.exporting.show(second).problem, desk.exporting.show(second).objects) == ("", 0)
